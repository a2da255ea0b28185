/**
 * The paper's applications: runs that start from pictures or a video instead of a prompt.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Fit } from "../../ffi/media.ts";
import type { TaskManifest } from "../manifest.ts";
import type { Cascade } from "./cascade.ts";
import type { CascadeProgress } from "./cascade_options.ts";
import { CascadeRun } from "./cascade_run.ts";
import { type FrameSource, type GivenFrames, readGiven } from "./given_frames.ts";
import { type GivenRequest, type GivenTask, MOST_FRAMES, planGiven } from "./given_plan.ts";
import { stageSettings } from "./model_index.ts";
import type { CascadePreview } from "./previews.ts";
import type { RunPlan } from "./run_plan.ts";
import { stageSteps } from "./network_stage.ts";

/** What can be asked of any run that starts from given frames. */
export interface ApplicationOptions extends GivenRequest {
  /**
   * Decides every random number, 0 to 2^53 - 1.
   *
   * @default {0}
   */
  readonly seed?: number;
  /**
   * How given frames become square.
   *
   * @default {"cover"}
   */
  readonly fit?: Fit;
  /** Called after each step. */
  readonly onProgress?: (progress: CascadeProgress) => void;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** What can be asked where frames are made of one or two pictures, or anew. */
export interface AnimateOptions extends ApplicationOptions {
  /**
   * Frames of the video: up to 16, or with frames put between these 31, 46, 61, 76, up to 226.
   *
   * @default {16}
   */
  readonly frames?: number;
  /**
   * Whether the last frame is to be followed by the first one: a picture is then animated in 15 frames, or 30, 45 and so on.
   *
   * @default {false}
   */
  readonly loop?: boolean;
}

/** What can be asked of an interpolation. */
export interface InterpolateOptions extends ApplicationOptions {
  /**
   * Frames from one picture to the other, with them: 3 to 16, or with frames put between these 31, 46, 61, 76, up to 226.
   *
   * @default {16}
   */
  readonly frames?: number;
  /**
   * Of a video: output frames from one given frame to the next, 2 to 15. Of two pictures `frames` says how many there are.
   *
   * @default {5}
   */
  readonly skip?: number;
}

/** What can be asked of an extension. */
export interface ExtendOptions extends ApplicationOptions {
  /**
   * Frames put before the first one.
   *
   * @default {0}
   */
  readonly before?: number;
  /**
   * Frames put after the last one.
   *
   * @default {0}
   */
  readonly after?: number;
  /**
   * Frames that each window of the network is given of those beside it, 1 to 15.
   *
   * @default {8}
   */
  readonly overlap?: number;
}

/** What can be asked of a variation. */
export type VaryOptions = AnimateOptions;

/** A run that starts from given frames. */
export type Application =
  /** A picture that starts to move. */
  | { readonly verb: "animate"; readonly given: FrameSource; readonly options: AnimateOptions }
  /** Frames between two pictures, or between those of a video. */
  | {
    readonly verb: "interpolate";
    readonly given: FrameSource | readonly [FrameSource, FrameSource];
    readonly options: InterpolateOptions;
  }
  /** Frames before and after those of a video or a picture. */
  | { readonly verb: "extend"; readonly given: FrameSource; readonly options: ExtendOptions }
  /** Another video of what a video or a picture shows. */
  | { readonly verb: "vary"; readonly given: FrameSource; readonly options: VaryOptions };

/** A run that can begin. */
export interface PreparedRun extends Disposable {
  /** Which stages run. */
  readonly plan: RunPlan;
  /** Loads what it needs; `stream` does so by itself. */
  load(): Promise<void>;
  /** Runs it, and yields after each step and each stage. */
  stream(): AsyncGenerator<CascadePreview, void, void>;
}

/** An application that is ready to run: its files are read, and all that was asked for is checked. */
export class PreparedApplication implements PreparedRun {
  /** Which stages run. */
  readonly plan: RunPlan;
  readonly #cascade: Cascade;
  readonly #application: Application;
  readonly #given: readonly GivenFrames[];

