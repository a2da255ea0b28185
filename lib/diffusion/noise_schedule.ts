/**
 * How much signal and how much noise there is at a time: `x_t = alpha * x_0 + sigma * noise` with
 * `alpha² + sigma² = 1`. Continuous schedules are functions of t in [0, 1]; discrete ones are tables over the training
 * timesteps, as the published checkpoints use them.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** The share of signal and of noise in a noisy sample; the squares add up to 1. */
export interface NoiseLevel {
  /** Factor of the clean sample, 1 when there is no noise. */
  readonly alpha: number;
  /** Factor of the unit noise, 0 when there is no noise. */
  readonly sigma: number;
}

/** No noise left: where every run ends unless told otherwise. */
export const CLEAN: NoiseLevel = Object.freeze({ alpha: 1, sigma: 0 });

/** The cosine schedule in continuous time, optionally shifted towards noise for larger pictures. */
export interface CosineScheduleConfig {
  /** Says which kind of schedule this is. */
  readonly type: "cosine";
  /**
   * tan of the noise angle is multiplied by this, which moves the log signal-to-noise ratio by `-2 log(shift)`.
   * {@linkcode resolutionShift} gives the value for a picture size. At least 0.01, at most 100.
   *
   * @default {1}
   */
  readonly shift?: number;
}

/** The variance-preserving linear schedule in continuous time: beta grows linearly with t. */
export interface LinearScheduleConfig {
  /** Says which kind of schedule this is. */
  readonly type: "linear";
  /**
   * beta at t = 0.
   *
   * @default {0.1}
   */
  readonly beta_min?: number;
  /**
   * beta at t = 1; more than `beta_min`.
   *
   * @default {20}
   */
  readonly beta_max?: number;
}

/** A table over whole timesteps; the fields have diffusers' names. */
export interface DiscreteScheduleConfig {
  /** Says which kind of schedule this is. */
  readonly type: "discrete";
  /** How beta goes over the timesteps; `squaredcos_cap_v2` is improved DDPM's cosine. */
  readonly beta_schedule: "linear" | "scaled_linear" | "squaredcos_cap_v2";
  /**
   * Number of timesteps, 1 to 100,000.
   *
   * @default {1000}
   */
  readonly num_train_timesteps?: number;
  /**
   * beta of the first timestep; not read for `squaredcos_cap_v2`.
   *
   * @default {0.0001}
   */
  readonly beta_start?: number;
  /**
   * beta of the last timestep; not read for `squaredcos_cap_v2`.
   *
   * @default {0.02}
   */
  readonly beta_end?: number;
}

/** Any schedule, as it is written in a model's files. */
export type NoiseScheduleConfig = CosineScheduleConfig | LinearScheduleConfig | DiscreteScheduleConfig;

/** A schedule ready to be asked. */
export interface NoiseSchedule {
  /** What it was made from. */
  readonly config: NoiseScheduleConfig;
  /** Number of timesteps of a discrete schedule; `undefined` in continuous time. */
  readonly length: number | undefined;
  /**
   * Signal and noise at a time.
   *
   * @param time In continuous time 0 (clean) to 1 (noise); else a whole timestep from 0 to `length - 1`.
   */
  level(time: number): NoiseLevel;
  /** The number that networks embed for a time: `1000 t` in continuous time, else the timestep itself. */
  timestep(time: number): number;
}

/**
 * The shift that makes a larger picture as hard to recognise through its noise as one of `reference` pixels is without a
 * shift: `size / reference` (simple diffusion, Hoogeboom et al. 2023, eq. 4 with the tangent in place of log-SNR).
 *
 * @param size Side of the picture in pixels.
 * @param reference Side of the picture that needs no shift.
 */
export function resolutionShift(size: number, reference = 32): number {
  return size / reference;
}

/** Log of the signal-to-noise power ratio; positive infinity when there is no noise. */
export function logSnr(level: NoiseLevel): number {
  return 2 * (Math.log(level.alpha) - Math.log(level.sigma));
}

/**
 * Makes a schedule from its configuration.
 *
 * @throws {KinoraError} `refused` when a number is out of its range.
 */
