import { assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { KnownWords, wordsOf } from "../../lib/cascade/known_words.ts";
import { withTinyModel } from "./tiny_model.ts";

await libraryInfo();

Deno.test("wordsOf() takes letters and digits of any script, in lower case", () => {
  assertEquals(wordsOf("  A red-hot CAR, 2 dogs' été 猫!"), ["a", "red", "hot", "car", "2", "dogs", "été", "猫"]);
  assertEquals(wordsOf("?! ..."), []);
});

Deno.test("unknown() counts letters of unknown words; plurals of known words are known", () => {
  const known = new KnownWords(["a", "red", "car", "2"]);
  assertEquals(known.unknown("2 red CARS"), { words: [], share: 0 });
  const { words, share } = known.unknown("a red wheelbarrow");
  assertEquals(words, ["wheelbarrow"]);
  assertAlmostEquals(share, 11 / 15, 1e-12);
  assertEquals(known.unknown("猫"), { words: ["猫"], share: 1 });
  assertEquals(known.unknown("..."), { words: [], share: 0 });
});

Deno.test("understood() leaves out unknown words where a known one names a thing", () => {
  const known = new KnownWords(["a", "the", "red", "butterfly", "please"], ["a", "the", "please"]);
  assertEquals(known.understood("the majestic  butterfly, please!"), "the butterfly, please!");
  assertEquals(known.understood("two butterflys - RED"), "butterflys - RED");
  assertEquals(known.understood("blue-red"), "blue-red");
  // Only fillers would be left.
  assertEquals(known.understood("a buterfly, please"), "a buterfly, please");
  assertEquals(known.understood("asdf"), "asdf");
  assertEquals(new KnownWords(["red"]).understood("a red thing"), "a red thing");
});

Deno.test("a cascade reads a prompt without unknown words when it knows the fillers, and says so", () =>
  withTinyModel(async (model) => {
    const path = `${model}/model_index.json`;
    const json = JSON.parse(await Deno.readTextFile(path));
    const embedding = async (prompt: string): Promise<Float32Array> => {
      using cascade = await Cascade.load(model, { precision: "f32" });
      const tower = await cascade.stage("text");
      using encoding = await tower.encode([prompt]);
      return await encoding.embedding.read();
    };
    const [plain, long] = [await embedding("a red butterfly"), await embedding("a majestic red butterfly")];
    assertNotEquals(plain, long);
    await Deno.writeTextFile(`${model}/tokenizer/words.txt`, "a\nred\nbutterfly\n");
    await Deno.writeTextFile(`${model}/tokenizer/fillers.txt`, "a\n");
    json.stages.text.words = { file: "tokenizer/words.txt", fillers: "tokenizer/fillers.txt", threshold: 0.5 };
    await Deno.writeTextFile(path, JSON.stringify(json));
    assertEquals(await embedding("a majestic red butterfly"), plain);
    using cascade = await Cascade.load(model, { precision: "f32" });
    assertEquals(await cascade.warnings("a majestic red butterfly"), [
      'The model has never seen "majestic": it reads the prompt without',
    ]);
    assertEquals(await cascade.warnings("a  red butterfly"), []);
    assertEquals(await cascade.warnings("incomprehensible red"), [
      'The model has never seen "incomprehensible": it reads the prompt without',
    ]);
    assertEquals(await cascade.warnings("a buterfly"), [
      'The model has never seen "buterfly": what it shows may have nothing to do with the prompt',
    ]);
  }));

Deno.test("a cascade warns of a prompt of unknown words, and its manifest says so", () =>
  withTinyModel(async (model) => {
    {
      using silent = await Cascade.load(model, { precision: "f32" });
      assertEquals(await silent.warnings("asdf qwer"), []);
    }
    const path = `${model}/model_index.json`;
    const json = JSON.parse(await Deno.readTextFile(path));
    json.stages.text.words = { file: "tokenizer/words.txt", threshold: 0.5 };
    await Deno.writeTextFile(path, JSON.stringify(json));
    {
      using cascade = await Cascade.load(model, { precision: "f32" });
      assertEquals((await assertRejects(() => cascade.warnings("a"), KinoraError)).code, "not-found");
    }
    await Deno.writeTextFile(`${model}/tokenizer/words.txt`, "a\nred\nbutterfly\n");
    using cascade = await Cascade.load(model, { precision: "f32" });
    // 8 of 16 letters are unknown, then 7 of 15.
    const [warning] = await cascade.warnings("redcoats red a red a");
    assertEquals(warning, 'The model has never seen "redcoats": what it shows may have nothing to do with the prompt');
    assertEquals(await cascade.warnings("redcoat red a red a"), []);
    using video = await cascade.generate("asdf a", { frames: 1, until: "decoder" });
    assertEquals(video.manifest?.warnings, [
      'The model has never seen "asdf": what it shows may have nothing to do with the prompt',
    ]);
    using fine = await cascade.generate("a red butterfly", { frames: 1, until: "decoder" });
    assertEquals(fine.manifest?.warnings, []);
  }));

Deno.test("model_index.json with words that lead out of the folder, or no threshold, is refused", () =>
  withTinyModel(async (model) => {
    const path = `${model}/model_index.json`;
    const json = JSON.parse(await Deno.readTextFile(path));
    for (
      const words of [{ file: "../words.txt", threshold: 0.5 }, { file: "words.txt", threshold: 0 }, { file: "a" }]
    ) {
      json.stages.text.words = words;
      await Deno.writeTextFile(path, JSON.stringify(json));
      assertEquals((await assertRejects(() => Cascade.load(model), KinoraError)).code, "bad-file");
    }
  }));
