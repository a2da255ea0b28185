/**
 * From clean samples to what a diffusion network is trained on: noisy samples, the times they belong to, and targets.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import type { DiffusionSettings } from "../cascade/model_index.ts";
import { type NoiseLevel, noiseSchedule } from "../diffusion/noise_schedule.ts";
import { predictionTarget } from "../diffusion/prediction.ts";
import type { Draws } from "./random.ts";

/** The ends of continuous time are left out: there is no signal, or no noise, to learn from. */
const EDGE = 0.002;

/** Times for a batch. */
export interface BatchTimes {
  /** The numbers that the network embeds, one a sample. */
  readonly timesteps: readonly number[];
  /** The noise levels, one a sample. */
  readonly levels: readonly NoiseLevel[];
}

/** A batch that a network can be trained on. */
export interface DiffusionBatch extends BatchTimes {
  /** The noisy samples. */
  readonly noisy: Tensor;
  /** What the network is to predict. */
  readonly target: Tensor;
}

/**
 * Times spread evenly over the schedule, one from each of as many equal parts as there are samples, in random order.
 *
 * @param settings The stage's schedule.
 * @param count Number of samples.
 * @param draws Where randomness comes from.
 * @param least The share of the schedule that is left out: 0 for all of it, near 1 for next to nothing but noise.
 */
export function drawTimes(
  settings: Pick<DiffusionSettings, "schedule">,
  count: number,
  draws: Draws,
  least = 0,
): BatchTimes {
  const schedule = noiseSchedule(settings.schedule);
  const { length } = schedule;
  const parts = draws.several(Array.from({ length: count }, (_, index) => index), count);
  const times = parts.map((part) => {
    const share = least + (1 - least) * (part + draws.next()) / count;
    return length === undefined ? EDGE + (1 - 2 * EDGE) * share : Math.min(length - 1, Math.floor(share * length));
  });
  return {
    timesteps: times.map((time) => schedule.timestep(time)),
    levels: times.map((time) => schedule.level(time)),
  };
}

/**
 * Adds noise to clean samples.
 *
 * @param clean The clean samples, (B, ...); they stay the caller's.
 * @param noise Unit noise of the same shape, or with a frame axis of 1 for noise that all frames share.
 * @param times The times.
 * @param prediction What the network predicts.
 * @returns The batch; its tensors are the caller's.
 */
export async function noisyBatch(
  clean: Tensor,
  noise: Tensor,
  times: BatchTimes,
  prediction: DiffusionSettings["prediction"],
): Promise<DiffusionBatch> {
  const { levels } = times;
  const noisy = await Tensor.combine([
    { tensor: clean, scale: levels.map(({ alpha }) => alpha) },
    { tensor: noise, scale: levels.map(({ sigma }) => sigma) },
  ]);
  const factors = levels.map((level) => predictionTarget(prediction, level));
  // A term of zeros still gives the result its shape where the noise has fewer frames.
  const target = await Tensor.combine([
    { tensor: clean, scale: factors.map((factor) => factor.clean) },
    { tensor: noise, scale: factors.map((factor) => factor.noise) },
  ]);
  return { ...times, noisy, target };
}

/**
 * Weights of the samples' losses by their signal-to-noise power ratio (min-SNR, Hang et al. 2023), for networks that
 * predict the clean sample.
 *
 * @param levels The noise levels.
 * @param range The least and the greatest weight.
 */
export function snrWeights(levels: readonly NoiseLevel[], range: readonly [number, number]): number[] {
  return levels.map(({ alpha, sigma }) => Math.min(range[1], Math.max(range[0], (alpha / sigma) ** 2)));
}
