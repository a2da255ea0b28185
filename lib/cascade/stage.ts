/**
 * The names of the stages of Eq. 1 and what they have in common.
 *
 * @module
 */

/**
 * The stages that sample, in the order of Eq. 1 read from right to left: P, D^t, upF, SR_l^t, SR_h. The text encoder
 * before them makes no choices and has no steps.
 */
export type StageName = "prior" | "decoder" | "interpolation" | "sr-low" | "sr-high";

/** Every {@linkcode StageName}, in the order they run. */
export const STAGES: readonly StageName[] = ["prior", "decoder", "interpolation", "sr-low", "sr-high"];

/** The step number that stands for noise which belongs to no step: the noise augmentation of a small picture. */
export const AUGMENTATION_STEP = 0xffff;

/** What the interpolation network is at: `between` frames that are given at even distances, or to `fill` any others. */
export type FrameTask = "between" | "fill";

/**
 * The stream of random numbers of one step of one stage. With the seed and the frame's number in the finished video it
 * decides every random number, so the same seed gives the same noise however the frames are cut into runs.
 *
 * @param stage The stage.
 * @param step 0 for the noise a run starts from, then the number of the step from 1, up to 1,000.
 * @param task Of the interpolation: what it is at.
 */
export function noiseStream(stage: StageName, step: number, task: FrameTask = "between"): number {
  return ((STAGES.indexOf(stage) + 1) << 16) | (task === "fill" ? 1 << 12 : 0) | step;
}
