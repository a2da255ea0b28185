import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../ffi/errors.ts";
import { libraryInfo } from "../ffi/library.ts";
import { Tokenizer } from "../ffi/tokenizer.ts";

await libraryInfo();

const TEXTS = ["a butterfly", "a red fox in the snow", "two birds", "the sun rises over the sea", "butterflies, foxes"];

async function withTokenizer(test: (tokenizer: Tokenizer, path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-tokenizer-" });
  try {
    const path = `${folder}/tokenizer.json`;
    using tokenizer = await Tokenizer.train(TEXTS, { vocabulary: 300, path });
    await test(tokenizer, path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function idsOf(tokenizer: Tokenizer, text: string, length: number): Promise<number[]> {
  using ids = (await tokenizer.encode([text], length)).ids;
  assertEquals(ids.shape, [1, length]);
  return [...await ids.read()];
}

Deno.test("texts become numbers between a start and an end, padded", () =>
  withTokenizer(async (tokenizer) => {
    assert(tokenizer.vocabulary > 150 && tokenizer.vocabulary <= 300);
    const { ids, unknown, truncated } = await tokenizer.encode(["", "a butterfly", "a red fox in the snow"], 8);
    using made = ids;
    assertEquals(made.shape, [3, 8]);
    const values = [...await made.read()];
    assertEquals(values.slice(0, 8), [2, 3, 0, 0, 0, 0, 0, 0]);
    assertEquals([values[8], values[16]], [2, 2]);
    assert(values.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabulary));
    assertEquals(unknown, [[], [], []]);
    assertEquals(truncated, [false, false, false]);
  }));

Deno.test("case and width of letters do not matter, unknown words are named", () =>
  withTokenizer(async (tokenizer) => {
    const plain = await idsOf(tokenizer, "a butterfly", 16);
    assertEquals(await idsOf(tokenizer, "  A ＢＵＴＴＥＲＦＬＹ ", 16), plain);
    const { ids, unknown, truncated } = await tokenizer.encode(["a 蝶", "butterfly ".repeat(20)], 6);
    using made = ids;
    assertEquals([unknown[0], truncated], [["蝶"], [false, true]]);
    assertEquals((await made.read()).at(-1), 3);
  }));

Deno.test("training is the same every time, and its file is what was trained", () =>
  withTokenizer(async (tokenizer, path) => {
    const before = await Deno.readTextFile(path);
    using again = await Tokenizer.train(TEXTS, { vocabulary: 300, path });
    assertEquals(await Deno.readTextFile(path), before);
    using loaded = await Tokenizer.load(path);
    assertEquals([again.vocabulary, loaded.vocabulary], [tokenizer.vocabulary, tokenizer.vocabulary]);
    for (const text of ["two red foxes", "the butterfly rises", "xylophone!"]) {
      assertEquals(await idsOf(loaded, text, 24), await idsOf(tokenizer, text, 24));
    }
    assertEquals((await Array.fromAsync(Deno.readDir(path.slice(0, path.lastIndexOf("/"))))).length, 1);
  }));

Deno.test("what a tokenizer cannot be made of or read from is refused by name", () =>
  withTokenizer(async (tokenizer, path) => {
    const code = async (work: () => Promise<unknown>, message: string): Promise<string> =>
      (await assertRejects(work, KinoraError, message)).code;
    assertEquals(await code(() => Tokenizer.train([], { vocabulary: 300, path }), "texts"), "refused");
    assertEquals(await code(() => Tokenizer.train(TEXTS, { vocabulary: 20, path }), "vocabulary"), "refused");
    assertEquals(await code(() => Tokenizer.train(TEXTS, { vocabulary: 1.5, path }), "vocabulary"), "refused");
    assertEquals(await code(() => tokenizer.encode([], 8), "texts"), "refused");
    assertEquals(await code(() => tokenizer.encode(["a"], 1), "length"), "refused");
    assertEquals(await code(() => Tokenizer.load(`${path}.none`), "tokenizer.json.none"), "not-found");
    for (const text of ["", "{", "[]", "{}", '{"model": {"type": "WordPiece"}}']) {
      await Deno.writeTextFile(path, text);
      assertEquals(await code(() => Tokenizer.load(path), path), "bad-file", text);
    }
    tokenizer.dispose();
    assertEquals(await code(() => tokenizer.encode(["a"], 8), "tokenizer"), "disposed");
  }));
