/**
 * D^t of Eq. 1: from an image embedding and a frame rate to the key frames of the video.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { frameNoise } from "../diffusion/frame_noise.ts";
import { guidanceRuns, guided, repeatBatch } from "../diffusion/guidance.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { Transition } from "../diffusion/timesteps.ts";
import { averagedParts, frameParts, noiseFrames, turned } from "./frame_parts.ts";
import type { DecoderSettings, FpsSettings } from "./model_index.ts";
import {
  checkSeeds,
  cleanRange,
  each,
  finite,
  type FrameStageOptions,
  loadNetwork,
  NetworkStage,
  type StageLoadOptions,
  stageSteps,
} from "./network_stage.ts";
import { noiseStream } from "./stage.ts";

/** Colours of a pixel. */
export const COLOURS = 3;

/** What the decoder can be asked. */
export interface DecoderOptions extends FrameStageOptions {
  /**
   * Number of frames, 1 to 1,024; by default what the settings say (16). 1 makes a still picture; more than the settings
   * say are made in overlapping parts, from noise that comes again.
   */
  readonly frames?: number | undefined;
  /** Frames a second that the video is made for, 1 to 30; by default what the settings say. */
  readonly fps?: number | undefined;
  /** Image embeddings (B, E) to lead away from, in place of none at all; without guidance they do nothing. */
  readonly negative?: Tensor | undefined;
  /**
   * Whether the video is made to be played round and round, with the last frame followed by the first.
   *
   * @default {false}
   */
  readonly loop?: boolean | undefined;
  /** What to start from in place of noise alone (SDEdit, Meng et al. 2022). */
  readonly from?: DecoderStart | undefined;
}

/** Frames that the decoder starts from. */
export interface DecoderStart {
  /** Frames (B, F, H, W, 3) in [-1, 1]; of one frame a video is made that starts from it everywhere. */
  readonly frames: Tensor;
  /** How much of them is made anew: more than 0, and 1 leaves next to nothing. Only this share of the steps is run. */
  readonly strength: number;
}

/** An embedding (1, E) of unit length that changes over time, from 0 to 1; what it gives becomes the stage's. */
export type EmbeddingPath = (place: number) => Promise<Tensor>;

