import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { KnownWords } from "../../lib/cascade/known_words.ts";
import { readModelIndex } from "../../lib/cascade/model_index.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { areaUnderCurve, wordThreshold } from "../../lib/evaluation/prompt_warnings.ts";
import { SENTENCES } from "../../lib/evaluation/prompts.ts";
import { strangePrompts } from "../../lib/evaluation/strange_prompts.ts";
import { TrainingData } from "../../lib/training/training_data.ts";
import { writeTinyData } from "../training/tiny_training.ts";
import { withTrainedModel } from "./trained_model.ts";

await libraryInfo();

Deno.test("areaUnderCurve() is the share of pairs in order", () => {
  assertEquals(areaUnderCurve([3, 4], [1, 2]), 1);
  assertEquals(areaUnderCurve([1, 2], [3]), 0);
  assertEquals(areaUnderCurve([1, 3], [1, 2]), (0.5 + 0 + 1 + 1) / 4);
});

Deno.test("words() of captions has what training says, not what is kept from it", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await writeTinyData(folder);
    using data = await TrainingData.open(folder);
    const words = data.captions.words();
    assertEquals(words, [...new Set(words)].sort());
    for (const name of data.captions.names) assertEquals(new KnownWords(words).unknown(name).words, []);
    assert(words.includes("cute") && words.includes("background"));
    assert(!words.includes("favourite"));

    const known = new KnownWords(words);
    const threshold = wordThreshold(data, known);
    const shares = data.captions.names.flatMap((name) =>
      SENTENCES.map((sentence) => known.unknown(sentence.replace("{}", name)).share)
    );
    const warned = (threshold: number): number => shares.filter((share) => share >= threshold).length / shares.length;
    assert(warned(threshold) <= 0.02, `${threshold} ${warned(threshold)}`);
    assert(warned(threshold - 0.02) > 0.02, `${threshold} ${warned(threshold - 0.02)}`);

    const strange = strangePrompts(known);
    for (const [set, texts] of Object.entries(strange)) {
      assert(texts.length >= 20, set);
      for (const text of texts) assert(known.unknown(text).words.length > 0, text);
    }
    for (const text of strange.outside_fillers) assertEquals(known.unknown(text).words.length, 1, text);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("evaluate --calibrate stores words and threshold in the model, which then warns", () =>
  withTrainedModel(async (model, data) => {
    const [out, notes]: [string[], string[]] = [[], []];
    const streams = {
      out: (line: string): void => void out.push(line),
      note: (line: string): void => void notes.push(line),
      interactive: false,
    };
    const signal = new AbortController().signal;
    const places = ["--model", model, "--data", data];
    const args = ["evaluate", "tiny", ...places, "--only", "warnings", "--concepts", "8", "--calibrate", "--json"];
    assertEquals(await runCommand(args, streams, signal), 0);
    const words = (await readModelIndex(model)).stages.text?.words;
    assertEquals(words?.file, "tokenizer/words.txt");
    assertStringIncludes(notes.join("\n"), `from a share of ${words?.threshold} unknown letters on`);
    const figures: { name: string; value: number; protocol: { settings: unknown } }[] =
      JSON.parse(out.join("")).figures;
    const of = (name: string): number => figures.find((figure) => figure.name === `warnings.${name}`)?.value ?? NaN;
    assertEquals([of("names"), of("outside"), of("gibberish")], [0, 1, 1]);
    assert(of("sentences") <= of("outside_sentences"));
    for (const signal of ["words", "text_picture", "prior_picture", "text_prior"]) {
      assert(of(`auc.${signal}`) >= 0 && of(`auc.${signal}`) <= 1, signal);
    }
    assert(of("auc.words") > 0.8);

    [out.length, notes.length] = [0, 0];
    const file = `${model}/x.png`;
    const request = ["--until", "decoder", "--frames", "1", "--out", file, "--model", model, "--json"];
    assertEquals(await runCommand(["generate", "wheelbarrow", ...request], streams, signal), 0);
    assertEquals(notes, [
      'kinora: The model has never seen "wheelbarrow": what it shows may have nothing to do with the prompt',
    ]);
    const report = JSON.parse(out.join(""));
    assertEquals(notes, report.warnings.map((warning: string) => `kinora: ${warning}`));
    assertEquals(JSON.parse(await Deno.readTextFile(`${file}.json`)).warnings, report.warnings);
  }));
