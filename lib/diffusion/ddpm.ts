/**
 * Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020): ancestral sampling, eq. 6 and 7, between any two
 * noise levels.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { NoiseLevel } from "./noise_schedule.ts";
import type { StepFactors } from "./sampler.ts";

/**
 * The variance of a step: `fixed_small` the posterior's for a known clean sample, `fixed_large` the step's own beta,
 * `learned_range` between them by what the network says (Nichol & Dhariwal 2021, eq. 15). `fixed_small_log` is diffusers'
 * other name for `fixed_small`.
 */
export type DdpmVariance = "fixed_small" | "fixed_small_log" | "fixed_large" | "learned_range";

/** Every {@linkcode DdpmVariance}. */
export const DDPM_VARIANCES: readonly DdpmVariance[] = [
  "fixed_small",
  "fixed_small_log",
  "fixed_large",
  "learned_range",
];

/** Natural logs of the variances that a network chooses between. */
export interface LearnedVariance {
  /** Log of the posterior's variance for a known clean sample, which the network's -1 stands for. */
  readonly least: number;
  /** Log of the step's beta, which the network's 1 stands for. */
  readonly most: number;
}

/**
 * The standard deviation that a network chose.
 *
 * @param variance The ends.
 * @param value The network's output; it may lie outside -1 to 1.
 */
export function learnedDeviation(variance: LearnedVariance, value: number): number {
  const share = (value + 1) / 2;
  return Math.exp((share * variance.most + (1 - share) * variance.least) / 2);
}

/**
 * The factors of a DDPM step: the mean of the posterior given the clean sample, and its standard deviation. A step to no
 * noise at all ends on the clean sample and adds nothing. With `learned_range` the factor of noise is that of
 * `fixed_small`, for whoever does not read the network's variance.
 *
 * @param from The noise level of the noisy sample; its sigma must be more than 0.
 * @param to The noise level wanted, at most `from`.
 * @param variance Which variance the step has.
 * @param noiseAtEnd Whether a step to no noise adds noise as well, where the variance is `fixed_large`.
 * @throws {KinoraError} `refused` for another variance.
 */
export function ddpmStep(from: NoiseLevel, to: NoiseLevel, variance: DdpmVariance, noiseAtEnd = false): StepFactors {
  if (!DDPM_VARIANCES.includes(variance)) {
    const accepted = DDPM_VARIANCES.map((name) => `"${name}"`).join(" or ");
    throw new KinoraError("refused", `sampler.variance must be ${accepted}, not "${variance}"`);
  }
  const ratio = (from.alpha / to.alpha) ** 2;
  const beta = 1 - ratio;
  const posterior = beta * (to.sigma / from.sigma) ** 2;
  const large = variance === "fixed_large";
  const adds = to.sigma !== 0 || (large && noiseAtEnd);
  return {
    sample: Math.sqrt(ratio) * (to.sigma / from.sigma) ** 2,
    clean: to.alpha * beta / from.sigma ** 2,
    raw: 0,
    noise: adds ? Math.sqrt(Math.max(0, large ? beta : posterior)) : 0,
    ...variance === "learned_range" && adds ? { variance: { least: Math.log(posterior), most: Math.log(beta) } } : {},
  };
}
