import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { readSafetensors } from "../../lib/parity/safetensors.ts";
import { type FixtureParts, FIXTURES, strip, withChanged } from "../parity/collections.ts";

await libraryInfo();

const RULE = `${FIXTURES}/rule/splitmix24.safetensors`;
const LOSS = `${FIXTURES}/losses/hybrid_x0_cosine.safetensors`;

async function parity(...args: string[]): Promise<{ code: number; out: string[]; notes: string[] }> {
  const [out, notes]: [string[], string[]] = [[], []];
  const streams = {
    out: (line: string): void => void out.push(line),
    note: (line: string): void => void notes.push(line),
    interactive: false,
  };
  const code = await runCommand(["parity", ...args], streams, new AbortController().signal);
  return { code, out, notes };
}

const unknown = ({ manifest }: FixtureParts): void => void (manifest["kind"] = "net.unknown");
const wrong = ({ manifest }: FixtureParts): void => void (manifest["rule"] = { name: "splitmix24", seed: "2" });

Deno.test("parity prints a row a fixture and a last line, or a JSON object a fixture", async () => {
  const table = await parity(RULE, LOSS);
  assertEquals([table.code, table.notes, table.out.length], [0, [], 3]);
  assertStringIncludes(table.out[0] ?? "", "pass        rule/splitmix24");
  assertStringIncludes(table.out[2] ?? "", "2 passed, 0 failed, 0 malformed, 0 not supported, 0 skipped");
  const json = await parity("--json", `${FIXTURES}/losses`);
  assertEquals([json.code, json.out.length], [0, 3]);
  for (const line of json.out) {
    const report = JSON.parse(line);
    assertEquals(Object.keys(report), ["name", "kind", "pass", "worst", "tensors", "seconds"]);
    assertEquals([report.kind, report.pass], ["loss.hybrid", true]);
    assertEquals(Object.keys(report.tensors["out/loss"]), ["max_abs", "tolerance", "pass"]);
  }
});

Deno.test("parity exits with 1, 2 or 3, the first that is true of any fixture", () =>
  withChanged("rule/splitmix24", wrong, (failing) =>
    withChanged("rule/splitmix24", unknown, async (unsupported) => {
      const malformed = await Deno.makeTempFile();
      try {
        await Deno.writeTextFile(malformed, "{}");
        const codes = async (...paths: string[]): Promise<number> => (await parity("--json", ...paths)).code;
        assertEquals([await codes(failing), await codes(malformed), await codes(unsupported)], [1, 2, 3]);
        assertEquals(await codes(RULE, unsupported), 3);
        assertEquals(await codes(unsupported, malformed, RULE), 2);
        assertEquals(await codes(unsupported, malformed, failing), 1);
        assertEquals(await codes("/nowhere"), 2);
        const { notes, out } = await parity("--json", unsupported);
        assertStringIncludes(notes.join(), "net.unknown");
        assertEquals(JSON.parse(out[0] ?? "").error.code, "unsupported");
        const table = await parity(failing);
        assertStringIncludes(table.out.join("\n"), "FAIL");
        assertStringIncludes(table.out.join("\n"), "out/a: missing");
      } finally {
        await Deno.remove(malformed);
      }
    })));

Deno.test("parity --list names the kinds", async () => {
  const { code, out } = await parity("--list");
  assertEquals(code, 0);
  for (const kind of ["rule.splitmix24", "loss.hybrid", "diffusers.UnCLIPScheduler"]) assert(out.includes(kind), kind);
  assertEquals(JSON.parse((await parity("--list", "--json")).out.join("")), out);
});

Deno.test("parity --answer writes the answers and nothing else", () =>
  withChanged("losses/hybrid_x0_cosine", strip, async (question) => {
    const out = `${question}.answers`;
    const { code, out: printed } = await parity("--answer", out, question);
    assertEquals([code, printed], [0, []]);
    const wanted = ["grad/in/model_output", "out/loss", "out/mse", "out/vb"];
    assertEquals([...(await readSafetensors(out)).tensors.keys()].sort(), wanted);
    assertEquals((await parity(question)).code, 2);
    assertEquals((await parity("--answer", out, question, question)).code, 2);
    assertEquals((await parity("--answer", "/nowhere/out", question)).code, 2);
    assertEquals((await parity("--answer", out, "/nowhere")).code, 2);
    await withChanged("rule/splitmix24", unknown, async (question) => {
      const { code, notes } = await parity("--answer", out, question);
      assertEquals(code, 3);
      assertStringIncludes(notes.join(), "net.unknown");
    });
  }));

Deno.test("parity skips what is too large or says nothing in bf16, and never counts it as passed", async () => {
  const large = await parity("--json", "--max-params", "10", RULE, LOSS);
  assertEquals(large.code, 0);
  const [skipped, passed] = large.out.map((line) => JSON.parse(line));
  assertEquals([skipped.pass, passed.pass], [false, true]);
  assertStringIncludes(skipped.skipped, "34 weights are more than --max-params 10");
  const nothing = await parity("--max-params", "10", RULE);
  assertEquals(nothing.code, 3);
  const exact = await parity("--json", "--dtype", "bf16", RULE);
  assertStringIncludes(JSON.parse(exact.out[0] ?? "").skipped, "f32-only");
});

Deno.test("parity refuses what it cannot do", async () => {
  assertEquals((await parity()).code, 2);
  assertEquals((await parity("--dtype", "f16", RULE)).code, 2);
  assertEquals((await parity("--device", "cuda", RULE)).code, 3);
});
