/**
 * upF of Eq. 1: puts frames between those of the decoder. The network gets three more channels with the known frames
 * (where a frame is masked zero, or with `residual_scale` a blend of the known ones) and one that is 1 where a frame is
 * masked; with `known_motion` three more, with the difference of the two known frames that a masked one lies between.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { frameNoise } from "../diffusion/frame_noise.ts";
import { guidanceRuns, guided, repeatBatch } from "../diffusion/guidance.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { Transition } from "../diffusion/timesteps.ts";
import { COLOURS, trainedFps } from "./decoder.ts";
import type { InterpolationSettings } from "./model_index.ts";
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
import { KnownFrames, knownFrames } from "./known_frames.ts";
import { type FrameTask, noiseStream } from "./stage.ts";
import { type FrameLayout, type FrameWindow, interpolationLayout } from "./windows.ts";

/** What the network can be asked, whatever it is to do. */
export interface FillOptions extends FrameStageOptions {
  /** Frames a second of the video that comes out, which the network is told. */
  readonly rate: number;
  /** Which of the network's two tasks it is: the random numbers of one are not those of the other. Default `fill`. */
  readonly task?: FrameTask | undefined;
}

/** What the interpolation can be asked. */
export interface InterpolationOptions extends FrameStageOptions {
  /** Output frames from one given frame to the next, 1 to 15; 5 makes 76 frames of 16. */
  readonly skip: number;
  /** Frames a second of the given frames; the network is told `fps * skip`. */
  readonly fps: number;
}

/** Embeddings of unit length, (B, E): the same for all windows, or one for each; those of a function become the stage's. */
export type WindowEmbedding = Tensor | ((window: FrameWindow) => Promise<Tensor>);

/** What one run of the network goes over. */
interface WindowRun extends FillOptions {
  readonly window: FrameWindow;
  readonly transitions: readonly Transition[];
}

/** The interpolation. */
export class Interpolation extends NetworkStage<InterpolationSettings> {
  /**
   * Loads the interpolation of a model.
   *
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(
    model: string,
    settings: InterpolationSettings,
    options: StageLoadOptions = {},
  ): Promise<Interpolation> {
    return new Interpolation(await loadNetwork(model, settings, options), settings, options.precision);
  }

  /**
   * Interpolates step by step, one window of 16 frames after the other. Given frames come out as they are.
   *
   * @param frames Frames (B, K, H, W, 3) in [-1, 1], K at least 2.
   * @param embedding Image embeddings of unit length, (B, E).
   * @param options Seeds and numbers.
   * @returns Frames (B, (K - 1) * skip + 1, H, W, 3) in [-1, 1].
   */
  stream(
    frames: Tensor,
    embedding: WindowEmbedding,
    options: InterpolationOptions,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const { skip, fps, ...rest } = options;
    const task = { ...rest, rate: fps * skip, task: "between" } as const;
    return this.streamLayout(frames, embedding, () => interpolationLayout(frames.shape[1] ?? 0, skip), task);
  }

  /**
   * Makes the frames of a layout that are not given, step by step, one window after the other: extrapolation, image
   * animation, interpolation.
   *
   * @param frames The given frames (B, K, H, W, 3) in [-1, 1].
   * @param embedding Image embeddings of unit length, (B, E).
   * @param layout Where the given frames lie; as a function it is asked for when the run begins.
   * @param options Seeds and numbers.
   * @returns Frames (B, `layout.total`, H, W, 3) in [-1, 1]; the given ones come out as they are.
   */
  async *streamLayout(
    frames: Tensor,
    embedding: WindowEmbedding,
    layout: FrameLayout | (() => FrameLayout),
    options: FillOptions,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    checkSeeds(options.seeds, frames.shape[0] ?? 0);
    const { total: length, places, windows } = typeof layout === "function" ? layout() : layout;
    if (places.length !== frames.shape[1]) {
      throw new KinoraError("refused", `the layout has ${places.length} given frames, not ${frames.shape[1]}`);
    }
    const transitions = stageSteps(this.settings, options.steps);
    const total = windows.length * transitions.length;
    const made = new Map<number, Tensor>();
    try {
      for (const [index, place] of places.entries()) made.set(place, await frames.gather(1, [index]));
      for (const [index, window] of windows.entries()) {
        const run = { ...options, window, transitions };
        using generated = await generatedFrames(made, window);
        using own = typeof embedding === "function" ? await embedding(window) : undefined;
        const steps = this.#window(frames, generated, own ?? (embedding as Tensor), run);
        using whole = yield* numbered(steps, index * transitions.length, total);
        for (let position = 0; position < window.length; position++) {
          const frame = window.start + position;
          if (!made.has(frame)) made.set(frame, await whole.gather(1, [position]));
        }
      }
      const all = range(0, length).map((frame) => made.get(frame));
      if (all.some((frame) => frame === undefined)) {
        throw new KinoraError("refused", "the layout's windows do not cover all its frames");
      }
      return await finite(await Tensor.cat(all as Tensor[], 1), "interpolation");
    } finally {
      for (const frame of made.values()) frame.dispose();
    }
  }

