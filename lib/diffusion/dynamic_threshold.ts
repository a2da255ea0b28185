/**
 * Dynamic thresholding (Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language
 * Understanding", 2.3): where strong guidance drives a clean sample out of its range, it is scaled back rather than cut.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";

/** How far a clean sample may go. */
export interface ThresholdOptions {
  /**
   * Which quantile of the magnitudes the range ends at, 0 to 1.
   *
   * @default {0.995}
   */
  readonly ratio?: number;
  /**
   * The furthest end of the range. At 1 nothing is scaled, only cut.
   *
   * @default {1}
   */
  readonly most?: number;
}

/**
 * The end of one sample's range: the quantile of its magnitudes, but at least 1 and at most `most`.
 *
 * @param sample The numbers of one sample.
 * @param options Quantile and limit.
 * @throws {KinoraError} `refused` for a ratio outside 0 to 1, or a limit that is not more than 0.
 */
export function threshold(sample: ArrayLike<number>, options: ThresholdOptions = {}): number {
  const { ratio = 0.995, most = 1 } = options;
  if (!(ratio >= 0 && ratio <= 1)) throw new KinoraError("refused", `ratio must be from 0 to 1, not ${ratio}`);
  if (!(most > 0)) throw new KinoraError("refused", `most must be more than 0, not ${most}`);
  const sorted = Float64Array.from(sample, Math.abs).sort();
  const at = ratio * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? 0;
  return Math.min(Math.max(low + (high - low) * (at - Math.floor(at)), 1), most);
}

/**
 * Cuts numbers at the end of their range and scales the range to -1 to 1.
 *
 * @param sample The numbers of one sample; they are changed.
 * @param options Quantile and limit.
 */
export function applyThreshold(sample: Float32Array | Float64Array, options: ThresholdOptions = {}): void {
  const end = threshold(sample, options);
  sample.forEach((value, index) => sample[index] = Math.min(Math.max(value, -end), end) / end);
}

/**
 * Dynamic thresholding of a tensor; for `constrain` of {@linkcode SamplingOptions}.
 *
 * @param clean Clean samples, with the batch as the first axis; it stays the caller's.
 * @param options Quantile and limit.
 */
export async function dynamicThreshold(clean: Tensor, options: ThresholdOptions = {}): Promise<Tensor> {
  const values = await clean.read();
  const size = values.length / (clean.shape[0] ?? 1);
  for (let at = 0; at < values.length; at += size) applyThreshold(values.subarray(at, at + size), options);
  return await Tensor.create(clean.shape, values);
}