export function noiseSchedule(config: NoiseScheduleConfig): NoiseSchedule {
  switch (config.type) {
    case "cosine":
      return cosine(config);
    case "linear":
      return linear(config);
    case "discrete":
      return discrete(config);
    default:
      throw new KinoraError(
        "refused",
        `schedule.type must be "cosine", "linear" or "discrete", not ${
          JSON.stringify((config as { type: unknown }).type)
        }`,
      );
  }
}

function cosine(config: CosineScheduleConfig): NoiseSchedule {
  const shift = within("schedule.shift", config.shift ?? 1, 0.01, 100);
  return {
    config,
    length: undefined,
    level(time: number): NoiseLevel {
      const t = within("time", time, 0, 1);
      const angle = Math.atan2(shift * Math.sin(t * Math.PI / 2), Math.cos(t * Math.PI / 2));
      return { alpha: Math.cos(angle), sigma: Math.sin(angle) };
    },
    timestep: thousandths,
  };
}

function linear(config: LinearScheduleConfig): NoiseSchedule {
  const low = within("schedule.beta_min", config.beta_min ?? 0.1, 0, 1000);
  const high = within("schedule.beta_max", config.beta_max ?? 20, low, 1000);
  return {
    config,
    length: undefined,
    level(time: number): NoiseLevel {
      const t = within("time", time, 0, 1);
      // The integral of beta; expm1 keeps sigma exact where there is hardly any noise.
      const integral = low * t + (high - low) * t * t / 2;
      return { alpha: Math.exp(-integral / 2), sigma: Math.sqrt(-Math.expm1(-integral)) };
    },
    timestep: thousandths,
  };
}

function discrete(config: DiscreteScheduleConfig): NoiseSchedule {
  const length = config.num_train_timesteps ?? 1000;
  if (!Number.isInteger(length)) {
    throw new KinoraError("refused", `schedule.num_train_timesteps must be a whole number, not ${length}`);
  }
  within("schedule.num_train_timesteps", length, 1, 100_000);
  // 1 - product of (1 - beta) is accumulated through logs: taken from the product it loses digits where sigma is small.
  const logs = new Float64Array(length);
  let sum = 0;
  betas(config, length).forEach((beta, index) => {
    sum += Math.log1p(-beta);
    logs[index] = sum;
  });
  return {
    config,
    length,
    level(time: number): NoiseLevel {
      const log = Number.isInteger(time) ? logs[time] : undefined;
      if (log === undefined) {
        throw new KinoraError("refused", `timestep must be a whole number from 0 to ${length - 1}, not ${time}`);
      }
      return { alpha: Math.exp(log / 2), sigma: Math.sqrt(-Math.expm1(log)) };
    },
    timestep: (time: number): number => time,
  };
}

function betas(config: DiscreteScheduleConfig, length: number): number[] {
  const steps = Array.from({ length }, (_, index) => index);
  if (config.beta_schedule === "squaredcos_cap_v2") {
    const product = (t: number): number => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2;
    return steps.map((index) => Math.min(1 - product((index + 1) / length) / product(index / length), 0.999));
  }
  const start = within("schedule.beta_start", config.beta_start ?? 0.0001, 1e-9, 0.999);
  const end = within("schedule.beta_end", config.beta_end ?? 0.02, start, 0.999);
  const share = (index: number): number => length === 1 ? 0 : index / (length - 1);
  switch (config.beta_schedule) {
    case "linear":
      return steps.map((index) => start + (end - start) * share(index));
    case "scaled_linear":
      return steps.map((index) => (Math.sqrt(start) + (Math.sqrt(end) - Math.sqrt(start)) * share(index)) ** 2);
    default:
      throw new KinoraError(
        "refused",
        `schedule.beta_schedule must be "linear", "scaled_linear" or "squaredcos_cap_v2", not ${
          JSON.stringify(config.beta_schedule)
        }`,
      );
  }
}

function thousandths(time: number): number {
  return 1000 * time;
}

function within(name: string, value: number, least: number, most: number): number {
  if (!(value >= least && value <= most)) {
    throw new KinoraError("refused", `${name} must be from ${least} to ${most}, not ${value}`);
  }
  return value;
}
