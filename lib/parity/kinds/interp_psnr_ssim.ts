/**
 * `interp.psnr_ssim`: how like pictures are, as scikit-image measures it.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { type PicturePair, psnrOf, ssimOf } from "../../evaluation/picture_similarity.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";

/**
 * Compares pictures, one by one.
 *
 * @param fixture The fixture: `in/a` and `in/b` (N, H, W, C), and `call.data_range`.
 */
export function answer(fixture: Fixture): Answers {
  const { data_range: range } = fixture.call;
  if (typeof range !== "number" || !(range > 0)) {
    throw new KinoraError("unsupported", `call.data_range must be a number above 0, not ${JSON.stringify(range)}`);
  }
  const [a, b] = [fixtureInput(fixture, "a"), fixtureInput(fixture, "b")];
  const [count = 0, height = 0, width = 0, channels = 0] = a.shape;
  if (a.shape.length !== 4 || String(a.shape) !== String(b.shape)) {
    throw new KinoraError("bad-file", `"${fixture.path}" has an in/a and an in/b that are not both (N, H, W, C)`);
  }
  const [ones, others] = [numbersOf(a), numbersOf(b)];
  const size = height * width * channels;
  const pairs = Array.from({ length: count }, (_, at): PicturePair => ({
    a: ones.subarray(at * size, (at + 1) * size),
    b: others.subarray(at * size, (at + 1) * size),
    height,
    width,
    channels,
    range,
  }));
  return new Map([
    ["out/psnr", plainTensor([count], Float64Array.from(pairs, psnrOf))],
    ["out/ssim", plainTensor([count], Float64Array.from(pairs, (pair) => ssimOf(pair, "uniform")))],
    ["out/ssim_gauss", plainTensor([count], Float64Array.from(pairs, (pair) => ssimOf(pair, "gaussian")))],
  ]);
}
