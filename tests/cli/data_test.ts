import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { sealIndex } from "../../lib/data/dataset_index.ts";
import { SOURCES } from "../../lib/data/fluent_emoji_sources.ts";
import { runCli } from "./cli_run.ts";

await libraryInfo();

Deno.test("data --help names the data sets", async () => {
  const { code, out } = await runCli("data", "--help");
  assertEquals(code, 0);
  for (const text of ["Usage: kinora data NAME", "fluent-emoji", "--out DIR", "--json"]) {
    assertStringIncludes(out, text);
  }
});

Deno.test("data refuses what it does not know in one line", async () => {
  const cases: [string[], string][] = [
    [[], "The data set is missing"],
    [["fluent-emojis"], "did you mean fluent-emoji?"],
    [["faces"], "there are fluent-emoji"],
    [["toString"], "Unknown data set"],
    [["fluent-emoji", "faces"], 'Unexpected argument "faces"'],
    [["fluent-emoji", "--to", "x"], "Unknown option --to"],
    [["fluent-emoji", "--out", "mod.ts"], '"mod.ts" is not a folder'],
    [["fluent-emoji", "--out", "mod.ts/data"], '"mod.ts" is not a folder'],
  ];
  for (const [args, message] of cases) {
    const { code, out, notes } = await runCli("data", ...args);
    assertEquals([code, out, notes.length], [2, "", 1], args.join(" "));
    assertStringIncludes(notes[0] ?? "", message);
  }
});

Deno.test("data leaves a whole data set as it is and says so", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-data-" });
  try {
    const shape = [1, 64, 64, 3];
    const sources = SOURCES.map(({ name, version, licence, integrity }) => ({
      package: name,
      version,
      licence,
      integrity,
    }));
    const concept = {
      name: "dot",
      label: "dot",
      tags: [],
      keywords: [],
      group: "Other",
      code: "1",
      still: 0,
      clip: null,
    };
    const content = { name: "fluent-emoji", sources, stores: { stills64: shape }, concepts: [concept], clips: [] };
    const index = await sealIndex(content);
    await Deno.writeTextFile(`${folder}/index.json`, JSON.stringify(index));
    await Deno.writeFile(`${folder}/stills64.safetensors`, new Uint8Array(64 * 64 * 3 + 128));
    const text = await runCli("data", "fluent-emoji", "--out", `${folder}/`);
    assertEquals([text.code, text.notes], [0, []]);
    assertStringIncludes(text.out, `Nothing to do: ${folder} is there and whole (1 concepts, 0 clips`);
    const { code, out } = await runCli("data", "fluent-emoji", "--out", folder, "--json");
    const report = JSON.parse(out);
    assert(report.seconds >= 0);
    assertEquals([code, report], [0, {
      out: folder,
      made: false,
      name: "fluent-emoji",
      hash: index.hash,
      concepts: 1,
      clips: 0,
      frames: 0,
      bytes: 64 * 64 * 3,
      seconds: report.seconds,
    }]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
