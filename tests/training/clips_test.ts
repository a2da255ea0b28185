import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { clipRows, largeClipRows } from "../../lib/training/clip_sampling.ts";
import { drawMask } from "../../lib/training/frame_masks.ts";
import { Draws } from "../../lib/training/random.ts";
import { heldOut, spread } from "../../lib/training/training_data.ts";

const CLIP = { concept: 0, start: 100, length: 10, delayMs: 50, large: null };

Deno.test("clipRows() steps at the wanted rate and goes round", () => {
  assertEquals(clipRows(CLIP, { frames: 4, fps: 20, first: 0 }), [100, 101, 102, 103]);
  assertEquals(clipRows(CLIP, { frames: 4, fps: 10, first: 7 }), [107, 109, 101, 103]);
  assertEquals(clipRows(CLIP, { frames: 4, fps: 8, first: 0 }), [100, 103, 105, 108]);
  assertEquals(clipRows(CLIP, { frames: 4, fps: 40, first: 9 }), [109, 100, 100, 101]);
  const rows = clipRows({ ...CLIP, delayMs: 42, length: 13 }, { frames: 16, fps: 4, first: 12 });
  assertEquals(rows.length, 16);
  assert(rows.every((row) => row >= 100 && row < 113));
});

Deno.test("largeClipRows() gives neighbours in the large store", () => {
  const large = { start: 20, frames: [0, 3, 6, 9] };
  assertEquals(largeClipRows(large, { frames: 3, first: 2 }), [22, 23, 20]);
});

Deno.test("drawMask() knows every k-th frame, or the first or last few", () => {
  const draws = new Draws(1, 0, 0);
  const settings = { skips: [2, 5], ends: 0.4 };
  let ends = 0;
  for (let round = 0; round < 2000; round++) {
    const { start, length, known } = drawMask(16, settings, draws);
    assertEquals([start, length], [0, 16]);
    assert(known.length > 0 && known.length < 16);
    for (const { position, source, frame } of known) assertEquals([source, frame], ["key", position]);
    const places = known.map(({ position }) => position);
    const steps = places.slice(1).map((place, index) => place - (places[index] ?? 0));
    if (steps.every((step) => step === 1) && (places[0] !== 0 || places.at(-1) !== 15)) {
      ends++;
      assert(places.length <= 8 && (places[0] === 0 || places.at(-1) === 15));
      continue;
    }
    assertEquals(places[0], 0);
    const [, ...regular] = steps;
    assertEquals(new Set(regular).size, 1);
    assert(regular[0] === 2 || regular[0] === 5);
    assert((steps[0] ?? 0) <= (regular[0] ?? 0));
  }
  assertAlmostEquals(ends / 2000, 0.4, 0.05);
  assert(drawMask(2, { skips: [2], ends: 1 }, draws).known.length === 1);
});

Deno.test("one in sixteen is held out, and spread() is even", () => {
  assertEquals(Array.from({ length: 64 }, (_, index) => index).filter(heldOut), [15, 31, 47, 63]);
  assertEquals(spread([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2), [2, 7]);
  assertEquals(spread(["a", "b"], 5), ["a", "b"]);
});
