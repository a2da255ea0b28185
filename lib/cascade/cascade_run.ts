/**
 * One run of the cascade: what each stage of Eq. 1 is given, and what it hands to the next.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { SamplingStep } from "../diffusion/sample.ts";
import type { Manifest, TaskManifest } from "../manifest.ts";
import { Video } from "../video.ts";
import type { Cascade } from "./cascade.ts";
import { wayOf } from "./frame_parts.ts";
import { GivenEmbeddings } from "./given_embeddings.ts";
import type { GivenFrames } from "./given_frames.ts";
import { numbered, type WindowEmbedding } from "./interpolation.ts";
import { each, type SamplingChoices, type StageOptions } from "./network_stage.ts";
import type { CascadePreview } from "./previews.ts";
import type { RunPlan } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import type { SuperResolutionName } from "./super_resolution.ts";
import { PriorEmbeddings, priorTexts, textRows, type Texts } from "./text_choices.ts";
import { frameWindows } from "./windows.ts";

/** Frames of the other end that a temporal super-resolution of a loop sees beyond its seam. */
const AROUND = 4;

/** What a run starts from. */
export interface RunInput {
  /** What was asked for, for the manifest. */
  readonly task: TaskManifest;
  /** Decides every random number. */
  readonly seed: number;
  /** The prompts; without them frames are given. */
  readonly texts?: Texts | undefined;
  /** Frames that the video is made from, or that the decoder starts from. They stay the caller's. */
  readonly given?: readonly GivenFrames[] | undefined;
  /** How much of given frames the decoder makes anew. */
  readonly strength?: number | undefined;
  /** Stops the run. */
  readonly signal: AbortSignal | undefined;
}

/** One run of the cascade: holds what a stage hands to the next. */
export class CascadeRun implements Disposable {
  /** How the run was chosen among several, for the manifests of its results from then on. */
  ranking: Manifest["ranking"];
  readonly #cascade: Cascade;
  readonly #plan: RunPlan;
  readonly #input: RunInput;
  #texts: PriorEmbeddings | undefined;
  #pictures: GivenEmbeddings | undefined;
  #embedding: Tensor | undefined;
  #frames: Tensor | undefined;

  /**
   * @param cascade Whose stages run.
   * @param plan Which stages run, with which numbers.
   * @param input What the run starts from, checked.
   */
  constructor(cascade: Cascade, plan: RunPlan, input: RunInput) {
    this.#cascade = cascade;
    this.#plan = plan;
    this.#input = input;
  }

  /** The frames of the last stage that ran (1, F, H, W, 3); they stay the run's. */
  get frames(): Tensor {
    return made(this.#frames);
  }

  /**
   * Runs stages, and yields after each step and each stage.
   *
   * @param stages Which; by default all of the plan.
   */
  async *stages(stages: readonly StageName[] = this.#plan.stages): AsyncGenerator<CascadePreview, void, void> {
    if (this.#input.texts === undefined && this.#pictures === undefined) await this.#lookAtGiven();
    for (const stage of stages) {
      switch (stage) {
        case "prior":
          yield* this.#prior();
          break;
        case "decoder":
          yield* this.#decoder();
          break;
        case "interpolation":
          yield* this.#interpolation();
          break;
        default:
          yield* this.#superResolution(stage);
      }
    }
  }

  /**
   * What a stage made, as a video with its manifest.
   *
   * @param stage The stage that ran last.
   */
  async result(stage: StageName): Promise<Video> {
    const frames = this.frames;
    const [, count = 0, height = 0, width = 0] = frames.shape;
    const fps = stage === "decoder" ? this.#plan.fps : this.#plan.outputFps;
    const { task, seed, texts, given } = this.#input;
    const manifest = await this.#cascade.manifest(this.#plan, stage, {
      task,
      ...texts === undefined ? {} : { prompt: texts.prompt },
      ...given === undefined ? {} : { given: given.map(({ manifest }) => manifest) },
      seed,
      ...this.ranking === undefined ? {} : { ranking: this.ranking },
      frames: count,
      width,
      height,
      fps,
    });
    return new Video(await frames.reshape(frames.shape.slice(1)), { fps, manifest });
  }

  /** Frees what the stages handed on. */
  [Symbol.dispose](): void {
    this.#texts?.[Symbol.dispose]();
    this.#pictures?.[Symbol.dispose]();
    this.#embedding?.dispose();
    this.#frames?.dispose();
  }

