/**
 * The times that a run of a sampler visits, from noise to clean.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { CLEAN, type NoiseLevel, type NoiseSchedule } from "./noise_schedule.ts";

/** One step of a run: from one noise level to a lower one. */
export interface Transition {
  /** The number that the network embeds at the start of the step. */
  readonly timestep: number;
  /** The noise level at the start of the step. */
  readonly from: NoiseLevel;
  /** The noise level after it. */
  readonly to: NoiseLevel;
}

/** Which times a run visits. */
export interface TimestepOptions {
  /** Number of steps, 1 to 1,000; at most the number of training timesteps of a discrete schedule. */
  readonly steps: number;
  /**
   * Continuous time only: where the run starts. Just under 1, because at 1 there is no signal at all.
   *
   * @default {0.995}
   */
  readonly start?: number;
  /**
   * Discrete time only, as in diffusers: `leading` multiples of the stride from `offset`, `linspace` evenly from first
   * to last, `trailing` multiples of the stride back from the last; or sections as in improved DDPM's respacing, for
   * example `[10, 10, 5]` steps in the three thirds (their sum is then `steps`).
   *
   * @default {"leading"}
   */
  readonly spacing?: "leading" | "linspace" | "trailing" | readonly number[];
  /**
   * Discrete time with `leading` only: added to every timestep.
   *
   * @default {0}
   */
  readonly offset?: number;
  /**
   * Discrete time only: where a step goes. `next` is the next visited timestep; `stride` is the timestep less the whole
   * stride, which is what diffusers' DDIM does and differs where the spacing is uneven.
   *
   * @default {"next"}
   */
  readonly previous?: "next" | "stride";
  /**
   * Discrete time only: where the last step goes, to no noise at all or to the level of timestep 0.
   *
   * @default {"clean"}
   */
  readonly final?: "clean" | "first";
  /**
   * Discrete time with `leading` or `linspace` only: the timesteps are divided as for one step more, and the last one is
   * left out, as diffusers' DPM-Solver does.
   *
   * @default {false}
   */
  readonly omit_last?: boolean;
  /** Discrete time only: timesteps from this one on are not visited, 1 to the schedule's length, which is the default. */
  readonly limit?: number;
}

/**
 * The steps of a run.
 *
 * @param schedule The schedule the network was trained with.
 * @param options How many steps, and where.
 * @throws {KinoraError} `refused` when a number is out of its range.
 */
export function transitions(schedule: NoiseSchedule, options: TimestepOptions): Transition[] {
  const most = Math.min(1000, schedule.length ?? 1000);
  if (!Number.isInteger(options.steps) || options.steps < 1 || options.steps > most) {
    throw new KinoraError("refused", `steps must be a whole number from 1 to ${most}, not ${options.steps}`);
  }
  return schedule.length === undefined ? continuous(schedule, options) : discrete(schedule, schedule.length, options);
}

function continuous(schedule: NoiseSchedule, options: TimestepOptions): Transition[] {
  const { steps, start = 0.995 } = options;
  if (!(start > 0 && start <= 1)) {
    throw new KinoraError("refused", `start must be more than 0 and at most 1, not ${start}`);
  }
  return Array.from({ length: steps }, (_, index) => {
    const time = start * (steps - index) / steps;
    return {
      timestep: schedule.timestep(time),
      from: schedule.level(time),
      to: schedule.level(start * (steps - index - 1) / steps),
    };
  });
}

function discrete(schedule: NoiseSchedule, length: number, options: TimestepOptions): Transition[] {
  const { steps, previous = "next", final = "clean" } = options;
  const times = spaced(length, options);
  const end = final === "clean" ? CLEAN : schedule.level(0);
  const stride = Math.floor(length / steps);
  return times.map((time, index) => {
    const next = previous === "stride" ? time - stride : times[index + 1] ?? -1;
    return { timestep: time, from: schedule.level(time), to: next < 0 ? end : schedule.level(next) };
  });
}

/** The visited timesteps, highest first. */
function spaced(length: number, options: TimestepOptions): number[] {
  const { steps, spacing = "leading", offset = 0, omit_last = false, limit = length } = options;
  if (typeof spacing !== "string") return sections(length, steps, spacing);
  if (!Number.isInteger(limit) || limit < 1 || limit > length) {
    throw new KinoraError("refused", `limit must be a whole number from 1 to ${length}, not ${limit}`);
  }
  const count = steps + (omit_last ? 1 : 0);
  if (count > limit && spacing !== "trailing") {
    throw new KinoraError("refused", `steps must be at most ${limit - (count - steps)} here, not ${steps}`);
  }
  const up = Array.from({ length: count }, (_, index) => index);
  // In numpy's own order of operations: where a timestep lies halfway, its rounding depends on the last bit.
  let times: number[];
  switch (spacing) {
    case "leading":
      times = up.map((index) => index * Math.floor(limit / count) + offset).reverse().slice(0, steps);
      break;
    case "linspace": {
      const stride = (limit - 1) / (count - 1);
      times = up.map((index) => index === 0 ? 0 : index === count - 1 ? limit - 1 : halfToEven(index * stride))
        .reverse().slice(0, steps);
      break;
    }
    default: {
      const stride = limit - length / steps - limit;
      // With a limit there are fewer steps than asked for.
      times = up.slice(0, steps).map((index) => halfToEven(limit + index * stride) - 1).filter((time) => time >= 0);
    }
  }
  const out = times.find((time) => time < 0 || time >= length);
  if (out !== undefined) {
    throw new KinoraError("refused", `spacing visits timestep ${out}, outside 0 to ${length - 1}`);
  }
  return times;
}

/** Improved DDPM's respacing: the timesteps in equal sections, each visited in its own number of even steps. */
function sections(length: number, steps: number, counts: readonly number[]): number[] {
  const sum = counts.reduce((total, count) => total + count, 0);
  if (counts.length === 0 || sum !== steps || counts.some((count) => !Number.isInteger(count) || count < 1)) {
    throw new KinoraError("refused", `spacing must be whole numbers of at least 1 with the sum ${steps}`);
  }
  const times: number[] = [];
  let start = 0;
  counts.forEach((count, index) => {
    const size = Math.floor(length / counts.length) + (index < length % counts.length ? 1 : 0);
    if (count > size) {
      throw new KinoraError("refused", `spacing has ${count} steps in a section of ${size} timesteps`);
    }
    const stride = count === 1 ? 1 : (size - 1) / (count - 1);
    // Added up rather than multiplied, as the original does: at a half the rounding depends on it.
    let at = 0;
    for (let step = 0; step < count; step++, at += stride) times.push(start + halfToEven(at));
    start += size;
  });
  return times.reverse();
}

/** Rounds as numpy does, so that the timesteps agree. */
function halfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return Math.round(value);
}