/** The decoder. */
export class Decoder extends NetworkStage<DecoderSettings> {
  /**
   * Loads the decoder of a model.
   *
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(model: string, settings: DecoderSettings, options: StageLoadOptions = {}): Promise<Decoder> {
    return new Decoder(await loadNetwork(model, settings, options), settings, options.precision);
  }

  /**
   * Samples frames step by step.
   *
   * @param embedding Image embeddings of unit length, (B, E), or one that changes over time.
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  async *stream(
    embedding: Tensor | EmbeddingPath,
    options: DecoderOptions,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const { seeds, signal, frames = this.settings.frames, loop = false } = options;
    const travel = typeof embedding === "function";
    const batch = travel ? 1 : embedding.shape[0] ?? 0;
    checkSeeds(seeds, batch);
    if (!Number.isInteger(frames) || frames < 1 || frames > 1024) {
      throw new KinoraError("refused", `frames must be a whole number from 1 to 1024, not ${frames}`);
    }
    const steps = startedSteps(stageSteps(this.settings, options.steps), options.from?.strength);
    const guidance = options.guidance ?? this.settings.guidance;
    const fps = trainedFps(options.fps ?? this.settings.fps, this.settings.fps_range);
    const shape = [batch, frames, this.settings.size, this.settings.size, COLOURS];
    const length = Math.max(2, this.settings.frames);
    const numbers = frames > length ? noiseFrames(frames, length) : undefined;
    const seconds = options.noiseSeconds ?? this.settings.noise_seconds;
    const noise = (step: number): Promise<Tensor> =>
      frameNoise({
        shape,
        seeds,
        stream: noiseStream("decoder", step),
        // What changes smoothly comes again by itself, and must not jump.
        frames: seconds > 0 ? undefined : numbers,
        common: options.commonNoise ?? this.settings.common_noise,
        smooth: { seconds, fps, period: loop ? frames : undefined },
      });
    const parts = frameParts(frames, { length, loop, travel });
    const conditions: Tensor[] = [];
    try {
      for (const { place } of travel ? parts : parts.slice(0, 1)) {
        using own = travel ? await embedding(place) : undefined;
        conditions.push(await guidanceCondition(own ?? (embedding as Tensor), guidance, options.negative));
      }
      const run = (sample: Tensor, timestep: number, part: number): Promise<Tensor> =>
        guided(sample, guidance, (sample, drop) =>
          this.predict(
            {
              sample,
              timestep: each(drop.length, timestep),
              image_embedding: conditions[part] as Tensor,
              drop: options.negative === undefined || guidanceRuns(guidance) === 1 ? drop : each(drop.length, 0),
              ...this.config["fps_conditioning"] === true ? { fps: each(drop.length, fps) } : {},
            },
            COLOURS,
            signal,
          ), { rescale: options.rescale });
      using start = await startingFrames(noise, steps[0], options.from?.frames, shape);
      let step = 0;
      const video = yield* sampling({
        steps,
        sampler: options.sampler ?? this.settings.sampler,
        prediction: this.settings.prediction,
        start,
        denoise: (sample, timestep) => {
          // A loop of one part has a seam, which is moved at every step.
          const now = loop && frames <= this.settings.frames ? parts.map((part) => turned(part, step)) : parts;
          step++;
          if (now.length === 1 && !loop) return run(sample, timestep, 0);
          return averagedParts(sample, now, (sample, part) => run(sample, timestep, part));
        },
        noise,
        ...cleanRange(options.threshold),
        signal,
      });
      return await finite(video, "decoder");
    } finally {
      for (const condition of conditions) condition.dispose();
    }
  }

  /**
   * Samples frames.
   *
   * @param embedding Image embeddings of unit length, (B, E), or one that changes over time.
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  sample(embedding: Tensor | EmbeddingPath, options: DecoderOptions): Promise<Tensor> {
    return finish(this.stream(embedding, options));
  }
}

/** The steps that are left to a run which starts from frames: the last ones, at least one. */
function startedSteps(steps: readonly Transition[], strength: number | undefined): readonly Transition[] {
  if (strength === undefined) return steps;
  if (!(strength > 0 && strength <= 1)) {
    throw new KinoraError("refused", `strength must be more than 0 and at most 1, not ${strength}`);
  }
  return steps.slice(-Math.max(1, Math.round(steps.length * strength)));
}

/** What a run starts from: noise, or frames with as much noise as its first step expects. */
async function startingFrames(
  noise: (step: number) => Promise<Tensor>,
  first: Transition | undefined,
  frames: Tensor | undefined,
  shape: readonly number[],
): Promise<Tensor> {
  if (frames === undefined || first === undefined) return await noise(0);
  const wrong = frames.shape.some((length, axis) => length !== shape[axis] && !(axis === 1 && length === 1));
  if (wrong || frames.shape.length !== shape.length) {
    throw new KinoraError("refused", `the frames to start from are [${frames.shape}], not [${shape}]`);
  }
  using unit = await noise(0);
  return await Tensor.combine([
    { tensor: unit, scale: first.from.sigma },
    { tensor: frames, scale: first.from.alpha },
  ]);
}

/** The condition as often as guidance runs the network; what it leads away from goes last. */
async function guidanceCondition(embedding: Tensor, guidance: number, negative?: Tensor): Promise<Tensor> {
  if (negative === undefined || guidanceRuns(guidance) === 1) {
    return await repeatBatch(embedding, guidanceRuns(guidance));
  }
  return await Tensor.cat([embedding, negative], 0);
}

/**
 * The frame rate that a network is told: the nearest one it was trained on.
 *
 * @param fps The rate that is wanted, more than 0.
 * @param range The rates it was trained on.
 * @throws {KinoraError} `refused` when `fps` is not a number above 0.
 */
export function trainedFps(fps: number, range: FpsSettings): number {
  if (!(fps > 0 && fps < Infinity)) throw new KinoraError("refused", `fps must be a number above 0, not ${fps}`);
  return Math.min(range.most, Math.max(range.least, fps));
}
