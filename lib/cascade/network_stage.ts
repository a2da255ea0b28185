/**
 * What the stages that hold one network have in common.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type Device, Network, type NetworkInputs, type Precision } from "../../ffi/network.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { dynamicThreshold } from "../diffusion/dynamic_threshold.ts";
import { noiseSchedule } from "../diffusion/noise_schedule.ts";
import type { SamplingOptions } from "../diffusion/sample.ts";
import type { SamplerConfig } from "../diffusion/sampler.ts";
import { type Transition, transitions } from "../diffusion/timesteps.ts";
import type { DiffusionSettings } from "./model_index.ts";

/** How a stage's network is loaded and run. */
export interface StageLoadOptions {
  /**
   * The arithmetic: `f32` is the reference, `bf16` is faster where the machine has it.
   *
   * @default {"f32"}
   */
  readonly precision?: Precision;
  /**
   * What it computes on.
   *
   * @default {"cpu"}
   */
  readonly device?: Device;
  /** Stops the loading. */
  readonly signal?: AbortSignal | undefined;
}

/** How a stage is sampled where not as its settings say. */
export interface SamplingChoices {
  /** The sampler; by default what the stage's settings say. */
  readonly sampler?: SamplerConfig | undefined;
  /**
   * How far the spread of a guided output is brought back to that of the output with the condition, 0 to 1 (Lin et al.
   * 2023).
   *
   * @default {0}
   */
  readonly rescale?: number | undefined;
  /**
   * Dynamic thresholding (Saharia et al. 2022): the quantile of a clean sample's magnitudes that is scaled to 1, 0.5 to 1.
   * By default samples are cut at -1 and 1.
   */
  readonly threshold?: number | undefined;
  /**
   * The share of the noise's variance that all frames have in common, 0 to 1 (Ge et al. 2023). Networks that were trained
   * with independent noise bear but little of it. By default the decoder's is what its settings say, the interpolation's 0.
   */
  readonly commonNoise?: number | undefined;
  /**
   * Seconds over which the decoder's noise changes beside what frames have in common, 0 to 60; at 0 each frame's is its own.
   * By default what the decoder's settings say.
   */
  readonly noiseSeconds?: number | undefined;
}

/** What every stage can be asked. */
export interface StageOptions {
  /**
   * One seed for each sample of the batch, 0 to 2^53 - 1: with the stage, the step and the frame it decides every random
   * number.
   */
  readonly seeds: readonly number[];
  /** Number of steps, 1 to 1,000; by default what the stage's settings say. */
  readonly steps?: number | undefined;
  /** Classifier-free guidance, 0 to 50; by default what the stage's settings say. */
  readonly guidance?: number | undefined;
  /** Stops the run. */
  readonly signal?: AbortSignal | undefined;
}

/** What a stage that makes frames of noise can be asked. */
export interface FrameStageOptions extends StageOptions, SamplingChoices {}

/** A stage that holds one network. It frees the network when it is disposed. */
export abstract class NetworkStage<Settings extends { readonly folder: string }> implements Disposable {
  /** How the stage is sampled unless asked otherwise. */
  readonly settings: Settings;
  /** The arithmetic it runs in. */
  readonly precision: Precision;
  readonly #network: Network;

  /**
   * Makes a stage of a network.
   *
   * @param network The network, which becomes the stage's.
   * @param settings How it is sampled.
   * @param precision The arithmetic.
   */
  constructor(network: Network, settings: Settings, precision: Precision = "f32") {
    this.#network = network;
    this.settings = settings;
    this.precision = precision;
  }

  /** The configuration of the network, as in its `config.json`. */
  get config(): Readonly<Record<string, unknown>> {
    return this.#network.config;
  }

  /** Number of weights. */
  get parameters(): number {
    return this.#network.parameters;
  }

  /** Frees the network. */
  dispose(): void {
    this.#network.dispose();
  }

  /** Frees the network. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Runs the network once. */
  protected forward(inputs: NetworkInputs, signal?: AbortSignal): Promise<Record<string, Tensor>> {
    return this.#network.forward(inputs, { precision: this.precision, ...signal === undefined ? {} : { signal } });
  }

  /**
   * Runs the network once for the output `sample`; of an output with learned variances, only the mean.
   *
   * @param inputs The inputs.
   * @param channels Channels of the mean.
   * @param signal Stops the run.
   */
  protected async predict(inputs: NetworkInputs, channels: number, signal?: AbortSignal): Promise<Tensor> {
    const outputs = await this.forward(inputs, signal);
    const sample = outputs["sample"];
    if (sample === undefined) throw new KinoraError("failed", `The network of ${this.settings.folder} gave no sample`);
    const axis = sample.shape.length - 1;
    if (sample.shape[axis] === channels) return sample;
    using whole = sample;
    return await whole.gather(axis, Array.from({ length: channels }, (_, channel) => channel));
  }
}

/**
 * Loads the network of a stage.
 *
 * @param model The model's folder.
 * @param settings The stage's settings.
 * @param options How.
 */
export function loadNetwork(
  model: string,
  settings: { readonly folder: string },
  options: StageLoadOptions = {},
): Promise<Network> {
  const { precision, device, signal } = options;
  return Network.load(`${model}/${settings.folder}`, {
    ...precision === undefined ? {} : { precision },
    ...device === undefined ? {} : { device },
    ...signal === undefined ? {} : { signal },
  });
}

/**
 * The steps of a run of a stage.
 *
 * @param settings The stage's settings.
 * @param steps How many, where not as many as the settings say.
 */
export function stageSteps(settings: DiffusionSettings, steps?: number): Transition[] {
  return transitions(noiseSchedule(settings.schedule), { ...settings.times, steps: steps ?? settings.steps });
}

/**
 * How a sample of pixels is kept in [-1, 1] at every step.
 *
 * @param threshold The quantile of dynamic thresholding; without one, samples are cut.
 */
export function cleanRange(threshold?: number): Pick<SamplingOptions, "clamp" | "constrain"> {
  if (threshold === undefined) return { clamp: [-1, 1] };
  return { constrain: (clean) => dynamicThreshold(clean, { ratio: threshold, most: Infinity }) };
}

/**
 * Passes a finished tensor on, if all its numbers are finite.
 *
 * @param tensor The tensor; it is disposed when it is refused.
 * @param stage What made it, for the message.
 * @throws {KinoraError} `failed` when there are numbers that are not.
 */
export async function finite(tensor: Tensor, stage: string): Promise<Tensor> {
  if ((await tensor.stats()).finite) return tensor;
  tensor.dispose();
  throw new KinoraError("failed", `The ${stage} made numbers that are not finite; its weights may be damaged`);
}

/** A list with one value for each sample of a batch. */
export function each(batch: number, value: number): number[] {
  return new Array<number>(batch).fill(value);
}

/**
 * Checks that there is a seed for each sample.
 *
 * @throws {KinoraError} `refused` when there is not, or one is out of its range.
 */
export function checkSeeds(seeds: readonly number[], batch: number): void {
  if (seeds.length !== batch) {
    throw new KinoraError("refused", `seeds must hold one seed for each of ${batch} samples, not ${seeds.length}`);
  }
  const wrong = seeds.find((seed) => !Number.isSafeInteger(seed) || seed < 0);
  if (wrong !== undefined) {
    throw new KinoraError("refused", `seed must be a whole number from 0 to 2^53-1, not ${wrong}`);
  }
}
