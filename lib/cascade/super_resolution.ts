/**
 * SR_l^t and SR_h of Eq. 1: enlarge the frames. The network sees the noisy large frames and, beside them, the small ones
 * enlarged by a bicubic filter. All frames start from one and the same noise, so that invented detail does not flicker.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Network, Precision } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { Transition } from "../diffusion/timesteps.ts";
import { COLOURS } from "./decoder.ts";
import type { SuperResolutionSettings } from "./model_index.ts";
import {
  checkSeeds,
  each,
  finite,
  loadNetwork,
  NetworkStage,
  type StageLoadOptions,
  type StageOptions,
  stageSteps,
} from "./network_stage.ts";
import { AUGMENTATION_STEP, noiseStream } from "./stage.ts";

/** Which of the two super-resolutions: it decides the random numbers, nothing else. */
export type SuperResolutionName = "sr-low" | "sr-high";

/** Frames that a network with temporal layers sees at once; more are run in spans, which look beyond their ends. */
const MOST_TOGETHER = 160;

/** Frames on either side that a span sees besides its own: more than reach through some twenty temporal convolutions. */
const BEYOND = 24;

/** What a super-resolution can be asked. */
export interface SuperResolutionOptions extends Omit<StageOptions, "guidance"> {
  /** Noise added to the small frames, 0 to 1; by default what the settings say. */
  readonly augmentation?: number | undefined;
  /** Frames that are run at once, 0 for all; by default what the settings say. Without temporal layers it changes nothing. */
  readonly chunk?: number | undefined;
}

/** A step that is done. */
export interface SuperResolutionStep extends SamplingStep {
  /** The first frame that `clean` shows; it shows all frames unless they are run in chunks. */
  readonly firstFrame: number;
  /** Whether the frames in `clean` are finished. */
  readonly finished: boolean;
}

/** The noise added to small frames, and whose it is. */
export interface AugmentationOptions {
  /** Side of the frames that come out, in pixels. */
  readonly size: number;
  /** Noise added to the small frames, 0 to 1: one number, or one for each sample. */
  readonly level: number | readonly number[];
  /** One seed for each sample. */
  readonly seeds: readonly number[];
  /** The stream of random numbers, from {@linkcode noiseStream}. */
  readonly stream: number;
}

/** A super-resolution. */
export class SuperResolution extends NetworkStage<SuperResolutionSettings> {
  /** Which of the two. */
  readonly name: SuperResolutionName;

  /**
   * Makes a super-resolution of a network.
   *
   * @param name Which of the two.
   * @param network The network, which becomes the stage's.
   * @param settings How it is sampled.
   * @param precision The arithmetic.
   */
  constructor(
    name: SuperResolutionName,
    network: Network,
    settings: SuperResolutionSettings,
    precision: Precision = "f32",
  ) {
    super(network, settings, precision);
    this.name = name;
  }

