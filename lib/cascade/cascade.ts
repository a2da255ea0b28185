/**
 * Eq. 1 of Make-A-Video: `y = SR_h ∘ SR_l^t ∘ upF ∘ D^t ∘ P ∘ (x̂, C_x(x))`.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type LibraryInfo, libraryInfo, whyNoGpu } from "../../ffi/library.ts";
import type { Device, Precision } from "../../ffi/network.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import type { Manifest, StageManifest } from "../manifest.ts";
import { VERSION } from "../version.ts";
import type { Video } from "../video.ts";
import {
  type AnimateOptions,
  type Application,
  type ExtendOptions,
  type InterpolateOptions,
  PreparedApplication,
  type VaryOptions,
} from "./applications.ts";
import type { CascadeOptions, EmbedOptions, GenerateOptions, VideoOptions } from "./cascade_options.ts";
import { PreparedGeneration } from "./generation.ts";
import type { FrameSource } from "./given_frames.ts";
import { lastVideo, made } from "./last_video.ts";
import { KnownWords } from "./known_words.ts";
import { checkNetworkFiles, fileSha256, WEIGHTS_FILE } from "./model_files.ts";
import { type DiffusionSettings, type ModelIndex, readModelIndex, stageSettings } from "./model_index.ts";
import { NETWORK_CLASSES } from "./network_classes.ts";
import { stageSteps } from "./network_stage.ts";
import type { CascadePreview } from "./previews.ts";
import { planRun, type RunPlan, type RunRequest } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import { loadStage, type StageClasses } from "./stage_classes.ts";

/** Unknown words that a warning names at most. */
const MOST_NAMED = 5;

/** All stages of a model. Networks are loaded when they are first needed, and freed when the cascade is disposed. */
export class Cascade implements Disposable {
  /** What the model says about itself. */
  readonly index: ModelIndex;
  /** The arithmetic. */
  readonly precision: Precision;
  /** What networks compute on. */
  readonly device: Device;
  readonly #library: LibraryInfo;
  readonly #stages = new Map<keyof StageClasses, Promise<Disposable>>();
  readonly #hashes = new Map<string, Promise<string>>();
  #words: Promise<KnownWords> | undefined;
  #disposed = false;

  private constructor(
    index: ModelIndex,
    library: LibraryInfo,
    { precision, device }: { readonly precision: Precision; readonly device: Device },
  ) {
    this.index = index;
    this.#library = library;
    this.precision = precision;
    this.device = device;
  }

  /**
   * Opens a model.
   *
   * @param folder The folder with `model_index.json`.
   * @param options How.
   * @throws {KinoraError} `not-found` when there is no model, `bad-file` when its index is wrong, `unsupported` when there is
   * no such device.
   */
  static async load(folder: string, options: CascadeOptions = {}): Promise<Cascade> {
    const { precision = "auto", device = "cpu" } = options;
    if (!["auto", "f32", "bf16", "bf16x3"].includes(precision)) {
      throw new KinoraError("refused", `precision must be "auto", "f32", "bf16" or "bf16x3", not "${precision}"`);
    }
    if (!["cpu", "cuda"].includes(device)) {
      throw new KinoraError("refused", `device must be "cpu" or "cuda", not "${device}"`);
    }
    const index = await readModelIndex(folder);
    const library = await libraryInfo();
    if (device === "cuda" && library.gpu === null) {
      throw new KinoraError("unsupported", `device cannot be "cuda": ${whyNoGpu(library)}`);
    }
    const fastBf16 = device === "cuda" || library.fastBf16;
    return new Cascade(index, library, {
      precision: precision === "auto" ? fastBf16 ? "bf16" : "f32" : precision,
      device,
    });
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
      stage = loadStage(this.index, name, { precision: this.precision, device: this.device });
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
    await this.load(["text", ...this.plan(request).stages]);
  }

