/**
 * What a measure is, and what it works with.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import type { Cascade } from "../cascade/cascade.ts";
import { fileSha256, WEIGHTS_FILE } from "../cascade/model_files.ts";
import { type ModelStages, stageSettings } from "../cascade/model_index.ts";
import { ImageEmbeddings } from "../training/embeddings.ts";
import type { TrainingData } from "../training/training_data.ts";
import { BARS } from "./bars.ts";
import { type Figure, meets, type Protocol, type StageProtocol } from "./figure.ts";

/** How a measure is run. */
export interface MeasureOptions {
  /** The first seed; most samples of a measure take the seeds after it, one each. */
  readonly seed: number;
  /** Concepts, clips or texts that are measured, at most; small data sets have fewer. */
  readonly concepts: number;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each piece of work. */
  readonly onProgress?: ((step: number, total: number) => void) | undefined;
}

/** One measure: a file of `lib/evaluation/` each. */
export type Measure = (bench: Bench, options: MeasureOptions) => Promise<Figure[]>;

/** Side at which frames of the chain are compared with pictures, in pixels. */
export const COMPARED_SIDE = 32;

/** A model and a data set on which measures work, with what several of them need. */
export class Bench implements Disposable {
  /** The model. */
  readonly cascade: Cascade;
  /** The data set. */
  readonly data: TrainingData;
  readonly #hashes = new Map<string, Promise<string>>();
  readonly #clips = new Map<string, Tensor>();
  #images: Promise<ImageEmbeddings> | undefined;

  /**
   * Makes a bench.
   *
   * @param cascade The model, which stays the caller's.
   * @param data The data set, which stays the caller's.
   */
  constructor(cascade: Cascade, data: TrainingData) {
    this.cascade = cascade;
    this.data = data;
  }

  /** The image tower and the embeddings of all stills. */
  async images(): Promise<ImageEmbeddings> {
    const model = { networkFolder: (name: keyof ModelStages): string => this.#folder(name) };
    this.#images ??= ImageEmbeddings.load({ data: this.data, model, precision: this.cascade.precision });
    return await this.#images;
  }

  /**
   * What the whole chain makes of a prompt as people use it: 16 frames of the model's first super-resolution, or without
   * one of the decoder, brought to 32 x 32 pixels by box averages. What was made before is not made again.
   *
   * @param prompt The prompt.
   * @param options The seed, and the frame rate.
   * @returns Frames (1, F, 32, 32, 3), which stay this object's.
   */
  async chain(
    prompt: string,
    options: { readonly seed: number; readonly fps: number; readonly signal?: AbortSignal | undefined },
  ): Promise<Tensor> {
    const { seed, fps, signal } = options;
    const key = JSON.stringify([prompt, seed, fps]);
    const there = this.#clips.get(key);
    if (there !== undefined) return there;
    using video = await this.cascade.generate(prompt, {
      seed,
      fps,
      until: this.chainStages.at(-1) ?? "decoder",
      signal,
    });
    using small = await video.tensor.resize({ height: COMPARED_SIDE, width: COMPARED_SIDE, filter: "area" });
    const clip = await small.reshape([1, ...small.shape]);
    this.#clips.set(key, clip);
    return clip;
  }

  /** The stages of the whole chain after text and prior. */
  get chainStages(): ("decoder" | "sr-low")[] {
    return this.cascade.index.stages["sr-low"] === undefined ? ["decoder"] : ["decoder", "sr-low"];
  }

  /**
   * What figures say of the stages they were measured on.
   *
   * @param stages The stages.
   */
  async stages(...stages: (keyof ModelStages)[]): Promise<StageProtocol[]> {
    return await Promise.all(stages.map(async (stage) => {
      const settings = stageSettings(this.cascade.index, stage);
      const weights = await this.#hash(`${this.#folder(stage)}/${WEIGHTS_FILE}`);
      return "steps" in settings
        ? { stage, weights, steps: settings.steps, guidance: settings.guidance }
        : { stage, weights };
    }));
  }

  /** Frees what was made. */
  [Symbol.dispose](): void {
    for (const clip of this.#clips.values()) clip.dispose();
    this.#clips.clear();
    this.#images?.then((images) => images[Symbol.dispose](), () => {});
  }

  #folder(stage: keyof ModelStages): string {
    return `${this.cascade.index.folder}/${stageSettings(this.cascade.index, stage).folder}`;
  }

  #hash(path: string): Promise<string> {
    let hash = this.#hashes.get(path);
    if (hash === undefined) {
      hash = fileSha256(path);
      this.#hashes.set(path, hash);
    }
    return hash;
  }
}

/**
 * A figure, held against its bar.
 *
 * @param name Its name.
 * @param value The number.
 * @param unit What kind of number.
 * @param protocol How it was measured.
 */
export function figure(name: string, value: number | null, unit: Figure["unit"], protocol: Protocol): Figure {
  const bar = BARS[name];
  return { name, value, unit, ...bar === undefined ? {} : { bar, met: meets(value, bar) }, protocol };
}

/** One seed for each of some samples. */
export function seedsFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

/** {@linkcode seedsFrom} in words. */
export function seedsText(first: number, count: number): string {
  return count === 1 ? `${first}` : `${first} to ${first + count - 1}, one each`;
}
