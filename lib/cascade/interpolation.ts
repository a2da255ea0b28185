/**
 * upF of Eq. 1: puts frames between those of the decoder. The network gets three more channels with the known frames
 * (where a frame is masked zero, or with `residual_scale` a blend of the known ones) and one that is 1 where a frame is
 * masked.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { guidanceRuns, guided, repeatBatch } from "../diffusion/guidance.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { Transition } from "../diffusion/timesteps.ts";
import { COLOURS, trainedFps } from "./decoder.ts";
import type { InterpolationSettings } from "./model_index.ts";
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
import { type FrameWindow, frameWindows } from "./windows.ts";

/** What the interpolation can be asked. */
export interface InterpolationOptions extends StageOptions {
  /** Output frames from one given frame to the next, 1 to 15; 5 makes 76 frames of 16. */
  readonly skip: number;
  /** Frames a second of the given frames; the network is told `fps * skip`. */
  readonly fps: number;
}

/** What one run of the network goes over. */
interface WindowRun extends InterpolationOptions {
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
  async *stream(
    frames: Tensor,
    embedding: Tensor,
    options: InterpolationOptions,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const [batch = 0, count = 0] = frames.shape;
    checkSeeds(options.seeds, batch);
    const windows = frameWindows(count, options.skip);
    const transitions = stageSteps(this.settings, options.steps);
    const total = windows.length * transitions.length;
    const parts: Tensor[] = [];
    let end: Tensor | undefined;
    try {
      for (const [index, window] of windows.entries()) {
        const run = this.#window(frames, end, embedding, { ...options, window, transitions });
        const made = yield* numbered(run, index * transitions.length, total);
        end?.dispose();
        end = undefined;
        // Windows share their end frame, so all but the first leave out where they start.
        using whole = made;
        const from = index === 0 ? 0 : 1;
        parts.push(await whole.gather(1, range(from, window.length)));
        end = await whole.gather(1, [window.length - 1]);
      }
      return await finite(await Tensor.cat(parts, 1), "interpolation");
    } finally {
      end?.dispose();
      for (const part of parts) part.dispose();
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
  sample(frames: Tensor, embedding: Tensor, options: InterpolationOptions): Promise<Tensor> {
    return finish(this.stream(frames, embedding, options));
  }

  /** One window: (B, L, H, W, 3). */
  async *#window(
    frames: Tensor,
    end: Tensor | undefined,
    embedding: Tensor,
    run: WindowRun,
  ): AsyncGenerator<SamplingStep, Tensor, void> {
    const { window, seeds, signal } = run;
    const [batch = 0, , height = 0, width = 0] = frames.shape;
    const { length, start: first } = window;
    const shape = [batch, length, height, width, COLOURS];
    const guidance = run.guidance ?? this.settings.guidance;
    const runs = guidanceRuns(guidance);
    const fps = trainedFps(run.fps * run.skip, this.settings.fps_range);
    const { residual_scale: scale } = this.settings;
    using known = await knownFrames(frames, end, window);
    using blend = scale === undefined ? undefined : await blendedFrames(known, window);
    using extra = await maskedInput(blend ?? known, window);
    using extras = await repeatBatch(extra, runs);
    using condition = await repeatBatch(embedding, runs);
    // Noise by the frame's number in the whole video: neighbours agree on the frame they share.
    const noise = (step: number): Promise<Tensor> =>
      Tensor.noise({ shape, seeds, stream: noiseStream("interpolation", step), frames: range(first, first + length) });
    using start = await noise(0);
    using sampled = yield* sampling({
      steps: run.transitions,
      sampler: this.settings.sampler,
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
        });
        if (blend === undefined || scale === undefined) return made;
        using difference = made;
        return await Tensor.combine([{ tensor: blend, scale: 1 }, { tensor: difference, scale }]);
      },
      noise,
      clamp: [-1, 1],
      signal,
    });
    using both = await Tensor.cat([sampled, known], 1);
    const places = new Set(window.known.map(({ position }) => position));
    return await both.gather(1, range(0, length).map((place) => places.has(place) ? length + place : place));
  }
}

