import { assertEquals, assertThrows } from "@std/assert";
import { interleaved, median } from "../../bench/rounds.ts";

Deno.test("a median is the middle, or the mean of the two in the middle, whatever the order", () => {
  assertEquals(median([9, 1, 5]), 5);
  assertEquals(median([10, 1, 3, 2]), 2.5);
  assertEquals(median([7]), 7);
  assertThrows(() => median([]), RangeError);
});

Deno.test("sides take turns, and every round counts by its own median", async () => {
  const order: string[] = [];
  const side = (name: string, times: readonly (readonly number[])[]) => (round: number) => {
    order.push(`${name}${round}`);
    return Promise.resolve(times[round] ?? []);
  };
  const medians = await interleaved(3, [
    side("a", [[1, 2, 90], [4], [3, 5]]),
    side("b", [[10, 30, 20], [11], [12, 14]]),
  ]);
  assertEquals(order, ["a0", "b0", "a1", "b1", "a2", "b2"]);
  assertEquals(medians, [[2, 4, 4], [20, 11, 13]]);
});
