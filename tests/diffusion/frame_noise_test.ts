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
