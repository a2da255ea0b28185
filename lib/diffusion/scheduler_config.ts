/**
 * Schedulers as published checkpoints describe them (diffusers' `scheduler_config.json`), read into this kit's schedules,
 * steps and samplers.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { JsonFields } from "../cascade/json_fields.ts";
import type { ThresholdOptions } from "./dynamic_threshold.ts";
import { logSnr, type NoiseSchedule, noiseSchedule } from "./noise_schedule.ts";
import { type Prediction, PREDICTIONS } from "./prediction.ts";
import type { SamplerConfig } from "./sampler.ts";
import { type TimestepOptions, type Transition, transitions } from "./timesteps.ts";

/** The schedulers that {@linkcode schedulerRun} knows, by their class in diffusers. */
export const SCHEDULER_CLASSES = [
  "DDPMScheduler",
  "DDIMScheduler",
  "DPMSolverMultistepScheduler",
  "UnCLIPScheduler",
] as const;

/** A scheduler's class in diffusers. */
export type SchedulerClass = typeof SCHEDULER_CLASSES[number];

/** How a scheduler is run. */
export interface SchedulerRunOptions {
  /** Number of steps. */
  readonly steps: number;
  /**
   * DDIM only: from 0, where nothing is random after the first noise, to 1.
   *
   * @default {0}
   */
  readonly eta?: number;
}

/** A run of a scheduler. */
export interface SchedulerRun {
  /** The noise schedule. */
  readonly schedule: NoiseSchedule;
  /** The steps. */
  readonly steps: readonly Transition[];
  /** The sampler. */
  readonly sampler: SamplerConfig;
  /** What the network gives. */
  readonly prediction: Prediction;
  /** The magnitude that the clean sample is cut at, if it is. */
  readonly clip?: number;
  /** Dynamic thresholding of the clean sample, if there is any; then it is not cut. */
  readonly threshold?: ThresholdOptions;
}

/**
 * Reads a scheduler's configuration.
 *
 * @param name Its class.
 * @param config Its fields, by diffusers' names; what is missing has diffusers' default.
 * @param options Steps.
 * @throws {KinoraError} `unsupported` when a field has a value, or there is a field, that is not known here.
 */
export function schedulerRun(
  name: SchedulerClass,
  config: Readonly<Record<string, unknown>>,
  options: SchedulerRunOptions,
): SchedulerRun {
  try {
    const fields = new JsonFields(config, `${name} config`);
    const run = READERS[name](fields, options);
    fields.end();
    return run;
  } catch (cause) {
    // Such a configuration may well be right: only this kit does not know it.
    if (!(cause instanceof KinoraError) || (cause.code !== "bad-file" && cause.code !== "refused")) throw cause;
    throw new KinoraError("unsupported", cause.message, { cause });
  }
}

const READERS: Readonly<Record<SchedulerClass, (f: JsonFields, options: SchedulerRunOptions) => SchedulerRun>> = {
  DDPMScheduler: ddpm,
  DDIMScheduler: ddim,
  DPMSolverMultistepScheduler: dpmSolver,
  UnCLIPScheduler: unclip,
};

const SPACINGS = ["leading", "linspace", "trailing"] as const;

function ddpm(f: JsonFields, { steps }: SchedulerRunOptions): SchedulerRun {
  const schedule = betas(f);
  // diffusers' "fixed_large_log" takes the root of a negative number, and "learned" needs a variance that is no logarithm.
  const variance = f.choice("variance_type", ["fixed_small", "fixed_small_log", "fixed_large"], "fixed_small");
  const run = transitions(schedule, {
    steps,
    spacing: spacing(f, steps, { usual: "leading" }),
    ...offset(f),
  });
  const noise_at_end = (run.at(-1)?.timestep ?? 0) > 0;
  return {
    schedule,
    steps: run,
    sampler: { type: "ddpm", variance, noise_at_end },
    prediction: f.choice("prediction_type", PREDICTIONS, "epsilon"),
    ...constraint(f, true),
  };
}

function ddim(f: JsonFields, { steps, eta = 0 }: SchedulerRunOptions): SchedulerRun {
  const schedule = betas(f);
  return {
    schedule,
    steps: transitions(schedule, {
      steps,
      spacing: spacing(f, steps, { usual: "leading" }),
      ...offset(f),
      previous: "stride",
      final: f.flag("set_alpha_to_one", true) ? "clean" : "first",
    }),
    sampler: { type: "ddim", eta, rederive_noise: false },
    prediction: f.choice("prediction_type", PREDICTIONS, "epsilon"),
    ...constraint(f, true),
  };
}

