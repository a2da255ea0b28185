import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { tinyRecipe, writeTinyData } from "../training/tiny_training.ts";
import { runCliUntil } from "./cli_run.ts";

await libraryInfo();

const going = new AbortController().signal;

Deno.test("train --help lists stages, and bad usage is refused", async () => {
  const help = await runCliUntil(going, "train", "--help");
  assertEquals(help.code, 0);
  assertStringIncludes(help.out, "Usage: kinora train RECIPE");
  assertStringIncludes(help.out, "Stages: tokenizer, text-pair");
  const wrong: [string[], string][] = [
    [[], "The recipe is missing: kinora train default"],
    [["no-such-recipe"], "There is no recipe"],
    [["default", "--stage", "tokenizer,everything"], "--stage must be of tokenizer, text-pair"],
    [["default", "--continue", "--restart"], "Give --continue or --restart, not both"],
    [["default", "--data", "no/such"], 'There is no data set in "no/such"; "kinora data" makes one'],
    [["default", "--minutes", "0"], "--minutes must be a number from 0.01"],
  ];
  for (const [args, message] of wrong) {
    const { code, out, notes } = await runCliUntil(going, "train", ...args);
    assertEquals([code, out], [2, ""], args.join(" "));
    assertStringIncludes(notes.join("\n"), message);
  }
});

Deno.test("train trains the chosen stages and says what came of them", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await writeTinyData(`${folder}/data`);
    await Deno.writeTextFile(`${folder}/tiny.json`, JSON.stringify(tinyRecipe(2)));
    const places = ["--data", `${folder}/data`, "--run", `${folder}/run`, "--model", `${folder}/model`];
    const args = [`${folder}/tiny.json`, "--stage", "tokenizer,text-pair", ...places, "--precision", "f32"];
    const told = await runCliUntil(going, "train", ...args);
    assertEquals([told.code, told.notes], [0, []]);
    const [first = "", second = ""] = told.out.split("\n");
    assertEquals(first, "tokenizer: 1 steps, 0.0 min, vocabulary 300");
    assertStringIncludes(second, "text-pair: 2 steps, 0.0 min, name_r1 ");
    const { code, out } = await runCliUntil(going, "train", ...args, "--json");
    const report = JSON.parse(out);
    assertEquals([code, report.recipe, report.stages.length], [0, "tiny", 2]);
    assertEquals([report.stages[1].stage, report.stages[1].finished], ["text-pair", true]);
    assert(report.stages[1].cpu_seconds > 0);

    const stopped = new AbortController();
    stopped.abort();
    const interrupted = await runCliUntil(stopped.signal, "train", ...args);
    assertEquals([interrupted.code, interrupted.notes], [130, ["kinora: interrupted"]]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
