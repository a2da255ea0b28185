/**
 * Trains the prior: from a caption's tokens and embedding to the embedding of its picture.
 *
 * @module
 */
import type { Network, NetworkConfig } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { Prior } from "../../cascade/prior.ts";
import { TextTower } from "../../cascade/text.ts";
import { UNSEEN_TEMPLATE } from "../captions.ts";
import { drawTimes, noisyBatch } from "../diffusion_batch.ts";
import { encodeTexts, ImageEmbeddings, inChunks } from "../embeddings.ts";
import { meanCosine, type Measures, recall } from "../measures.ts";
import { SHEET_PROMPTS, writeNearest } from "../sheets.ts";
import {
  type BatchRequest,
  type EvaluationRequest,
  evaluationSeeds,
  owning,
  type StageContext,
  type StageStarter,
  type StageTraining,
  type TrainedNetwork,
} from "../stage_training.ts";
import { spread } from "../training_data.ts";
import { requiredObject } from "./text_pair.ts";

/** Concepts that are measured. */
const MEASURED = 400;

/** Reads the stage's settings. */
export function readPrior(f: JsonFields): StageStarter {
  const network: NetworkConfig = requiredObject(f, "network");
  const drop = f.number("drop", 0, 1, 0.1);
  return (context) =>
    owning(async (stack) => {
      const { model, precision } = context;
      const prior = stack.use(await context.network("prior", { config: network }));
      const tower = stack.use(await TextTower.load(model.folder, model.settings("text"), { precision }));
      const images = stack.use(await ImageEmbeddings.load(context));
      return new PriorTraining(context, drop, { prior, tower, images });
    });
}

class PriorTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #drop: number;
  readonly #tower: TextTower;
  readonly #images: ImageEmbeddings;

  constructor(
    context: StageContext,
    drop: number,
    parts: { readonly prior: Network; readonly tower: TextTower; readonly images: ImageEmbeddings },
  ) {
    this.#context = context;
    this.#drop = drop;
    this.#tower = parts.tower;
    this.#images = parts.images;
    this.networks = [{ part: "prior", network: parts.prior }];
  }

  async batch({ samples, draws, keep }: BatchRequest): Promise<readonly Objective[]> {
    const { data, model } = this.#context;
    const settings = model.settings("prior");
    const concepts = draws.each(samples, () => draws.below(data.concepts.length));
    const texts = concepts.map((concept) => data.captions.free(concept, draws).text);
    const { embedding, states, mask } = keep(await this.#tower.encode(texts));
    using images = await this.#images.bank.gather(0, concepts);
    // As in sampling: coordinates of unit variance.
    const width = images.shape[1] ?? 1;
    using clean = await images.normalize(Math.sqrt(width));
    using noise = await Tensor.noise({ shape: clean.shape, seeds: draws.seeds(samples), stream: 0 });
    const times = drawTimes(settings, samples, draws);
    const { noisy, target, timesteps } = await noisyBatch(clean, noise, times, settings.prediction);
    return [{
      type: "regression",
      network: 0,
      inputs: {
        sample: keep(noisy),
        timestep: timesteps,
        text_embedding: embedding,
        text_states: states,
        text_mask: mask,
        drop: draws.each(samples, () => Number(draws.chance(this.#drop))),
      },
      output: "sample",
      target: keep(target),
    }];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [network] = networks;
    if (network === undefined) return {};
    const { data, model, precision } = this.#context;
    // The stage would free the network, so it is not disposed.
    const prior = new Prior(network, model.settings("prior"), precision);
    const concepts = spread([...data.concepts.keys()], MEASURED);
    using truth = await this.#images.bank.gather(0, concepts);
    const measures: Record<string, number> = {};
    for (const [name, template] of [["name", "{}"], ["unseen", UNSEEN_TEMPLATE]] as const) {
      const texts = concepts.map((concept) => template.replace("{}", data.captions.names[concept] ?? ""));
      using said = await encodeTexts(this.#tower, texts);
      measures[`${name}_text_cosine`] = await meanCosine(said, truth);
      using drawn = await inChunks(texts.length, async (rows) => {
        using encoding = await this.#tower.encode(rows.map((row) => texts[row] ?? ""), { signal });
        return await prior.sample(encoding, { seeds: evaluationSeeds(rows.length), signal });
      });
      measures[`${name}_cosine`] = await meanCosine(drawn, truth);
      const { r1, r5 } = await recall(drawn, this.#images.bank, concepts.map((concept) => [concept]));
      measures[`${name}_r1`] = r1;
      measures[`${name}_r5`] = r5;
    }
    using prompts = await this.#tower.encode(SHEET_PROMPTS, { signal });
    using drawn = await prior.sample(prompts, { seeds: evaluationSeeds(SHEET_PROMPTS.length), signal });
    await writeNearest(sheet, drawn, this.#images.bank, data);
    return measures;
  }

  [Symbol.dispose](): void {
    this.#images[Symbol.dispose]();
    this.#tower.dispose();
    for (const { network } of this.networks) network.dispose();
  }
}
