/**
 * D^t of Eq. 1: from an image embedding and a frame rate to the key frames of the video.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { guidanceRuns, guided, repeatBatch } from "../diffusion/guidance.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { DecoderSettings, FpsSettings } from "./model_index.ts";
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
import { noiseStream } from "./stage.ts";

/** Colours of a pixel. */
export const COLOURS = 3;

/** What the decoder can be asked. */
export interface DecoderOptions extends StageOptions {
  /** Number of frames, at least 1; by default what the settings say (16). 1 makes a still picture. */
  readonly frames?: number | undefined;
  /** Frames a second that the video is made for, 1 to 30; by default what the settings say. */
  readonly fps?: number | undefined;
}

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
   * @param embedding Image embeddings of unit length, (B, E).
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  async *stream(embedding: Tensor, options: DecoderOptions): AsyncGenerator<SamplingStep, Tensor, void> {
    const { seeds, signal, frames = this.settings.frames } = options;
    const batch = embedding.shape[0] ?? 0;
    checkSeeds(seeds, batch);
    if (!Number.isInteger(frames) || frames < 1 || frames > 1024) {
      throw new KinoraError("refused", `frames must be a whole number from 1 to 1024, not ${frames}`);
    }
    const steps = stageSteps(this.settings, options.steps);
    const guidance = options.guidance ?? this.settings.guidance;
    const fps = trainedFps(options.fps ?? this.settings.fps, this.settings.fps_range);
    const shape = [batch, frames, this.settings.size, this.settings.size, COLOURS];
    const noise = (step: number): Promise<Tensor> =>
      Tensor.noise({ shape, seeds, stream: noiseStream("decoder", step) });
    using condition = await repeatBatch(embedding, guidanceRuns(guidance));
    using start = await noise(0);
    const video = yield* sampling({
      steps,
      sampler: this.settings.sampler,
      prediction: this.settings.prediction,
      start,
      denoise: (sample, timestep) =>
        guided(sample, guidance, (sample, drop) =>
          this.predict(
            {
              sample,
              timestep: each(drop.length, timestep),
              image_embedding: condition,
              drop,
              ...this.config["fps_conditioning"] === true ? { fps: each(drop.length, fps) } : {},
            },
            COLOURS,
            signal,
          )),
      noise,
      clamp: [-1, 1],
      signal,
    });
    return await finite(video, "decoder");
  }

  /**
   * Samples frames.
   *
   * @param embedding Image embeddings of unit length, (B, E).
   * @param options Seeds and numbers.
   * @returns Frames (B, F, H, W, 3) in [-1, 1].
   */
  sample(embedding: Tensor, options: DecoderOptions): Promise<Tensor> {
    return finish(this.stream(embedding, options));
  }
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