  /**
   * Loads stages, after all their files were checked.
   *
   * @param stages Which.
   * @throws {KinoraError} `not-found` or `bad-file` when a file is missing, truncated or of another kind.
   */
  async load(stages: readonly (keyof StageClasses)[]): Promise<void> {
    for (const name of stages) {
      if (!this.#stages.has(name)) await checkNetworkFiles(this.#folder(name), [NETWORK_CLASSES[name]]);
    }
    for (const name of stages) await this.stage(name);
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
    const video = await lastVideo(this.stream(prompt, options), options.onProgress);
    if (video === undefined) throw new KinoraError("refused", 'generate makes a video; for until "prior" use embed');
    return video;
  }

  /**
   * Makes a picture move: it becomes the first frame of a video, and its embedding takes the place of the prior's.
   *
   * @param image The picture.
   * @param options What is asked for.
   * @throws {KinoraError} `refused`, `not-found` or `bad-file` when the picture or an option is not accepted. When `signal`
   * stopped it, the signal's reason.
   */
  async animate(image: FrameSource, options: AnimateOptions = {}): Promise<Video> {
    return made(await lastVideo(this.streamAnimation(image, options), options.onProgress));
  }

  /** As {@linkcode Cascade.animate}, with a preview after each step and each stage's result. */
  streamAnimation(image: FrameSource, options: AnimateOptions = {}): AsyncGenerator<CascadePreview, void, void> {
    return this.#application({ verb: "animate", given: image, options });
  }

  /**
   * Puts frames between those of a video, or between two pictures.
   *
   * @param given The video, or the first and the last picture.
   * @param options What is asked for.
   * @throws {KinoraError} As {@linkcode Cascade.animate}.
   */
  async interpolate(
    given: FrameSource | readonly [FrameSource, FrameSource],
    options: InterpolateOptions = {},
  ): Promise<Video> {
    return made(await lastVideo(this.streamInterpolation(given, options), options.onProgress));
  }

  /** As {@linkcode Cascade.interpolate}, with a preview after each step and each stage's result. */
  streamInterpolation(
    given: FrameSource | readonly [FrameSource, FrameSource],
    options: InterpolateOptions = {},
  ): AsyncGenerator<CascadePreview, void, void> {
    return this.#application({ verb: "interpolate", given, options });
  }

  /**
   * Puts frames before or after those of a video.
   *
   * @param video The video, or a picture.
   * @param options What is asked for: at least `before` or `after`.
   * @throws {KinoraError} As {@linkcode Cascade.animate}.
   */
  async extend(video: FrameSource, options: ExtendOptions): Promise<Video> {
    return made(await lastVideo(this.streamExtension(video, options), options.onProgress));
  }

  /** As {@linkcode Cascade.extend}, with a preview after each step and each stage's result. */
  streamExtension(video: FrameSource, options: ExtendOptions): AsyncGenerator<CascadePreview, void, void> {
    return this.#application({ verb: "extend", given: video, options });
  }

  /**
   * Makes another video of what a video shows: the mean of its frames' embeddings takes the place of the prior's.
   *
   * @param video The video, or a picture.
   * @param options What is asked for.
   * @throws {KinoraError} As {@linkcode Cascade.animate}.
   */
  async vary(video: FrameSource, options: VaryOptions = {}): Promise<Video> {
    return made(await lastVideo(this.streamVariation(video, options), options.onProgress));
  }

  /** As {@linkcode Cascade.vary}, with a preview after each step and each stage's result. */
  streamVariation(video: FrameSource, options: VaryOptions = {}): AsyncGenerator<CascadePreview, void, void> {
    return this.#application({ verb: "vary", given: video, options });
  }

  /**
   * Makes the image embedding of a prompt: the stages of Eq. 1 up to P.
   *
   * @param prompt What is to be seen, up to 1,000 characters.
   * @param options Seed, signal and other prompts.
   * @returns The embedding (1, E) of unit length, which is the caller's.
   */
  async embed(prompt: string, options: EmbedOptions = {}): Promise<Tensor> {
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
    using prepared = await PreparedGeneration.create(this, prompt, options);
    yield* prepared.stream();
  }

  /**
   * What a prompt's maker should know before the work: that it has words that the model has not seen and leaves out, or is
   * mostly of such words. A model that does not say which words it has seen warns of nothing.
   *
   * @param prompt The prompt.
   * @returns Sentences; none when there is nothing to say.
   * @throws {KinoraError} `not-found` or `bad-file` when the model's list of words is missing or empty.
   */
  async warnings(prompt: string): Promise<string[]> {
    const settings = this.index.stages.text?.words;
    if (settings === undefined) return [];
    this.#words ??= KnownWords.load(this.index.folder, settings);
    const known = await this.#words;
    const { words, share } = known.unknown(prompt);
    const leftOut = words.length > 0 && known.understood(prompt) !== prompt;
    if (share < settings.threshold && !leftOut) return [];
    const named = [...new Set(words)].slice(0, MOST_NAMED).map((word) => `"${word.slice(0, 40)}"`).join(", ");
    const means = leftOut ? "it reads the prompt without" : "what it shows may have nothing to do with the prompt";
    return [`The model has never seen ${named}: ${means}`];
  }

  /** What a video up to a stage was made from. */
  async manifest(
    plan: RunPlan,
    until: StageName,
    parts: Omit<Manifest, "format" | "versions" | "arithmetic" | "model" | "skip" | "stages" | "warnings">,
  ): Promise<Manifest> {
    const names = plan.stages.slice(0, plan.stages.indexOf(until) + 1);
    const stages: StageManifest[] = [];
    const pictures = parts.prompt === undefined || parts.ranking !== undefined;
    const encoders = [...parts.prompt === undefined ? [] : ["text" as const], ...pictures ? ["image" as const] : []];
    for (const name of [...encoders, ...names]) {
      const { folder } = stageSettings(this.index, name);
      const weights = await this.#hash(`${this.#folder(name)}/${WEIGHTS_FILE}`);
      const encodes = name === "text" || name === "image";
      stages.push({ stage: name, folder, weights, ...encodes ? {} : { sampling: this.#sampling(plan, name) } });
    }
    return {
      format: "kinora-manifest-1",
      versions: { kinora: VERSION, native: this.#library.version, deno: Deno.version.deno },
      arithmetic: { precision: this.precision, isa: this.#isa() },
      model: this.index.name,
      ...parts,
      skip: names.includes("interpolation") ? plan.skip : 1,
      warnings: parts.prompt === undefined ? [] : await this.warnings(parts.prompt),
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

  /** What decides the last bits. */
  #isa(): string {
    const { isa, gpu } = this.#library;
    return this.device === "cuda" && gpu !== null ? `${isa}, sm_${gpu.capability.join("")}` : isa;
  }

  #sampling(plan: RunPlan, name: StageName): NonNullable<StageManifest["sampling"]> {
    const { schedule, prediction, sampler, times, steps, guidance }: DiffusionSettings = stageSettings(
      this.index,
      name,
    );
    const { sampler: chosen, ...rest } = plan.choices[name] ?? {};
    return {
      schedule,
      prediction,
      sampler: chosen ?? sampler,
      times,
      steps: plan.steps[name] ?? steps,
      guidance: plan.guidance[name] ?? guidance,
      ...rest,
    };
  }

  async *#application(application: Application): AsyncGenerator<CascadePreview, void, void> {
    using prepared = await PreparedApplication.create(this, application);
    yield* prepared.stream();
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
}
