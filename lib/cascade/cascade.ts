/**
 * Eq. 1 of Make-A-Video: `y = SR_h ∘ SR_l^t ∘ upF ∘ D^t ∘ P ∘ (x̂, C_x(x))`.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type LibraryInfo, libraryInfo } from "../../ffi/library.ts";
import type { Precision } from "../../ffi/network.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import type { Manifest, StageManifest } from "../manifest.ts";
import { VERSION } from "../version.ts";
import type { Video } from "../video.ts";
import { CascadeRun } from "./cascade_run.ts";
import { Decoder } from "./decoder.ts";
import { Interpolation } from "./interpolation.ts";
import { KnownWords } from "./known_words.ts";
import { checkNetworkFiles, fileSha256, WEIGHTS_FILE } from "./model_files.ts";
import { type DiffusionSettings, type ModelIndex, readModelIndex, stageSettings } from "./model_index.ts";
import { NETWORK_CLASSES } from "./network_classes.ts";
import { stageSteps } from "./network_stage.ts";
import type { CascadePreview } from "./previews.ts";
import { Prior } from "./prior.ts";
import { planRun, type RunPlan, type RunRequest } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import { SuperResolution } from "./super_resolution.ts";
import { checkPrompt, TextTower } from "./text.ts";

/** Unknown words that a warning names at most. */
const MOST_NAMED = 5;

/** How a cascade is loaded. */
export interface CascadeOptions {
  /**
   * The arithmetic: `f32` is the reference; `auto` is `bf16` where the machine makes that fast, else `f32`.
   *
   * @default {"auto"}
   */
  readonly precision?: Precision | "auto";
}

/** What can be asked of a cascade. */
export interface GenerateOptions extends RunRequest {
  /**
   * Decides every random number, 0 to 2^53 - 1. The same seed gives the same video on the same machine.
   *
   * @default {0}
   */
  readonly seed?: number;
  /** Called after each step. */
  readonly onProgress?: (progress: CascadeProgress) => void;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** What can be asked of a cascade that is to make a video. */
export interface VideoOptions extends GenerateOptions {
  /** The last stage that runs, which makes frames; by default what `frames` and `size` need. */
  readonly until?: Exclude<StageName, "prior">;
}

/** How far a run is. */
export interface CascadeProgress {
  /** The stage that is at work. */
  readonly stage: StageName;
  /** Its steps that are done. */
  readonly step: number;
  /** Its steps in all. */
  readonly total: number;
}

/** The class of each stage. */
export interface StageClasses {
  /** C_x. */
  readonly text: TextTower;
  /** P. */
  readonly prior: Prior;
  /** D^t. */
  readonly decoder: Decoder;
  /** upF. */
  readonly interpolation: Interpolation;
  /** SR_l^t. */
  readonly "sr-low": SuperResolution;
  /** SR_h. */
  readonly "sr-high": SuperResolution;
}

/** All stages of a model. Networks are loaded when they are first needed, and freed when the cascade is disposed. */
export class Cascade implements Disposable {
  /** What the model says about itself. */
  readonly index: ModelIndex;
  /** The arithmetic. */
  readonly precision: Precision;
  readonly #library: LibraryInfo;
  readonly #stages = new Map<keyof StageClasses, Promise<Disposable>>();
  readonly #hashes = new Map<string, Promise<string>>();
  #words: Promise<KnownWords> | undefined;
  #disposed = false;

  private constructor(index: ModelIndex, library: LibraryInfo, precision: Precision) {
    this.index = index;
    this.#library = library;
    this.precision = precision;
  }

  /**
   * Opens a model.
   *
   * @param folder The folder with `model_index.json`.
   * @param options How.
   * @throws {KinoraError} `not-found` when there is no model, `bad-file` when its index is wrong.
   */
  static async load(folder: string, options: CascadeOptions = {}): Promise<Cascade> {
    const { precision = "auto" } = options;
    if (!["auto", "f32", "bf16"].includes(precision)) {
      throw new KinoraError("refused", `precision must be "auto", "f32" or "bf16", not "${precision}"`);
    }
    const index = await readModelIndex(folder);
    const library = await libraryInfo();
    return new Cascade(index, library, precision === "auto" ? library.fastBf16 ? "bf16" : "f32" : precision);
  }

