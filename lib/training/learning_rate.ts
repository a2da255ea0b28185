/**
 * The learning rate over a run: a linear warm-up by steps, a level stretch, and a cosine down to a floor.
 *
 * @module
 */

/** The shape of the learning rate over a run. */
export interface LearningRate {
  /** The highest rate. */
  readonly rate: number;
  /** Steps of the warm-up, 0 for none. */
  readonly warmupSteps: number;
  /** The share of the run that the rate stays level for, 0 to 1; 0 starts the cosine at once. */
  readonly hold: number;
  /** The share of the highest rate that is left at the end, 0 to 1. */
  readonly floor: number;
}

/**
 * The rate of a step.
 *
 * @param shape The shape.
 * @param at How much of the run is over, 0 to 1, and the steps that are done.
 */
export function learningRate(
  shape: LearningRate,
  at: { readonly progress: number; readonly step: number },
): number {
  const warm = shape.warmupSteps === 0 ? 1 : Math.min(1, (at.step + 1) / shape.warmupSteps);
  const falling = shape.hold >= 1 ? 0 : Math.min(1, Math.max(0, (at.progress - shape.hold) / (1 - shape.hold)));
  return shape.rate * warm * Math.max(shape.floor, 0.5 + 0.5 * Math.cos(Math.PI * falling));
}

/**
 * The decay of the averaged weights at a step: short at first, so that the start is forgotten, then `most`.
 *
 * @param most The decay of a long run, 0 to below 1.
 * @param step Steps that are done.
 */
export function emaDecay(most: number, step: number): number {
  return Math.min(most, (1 + step) / (10 + step));
}
