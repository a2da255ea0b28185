/**
 * Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020): ancestral sampling, eq. 6 and 7, between any two
 * noise levels.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { NoiseLevel } from "./noise_schedule.ts";
import type { StepFactors } from "./sampler.ts";

/** The variance of a step: `fixed_small` the posterior's for a known clean sample, `fixed_large` the step's own beta. */
export type DdpmVariance = "fixed_small" | "fixed_large";

/**
 * The factors of a DDPM step: the mean of the posterior given the clean sample, and its standard deviation. A step to no
 * noise at all ends on the clean sample and adds nothing.
 *
 * @param from The noise level of the noisy sample; its sigma must be more than 0.
 * @param to The noise level wanted, at most `from`.
 * @param variance Which variance the step has.
 * @throws {KinoraError} `refused` for another variance.
 */
export function ddpmStep(from: NoiseLevel, to: NoiseLevel, variance: DdpmVariance): StepFactors {
  if (variance !== "fixed_small" && variance !== "fixed_large") {
    throw new KinoraError("refused", `sampler.variance must be "fixed_small" or "fixed_large", not "${variance}"`);
  }
  const ratio = (from.alpha / to.alpha) ** 2;
  const beta = 1 - ratio;
  const posterior = beta * (to.sigma / from.sigma) ** 2;
  return {
    sample: Math.sqrt(ratio) * (to.sigma / from.sigma) ** 2,
    clean: to.alpha * beta / from.sigma ** 2,
    raw: 0,
    noise: to.sigma === 0 ? 0 : Math.sqrt(Math.max(0, variance === "fixed_small" ? posterior : beta)),
  };
}
