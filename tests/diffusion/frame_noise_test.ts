import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { frameNoise } from "../../lib/diffusion/frame_noise.ts";

await libraryInfo();

const SHAPE = [2, 4, 32, 32, 3];
const SIZE = 32 * 32 * 3;

/** Mean of the products of two frames' numbers. */
function product(values: Float32Array, one: number, other: number): number {
  let sum = 0;
  for (let at = 0; at < SIZE; at++) sum += (values[one * SIZE + at] ?? 0) * (values[other * SIZE + at] ?? 0);
  return sum / SIZE;
}

Deno.test("frames have as much of their variance in common as asked for, and unit variance in any case", async () => {
  for (const common of [0, 0.3, 0.8, 1]) {
    using noise = await frameNoise({ shape: SHAPE, seeds: [1, 2], stream: 5, common });
    const values = await noise.read();
    for (const frame of [0, 3, 4, 7]) {
      assert(Math.abs(product(values, frame, frame) - 1) < 0.1, `variance at ${common}`);
    }
    for (const [one, other] of [[0, 1], [0, 3], [4, 6]] as const) {
      assert(Math.abs(product(values, one, other) - common) < 0.1, `${one} ${other} at ${common}`);
    }
    // Samples have nothing in common.
    assert(Math.abs(product(values, 0, 4)) < 0.1);
  }
});

Deno.test("a frame's noise depends on its number, not on which frames are asked for", async () => {
  for (const common of [0, 0.5, 1]) {
    const noise = async (frames: readonly number[]): Promise<Float32Array> => {
      using made = await frameNoise({ shape: [1, frames.length, 2, 2, 3], seeds: [7], stream: 1, frames, common });
      return await made.read();
    };
    assertEquals((await noise([3, 4, 5, 6])).slice(24, 36), await noise([5]));
  }
  using plain = await Tensor.noise({ shape: SHAPE, seeds: [1, 2], stream: 5 });
  using none = await frameNoise({ shape: SHAPE, seeds: [1, 2], stream: 5 });
  assertEquals(await none.read(), await plain.read());
  using some = await frameNoise({ shape: SHAPE, seeds: [1, 2], stream: 5, common: 0.1 });
  assertNotEquals(await some.read(), await plain.read());
});

Deno.test("a share outside 0 to 1 is refused", async () => {
  for (const common of [-0.1, 1.1, NaN]) {
    await assertRejects(
      () => frameNoise({ shape: SHAPE, seeds: [1, 2], stream: 0, common }),
      KinoraError,
      "from 0 to 1",
    );
  }
});

Deno.test("noise that changes over seconds correlates as a Gaussian of the time between frames", async () => {
  const shape = [2, 6, 32, 32, 3];
  const fps = [8, 24];
  for (const common of [0, 0.4]) {
    using noise = await frameNoise({ shape, seeds: [1, 2], stream: 5, common, smooth: { seconds: 0.2, fps } });
    const values = await noise.read();
    for (const [sample, rate] of fps.entries()) {
      for (let frame = 0; frame < 6; frame++) {
        const [here, seconds] = [6 * sample, frame / rate];
        const expected = common + (1 - common) * Math.exp(-((seconds / 0.2) ** 2) / 2);
        assert(Math.abs(product(values, here + frame, here + frame) - 1) < 0.1, `variance of ${frame}`);
        const found = product(values, here, here + frame);
        assert(Math.abs(found - expected) < 0.1, `${found} in place of ${expected} after ${seconds} s`);
      }
    }
    assert(Math.abs(product(values, 0, 6)) < 0.1);
  }
  using zero = await frameNoise({ shape, seeds: [1, 2], stream: 5, smooth: { seconds: 0, fps: 8 } });
  using plain = await frameNoise({ shape, seeds: [1, 2], stream: 5 });
  assertEquals(await zero.read(), await plain.read());
});

Deno.test("smooth noise depends on a frame's moment alone, and with a period comes round", async () => {
  const noise = async (frames: readonly number[], fps: number, period?: number): Promise<Float32Array> => {
    const shape = [1, frames.length, 32, 32, 3];
    using made = await frameNoise({ shape, seeds: [7], stream: 1, frames, smooth: { seconds: 0.25, fps, period } });
    return await made.read();
  };
  const some = await noise([3, 4, 5, 60], 8);
  assertEquals(some.slice(2 * SIZE, 3 * SIZE), await noise([5], 8));
  assertEquals(some.slice(2 * SIZE, 3 * SIZE), await noise([15], 24));
  for (const period of [2, 5, 16]) {
    const round = await noise([0, 1, period - 1, period], 8, period);
    for (const frame of [0, 1, 2]) assert(Math.abs(product(round, frame, frame) - 1) < 0.1, `${period}`);
    for (let at = 0; at < SIZE; at++) assert(Math.abs((round[at] ?? 0) - (round[3 * SIZE + at] ?? 0)) < 1e-4);
    // The last frame is as near to the first as the second is.
    assert(Math.abs(product(round, 0, 1) - product(round, 2, 3)) < 0.1, `${period}`);
  }
});

Deno.test("noise over less than no time is refused", async () => {
  for (const seconds of [-1, NaN]) {
    await assertRejects(
      () => frameNoise({ shape: SHAPE, seeds: [1, 2], stream: 0, smooth: { seconds, fps: 8 } }),
      KinoraError,
      "at least 0 seconds",
    );
  }
});
