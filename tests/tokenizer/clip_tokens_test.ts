import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { type ClipReading, clipTokens } from "../../ffi/tokenizer.ts";

// Recorded runs of both peers over 200 texts each are among the fixtures of tests/parity.
await libraryInfo();

async function ids(text: string, reading: ClipReading, length?: number): Promise<number[]> {
  const made = await clipTokens([text], { reading, length });
  using tokens = made.ids;
  assertEquals(tokens.shape, [1, length ?? 77]);
  const numbers = [...await tokens.read()];
  const [count = 0] = made.lengths;
  assertEquals([numbers[0], numbers[count - 1]], [49406, 49407]);
  assertEquals(numbers.slice(count), Array(numbers.length - count).fill(0));
  return numbers.slice(1, count - 1);
}

Deno.test("plain English is read alike", async () => {
  for (const reading of ["hf", "openai"] as const) {
    assertEquals(await ids("", reading), []);
    assertEquals(await ids("A photo of a  CAT.", reading), [320, 1125, 539, 320, 2368, 269]);
    assertEquals(await ids("1234", reading), [272, 273, 274, 275]);
    assertEquals(await ids("a cat and a dog", reading, 4), [320, 2368]);
  }
});

Deno.test("the readings differ in what is repaired first", async () => {
  const same: [text: string, as: string][] = [
    ["schÃ¶n", "schön"],
    ["doesnâ€™t it", "doesn't it"],
    ["&amp;lt;b&amp;gt;", "<b>"],
    ["“curly” ‘quotes’", "\"curly\" 'quotes'"],
    ["Ｆｕｌｌｗｉｄｔｈ ﬁ", "fullwidth fi"],
    ["bell\u0007 \u{1b}[31mred\u{1b}[0m \ufeff", "bell red"],
    ["P&EACUTE;REZ", "pérez"],
    ["don'ſ", "don 'ſ"],
  ];
  for (const [text, as] of same) {
    assertEquals(await ids(text, "openai"), await ids(as, "openai"), text);
    assertNotEquals(await ids(text, "hf"), await ids(text, "openai"), text);
  }
  // No letter to Python, and no other sign either.
  assertEquals(await ids("a\u0345b", "openai"), await ids("a b", "openai"));
  // HTML keeps its references for ftfy, but not for what comes after it.
  assertEquals(await ids("<b>&amp;</b>", "openai"), await ids("<b>&</b>", "openai"));
});

Deno.test("special tokens within a text are special as the peers have it", async () => {
  assertEquals(await ids("a<|endoftext|>b", "hf"), [320, 49407, 321]);
  assertEquals((await ids("<|ENDOFTEXT|>", "hf")).includes(49407), false);
  assertEquals(await ids("<|StartOfText|>", "openai"), [49406]);
});

Deno.test("the end of a long text is cut, the end token stays", async () => {
  const { ids: made, lengths, truncated } = await clipTokens(["word ".repeat(100), "word"], { length: 8 });
  using tokens = made;
  assertEquals([tokens.shape, lengths, truncated], [[2, 8], [8, 3], [true, false]]);
  assertEquals((await tokens.read())[7], 49407);
});

Deno.test("what cannot be tokens is refused by name", async () => {
  const refused = async (work: () => Promise<unknown>, message: string): Promise<void> => {
    assertEquals((await assertRejects(work, KinoraError, message)).code, "refused", message);
  };
  await refused(() => clipTokens([]), "texts");
  await refused(() => clipTokens(["a"], { length: 1 }), "length");
  await refused(() => clipTokens(["a"], { length: 1025 }), "length");
  await refused(() => clipTokens(["a"], { reading: "other" as ClipReading }), "reading");
});
