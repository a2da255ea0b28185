/**
 * The hybrid loss of improved DDPM (Nichol & Dhariwal 2021): the mean squared error of the prediction, and the variational
 * bound, through which only the variance learns. The details are those of OpenAI's guided-diffusion.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { NoiseSchedule } from "./noise_schedule.ts";
import { convertPrediction } from "./prediction.ts";

/** Half the width of one of 256 grey values in -1 to 1. */
const HALF_BIN = 1 / 255;

/** Magnitudes of the clean sample from which the last bin reaches to infinity. */
const EDGE = 0.999;

/** The least probability that a logarithm is taken of. */
const LEAST = 1e-12;

/** What the loss is computed of. Numbers are row-major, with the batch as the first axis and the channels as the second. */
export interface HybridLossOptions {
  /** The schedule, in discrete time. */
  readonly schedule: NoiseSchedule;
  /** What the first half of the network's channels stands for. */
  readonly prediction: "epsilon" | "sample";
  /** Timestep of each sample. */
  readonly timesteps: readonly number[];
  /** The clean samples, 8-bit pixels scaled to -1 to 1. */
  readonly clean: ArrayLike<number>;
  /** The noise that was added. */
  readonly noise: ArrayLike<number>;
  /** The noisy samples. */
  readonly noisy: ArrayLike<number>;
  /**
   * The network's output: for each sample as many numbers as it has for the mean, then as many for the variance, where
   * -1 to 1 goes from the posterior's log variance to the step's own.
   */
  readonly output: ArrayLike<number>;
}

/** The loss and its gradient. */
export interface HybridLoss {
  /** The mean over the batch of `squared + bound`. */
  readonly loss: number;
  /** The mean squared error of each sample. */
  readonly squared: Float64Array;
  /**
   * The variational bound of each sample in bits a dimension, times the number of timesteps and divided by 1,000.
   */
  readonly bound: Float64Array;
  /** Gradient of `loss` with respect to `output`. */
  readonly gradient: Float64Array;
}

/**
 * Computes the loss and its gradient.
 *
 * @param options The batch.
 * @throws {KinoraError} `refused` when the schedule is continuous or too short, a timestep lies outside it, or lengths
 * do not agree.
 */
export function hybridLoss(options: HybridLossOptions): HybridLoss {
  const { schedule, prediction, timesteps, clean, noise, noisy, output } = options;
  const length = schedule.length ?? 0;
  if (length < 2) throw new KinoraError("refused", "schedule must be discrete, with at least 2 timesteps");
  const batch = timesteps.length;
  const size = clean.length / batch;
  if (batch === 0 || size === 0 || !Number.isInteger(size)) {
    throw new KinoraError("refused", `clean must hold as many numbers for each of ${batch} samples`);
  }
  for (const [name, values, wanted] of [["noise", noise, 1], ["noisy", noisy, 1], ["output", output, 2]] as const) {
    if (values.length !== wanted * clean.length) {
      throw new KinoraError("refused", `${name} must hold ${wanted * clean.length} numbers, not ${values.length}`);
    }
  }
  const [squared, bound] = [new Float64Array(batch), new Float64Array(batch)];
  const gradient = new Float64Array(output.length);
  const target = prediction === "epsilon" ? noise : clean;
  const scale = length / 1000 / Math.LN2 / size;
  timesteps.forEach((timestep, row) => {
    const level = schedule.level(timestep);
    const pair = convertPrediction(prediction, "sample", level);
    const step = posterior(schedule, timestep);
    const [width, floor] = [step.logBeta - step.logVariance, step.logVariance];
    let [errors, bits] = [0, 0];
    for (let index = 0; index < size; index++) {
      const [at, mean, learned] = [row * size + index, 2 * row * size + index, (2 * row + 1) * size + index];
      const [x0, xt, predicted] = [clean[at] ?? NaN, noisy[at] ?? NaN, output[mean] ?? NaN];
      const error = predicted - (target[at] ?? NaN);
      errors += error * error;
      gradient[mean] = 2 * error / size / batch;
      const guess = step.clean * (pair.sample * xt + pair.prediction * predicted) + step.noisy * xt;
      const log = floor + ((output[learned] ?? NaN) + 1) / 2 * width;
      const term = timestep === 0
        ? negativeLogLikelihood(x0, guess, log)
        : divergence(step.clean * x0 + step.noisy * xt - guess, floor, log);
      bits += term.value;
      gradient[learned] = scale * term.slope * width / 2 / batch;
    }
    squared[row] = errors / size;
    bound[row] = scale * bits;
  });
  const loss = squared.reduce((sum, value, row) => sum + value + (bound[row] ?? 0), 0) / batch;
  return { loss, squared, bound, gradient };
}

/** The posterior of the step from a timestep to the one before: factors of its mean, logs of its variance and of beta. */
function posterior(
  schedule: NoiseSchedule,
  timestep: number,
): { readonly clean: number; readonly noisy: number; readonly logVariance: number; readonly logBeta: number } {
  const level = schedule.level(timestep);
  const before = timestep === 0 ? { alpha: 1, sigma: 0 } : schedule.level(timestep - 1);
  const ratio = level.alpha / before.alpha;
  const beta = 1 - ratio * ratio;
  return {
    clean: before.alpha * beta / level.sigma ** 2,
    noisy: ratio * (before.sigma / level.sigma) ** 2,
    // At the first timestep there is no variance: that of the second stands for it.
    logVariance: timestep === 0
      ? posterior(schedule, 1).logVariance
      : Math.log(beta) + 2 * Math.log(before.sigma / level.sigma),
    logBeta: Math.log(beta),
  };
}

/** A term of the bound, in nats, and its derivative with respect to the log variance. */
interface Term {
  readonly value: number;
  readonly slope: number;
}

/** The divergence of a Gaussian from the posterior, whose mean is `distance` away. */
function divergence(distance: number, floor: number, log: number): Term {
  const [narrow, far] = [Math.exp(floor - log), distance * distance * Math.exp(-log)];
  return { value: (log - floor - 1 + narrow + far) / 2, slope: (1 - narrow - far) / 2 };
}

/** How surprising an 8-bit value is for a Gaussian. */
function negativeLogLikelihood(value: number, mean: number, log: number): Term {
  const inverse = Math.exp(-log / 2);
  const high = cumulative(inverse * (value - mean + HALF_BIN));
  const low = cumulative(inverse * (value - mean - HALF_BIN));
  const [probability, slope] = value < -EDGE
    ? [high.value, high.slope]
    : value > EDGE
    ? [1 - low.value, -low.slope]
    : [high.value - low.value, high.slope - low.slope];
  return probability < LEAST
    ? { value: -Math.log(LEAST), slope: 0 }
    : { value: -Math.log(probability), slope: -slope / probability };
}

/** The normal distribution's integral by its usual approximation, and its derivative with respect to the log variance. */
function cumulative(z: number): Term {
  const k = Math.sqrt(2 / Math.PI);
  const tanh = Math.tanh(k * (z + 0.044715 * z ** 3));
  const density = (1 - tanh * tanh) * k * (1 + 3 * 0.044715 * z * z) / 2;
  return { value: (1 + tanh) / 2, slope: -density * z / 2 };
}
