import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { VERSION } from "../../lib/version.ts";
import { runCli } from "./cli_run.ts";

await libraryInfo();

/** Runs a command in this process. */
Deno.test("--help and --version answer on stdout", async () => {
  const help = await runCli("--help");
  assertEquals([help.code, help.notes], [0, []]);
  for (const verb of ["generate", "train", "data", "doctor"]) {
    assertStringIncludes(help.out, `\n  ${verb} `);
  }
  assertEquals(await runCli("--version"), {
    code: 0,
    out: `kinora ${VERSION}`,
    notes: [],
  });
  for (
    const args of [["generate", "--help"], ["help", "generate"], [
      "generate",
      "a butterfly",
      "-h",
    ]]
  ) {
    const { code, out } = await runCli(...args);
    assertEquals(code, 0);
    assertStringIncludes(out, "Usage: kinora generate PROMPT");
    assertStringIncludes(
      out,
      "--until prior|decoder|interpolation|sr-low|sr-high",
    );
  }
});

Deno.test("without a verb, or with an unknown one, the exit code is 2", async () => {
  const none = await runCli();
  assertEquals(none.code, 2);
  assertStringIncludes(none.out, "Usage: kinora VERB");
  const typo = await runCli("genrate", "a butterfly");
  assertEquals([typo.code, typo.out], [2, ""]);
  assertEquals(typo.notes, [
    'kinora: Unknown verb "genrate"; did you mean generate?',
  ]);
  const inherited = await runCli("toString");
  assertEquals(inherited.code, 2);
});

Deno.test("a refused request is one line on stderr and nothing on stdout", async () => {
  const cases: string[][] = [
    ["generate"],
    ["generate", ""],
    ["generate", "x".repeat(10_000)],
    ["generate", "a", "butterfly"],
    ["generate", "a butterfly", "--colour", "red"],
    ["generate", "a butterfly", "--frames", "17"],
    ["generate", "a butterfly", "--seed", "-1"],
    ["generate", "a butterfly", "--fps", "0"],
    ["generate", "a butterfly", "--size", "100"],
    ["generate", "a butterfly", "--steps", "0"],
    ["generate", "a butterfly", "--guidance", "x"],
    ["generate", "a butterfly", "--until", "sr"],
    ["generate", "a butterfly", "--out", "a.avi"],
    ["generate", "a butterfly", "--until", "prior", "--out", "a.gif"],
    ["generate", "a butterfly", "--model", "/nowhere"],
    ["generate", "a butterfly", "--until", "decoder", "--size", "256"],
    ["generate", "--prompts", "/nowhere", "--out", "out"],
    ["generate", "--prompts", "mod.ts"],
    ["generate", "a butterfly", "--prompts", "mod.ts"],
    ["doctor", "now"],
  ];
  for (const args of cases) {
    const { code, out, notes } = await runCli(...args);
    assertEquals(
      [code, out, notes.length],
      [2, "", 1],
      args.join(" ").slice(0, 80),
    );
    assert(
      notes[0]?.startsWith("kinora: ") && !notes[0].includes("\n") &&
        notes[0].length < 300,
      notes[0],
    );
  }
});

Deno.test("a reader that has read enough is no failure", async () => {
  const main = fileURLToPath(new URL("../../lib/cli/main.ts", import.meta.url));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", main, "--help"],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stdout.cancel();
  const notes = await new Response(child.stderr).text();
  assertEquals([(await child.status).code, notes], [0, ""]);
});