  /**
   * Interpolates.
   *
   * @param frames Frames (B, K, H, W, 3) in [-1, 1], K at least 2.
   * @param embedding Image embeddings of unit length, (B, E).
   * @param options Seeds and numbers.
   * @returns Frames (B, (K - 1) * skip + 1, H, W, 3) in [-1, 1].
   */
  sample(frames: Tensor, embedding: WindowEmbedding, options: InterpolationOptions): Promise<Tensor> {
    return finish(this.stream(frames, embedding, options));
  }

  /**
   * Makes the frames of a layout that are not given.
   *
   * @param frames The given frames (B, K, H, W, 3) in [-1, 1].
   * @param embedding Image embeddings of unit length, (B, E).
   * @param layout Where the given frames lie.
   * @param options Seeds and numbers.
   * @returns Frames (B, `layout.total`, H, W, 3) in [-1, 1]; the given ones come out as they are.
   */
  sampleLayout(
    frames: Tensor,
    embedding: WindowEmbedding,
    layout: FrameLayout,
    options: FillOptions,
  ): Promise<Tensor> {
    return finish(this.streamLayout(frames, embedding, layout, options));
  }

  /** One window: (B, L, H, W, 3). */
  async *#window(
    frames: Tensor,
    generated: Tensor | undefined,
    embedding: Tensor,
    run: WindowRun,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const { window, seeds, signal } = run;
    const [batch = 0, , height = 0, width = 0] = frames.shape;
    const { length, start: first } = window;
    const shape = [batch, length, height, width, COLOURS];
    const guidance = run.guidance ?? this.settings.guidance;
    const runs = guidanceRuns(guidance);
    const fps = trainedFps(run.rate, this.settings.fps_range);
    using known = await knownFrames(frames, generated, window);
    using given = await KnownFrames.of(known, window, this.settings);
    using extras = await repeatBatch(given.channels, runs);
    using condition = await repeatBatch(embedding, runs);
    // Noise by the frame's number in the whole video: neighbours agree on the frame they share.
    const noise = (step: number): Promise<Tensor> =>
      frameNoise({
        shape,
        seeds,
        stream: noiseStream("interpolation", step, run.task ?? "fill"),
        frames: range(first, first + length),
        common: run.commonNoise,
      });
    using start = await noise(0);
    using sampled = yield* sampling({
      steps: run.transitions,
      sampler: run.sampler ?? this.settings.sampler,
      prediction: this.settings.prediction,
      start,
      denoise: async (noisy, timestep) => {
        const made = await guided(noisy, guidance, async (noisy, drop) => {
          using sample = await Tensor.cat([noisy, extras], noisy.shape.length - 1);
          return await this.predict(
            {
              sample,
              timestep: each(drop.length, timestep),
              ...this.config["image_embedding_dim"] == null ? {} : { image_embedding: condition, drop },
              ...this.config["fps_conditioning"] === true ? { fps: each(drop.length, fps) } : {},
            },
            COLOURS,
            signal,
          );
        }, { rescale: run.rescale });
        return await given.frames(made);
      },
      noise,
      ...cleanRange(run.threshold),
      signal,
    });
    using both = await Tensor.cat([sampled, known], 1);
    const places = new Set(window.known.map(({ position }) => position));
    return await both.gather(1, range(0, length).map((place) => places.has(place) ? length + place : place));
  }
}

/** The frames that a window is given of earlier windows, in its order. */
async function generatedFrames(made: ReadonlyMap<number, Tensor>, window: FrameWindow): Promise<Tensor | undefined> {
  const frames = window.known.filter(({ source }) => source === "generated").map(({ frame }) => made.get(frame));
  if (frames.length === 0) return undefined;
  const there = frames.filter((frame) => frame !== undefined);
  if (there.length < frames.length) {
    throw new KinoraError("refused", `the window at frame ${window.start} needs frames that no window before it makes`);
  }
  return await Tensor.cat(there, 1);
}

/**
 * Counts the steps of one part on from those before.
 *
 * @param steps The part.
 * @param before Steps that are done.
 * @param total Steps of all parts.
 */
export async function* numbered(
  steps: AsyncGenerator<SamplingStep, Tensor, void>,
  before: number,
  total: number,
): AsyncGenerator<SamplingStep, Tensor, void> {
  let result: IteratorResult<SamplingStep, Tensor>;
  try {
    while (!(result = await steps.next()).done) {
      yield { ...result.value, step: before + result.value.step, total };
    }
    return result.value;
  } finally {
    await steps.return(undefined as unknown as Tensor);
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}
