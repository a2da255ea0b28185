/**
 * What a sampler is: a rule that gives, for a step from one noise level to a lower one, the factors of a linear
 * combination. Tensors are not seen here; `sample.ts` applies the factors.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { ddimStep } from "./ddim.ts";
import { ddpmStep, type DdpmVariance } from "./ddpm.ts";
import type { NoiseLevel } from "./noise_schedule.ts";

/**
 * The next sample is `sample * x + clean * x0 + raw * r + noise * z`, where x is the noisy sample, x0 the clean sample
 * that was predicted and constrained (clamped, for example), r the same before the constraint, and z new unit noise.
 */
export interface StepFactors {
  /** Factor of the noisy sample. */
  readonly sample: number;
  /** Factor of the constrained clean sample. */
  readonly clean: number;
  /** Factor of the clean sample before the constraint; 0 where the noise is derived again after it. */
  readonly raw: number;
  /** Factor of new noise; 0 where the step adds none. */
  readonly noise: number;
}

/** DDIM. */
export interface DdimConfig {
  /** Says which sampler this is. */
  readonly type: "ddim";
  /**
   * From 0, where nothing is random after the first noise, to 1, which adds as much noise as DDPM.
   *
   * @default {0}
   */
  readonly eta?: number;
  /**
   * The direction to the next sample uses the noise that fits the constrained clean sample (`true`), or the noise the
   * network predicted (`false`, as diffusers does).
   *
   * @default {true}
   */
  readonly rederive_noise?: boolean;
}

/** DDPM, ancestral sampling. */
export interface DdpmConfig {
  /** Says which sampler this is. */
  readonly type: "ddpm";
  /**
   * The variance of a step: the posterior's for a known clean sample, or the step's own beta.
   *
   * @default {"fixed_small"}
   */
  readonly variance?: DdpmVariance;
}

/** Any sampler, as it is written in a model's files. */
export type SamplerConfig = DdimConfig | DdpmConfig;

/**
 * The factors of one step.
 *
 * @param config Which sampler.
 * @param from The noise level of the noisy sample.
 * @param to The noise level wanted, at most `from`.
 * @throws {KinoraError} `refused` for another sampler, or an `eta` outside 0 to 1.
 */
export function samplerStep(config: SamplerConfig, from: NoiseLevel, to: NoiseLevel): StepFactors {
  switch (config.type) {
    case "ddim":
      return ddimStep(from, to, config.eta ?? 0, config.rederive_noise ?? true);
    case "ddpm":
      return ddpmStep(from, to, config.variance ?? "fixed_small");
    default:
      throw new KinoraError(
        "refused",
        `sampler.type must be "ddim" or "ddpm", not ${JSON.stringify((config as { type: unknown }).type)}`,
      );
  }
}
