/**
 * How clips move, one by one.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";

/** Side that clips are brought to by box averages before they are looked at, in pixels. */
const SIDE = 32;

/** Side at which only motion is left and grain is averaged out, in pixels. */
const COARSE = 8;

/** Width of the border, of {@linkcode SIDE} pixels. */
const BORDER = 2;

/** How a clip moves, with colours in [0, 1]. */
export interface Motion {
  /** Mean absolute difference of neighbouring frames at 8 x 8 pixels: motion without grain. */
  readonly motion: number;
  /** The same of the second difference, divided by `motion`: 1.73 for white noise, less for smooth motion; 0 at rest. */
  readonly acceleration: number;
  /** Mean absolute difference of neighbouring frames in the outermost two of 32 pixels: flicker of a still ground. */
  readonly border: number;
}

/**
 * How each of some clips moves, at 32 x 32 pixels by box averages.
 *
 * @param clips Clips (B, F, H, W, 3) in [-1, 1], F at least 3.
 * @returns One for each clip.
 */
export async function clipMotions(clips: Tensor): Promise<Motion[]> {
  const [count = 0, frames = 0] = clips.shape;
  using small = await clips.resize({ height: SIDE, width: SIDE, filter: "area" });
  using coarse = await small.resize({ height: COARSE, width: COARSE, filter: "area" });
  const [fine, rough] = [await small.read(), await coarse.read()];
  const channels = clips.shape[4] ?? 1;
  const ring = Array.from({ length: SIDE * SIDE * channels }, (_, at) => at).filter((at) => {
    const [y, x] = [Math.floor(at / (SIDE * channels)), Math.floor(at / channels) % SIDE];
    return Math.min(y, x) < BORDER || Math.max(y, x) >= SIDE - BORDER;
  });
  return Array.from({ length: count }, (_, clip) => {
    const part = (values: Float32Array): Float32Array =>
      values.subarray(clip * values.length / count, (clip + 1) * values.length / count);
    const first = meanDifference(part(rough), frames, [-1, 1]);
    const second = meanDifference(part(rough), frames, [1, -2, 1]);
    const border = meanDifference(part(fine), frames, [-1, 1], ring);
    // Colours span 2 in tensors.
    return { motion: first / 2, acceleration: first === 0 ? 0 : second / first, border: border / 2 };
  });
}

/**
 * The mean absolute value of a weighted sum of neighbouring frames, over all places they fit and all numbers of a frame.
 *
 * @param clip The frames, one after the other.
 * @param frames How many.
 * @param weights The weights, of the first frame first.
 * @param places The numbers of a frame that count; by default all.
 */
function meanDifference(
  clip: Float32Array,
  frames: number,
  weights: readonly number[],
  places: ArrayLike<number> = { length: clip.length / frames },
): number {
  const frame = clip.length / frames;
  const last = frames - weights.length;
  let sum = 0;
  for (let start = 0; start <= last; start++) {
    for (let index = 0; index < places.length; index++) {
      const at = start * frame + (places[index] ?? index);
      sum += Math.abs(weights.reduce((total, weight, step) => total + weight * (clip[at + step * frame] ?? 0), 0));
    }
  }
  return last < 0 ? 0 : sum / ((last + 1) * places.length);
}
