import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { clipMotions } from "../../lib/training/clip_motion.ts";
import { motionOf } from "../../lib/training/measures.ts";

await libraryInfo();

const [FRAMES, SIDE] = [8, 32];

/** A clip whose colour at a place and time `colour` gives, in [0, 1]. */
function clip(colour: (frame: number, y: number, x: number) => number): number[] {
  return Array.from({ length: FRAMES * SIDE * SIDE * 3 }, (_, at) => {
    const place = Math.floor(at / 3);
    const [y, x] = [Math.floor(place / SIDE) % SIDE, place % SIDE];
    return 2 * colour(Math.floor(place / (SIDE * SIDE)), y, x) - 1;
  });
}

async function motions(...clips: number[][]): ReturnType<typeof clipMotions> {
  using tensor = await Tensor.create([clips.length, FRAMES, SIDE, SIDE, 3], clips.flat());
  return await clipMotions(tensor);
}

Deno.test("clipMotions() of a clip at rest, of an even change, and of one that turns, each as by hand", async () => {
  const rest = clip((_, y) => y / SIDE);
  const even = clip((frame) => 0.05 * frame);
  // 0, .1, 0, .1: neighbours differ by .1, second differences are .2.
  const turning = clip((frame) => frame % 2 * 0.1);
  const [first, second, third] = await motions(rest, even, turning);
  assertEquals(first, { motion: 0, acceleration: 0, border: 0 });
  assertAlmostEquals(second?.motion ?? 0, 0.05, 1e-6);
  assertAlmostEquals(second?.acceleration ?? 0, 0, 1e-4);
  assertAlmostEquals(second?.border ?? 0, 0.05, 1e-6);
  assertAlmostEquals(third?.motion ?? 0, 0.1, 1e-6);
  assertAlmostEquals(third?.acceleration ?? 0, 2, 1e-4);
});

Deno.test("clipMotions() counts as border the outermost two of 32 pixels", async () => {
  const ring = (width: number): number[] =>
    clip((frame, y, x) => Math.min(y, x, SIDE - 1 - y, SIDE - 1 - x) === width ? frame % 2 * 0.5 : 0);
  const [outermost, second, third] = await motions(ring(0), ring(1), ring(2));
  const all = 32 * 32 - 28 * 28;
  assertAlmostEquals(outermost?.border ?? 0, 0.5 * (32 * 32 - 30 * 30) / all, 1e-6);
  assertAlmostEquals(second?.border ?? 0, 0.5 * (30 * 30 - 28 * 28) / all, 1e-6);
  assertEquals(third?.border, 0);
});

Deno.test("clipMotions() averages grain away and keeps motion: an alternating checkerboard is no motion", async () => {
  const [grain] = await motions(clip((frame, y, x) => (frame + y + x) % 2));
  assertAlmostEquals(grain?.motion ?? 1, 0, 1e-6);
  assertAlmostEquals(grain?.border ?? 0, 1, 1e-6);
});

Deno.test("white noise has the acceleration ratio sqrt 3, at any size of the clip", async () => {
  for (const side of [32, 64]) {
    using noise = await Tensor.noise({ shape: [6, 16, side, side, 3], seeds: [1, 2, 3, 4, 5, 6] });
    const { acceleration, motion } = await motionOf(noise);
    assertAlmostEquals(acceleration, Math.sqrt(3), 0.03);
    // Of averages of n numbers with variance 1: E|a - b| = 2 / sqrt(pi n), halved for colours in [0, 1].
    const pixels = (side / 8) ** 2;
    assertAlmostEquals(motion, 1 / Math.sqrt(Math.PI * pixels), 0.02 / Math.sqrt(pixels));
    assert((await clipMotions(noise)).length === 6);
  }
});