  /** Given frames as what the first stage works on, and their embeddings. */
  async #lookAtGiven(): Promise<void> {
    const { given = [], signal } = this.#input;
    const tower = await this.#cascade.stage("image");
    using frames = await Tensor.cat(given.map(({ tensor }) => tensor), 0);
    this.#pictures = new GivenEmbeddings(await tower.encode(frames, { signal }));
    this.#embedding = await this.#pictures.mean();
    if (this.#plan.stages.includes("decoder")) return;
    // A loop is given its first frame as its end too.
    const [count = 1] = frames.shape;
    const places = range(this.#plan.layout?.places.length ?? count).map((place) => place % count);
    using all = await frames.gather(0, places);
    this.#frames = await all.reshape([1, ...all.shape]);
  }

  async *#prior(): AsyncGenerator<CascadePreview, void, void> {
    const tower = await this.#cascade.stage("text");
    const prior = await this.#cascade.stage("prior");
    const { texts, signal } = this.#input;
    if (texts === undefined) throw new KinoraError("failed", "The prior has no prompt");
    const { rows, away } = priorTexts(texts);
    using text = await tower.encode(rows, { signal });
    using negative = away === undefined ? undefined : await textRows(text, away);
    const options = { ...this.#options("prior", rows.length), candidates: this.#plan.candidates, negative };
    let total = 0;
    using embeddings = yield* translated(prior.stream(text, options), (event) => {
      total = event.total;
      return Promise.resolve({ stage: "prior", step: event.step, total, done: false, embedding: undefined });
    });
    this.#texts = await PriorEmbeddings.of(embeddings, texts);
    this.#embedding = await this.#texts.mixed();
    const embedding = await this.#embedding.reshape(this.#embedding.shape);
    yield { stage: "prior", step: total, total, done: true, embedding };
  }

  async *#decoder(): AsyncGenerator<CascadePreview, void, void> {
    const decoder = await this.#cascade.stage("decoder");
    const { keyFrames, fps, loop } = this.#plan;
    const { texts, given, strength } = this.#input;
    const words = this.#texts;
    const embedding = texts?.travel === true && words !== undefined
      ? (place: number): Promise<Tensor> => words.at(place)
      : made(this.#embedding);
    using start = strength === undefined ? undefined : await startingFrames(given?.[0]?.tensor, keyFrames);
    const steps = decoder.stream(embedding, {
      ...this.#options("decoder"),
      frames: keyFrames,
      fps,
      loop,
      negative: words?.negative,
      from: start === undefined || strength === undefined ? undefined : { frames: start, strength },
    });
    yield* this.#framesOf("decoder", steps, fps);
  }

  async *#interpolation(): AsyncGenerator<CascadePreview, void, void> {
    yield* this.#framesOf("interpolation", this.#interpolated(), this.#plan.outputFps);
  }