  /**
   * Loads a super-resolution of a model.
   *
   * @param name Which of the two.
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(
    name: SuperResolutionName,
    model: string,
    settings: SuperResolutionSettings,
    options: StageLoadOptions = {},
  ): Promise<SuperResolution> {
    return new SuperResolution(name, await loadNetwork(model, settings, options), settings, options.precision);
  }

  /**
   * Enlarges frames step by step, chunk after chunk. A network with temporal layers sees up to 160 frames together; of a
   * longer video spans of 112, with 24 more on either side.
   *
   * @param video Frames (B, F, h, w, 3) in [-1, 1], square.
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  async *stream(video: Tensor, options: SuperResolutionOptions): AsyncGenerator<SuperResolutionStep, Tensor, void> {
    const [batch = 0, frames = 0, height, width] = video.shape;
    checkSeeds(options.seeds, batch);
    if (height !== width) {
      throw new KinoraError("refused", `super-resolution takes square frames, not ${width} x ${height} pixels`);
    }
    const transitions = stageSteps(this.settings, options.steps);
    const { chunk, beyond } = this.#chunk(frames, options.chunk ?? this.settings.chunk);
    const total = Math.ceil(frames / chunk) * transitions.length;
    const parts: Tensor[] = [];
    try {
      for (let first = 0; first < frames; first += chunk) {
        const count = Math.min(chunk, frames - first);
        const [from, to] = [Math.max(0, first - beyond), Math.min(frames, first + count + beyond)];
        using small = await video.gather(1, Array.from({ length: to - from }, (_, index) => from + index));
        const own = (seen: Tensor): Promise<Tensor> =>
          to - from === count
            ? seen.reshape(seen.shape)
            : seen.gather(1, Array.from({ length: count }, (_, index) => first - from + index));
        const steps = this.#chunkSteps(small, transitions, options);
        try {
          let result: IteratorResult<SamplingStep, Tensor>;
          while (!(result = await steps.next()).done) {
            const { step } = result.value;
            using clean = await own(result.value.clean);
            yield {
              ...result.value,
              clean,
              step: parts.length * transitions.length + step,
              total,
              firstFrame: first,
              finished: step === transitions.length,
            };
          }
          using seen = result.value;
          parts.push(await own(seen));
        } finally {
          await steps.return(undefined as unknown as Tensor);
        }
      }
      const [only] = parts;
      if (parts.length === 1 && only !== undefined) {
        parts.pop();
        return await finite(only, this.name);
      }
      return await finite(await Tensor.cat(parts, 1), this.name);
    } finally {
      for (const part of parts) part.dispose();
    }
  }

  /**
   * Enlarges frames.
   *
   * @param video Frames (B, F, h, w, 3) in [-1, 1], square.
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  sample(video: Tensor, options: SuperResolutionOptions): Promise<Tensor> {
    return finish(this.stream(video, options));
  }

  /** Frames run at once, and how many a run sees besides on either side. */
  #chunk(frames: number, wanted: number): { readonly chunk: number; readonly beyond: number } {
    if (!Number.isInteger(wanted) || wanted < 0) {
      throw new KinoraError("refused", `chunk must be a whole number of at least 0, not ${wanted}`);
    }
    if (this.config["temporal"] !== true) return { chunk: wanted === 0 ? frames : Math.min(wanted, frames), beyond: 0 };
    if (wanted !== 0 && wanted < frames) {
      throw new KinoraError("refused", `chunk must be 0: the network of ${this.name} sees all frames together`);
    }
    return frames <= MOST_TOGETHER
      ? { chunk: frames, beyond: 0 }
      : { chunk: MOST_TOGETHER - 2 * BEYOND, beyond: BEYOND };
  }

  async *#chunkSteps(
    small: Tensor,
    transitions: readonly Transition[],
    options: SuperResolutionOptions,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const { seeds, signal } = options;
    const { size, prediction, residual_scale: scale } = this.settings;
    const level = options.augmentation ?? this.settings.augmentation;
    const [batch = 0, frames = 0] = small.shape;
    using enlarged = await enlargedFrames(small, {
      size,
      level,
      seeds,
      stream: noiseStream(this.name, AUGMENTATION_STEP),
    });
    // One frame of noise, which is the same for every frame and every chunk.
    const noise = (step: number): Promise<Tensor> =>
      Tensor.noise({ shape: [batch, 1, size, size, COLOURS], seeds, stream: noiseStream(this.name, step) });
    using one = await noise(0);
    using start = await one.gather(1, each(frames, 0));
    return yield* sampling({
      steps: transitions,
      sampler: this.settings.sampler,
      prediction,
      start,
      denoise: async (noisy, timestep) => {
        using sample = await Tensor.cat([noisy, enlarged], noisy.shape.length - 1);
        const made = await this.predict(
          {
            sample,
            timestep: each(batch, timestep),
            ...this.config["augmentation_conditioning"] === true ? { augmentation: each(batch, level) } : {},
          },
          COLOURS,
          signal,
        );
        if (scale === undefined) return made;
        using difference = made;
        return await Tensor.combine([{ tensor: enlarged, scale: 1 }, { tensor: difference, scale }]);
      },
      noise,
      clamp: [-1, 1],
      signal,
    });
  }
}

/**
 * The small frames with noise added, enlarged by a bicubic filter and clamped to [-1, 1]: what a super-resolution network
 * sees beside its noisy frames, in training as in sampling. The noise is the same on all frames.
 *
 * @param small Frames (B, F, h, w, 3) in [-1, 1].
 * @param options The size, and the noise.
 * @returns Frames (B, F, size, size, 3) in [-1, 1].
 */
export async function enlargedFrames(small: Tensor, options: AugmentationOptions): Promise<Tensor> {
  const { size, level, seeds, stream } = options;
  const wrong = [level].flat().find((level) => !(level >= 0 && level <= 1));
  if (wrong !== undefined) {
    throw new KinoraError("refused", `augmentation must be a number from 0 to 1, not ${wrong}`);
  }
  using noise = level === 0 ? undefined : await Tensor.noise({ shape: small.shape.with(1, 1), seeds, stream });
  using noisy = noise === undefined
    ? undefined
    : await Tensor.combine([{ tensor: small, scale: 1 }, { tensor: noise, scale: level }]);
  using enlarged = await (noisy ?? small).resize({ height: size, width: size, filter: "bicubic" });
  return await Tensor.combine([{ tensor: enlarged, scale: 1 }], { clamp: [-1, 1] });
}
