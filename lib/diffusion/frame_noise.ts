/**
 * Noise of which frames have a part in common (Ge et al. 2023, "Preserve Your Own Correlation", the mixed noise model):
 * neighbouring frames of real videos look alike, and noise that is alike keeps them so.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";

/** What {@linkcode frameNoise} is asked for. */
export interface FrameNoiseOptions {
  /** The shape, `[B, F, ...]`. */
  readonly shape: readonly number[];
  /** One seed for each sample. */
  readonly seeds: readonly number[];
  /** Which of a seed's streams of numbers. */
  readonly stream: number;
  /** The frames' numbers in the whole video; by default 0, 1, 2 and so on. */
  readonly frames?: readonly number[] | undefined;
  /**
   * The share of the variance that is the same in all frames, 0 to 1: `alpha² / (1 + alpha²)` of the paper's alpha. At 0
   * frames are independent, at 1 all have the same noise.
   *
   * @default {0}
   */
  readonly common?: number | undefined;
}

/** The number of the frame that the common part is taken from; no video has so many frames. */
const COMMON_FRAME = 0xffff_ffff;

/**
 * Unit noise for frames. Each number is a function of seed, stream and the frame's number.
 *
 * @param options Shape, seeds, and how much frames have in common.
 * @throws {KinoraError} `refused` when `common` is not from 0 to 1.
 */
export async function frameNoise(options: FrameNoiseOptions): Promise<Tensor> {
  const { shape, seeds, stream, frames, common = 0 } = options;
  if (!(common >= 0 && common <= 1)) {
    throw new KinoraError("refused", `common noise must be a number from 0 to 1, not ${common}`);
  }
  if (common === 0) return await Tensor.noise({ shape, seeds, stream, frames });
  using one = await Tensor.noise({ shape: shape.with(1, 1), seeds, stream, frames: [COMMON_FRAME] });
  if (common === 1) return await one.gather(1, new Array<number>(shape[1] ?? 1).fill(0));
  using own = await Tensor.noise({ shape, seeds, stream, frames });
  return await Tensor.combine([
    { tensor: own, scale: Math.sqrt(1 - common) },
    { tensor: one, scale: Math.sqrt(common) },
  ]);
}