function dpmSolver(f: JsonFields, { steps }: SchedulerRunOptions): SchedulerRun {
  const schedule = betas(f);
  const algorithm = f.choice("algorithm_type", ["dpmsolver++", "sde-dpmsolver++"], "dpmsolver++");
  for (const name of SIGMAS) off(f, name);
  f.choice("variance_type", ["none"], "none");
  f.number("flow_shift", 1, 1, 1);
  f.choice("time_shift_type", ["exponential"], "exponential");
  const least = f.has("lambda_min_clipped") ? f.number("lambda_min_clipped", -1e9, 1e9) : -Infinity;
  const limit = lambdaLimit(schedule, least);
  return {
    schedule,
    steps: transitions(schedule, {
      steps,
      spacing: spacing(f, steps, { usual: "linspace", limit }),
      ...offset(f),
      omit_last: true,
      limit,
      final: f.choice("final_sigmas_type", ["zero", "sigma_min"], "zero") === "zero" ? "clean" : "first",
    }),
    sampler: {
      type: "dpmsolver++",
      order: f.whole("solver_order", 1, 3, 2),
      solver: f.choice("solver_type", ["midpoint", "heun"], "midpoint"),
      stochastic: algorithm === "sde-dpmsolver++",
      lower_order_final: f.flag("lower_order_final", true),
      euler_at_final: f.flag("euler_at_final", false),
    },
    prediction: f.choice("prediction_type", PREDICTIONS, "epsilon"),
    ...constraint(f, false),
  };
}

function unclip(f: JsonFields, { steps }: SchedulerRunOptions): SchedulerRun {
  const beta_schedule = f.choice("beta_schedule", ["squaredcos_cap_v2"], "squaredcos_cap_v2");
  const schedule = noiseSchedule({ type: "discrete", beta_schedule, num_train_timesteps: trainTimesteps(f) });
  if (steps < 2) throw new KinoraError("refused", `An UnCLIPScheduler needs at least 2 steps, not ${steps}`);
  return {
    schedule,
    steps: transitions(schedule, { steps, spacing: "linspace" }),
    sampler: {
      type: "ddpm",
      variance: f.choice("variance_type", ["fixed_small_log", "learned_range"], "fixed_small_log"),
    },
    prediction: f.choice("prediction_type", ["epsilon", "sample"], "epsilon"),
    ...clip(f),
  };
}

/** Other ways of DPM-Solver to space its steps. */
const SIGMAS = [
  "use_karras_sigmas",
  "use_exponential_sigmas",
  "use_beta_sigmas",
  "use_lu_lambdas",
  "use_flow_sigmas",
  "use_dynamic_shifting",
];

function betas(f: JsonFields): NoiseSchedule {
  off(f, "rescale_betas_zero_snr");
  if (f.object("trained_betas") !== undefined) f.refuse("trained_betas", "must be null", "other");
  const beta_schedule = f.choice("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"], "linear");
  const beta_start = f.number("beta_start", 1e-9, 0.999, 0.0001);
  return noiseSchedule({
    type: "discrete",
    beta_schedule,
    num_train_timesteps: trainTimesteps(f),
    beta_start,
    beta_end: f.number("beta_end", beta_start, 0.999, 0.02),
  });
}

function trainTimesteps(f: JsonFields): number {
  return f.whole("num_train_timesteps", 1, 100_000, 1000);
}

/**
 * The spacing. Where `trailing` does not come out even, diffusers (0.42.1) rounds to one timestep more than was asked for,
 * -1, and reads the noise level of the last one there: that is refused rather than followed or passed over.
 */
function spacing(
  f: JsonFields,
  steps: number,
  { usual, limit = trainTimesteps(f) }: { readonly usual: (typeof SPACINGS)[number]; readonly limit?: number },
): (typeof SPACINGS)[number] {
  const spacing = f.choice("timestep_spacing", SPACINGS, usual);
  const length = trainTimesteps(f);
  // numpy's arange(limit, 0, -stride), in its own order of operations.
  const stride = length / steps;
  const last = limit + (Math.ceil(limit / stride) - 1) * (limit - stride - limit);
  if (spacing === "trailing" && last <= 0.5) {
    throw new KinoraError(
      "refused",
      `timestep_spacing "trailing" with ${steps} of ${length} steps visits a timestep of -1 in diffusers, at the noise ` +
        "level of the last one: choose another number of steps",
    );
  }
  return spacing;
}

function offset(f: JsonFields): Pick<TimestepOptions, "offset"> {
  return { offset: f.whole("steps_offset", 0, 1000, 0) };
}

function off(f: JsonFields, name: string): void {
  if (f.flag(name, false)) f.refuse(name, "must be false", true);
}

function constraint(f: JsonFields, clips: boolean): Pick<SchedulerRun, "clip" | "threshold"> {
  const cut = clips ? clip(f) : {};
  const ratio = f.number("dynamic_thresholding_ratio", 0, 1, 0.995);
  const most = f.number("sample_max_value", 1e-9, 1e9, 1);
  return f.flag("thresholding", false) ? { threshold: { ratio, most } } : cut;
}

function clip(f: JsonFields): Pick<SchedulerRun, "clip"> {
  const range = f.number("clip_sample_range", 0, 1e9, 1);
  return f.flag("clip_sample", true) ? { clip: range } : {};
}

/** How many timesteps have at least this half log signal-to-noise ratio; 0 timesteps are refused later. */
function lambdaLimit(schedule: NoiseSchedule, least: number): number {
  let limit = schedule.length ?? 0;
  while (limit > 0 && logSnr(schedule.level(limit - 1)) / 2 < least) limit--;
  return limit;
}