  /** The key frames, where the interpolation makes them, and the frames between them. */
  async *#interpolated(): AsyncGenerator<SamplingStep, Tensor, void> {
    const interpolation = await this.#cascade.stage("interpolation");
    const { layout, skip, fps, loop, keyFrames } = this.#plan;
    const options = this.#options("interpolation");
    const runs = (layout?.windows.length ?? 0) + (skip > 1 ? frameWindows(keyFrames + (loop ? 1 : 0), skip).length : 0);
    const total = runs * (this.#plan.steps.interpolation ?? 0);
    let done = 0;
    let frames = await this.frames.reshape(this.frames.shape);
    try {
      if (layout !== undefined) {
        const steps = interpolation.streamLayout(frames, this.#windowEmbedding(), layout, { ...options, rate: fps });
        const filled = yield* numbered(steps, 0, total);
        frames.dispose();
        frames = filled;
        done = layout.windows.length * (this.#plan.steps.interpolation ?? 0);
      }
      if (skip > 1) {
        using given = await frames.gather(1, loop ? [...range(keyFrames), 0] : range(keyFrames));
        const steps = interpolation.stream(given, this.#windowEmbedding(), { ...options, skip, fps });
        const many = yield* numbered(steps, done, total);
        frames.dispose();
        frames = many;
      }
      return await frames.gather(1, range(this.#plan.frames));
    } finally {
      frames.dispose();
    }
  }

  /** What the interpolation is conditioned on. */
  #windowEmbedding(): WindowEmbedding {
    const { layout, keyFrames, skip, loop, stages } = this.#plan;
    const [pictures, words] = [this.#pictures, this.#texts];
    // Where the key frames are the given ones, those that a window sees.
    const own = !stages.includes("decoder") && (layout === undefined || skip === 1);
    if (pictures !== undefined && own) return (window) => pictures.of(window);
    if (words === undefined || this.#input.texts?.travel !== true) return made(this.#embedding);
    const last = (keyFrames - (loop ? 0 : 1)) * skip;
    return ({ start, length }) => words.at(wayOf(start + (length - 1) / 2, loop ? last : last + 1, loop));
  }

  async *#superResolution(stage: SuperResolutionName): AsyncGenerator<CascadePreview, void, void> {
    const network = await this.#cascade.stage(stage);
    const { outputFps, loop, frames } = this.#plan;
    const { guidance: _, ...options } = this.#options(stage);
    // The frames at the seam of a loop see those on the other side of it.
    const around = loop && frames > 1 && network.config["temporal"] === true ? Math.min(AROUND, frames) : 0;
    using given = await this.frames.gather(1, range(frames + 2 * around).map((at) => (at - around + frames) % frames));
    const inside = (tensor: Tensor): Promise<Tensor> => tensor.gather(1, range(frames).map((frame) => frame + around));
    let total = 0;
    using large = yield* translated(network.stream(given, options), async (event) => {
      const { step, clean, firstFrame, finished } = event;
      total = event.total;
      using cut = around === 0 ? undefined : await inside(clean);
      return { stage, step, total, done: false, video: await shown(cut ?? clean, outputFps), firstFrame, finished };
    });
    await this.#keep(stage, around === 0 ? await large.reshape(large.shape) : await inside(large));
    const video = await this.result(stage);
    yield { stage, step: total, total, done: true, video, firstFrame: 0, finished: true };
  }

  async *#framesOf(
    stage: "decoder" | "interpolation",
    steps: AsyncGenerator<SamplingStep, Tensor, void>,
    fps: number,
  ): AsyncGenerator<CascadePreview, void, void> {
    let total = 0;
    const frames = yield* translated(steps, async (event) => {
      total = event.total;
      return { stage, step: event.step, total, done: false, video: await shown(event.clean, fps) };
    });
    await this.#keep(stage, frames);
    yield { stage, step: total, total, done: true, video: await this.result(stage) };
  }

  /** Takes a stage's frames as what the next works on, at the size that was asked for if it is the last. */
  async #keep(stage: StageName, frames: Tensor): Promise<void> {
    this.#frames?.dispose();
    this.#frames = frames;
    const { size, madeSize, stages } = this.#plan;
    if (stage !== stages.at(-1) || size === madeSize) return;
    using large = frames;
    this.#frames = undefined;
    this.#frames = await large.resize({ height: size, width: size, filter: "area" });
  }

  #options(stage: StageName, batch = 1): StageOptions & SamplingChoices {
    return {
      seeds: each(batch, this.#input.seed),
      steps: this.#plan.steps[stage],
      guidance: this.#plan.guidance[stage],
      ...this.#plan.choices[stage],
      signal: this.#input.signal,
    };
  }
}

/** Yields for each step what `show` gives, frees its video afterwards, and returns the generator's result. */
async function* translated<Step, Result>(
  steps: AsyncGenerator<Step, Result, void>,
  show: (step: Step) => Promise<CascadePreview>,
): AsyncGenerator<CascadePreview, Result, void> {
  try {
    let result: IteratorResult<Step, Result>;
    while (!(result = await steps.next()).done) {
      const preview = await show(result.value);
      try {
        yield preview;
      } finally {
        if (preview.stage !== "prior") preview.video.dispose();
      }
    }
    return result.value;
  } finally {
    await steps.return(undefined as Result);
  }
}

/** Another hold on the frames (1, F, H, W, 3) of a step, as a video. */
async function shown(frames: Tensor, fps: number): Promise<Video> {
  return new Video(await frames.reshape(frames.shape.slice(1)), { fps });
}

/** Given frames (K, H, W, 3) as what the decoder starts from: a picture as it is, of a video as many frames, evenly. */
async function startingFrames(frames: Tensor | undefined, count: number): Promise<Tensor> {
  const all = made(frames);
  const [given = 1] = all.shape;
  const places = given === 1 ? [0] : range(count).map((at) => Math.round(at * (given - 1) / Math.max(1, count - 1)));
  using chosen = await all.gather(0, places);
  return await chosen.reshape([1, ...chosen.shape]);
}

function made(tensor: Tensor | undefined): Tensor {
  if (tensor === undefined) throw new KinoraError("failed", "A stage ran before the one it needs");
  return tensor;
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
