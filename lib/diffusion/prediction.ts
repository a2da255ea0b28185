/**
 * What a network predicts, and how the three usual choices turn into each other: each is a linear combination of the
 * noisy sample and another, so a conversion is a pair of numbers.
 *
 * With `x = alpha * x0 + sigma * noise`: `v = alpha * noise - sigma * x0` (Salimans & Ho 2022).
 *
 * @module
 */
import type { NoiseLevel } from "./noise_schedule.ts";

/** What a network's output stands for: the noise, the velocity, or the clean sample. Names as in diffusers. */
export type Prediction = "epsilon" | "v_prediction" | "sample";

/** Every {@linkcode Prediction}. */
export const PREDICTIONS: readonly Prediction[] = ["epsilon", "v_prediction", "sample"];

/** `sample * x + prediction * output`. */
export interface PredictionPair {
  /** Factor of the noisy sample. */
  readonly sample: number;
  /** Factor of the network's output. */
  readonly prediction: number;
}

/**
 * The pair that turns one prediction into another at a noise level.
 *
 * @param from What the network gives.
 * @param to What is wanted.
 * @param level The noise level of the noisy sample. From `epsilon` (and to `epsilon` from `sample`) a factor grows
 * without bound where alpha (or sigma) goes to 0.
 */
export function convertPrediction(from: Prediction, to: Prediction, level: NoiseLevel): PredictionPair {
  const { alpha, sigma } = level;
  if (from === to) return { sample: 0, prediction: 1 };
  switch (`${from}>${to}` as const) {
    case "epsilon>sample":
      return { sample: 1 / alpha, prediction: -sigma / alpha };
    case "v_prediction>sample":
      return { sample: alpha, prediction: -sigma };
    case "sample>epsilon":
      return { sample: 1 / sigma, prediction: -alpha / sigma };
    case "v_prediction>epsilon":
      return { sample: sigma, prediction: alpha };
    case "epsilon>v_prediction":
      return { sample: -sigma / alpha, prediction: 1 / alpha };
    default: // sample>v_prediction
      return { sample: alpha / sigma, prediction: -1 / sigma };
  }
}

/**
 * What a network is to predict in training, as factors of the clean sample and of the noise that was added to it.
 *
 * @param prediction What the network gives.
 * @param level The noise level of the training example.
 */
export function predictionTarget(
  prediction: Prediction,
  level: NoiseLevel,
): { readonly clean: number; readonly noise: number } {
  switch (prediction) {
    case "epsilon":
      return { clean: 0, noise: 1 };
    case "v_prediction":
      return { clean: -level.sigma, noise: level.alpha };
    default:
      return { clean: 1, noise: 0 };
  }
}
