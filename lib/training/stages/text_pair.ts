/**
 * Trains the CLIP pair: pictures and their captions agree, and two frames of one clip agree without a text.
 *
 * @module
 */
import type { Network, NetworkConfig } from "../../../ffi/network.ts";
import type { Tensor } from "../../../ffi/tensor.ts";
import { Tokenizer } from "../../../ffi/tokenizer.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { TextTower } from "../../cascade/text.ts";
import { augmentedPictures } from "../augmentation.ts";
import { encodeTexts, stillBank } from "../embeddings.ts";
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

/** What the cosines are multiplied with, at the start and at the end. */
export interface Temperature {
  /** The factor at the start. */
  readonly start: number;
  /** The factor at the end. */
  readonly end: number;
}

/** The settings of the stage. */
interface Settings {
  readonly text: NetworkConfig;
  readonly image: NetworkConfig;
  readonly temperature: Temperature;
  readonly labelSmoothing: number;
  readonly framePairs: { readonly batch: number; readonly every: number; readonly weight: number };
}

/** Reads the stage's settings. */
export function readTextPair(f: JsonFields): StageStarter {
  const pairs = f.nested("frame_pairs");
  const settings: Settings = {
    text: requiredObject(f, "text"),
    image: requiredObject(f, "image"),
    temperature: readTemperature(f),
    labelSmoothing: f.number("label_smoothing", 0, 0.9, 0.05),
    framePairs: {
      batch: pairs.whole("batch", 2, 65_536),
      every: pairs.whole("every", 1, 1_000_000),
      weight: pairs.number("weight", 0, 100),
    },
  };
  pairs.end();
  return (context) =>
    owning(async (stack) => {
      const text = stack.use(await context.network("text", { config: settings.text }));
      const image = stack.use(await context.network("image", { config: settings.image }));
      const tokenizer = stack.use(await Tokenizer.load(context.model.tokenizer));
      return new TextPairTraining(context, settings, { text, image, tokenizer });
    });
}

/** Reads `temperature`. */
export function readTemperature(f: JsonFields): Temperature {
  const range = f.nested("temperature");
  const temperature = { start: range.number("start", 1, 1000), end: range.number("end", 1, 1000) };
  range.end();
  return temperature;
}

/** The natural logarithm of the factor at a point of the run; it grows geometrically. */
export function logitScale({ start, end }: Temperature, progress: number): number {
  return Math.log(start) + (Math.log(end) - Math.log(start)) * progress;
}

/** Reads a field that holds a network's configuration. */
export function requiredObject(f: JsonFields, name: string): NetworkConfig {
  return f.object(name) ?? f.refuse(name, "must be the configuration of a network", undefined);
}

class TextPairTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #settings: Settings;
  readonly #tokenizer: Tokenizer;

  constructor(
    context: StageContext,
    settings: Settings,
    parts: { readonly text: Network; readonly image: Network; readonly tokenizer: Tokenizer },
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#tokenizer = parts.tokenizer;
    this.networks = [{ part: "text", network: parts.text }, { part: "image", network: parts.image }];
  }

  async batch(request: BatchRequest): Promise<readonly Objective[]> {
    const { samples, step, progress, draws, keep } = request;
    const { data, model } = this.#context;
    const { temperature, labelSmoothing, framePairs } = this.#settings;
    const scale = logitScale(temperature, progress);
    const concepts = draws.several([...data.concepts.keys()], samples);
    const captions = concepts.map((concept) => data.captions.plain(concept, draws));
    const tokens = keep((await this.#tokenizer.encode(captions, model.settings("text").context)).ids);
    using stills = await data.rows("stills64", concepts.map((concept) => data.concepts[concept]?.still ?? 0));
    const objectives: Objective[] = [{
      type: "contrastive",
      a: { network: 0, inputs: { tokens }, output: "embedding" },
      b: { network: 1, inputs: { image: keep(await augmentedPictures(stills, draws)) }, output: "embedding" },
      logitScale: scale,
      labelSmoothing,
    }];
    if (step % framePairs.every === 0 && data.seenClips.length > 1) {
      const [one, other] = await this.#framePair(request);
      objectives.push({
        type: "contrastive",
        weight: framePairs.weight,
        a: { network: 1, inputs: { image: one }, output: "embedding" },
        b: { network: 1, inputs: { image: other }, output: "embedding" },
        logitScale: scale,
      });
    }
    return objectives;
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [text, image] = networks;
    if (text === undefined || image === undefined) return {};
    const { data, model, precision } = this.#context;
    signal?.throwIfAborted();
    using bank = await stillBank(image, data, precision);
    // The tower would free what it is given, so it is not disposed.
    const tower = new TextTower(this.#tokenizer, text, model.settings("text"), precision);
    using queries = await encodeTexts(tower, SHEET_PROMPTS);
    await writeNearest(sheet, queries, bank, data);
    return await textMeasures(tower, bank, data.captions);
  }

  [Symbol.dispose](): void {
    this.#tokenizer.dispose();
    for (const { network } of this.networks) network.dispose();
  }

  /** Two frames of each of some clips, changed in different ways. */
  async #framePair({ draws, keep }: BatchRequest): Promise<[Tensor, Tensor]> {
    const { data } = this.#context;
    const clips = draws.several(data.seenClips, this.#settings.framePairs.batch);
    const rows = (): number[] => clips.map(({ start, length }) => start + draws.below(length));
    using first = await data.rows("clips64", rows());
    using second = await data.rows("clips64", rows());
    return [keep(await augmentedPictures(first, draws)), keep(await augmentedPictures(second, draws))];
  }
}
