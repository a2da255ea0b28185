/**
 * What a sampler is: a rule that gives, for a step from one noise level to a lower one, the factors of a linear
 * combination. Tensors are not seen here; `sample.ts` applies the factors.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { ddimStep } from "./ddim.ts";
import { ddpmStep, type DdpmVariance, type LearnedVariance } from "./ddpm.ts";
import { type DpmSolverConfig, dpmSolverStep, dpmSolverSteps } from "./dpm_solver.ts";
import type { NoiseLevel } from "./noise_schedule.ts";
import type { Transition } from "./timesteps.ts";

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
  /** Factors of the constrained clean samples of the steps before, latest first; absent where a step needs none. */
  readonly history?: readonly number[];
  /** Where the network predicts the variance: then {@linkcode learnedDeviation} gives each number's factor of new noise. */
  readonly variance?: LearnedVariance;
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
   * The variance of a step: the posterior's for a known clean sample, the step's own beta, or between them what the
   * network says.
   *
   * @default {"fixed_small"}
   */
  readonly variance?: DdpmVariance;
  /**
   * Whether a last step to no noise at all adds noise as well, where its variance is `fixed_large`: what diffusers does
   * when the step does not start at timestep 0.
   *
   * @default {false}
   */
  readonly noise_at_end?: boolean;
}

/** Any sampler, as it is written in a model's files. */
export type SamplerConfig = DdimConfig | DdpmConfig | DpmSolverConfig;

/**
 * The factors of all steps of a run.
 *
 * @param config Which sampler.
 * @param steps The steps.
 * @throws {KinoraError} `refused` for another sampler, or a setting outside its range.
 */
export function samplerSteps(config: SamplerConfig, steps: readonly Transition[]): StepFactors[] {
  if (config.type === "dpmsolver++") return dpmSolverSteps(config, steps);
  return steps.map(({ from, to }) => samplerStep(config, from, to));
}

/**
 * The factors of one step by itself: of a sampler that looks back, its step of first order.
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
      return ddpmStep(from, to, config.variance ?? "fixed_small", config.noise_at_end);
    case "dpmsolver++":
      return dpmSolverStep([from], to, { solver: "midpoint", stochastic: config.stochastic ?? false });
    default:
      throw new KinoraError(
        "refused",
        `sampler.type must be "ddim" or "ddpm" or "dpmsolver++", not ${
          JSON.stringify((config as { type: unknown }).type)
        }`,
      );
  }
}
