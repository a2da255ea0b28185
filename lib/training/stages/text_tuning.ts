/**
 * Tunes the text tower against the image tower as it is: each caption must find its picture among all.
 *
 * @module
 */
import type { Network } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import { Tokenizer } from "../../../ffi/tokenizer.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { TextTower } from "../../cascade/text.ts";
import type { Caption } from "../captions.ts";
import { encodeTexts, ImageEmbeddings } from "../embeddings.ts";
import type { Measures } from "../measures.ts";
import { SHEET_PROMPTS, writeNearest } from "../sheets.ts";
import {
  type BatchRequest,
  type EvaluationRequest,
  owning,
  type StageContext,
  type StageStarter,
  type StageTraining,
  type TrainedNetwork,
} from "../stage_training.ts";
import { textMeasures } from "../text_measures.ts";
import { logitScale, readTemperature, type Temperature } from "./text_pair.ts";

/** Reads the stage's settings. */
export function readTextTuning(f: JsonFields): StageStarter {
  const temperature = readTemperature(f);
  return (context) =>
    owning(async (stack) => {
      const text = stack.use(await context.network("text", { config: {}, from: "text-pair" }));
      const tokenizer = stack.use(await Tokenizer.load(context.model.tokenizer));
      const images = stack.use(await ImageEmbeddings.load(context));
      return new TextTuningTraining(context, temperature, { text, tokenizer, images });
    });
}

class TextTuningTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #temperature: Temperature;
  readonly #tokenizer: Tokenizer;
  readonly #images: ImageEmbeddings;

  constructor(
    context: StageContext,
    temperature: Temperature,
    parts: { readonly text: Network; readonly tokenizer: Tokenizer; readonly images: ImageEmbeddings },
  ) {
    this.#context = context;
    this.#temperature = temperature;
    this.#tokenizer = parts.tokenizer;
    this.#images = parts.images;
    this.networks = [{ part: "text", network: parts.text }];
  }

  async batch({ samples, progress, draws, keep }: BatchRequest): Promise<readonly Objective[]> {
    const { data, model } = this.#context;
    const captions = draws.each(samples, () => data.captions.free(draws.below(data.concepts.length), draws));
    const texts = captions.map(({ text }) => text);
    const tokens = keep((await this.#tokenizer.encode(texts, model.settings("text").context)).ids);
    const targets = captionTargets(captions, data.concepts.length);
    return [{
      type: "retrieval",
      text: { network: 0, inputs: { tokens }, output: "embedding" },
      bank: this.#images.bank,
      targets: keep(await Tensor.create([samples, data.concepts.length], targets)),
      logitScale: logitScale(this.#temperature, progress),
    }];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [text] = networks;
    if (text === undefined) return {};
    const { data, model, precision } = this.#context;
    signal?.throwIfAborted();
    // The tower would free what it is given, so it is not disposed.
    const tower = new TextTower(this.#tokenizer, text, model.settings("text"), precision);
    using queries = await encodeTexts(tower, SHEET_PROMPTS);
    await writeNearest(sheet, queries, this.#images.bank, data);
    return await textMeasures(tower, this.#images.bank, data.captions);
  }

  [Symbol.dispose](): void {
    this.#images[Symbol.dispose]();
    this.#tokenizer.dispose();
    for (const { network } of this.networks) network.dispose();
  }
}

/**
 * For each caption equal probabilities of the concepts it fits.
 *
 * @param captions The captions.
 * @param count Number of concepts.
 * @returns Probabilities (captions, count), row-major.
 */
export function captionTargets(captions: readonly Caption[], count: number): Float32Array {
  const targets = new Float32Array(captions.length * count);
  for (const [row, { concepts }] of captions.entries()) {
    for (const concept of concepts) targets[row * count + concept] = 1 / concepts.length;
  }
  return targets;
}
