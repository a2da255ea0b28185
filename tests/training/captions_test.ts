import { assert, assertEquals } from "@std/assert";
import { Captions, UNSEEN_TEMPLATE } from "../../lib/training/captions.ts";
import { Draws } from "../../lib/training/random.ts";
import { captionTargets } from "../../lib/training/stages/text_tuning.ts";
import { CONCEPTS } from "./tiny_training.ts";

const captions = new Captions(CONCEPTS);

Deno.test("names are lower case, and the corpus has every word", () => {
  const [first] = CONCEPTS;
  assert(first !== undefined);
  const { names } = new Captions([{ ...first, name: "Red Fox", label: "RED fox" }]);
  assertEquals(names, ["red fox"]);
  const corpus = captions.corpus();
  for (const { name, tags, keywords } of CONCEPTS) {
    for (const word of [name, ...tags, ...keywords]) assert(corpus.includes(word), word);
  }
  assert(corpus.every((text) => text.trim() !== "" && !text.includes("{}")));
});

Deno.test("plain() has words of its concept and no held-out ones", () => {
  const draws = new Draws(1, 0, 0);
  const kept = new Set(captions.heldOut().map(({ text }) => text));
  assert(kept.size > 0);
  for (const [concept, { name, label, tags, keywords }] of CONCEPTS.entries()) {
    const own = [name, label, ...tags, ...keywords];
    for (let round = 0; round < 50; round++) {
      const text = captions.plain(concept, draws);
      assert(own.some((word) => text.includes(word)), `${name}: ${text}`);
      assert(!text.includes("favourite"));
    }
  }
  assert(UNSEEN_TEMPLATE.includes("favourite"));
});

Deno.test("free() fits all concepts that share its search words", () => {
  const draws = new Draws(2, 0, 0);
  let shared = 0;
  for (let round = 0; round < 2000; round++) {
    const concept = round % CONCEPTS.length;
    const { text, concepts } = captions.free(concept, draws);
    assert(concepts.includes(concept));
    assertEquals(new Set(concepts).size, concepts.length);
    assert(text.length > 0 && text.length < 200);
    if (concepts.length === 1) continue;
    shared++;
    // All of them have a word of the text.
    for (const other of concepts) {
      const { tags, keywords } = CONCEPTS[other] ?? { tags: [], keywords: [] };
      assert([...tags, ...keywords].some((word) => word.split(" ").some((part) => text.includes(part))), text);
    }
  }
  assert(shared > 100);
});

Deno.test("heldOut() names all concepts with the word", () => {
  for (const { text, concepts } of captions.heldOut()) {
    const owners = CONCEPTS.flatMap(({ tags, keywords }, index) =>
      [...tags, ...keywords].includes(text) ? [index] : []
    );
    assertEquals([...concepts].sort(), owners.sort());
  }
});

Deno.test("fillers() are words of captions that are no name", () => {
  const [fillers, words] = [captions.fillers(), new Set(captions.words())];
  assertEquals(fillers, [...new Set(fillers)].sort());
  for (const word of ["a", "please", "slowly"]) assert(fillers.includes(word), word);
  for (const word of fillers) assert(words.has(word) && !captions.names.includes(word), word);
});

Deno.test("free() puts words of other things around names, but never makes them the caption's", () => {
  const draws = new Draws(3, 0, 0);
  const [own = CONCEPTS[0]] = CONCEPTS;
  const others = new Set(CONCEPTS.slice(1).flatMap(({ tags, keywords }) => [...tags, ...keywords]));
  for (const word of [own?.name, own?.label, ...own?.tags ?? [], ...own?.keywords ?? []]) others.delete(word ?? "");
  for (const filler of captions.fillers()) others.delete(filler);
  let strays = 0;
  for (let round = 0; round < 5000; round++) {
    const { text, concepts } = captions.free(0, draws);
    if (!text.split(" ").some((word) => others.has(word))) continue;
    strays++;
    assertEquals(concepts, [0], text);
  }
  assert(strays > 20, `${strays}`);
});

Deno.test("captionTargets() are distributions", () => {
  const targets = captionTargets([{ text: "a", concepts: [2] }, { text: "b", concepts: [0, 3] }], 4);
  assertEquals([...targets], [0, 0, 1, 0, 0.5, 0, 0, 0.5]);
});
