import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { Draws, philox } from "../../lib/training/random.ts";

Deno.test("philox() gives the known answers of Random123", () => {
  const ones = 0xffffffff;
  assertEquals(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  assertEquals(philox([ones, ones, ones, ones], [ones, ones]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  assertEquals(
    philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});

Deno.test("draws are a function of seed, stage and step", () => {
  const numbers = (seed: number, stage: number, step: number): number[] => new Draws(seed, stage, step).seeds(5);
  assertEquals(numbers(1, 2, 3), numbers(1, 2, 3));
  for (const other of [numbers(2, 2, 3), numbers(1, 3, 3), numbers(1, 2, 4), numbers(1 + 2 ** 32, 2, 3)]) {
    assertNotEquals(other, numbers(1, 2, 3));
  }
  for (const seed of new Draws(9, 0, 0).seeds(1000)) assert(Number.isSafeInteger(seed) && seed >= 0);
});

Deno.test("draws have the distributions they are named after", () => {
  const draws = new Draws(7, 0, 0);
  const count = 20_000;
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const uniform = draws.each(count, () => draws.next());
  assert(uniform.every((value) => value >= 0 && value < 1));
  assertAlmostEquals(mean(uniform), 0.5, 0.01);
  const normal = draws.each(count, () => draws.normal());
  assertAlmostEquals(mean(normal), 0, 0.03);
  assertAlmostEquals(mean(normal.map((value) => value ** 2)), 1, 0.05);
  assertAlmostEquals(mean(normal.map((value) => value ** 4)), 3, 0.3);
  assertAlmostEquals(mean(draws.each(count, () => Number(draws.chance(0.2)))), 0.2, 0.01);
  const below = draws.each(count, () => draws.below(5));
  for (let value = 0; value < 5; value++) {
    assertAlmostEquals(below.filter((drawn) => drawn === value).length / count, 0.2, 0.015);
  }
});

Deno.test("several() picks different ones, all of a short list, and each as often", () => {
  const draws = new Draws(3, 0, 0);
  assertEquals(draws.several([1, 2, 3], 9).sort(), [1, 2, 3]);
  const counts = new Map<string, number>();
  for (let round = 0; round < 6000; round++) {
    const pair = draws.several("abc".split(""), 2).join("");
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  assertEquals([...counts.keys()].sort(), ["ab", "ac", "ba", "bc", "ca", "cb"]);
  for (const count of counts.values()) assertAlmostEquals(count / 1000, 1, 0.15);
  assertThrows(() => draws.pick([]), RangeError, "nothing to pick");
});