  private constructor(cascade: Cascade, application: Application, given: readonly GivenFrames[]) {
    this.#cascade = cascade;
    this.#application = application;
    this.#given = given;
    const { options } = application;
    this.plan = planGiven(cascade.index, task(application, given), { ...options, givenFps: given[0]?.fps });
    for (const name of this.plan.stages) stageSteps(stageSettings(cascade.index, name), this.plan.steps[name]);
  }

  /**
   * Reads the files of an application and checks what is asked for.
   *
   * @throws {KinoraError} `refused`, `not-found` or `bad-file` when it cannot be done.
   */
  static async create(cascade: Cascade, application: Application): Promise<PreparedApplication> {
    const { verb, options } = application;
    const { signal, fit, seed = 0 } = options;
    checkSeed(seed);
    signal?.throwIfAborted();
    const { size } = stageSettings(cascade.index, "decoder");
    const sources = sourcesOf(application);
    const given: GivenFrames[] = [];
    try {
      for (const [index, source] of sources.entries()) {
        const called = sources.length > 1 ? `picture ${index + 1}` : verb === "animate" ? "the image" : "the video";
        const most = sources.length > 1 || verb === "animate" ? 1 : MOST_FRAMES;
        given.push(await readGiven(source, { size, fit, most, called, signal }));
      }
      return new PreparedApplication(cascade, application, given);
    } catch (error) {
      for (const frames of given) frames[Symbol.dispose]();
      throw error;
    }
  }

  /** Loads what it needs; `stream` does so by itself. */
  load(): Promise<void> {
    return this.#cascade.load(["image", ...this.plan.stages]);
  }

  /** Runs it, and yields after each step and each stage. */
  async *stream(): AsyncGenerator<CascadePreview, void, void> {
    const { verb, options } = this.#application;
    const { signal, seed = 0 } = options;
    await this.load();
    const task = taskManifest(verb, options);
    using run = new CascadeRun(this.#cascade, this.plan, { task, seed, given: this.#given, signal });
    yield* run.stages();
  }

  /** Frees the given frames. */
  [Symbol.dispose](): void {
    for (const frames of this.#given) frames[Symbol.dispose]();
  }
}

/**
 * What was asked for, as a manifest has it: options that follow a run are left out, those that are sources too.
 *
 * @param verb The method.
 * @param options Its options.
 */
export function taskManifest(verb: TaskManifest["verb"], options: object): TaskManifest {
  const plain = Object.entries({ seed: 0, ...options }).filter(([name, value]) =>
    value !== undefined && !["onProgress", "signal", "image"].includes(name)
  );
  return { verb, options: Object.fromEntries(plain) };
}

/**
 * Checks a seed.
 *
 * @throws {KinoraError} `refused` when it is out of its range.
 */
export function checkSeed(seed: number): void {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new KinoraError("refused", `seed must be a whole number from 0 to 2^53-1, not ${seed}`);
  }
}

function sourcesOf(application: Application): readonly FrameSource[] {
  const { given } = application;
  if (!Array.isArray(given)) return [given as FrameSource];
  if (given.length !== 2) {
    throw new KinoraError("refused", `interpolate takes a video or two pictures, not ${given.length}`);
  }
  return given as FrameSource[];
}

function task(application: Application, given: readonly GivenFrames[]): GivenTask {
  const count = given[0]?.tensor.shape[0] ?? 0;
  switch (application.verb) {
    case "interpolate": {
      const { skip, frames } = application.options;
      if (given.length === 2) {
        if (skip !== undefined) throw new KinoraError("refused", "skip is for videos; for two pictures give frames");
        return { verb: "join", frames };
      }
      if (frames !== undefined) throw new KinoraError("refused", "frames is for two pictures; for a video give skip");
      return { verb: "interpolate", given: count, skip: skip ?? 5 };
    }
    case "extend": {
      const { before = 0, after = 0, overlap } = application.options;
      return { verb: "extend", given: count, before, after, overlap };
    }
    default: {
      const { frames, loop } = application.options;
      return { verb: application.verb, frames, loop };
    }
  }
}
