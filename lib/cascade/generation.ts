/**
 * Runs that start from a prompt.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { checkSeed, type PreparedRun, taskManifest } from "./applications.ts";
import type { Cascade } from "./cascade.ts";
import type { GenerateOptions } from "./cascade_options.ts";
import { CascadeRun, type RunInput } from "./cascade_run.ts";
import { type GivenFrames, readGiven } from "./given_frames.ts";
import { MOST_FRAMES } from "./given_plan.ts";
import { stageSettings } from "./model_index.ts";
import type { CascadePreview } from "./previews.ts";
import { MOST_SAMPLES, rankedStages } from "./ranked_samples.ts";
import type { RunPlan } from "./run_plan.ts";
import { checkTexts, type Texts } from "./text_choices.ts";

/** How much of a given picture is made anew, unless asked otherwise. */
const STRENGTH = 0.6;

/** A run from a prompt that is ready: its files are read, and all that was asked for is checked. */
export class PreparedGeneration implements PreparedRun {
  /** Which stages run. */
  readonly plan: RunPlan;
  readonly #cascade: Cascade;
  readonly #texts: Texts;
  readonly #options: GenerateOptions;
  readonly #given: GivenFrames | undefined;

  private constructor(cascade: Cascade, texts: Texts, options: GenerateOptions, given: GivenFrames | undefined) {
    this.#cascade = cascade;
    this.#texts = texts;
    this.#options = options;
    this.#given = given;
    this.plan = cascade.plan(options);
  }

  /**
   * Checks what is asked for, and reads the picture to start from.
   *
   * @throws {KinoraError} `refused`, `not-found` or `bad-file` when it cannot be done.
   */
  static async create(cascade: Cascade, prompt: string, options: GenerateOptions): Promise<PreparedGeneration> {
    const { seed = 0, samples = 1, strength, image, fit, until, signal } = options;
    const texts = checkTexts(prompt, options);
    checkSeed(seed);
    if (!Number.isInteger(samples) || samples < 1 || samples > MOST_SAMPLES) {
      throw new KinoraError("refused", `samples must be a whole number from 1 to ${MOST_SAMPLES}, not ${samples}`);
    }
    if (samples > 1) checkSeed(seed + samples - 1);
    const idle = until !== "prior"
      ? undefined
      : samples > 1
      ? "samples"
      : image !== undefined
      ? "image"
      : texts.travel
      ? "travel"
      : undefined;
    if (idle !== undefined) {
      throw new KinoraError("refused", `${idle} cannot be given with until "prior", which makes an embedding`);
    }
    if (image === undefined && (strength !== undefined || fit !== undefined)) {
      throw new KinoraError("refused", `${strength === undefined ? "fit" : "strength"} needs an image to start from`);
    }
    if (strength !== undefined && !(strength > 0 && strength <= 1)) {
      throw new KinoraError("refused", `strength must be more than 0 and at most 1, not ${strength}`);
    }
    cascade.plan(options);
    signal?.throwIfAborted();
    if (image === undefined) return new PreparedGeneration(cascade, texts, options, undefined);
    const { size } = stageSettings(cascade.index, "decoder");
    const given = await readGiven(image, { size, fit, most: MOST_FRAMES, called: "the image", signal });
    return new PreparedGeneration(cascade, texts, options, given);
  }

  /** Loads what it needs; `stream` does so by itself. */
  load(): Promise<void> {
    const ranked = (this.#options.samples ?? 1) > 1;
    return this.#cascade.load(["text", ...ranked ? ["image" as const] : [], ...this.plan.stages]);
  }

  /** Runs it, and yields after each step and each stage. */
  async *stream(): AsyncGenerator<CascadePreview, void, void> {
    const { seed = 0, samples = 1, signal, strength = STRENGTH } = this.#options;
    const ranked = samples > 1;
    await this.load();
    const given = this.#given;
    const input: RunInput = {
      task: taskManifest("generate", this.#options),
      seed,
      texts: this.#texts,
      signal,
      ...given === undefined ? {} : { given: [given], strength },
    };
    if (ranked) return yield* rankedStages(this.#cascade, this.plan, input, samples);
    using run = new CascadeRun(this.#cascade, this.plan, input);
    yield* run.stages();
  }

  /** Frees what was read. */
  [Symbol.dispose](): void {
    this.#given?.[Symbol.dispose]();
  }
}