  /**
   * Says which stages a request runs, without running any.
   *
   * @throws {KinoraError} `refused` or `not-found` when the request cannot be met.
   */
  plan(request: RunRequest = {}): RunPlan {
    const plan = planRun(this.index, request);
    for (const name of plan.stages) stageSteps(stageSettings(this.index, name), plan.steps[name]);
    return plan;
  }

  /**
   * One stage, to be used alone. It stays the cascade's.
   *
   * @param name Which.
   * @throws {KinoraError} `not-found` when the model does not have it, `bad-file` when its files are damaged.
   */
  async stage<Name extends keyof StageClasses>(name: Name): Promise<StageClasses[Name]> {
    if (this.#disposed) throw new KinoraError("disposed", "The cascade is disposed");
    let stage = this.#stages.get(name);
    if (stage === undefined) {
      stage = this.#load(name);
      this.#stages.set(name, stage);
      stage.catch(() => this.#stages.delete(name));
    }
    return await stage as StageClasses[Name];
  }

  /**
   * Loads what a request needs, after all its files were checked. `generate` and `stream` do so by themselves.
   *
   * @param request The request.
   * @throws {KinoraError} `not-found` or `bad-file` when a file is missing, truncated or of another kind.
   */
  async prepare(request: RunRequest = {}): Promise<void> {
    const needed = ["text" as const, ...this.plan(request).stages];
    for (const name of needed) {
      if (!this.#stages.has(name)) await checkNetworkFiles(this.#folder(name), [NETWORK_CLASSES[name]]);
    }
    for (const name of needed) await this.stage(name);
  }

  /**
   * Makes a video from a prompt.
   *
   * @param prompt What is to be seen, up to 1,000 characters.
   * @param options What is asked for.
   * @throws {KinoraError} `refused` when the prompt or an option is not accepted. When `signal` stopped it, the signal's
   * reason.
   */
  async generate(prompt: string, options: VideoOptions = {}): Promise<Video> {
    let video: Video | undefined;
    try {
      for await (const preview of this.stream(prompt, options)) {
        const { stage, step, total } = preview;
        if (!preview.done) options.onProgress?.({ stage, step, total });
        else if (preview.stage === "prior") preview.embedding?.dispose();
        else {
          video?.dispose();
          video = preview.video;
        }
      }
    } catch (error) {
      video?.dispose();
      throw error;
    }
    if (video === undefined) throw new KinoraError("refused", 'generate makes a video; for until "prior" use embed');
    return video;
  }

  /**
   * Makes the image embedding of a prompt: the stages of Eq. 1 up to P.
   *
   * @param prompt What is to be seen, up to 1,000 characters.
   * @param options `seed` and `signal`.
   * @returns The embedding (1, E) of unit length, which is the caller's.
   */
  async embed(prompt: string, options: Pick<GenerateOptions, "seed" | "signal"> = {}): Promise<Tensor> {
    for await (const preview of this.stream(prompt, { ...options, until: "prior" })) {
      if (preview.stage === "prior" && preview.embedding !== undefined) return preview.embedding;
    }
    throw new KinoraError("failed", "The prior gave no embedding");
  }

  /**
   * Makes a video from a prompt and yields a preview after each step, and each stage's result when it is done. The last
   * preview has the finished video.
   *
   * @param prompt What is to be seen, up to 1,000 characters.
   * @param options What is asked for; `onProgress` is not called.
   */
  async *stream(prompt: string, options: GenerateOptions = {}): AsyncGenerator<CascadePreview, void, void> {
    const { seed = 0, signal } = options;
    const text = checkPrompt(prompt);
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new KinoraError("refused", `seed must be a whole number from 0 to 2^53-1, not ${seed}`);
    }
    const plan = this.plan(options);
    signal?.throwIfAborted();
    await this.prepare(options);
    using run = new CascadeRun(this, plan, { prompt: text, seed, signal });
    yield* run.stages();
  }

  /**
   * What a prompt's maker should know before the work: that most of it is of words the model has not seen. A model that does
   * not say which words it has seen warns of nothing.
   *
   * @param prompt The prompt.
   * @returns Sentences; none when there is nothing to say.
   * @throws {KinoraError} `not-found` or `bad-file` when the model's list of words is missing or empty.
   */
  async warnings(prompt: string): Promise<string[]> {
    const settings = this.index.stages.text?.words;
    if (settings === undefined) return [];
    this.#words ??= KnownWords.load(`${this.index.folder}/${settings.file}`);
    const { words, share } = (await this.#words).unknown(prompt);
    if (share < settings.threshold) return [];
    const named = [...new Set(words)].slice(0, MOST_NAMED).map((word) => `"${word.slice(0, 40)}"`).join(", ");
    return [`The model has never seen ${named}: what it shows may have nothing to do with the prompt`];
  }

  /** What a video up to a stage was made from. */
  async manifest(
    plan: RunPlan,
    until: StageName,
    parts: Pick<Manifest, "prompt" | "seed" | "frames" | "width" | "height" | "fps">,
  ): Promise<Manifest> {
    const names = plan.stages.slice(0, plan.stages.indexOf(until) + 1);
    const stages: StageManifest[] = [];
    for (const name of ["text" as const, ...names]) {
      const { folder } = stageSettings(this.index, name);
      const weights = await this.#hash(`${this.#folder(name)}/${WEIGHTS_FILE}`);
      stages.push({ stage: name, folder, weights, ...name === "text" ? {} : { sampling: this.#sampling(plan, name) } });
    }
    return {
      format: "kinora-manifest-1",
      versions: { kinora: VERSION, native: this.#library.version, deno: Deno.version.deno },
      arithmetic: { precision: this.precision, isa: this.#library.isa },
      model: this.index.name,
      ...parts,
      skip: names.includes("interpolation") ? plan.skip : 1,
      warnings: await this.warnings(parts.prompt),
      stages,
    };
  }

  /** Frees all networks. */
  dispose(): void {
    this.#disposed = true;
    for (const stage of this.#stages.values()) stage.then((stage) => stage[Symbol.dispose](), () => {});
    this.#stages.clear();
  }

  /** Frees all networks. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #sampling(plan: RunPlan, name: StageName): NonNullable<StageManifest["sampling"]> {
    const { schedule, prediction, sampler, times, steps, guidance }: DiffusionSettings = stageSettings(
      this.index,
      name,
    );
    return {
      schedule,
      prediction,
      sampler,
      times,
      steps: plan.steps[name] ?? steps,
      guidance: plan.guidance[name] ?? guidance,
    };
  }

  #folder(name: keyof StageClasses): string {
    return `${this.index.folder}/${stageSettings(this.index, name).folder}`;
  }

  #hash(path: string): Promise<string> {
    let hash = this.#hashes.get(path);
    if (hash === undefined) {
      hash = fileSha256(path);
      this.#hashes.set(path, hash);
      hash.catch(() => this.#hashes.delete(path));
    }
    return hash;
  }

  #load(name: keyof StageClasses): Promise<Disposable> {
    const { folder } = this.index;
    const options = { precision: this.precision };
    switch (name) {
      case "text":
        return TextTower.load(folder, stageSettings(this.index, name), options);
      case "prior":
        return Prior.load(folder, stageSettings(this.index, name), options);
      case "decoder":
        return Decoder.load(folder, stageSettings(this.index, name), options);
      case "interpolation":
        return Interpolation.load(folder, stageSettings(this.index, name), options);
      default:
        return SuperResolution.load(name, folder, stageSettings(this.index, name), options);
    }
  }
}
