import { assert, assertEquals } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { clipMotions } from "../../lib/training/clip_motion.ts";
import { Draws } from "../../lib/training/random.ts";
import { swayingClips } from "../../lib/training/swaying_clips.ts";

await libraryInfo();

/** Pictures (count, 32, 32, 3) of a dark square on white. */
async function squares(count: number): Promise<Tensor> {
  const values = new Float32Array(count * 32 * 32 * 3).fill(1);
  for (let at = 0; at < values.length; at++) {
    const [y, x] = [Math.floor(at / 96) % 32, Math.floor(at / 3) % 32];
    if (y >= 10 && y < 22 && x >= 10 && x < 22) values[at] = -1;
  }
  return await Tensor.create([count, 32, 32, 3], values);
}

Deno.test("swaying clips move smoothly, less from frame to frame the more frames a second", async () => {
  using pictures = await squares(12);
  const motions = async (fps: number): Promise<{ motion: number; acceleration: number }> => {
    using clips = await swayingClips(pictures, { frames: 16, fps: new Array(12).fill(fps) }, new Draws(3, 0, 0));
    assertEquals(clips.shape, [12, 16, 32, 32, 3]);
    const each = await clipMotions(clips);
    const mean = (of: (motion: typeof each[number]) => number): number =>
      each.reduce((sum, motion) => sum + of(motion) / each.length, 0);
    return { motion: mean(({ motion }) => motion), acceleration: mean(({ acceleration }) => acceleration) };
  };
  const [slow, fast] = [await motions(8), await motions(24)];
  assert(slow.motion > 0.005, `${slow.motion}`);
  // Three times as many frames a second.
  assert(Math.abs(slow.motion / fast.motion - 3) < 0.8, `${slow.motion} ${fast.motion}`);
  // White noise has 1.73.
  assert(slow.acceleration < 1.2 && fast.acceleration < 0.6, `${slow.acceleration} ${fast.acceleration}`);
});

Deno.test("a swaying clip is a function of its draws, and keeps the ground white", async () => {
  using pictures = await squares(2);
  const options = { frames: 4, fps: [4, 24] };
  using one = await swayingClips(pictures, options, new Draws(1, 2, 3));
  using same = await swayingClips(pictures, options, new Draws(1, 2, 3));
  using other = await swayingClips(pictures, options, new Draws(1, 2, 4));
  const values = await one.read();
  assertEquals(values, await same.read());
  assert(values.some((value, at) => value !== values[(at + 32 * 32 * 3) % values.length]));
  assert((await other.read()).some((value, at) => value !== values[at]));
  for (let at = 0; at < 96; at++) assert(Math.abs((values[at] ?? 0) - 1) < 1e-6);
});
