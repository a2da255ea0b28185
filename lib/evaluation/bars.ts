/**
 * What the default model is to reach. These are this project's own goals: numbers at which people recognise what they asked
 * for and see it move. They are no standard, and hold for the protocols of `lib/evaluation/` only.
 *
 * @module
 */
import type { Bar } from "./figure.ts";

/** The goals by the figure's name. */
export const BARS: Readonly<Record<string, Bar>> = {
  // The whole chain from text, first frame: the wanted picture is the nearest of all.
  "retrieval.names.first.r1": { least: 0.8 },
  "retrieval.sentences.first.r1": { least: 0.7 },
  // D's pictures from true embeddings, in shares of the range of colours.
  "likeness.rmse": { most: 0.08 },
  // Decibels above a bicubic filter. The second enlarges pictures beyond the data's own size: not to harm is enough.
  "super-resolution.sr-low.gain": { least: 2.5 },
  "super-resolution.sr-high.gain": { least: 0 },
  // Decibels above a linear blend of the given frames.
  "interpolation.gain": { least: 0 },
  // Against the real clips of the same concepts.
  "motion.border_ratio": { most: 2 },
  "motion.moving.ratio": { least: 0.4, most: 2 },
  // Neighbouring frames are nearer in time at 24 frames a second, so they must differ less.
  "motion.moving.quick_ratio": { most: 1 },
};
