/**
 * Which frame rates a video network is trained at: the paper draws them from a beta distribution that starts at high rates
 * (little motion) and moves to low ones (much motion).
 *
 * @module
 */
import type { FpsSettings } from "../cascade/model_index.ts";

/** Where the distribution starts and ends. */
export interface FpsCurriculum {
  /** The strength at the start: above 1 prefers high rates, 1 is even, below 1 prefers low ones. More than 0. */
  readonly start: number;
  /** The strength at the end. */
  readonly end: number;
}

/**
 * A frame rate for a training clip. On a logarithmic scale between the least and the greatest rate it follows
 * Beta(s, 1) where the strength s is at least 1, else Beta(1, 1/s); s goes geometrically from start to end.
 *
 * @param range The rates.
 * @param curriculum The strengths.
 * @param at `progress` is how much of the run is over, 0 to 1; `uniform` a random number from 0 to below 1.
 * @returns Frames a second.
 */
export function curriculumFps(
  range: FpsSettings,
  curriculum: FpsCurriculum,
  at: { readonly progress: number; readonly uniform: number },
): number {
  const strength = curriculum.start * (curriculum.end / curriculum.start) ** at.progress;
  // Both have a closed inverse: the distribution functions are x^s and 1 - (1 - x)^(1/s).
  const share = strength >= 1 ? at.uniform ** (1 / strength) : 1 - (1 - at.uniform) ** strength;
  return range.least * (range.most / range.least) ** share;
}