/**
 * The known frames of a window in their places, zeros everywhere else: (B, L, H, W, 3).
 *
 * @param frames The given frames (B, K, H, W, 3).
 * @param end The last frame of the window before (B, 1, H, W, 3), where the window's first frame is taken from it.
 * @param window The window.
 * @throws {KinoraError} `refused` when the window needs `end` and there is none.
 */
export async function knownFrames(frames: Tensor, end: Tensor | undefined, window: FrameWindow): Promise<Tensor> {
  const [batch = 0, count = 0, height = 0, width = 0] = frames.shape;
  using zero = await Tensor.create(
    [batch, 1, height, width, COLOURS],
    new Float32Array(batch * height * width * COLOURS),
  );
  using pool = await Tensor.cat(end === undefined ? [frames, zero] : [frames, zero, end], 1);
  const indices = each(window.length, count);
  for (const { position, source, frame } of window.known) {
    if (source === "generated" && end === undefined) {
      throw new KinoraError("refused", `the window at frame ${window.start} needs the end of the window before`);
    }
    indices[position] = source === "key" ? frame : count + 1;
  }
  return await pool.gather(1, indices);
}

/**
 * The known frames, between them a linear blend of the two beside, and before the first and after the last the nearest:
 * (B, L, H, W, 3).
 *
 * @param known The known frames in their places (B, L, H, W, 3); what is elsewhere does not matter.
 * @param window Which they are.
 */
export async function blendedFrames(known: Tensor, window: Pick<FrameWindow, "known">): Promise<Tensor> {
  const [batch = 0, length = 0, ...frame] = known.shape;
  const places = window.known.map(({ position }) => position).sort((one, other) => one - other);
  const [first, last] = [places[0], places.at(-1)];
  if (first === undefined || last === undefined) return await Tensor.combine([{ tensor: known, scale: 0 }]);
  const before = range(0, length).map((place) => places.findLast((known) => known <= place) ?? first);
  const after = range(0, length).map((place) => places.find((known) => known >= place) ?? last);
  const shares = range(0, length).map((place) => {
    const [from = first, to = last] = [before[place], after[place]];
    return from < to ? (place - from) / (to - from) : 0;
  });
  // Scales go by the first axis.
  using ones = await known.gather(1, before);
  using others = await known.gather(1, after);
  using flatOnes = await ones.reshape([batch * length, ...frame]);
  using flatOthers = await others.reshape([batch * length, ...frame]);
  const scales = range(0, batch).flatMap(() => shares);
  using blended = await Tensor.combine([
    { tensor: flatOnes, scale: scales.map((share) => 1 - share) },
    { tensor: flatOthers, scale: scales },
  ]);
  return await blended.reshape(known.shape);
}

/**
 * The four channels that the network gets besides the noisy frames: the known frames, and 1 where a frame is masked.
 *
 * @param known The known frames, zeros or a blend elsewhere (B, L, H, W, 3).
 * @param window Which they are.
 * @returns (B, L, H, W, 4).
 */
export async function maskedInput(known: Tensor, window: Pick<FrameWindow, "known">): Promise<Tensor> {
  const [batch = 0, length = 0, height = 0, width = 0] = known.shape;
  const values = new Float32Array(batch * length * height * width).fill(1);
  const frame = height * width;
  for (let sample = 0; sample < batch; sample++) {
    for (const { position } of window.known) {
      const at = (sample * length + position) * frame;
      values.fill(0, at, at + frame);
    }
  }
  using mask = await Tensor.create([batch, length, height, width, 1], values);
  return await Tensor.cat([known, mask], 4);
}

/** Counts the steps of one part on from those before. */
async function* numbered(
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
