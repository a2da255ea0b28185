/**
 * Denoising diffusion implicit models (Song, Meng & Ermon 2021), eq. 12 and 16.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { NoiseLevel } from "./noise_schedule.ts";
import type { StepFactors } from "./sampler.ts";

/**
 * The factors of a DDIM step: `to.alpha * x0 + sqrt(to.sigma² - s²) * noise + s * z`, where the noise is what lies between
 * the noisy and the clean sample and `s = eta * to.sigma / from.sigma * sqrt(1 - from.alpha² / to.alpha²)`.
 *
 * @param from The noise level of the noisy sample; its sigma must be more than 0.
 * @param to The noise level wanted, at most `from`.
 * @param eta 0 adds no noise, 1 as much as DDPM.
 * @param rederive Whether the noise is what fits the constrained clean sample; otherwise what fits the one before the
 * constraint.
 * @throws {KinoraError} `refused` for an `eta` outside 0 to 1.
 */
export function ddimStep(from: NoiseLevel, to: NoiseLevel, eta: number, rederive: boolean): StepFactors {
  if (!(eta >= 0 && eta <= 1)) throw new KinoraError("refused", `sampler.eta must be from 0 to 1, not ${eta}`);
  const step = Math.max(0, 1 - (from.alpha / to.alpha) ** 2);
  const added = eta * to.sigma / from.sigma * Math.sqrt(step);
  const kept = Math.sqrt(Math.max(0, to.sigma ** 2 - added ** 2)) / from.sigma;
  const removed = -kept * from.alpha;
  return {
    sample: kept,
    clean: rederive ? to.alpha + removed : to.alpha,
    raw: rederive ? 0 : removed,
    noise: added,
  };
}
