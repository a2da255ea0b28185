/**
 * One run of the cascade: what each stage of Eq. 1 is given, and what it hands to the next.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { Video } from "../video.ts";
import type { Cascade } from "./cascade.ts";
import type { CascadePreview } from "./previews.ts";
import type { RunPlan } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import type { SuperResolutionName } from "./super_resolution.ts";

/** What a run starts from. */
export interface RunInput {
  /** The prompt. */
  readonly prompt: string;
  /** Decides every random number. */
  readonly seed: number;
  /** Stops the run. */
  readonly signal: AbortSignal | undefined;
}

/** One run of the cascade: holds what a stage hands to the next. */
export class CascadeRun implements Disposable {
  readonly #cascade: Cascade;
  readonly #plan: RunPlan;
  readonly #input: RunInput;
  #embedding: Tensor | undefined;
  #frames: Tensor | undefined;

  /**
   * @param cascade Whose stages run.
   * @param plan Which stages run, with which numbers.
   * @param input The prompt, checked, and the seed.
   */
  constructor(cascade: Cascade, plan: RunPlan, input: RunInput) {
    this.#cascade = cascade;
    this.#plan = plan;
    this.#input = input;
  }

  /** Runs the stages, and yields after each step and each stage. */
  async *stages(): AsyncGenerator<CascadePreview, void, void> {
    for (const stage of this.#plan.stages) {
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

  /** Frees what the stages handed on. */
  [Symbol.dispose](): void {
    this.#embedding?.dispose();
    this.#frames?.dispose();
  }

  async *#prior(): AsyncGenerator<CascadePreview, void, void> {
    const tower = await this.#cascade.stage("text");
    const prior = await this.#cascade.stage("prior");
    using text = await tower.encode([this.#input.prompt], { signal: this.#input.signal });
    const steps = prior.stream(text, this.#options("prior"));
    let total = 0;
    this.#embedding = yield* translated(steps, (event) => {
      total = event.total;
      return Promise.resolve({ stage: "prior", step: event.step, total, done: false, embedding: undefined });
    });
    const embedding = await this.#embedding.reshape(this.#embedding.shape);
    yield { stage: "prior", step: total, total, done: true, embedding };
  }

  async *#decoder(): AsyncGenerator<CascadePreview, void, void> {
    const decoder = await this.#cascade.stage("decoder");
    const { keyFrames, fps } = this.#plan;
    const steps = decoder.stream(made(this.#embedding), { ...this.#options("decoder"), frames: keyFrames, fps });
    yield* this.#framesOf("decoder", steps, fps);
  }

  async *#interpolation(): AsyncGenerator<CascadePreview, void, void> {
    const interpolation = await this.#cascade.stage("interpolation");
    const { skip, fps, outputFps } = this.#plan;
    const options = { ...this.#options("interpolation"), skip, fps };
    const steps = interpolation.stream(made(this.#frames), made(this.#embedding), options);
    yield* this.#framesOf("interpolation", steps, outputFps);
  }

  async *#superResolution(stage: SuperResolutionName): AsyncGenerator<CascadePreview, void, void> {
    const network = await this.#cascade.stage(stage);
    const { outputFps } = this.#plan;
    const { guidance: _, ...options } = this.#options(stage);
    let total = 0;
    const large = yield* translated(network.stream(made(this.#frames), options), async (event) => {
      const { step, clean, firstFrame, finished } = event;
      total = event.total;
      return { stage, step, total, done: false, video: await shown(clean, outputFps), firstFrame, finished };
    });
    await this.#keep(stage, large);
    const video = await this.#result(stage, outputFps);
    yield { stage, step: total, total, done: true, video, firstFrame: 0, finished: true };
  }

  async *#framesOf(
    stage: "decoder" | "interpolation",
    steps: AsyncGenerator<{ step: number; total: number; clean: Tensor }, Tensor, void>,
    fps: number,
  ): AsyncGenerator<CascadePreview, void, void> {
    let total = 0;
    const frames = yield* translated(steps, async (event) => {
      total = event.total;
      return { stage, step: event.step, total, done: false, video: await shown(event.clean, fps) };
    });
    await this.#keep(stage, frames);
    yield { stage, step: total, total, done: true, video: await this.#result(stage, fps) };
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

  async #result(stage: StageName, fps: number): Promise<Video> {
    const frames = made(this.#frames);
    const [, count = 0, height = 0, width = 0] = frames.shape;
    const manifest = await this.#cascade.manifest(this.#plan, stage, {
      prompt: this.#input.prompt,
      seed: this.#input.seed,
      frames: count,
      width,
      height,
      fps,
    });
    return new Video(await frames.reshape(frames.shape.slice(1)), { fps, manifest });
  }

  #options(stage: StageName): {
    seeds: number[];
    steps: number | undefined;
    guidance: number | undefined;
    signal: AbortSignal | undefined;
  } {
    return {
      seeds: [this.#input.seed],
      steps: this.#plan.steps[stage],
      guidance: this.#plan.guidance[stage],
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

function made(tensor: Tensor | undefined): Tensor {
  if (tensor === undefined) throw new KinoraError("failed", "A stage ran before the one it needs");
  return tensor;
}
