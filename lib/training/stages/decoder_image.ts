/**
 * Trains the decoder on pictures: from an image embedding back to the picture.
 *
 * @module
 */
import type { Network } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import { COLOURS, Decoder } from "../../cascade/decoder.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { drawTimes, noisyBatch } from "../diffusion_batch.ts";
import { ImageEmbeddings } from "../embeddings.ts";
import { type Measures, PictureBank, rmsDifference } from "../measures.ts";
import { writeComparison } from "../sheets.ts";
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

/** Pictures that are drawn for measures and sheet. */
const MEASURED = 32;

/** Pictures in a row of the sheet. */
const COLUMNS = 16;

/** What both trainings of the decoder are told about its conditions. */
export interface ConditionSettings {
  /** The share of samples whose condition is dropped, for guidance. */
  readonly drop: number;
  /** The greatest length of the noise on embeddings. */
  readonly embeddingNoise: number;
  /** The share of pictures that are frames of clips, with the frame's own embedding. */
  readonly frames: number;
}

/** Reads what both trainings of the decoder are told. */
export function readConditions(f: JsonFields): ConditionSettings {
  return {
    drop: f.number("drop", 0, 1, 0.1),
    embeddingNoise: f.number("embedding_noise", 0, 2, 0.5),
    frames: f.number("frames", 0, 1, 0.25),
  };
}

/** Reads the stage's settings. */
export function readDecoderImage(f: JsonFields): StageStarter {
  const config = requiredObject(f, "network");
  const settings = readConditions(f);
  return (context) =>
    owning(async (stack) => {
      const decoder = stack.use(await context.network("decoder", { config }));
      const images = stack.use(await ImageEmbeddings.load(context));
      using stills = await context.data.rows("stills64", context.data.concepts.map(({ still }) => still));
      const bank = stack.use(await PictureBank.create(stills));
      return new DecoderImageTraining(context, settings, { decoder, images, bank });
    });
}

class DecoderImageTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #settings: ConditionSettings;
  readonly #images: ImageEmbeddings;
  readonly #bank: PictureBank;

  constructor(
    context: StageContext,
    settings: ConditionSettings,
    parts: { readonly decoder: Network; readonly images: ImageEmbeddings; readonly bank: PictureBank },
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#images = parts.images;
    this.#bank = parts.bank;
    this.networks = [{ part: "decoder", network: parts.decoder }];
  }

  async batch(request: BatchRequest): Promise<readonly Objective[]> {
    return [await pictureObjective(this.#context, this.#images, this.#settings, request)];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [network] = networks;
    if (network === undefined) return {};
    const { data, model, precision } = this.#context;
    // The stage would free the network, so it is not disposed.
    const decoder = new Decoder(network, model.settings("decoder"), precision);
    const concepts = spread([...data.concepts.keys()], MEASURED);
    using embeddings = await this.#images.bank.gather(0, concepts);
    using drawn = await decoder.sample(embeddings, { seeds: evaluationSeeds(concepts.length), frames: 1, signal });
    using pictures = await drawn.reshape([concepts.length, ...drawn.shape.slice(2)]);
    using truth = await data.rows("stills64", concepts.map((concept) => data.concepts[concept]?.still ?? 0));
    await writeComparison(sheet, Math.min(COLUMNS, concepts.length), [truth, pictures]);
    const { r1, r5 } = await this.#bank.recall(pictures, concepts);
    return { r1, r5, rmse: await rmsDifference(pictures, truth) / 2 };
  }

  [Symbol.dispose](): void {
    this.#bank[Symbol.dispose]();
    this.#images[Symbol.dispose]();
    for (const { network } of this.networks) network.dispose();
  }
}

/**
 * A batch of pictures for the decoder: stills, and frames of clips with their own embeddings.
 *
 * @param context The stage's.
 * @param images The image tower.
 * @param settings The share of frames, and how conditions are disturbed.
 * @param request What decides the batch.
 */
export async function pictureObjective(
  context: StageContext,
  images: ImageEmbeddings,
  settings: ConditionSettings,
  request: BatchRequest,
): Promise<Objective> {
  const { data, model } = context;
  const { samples, draws, keep } = request;
  const decoder = model.settings("decoder");
  const seen = data.seenClips;
  const frames = seen.length === 0 ? 0 : Math.round(settings.frames * samples);
  const stills = samples - frames;
  const clips = draws.each(frames, () => draws.pick(seen));
  // Stills first, then frames.
  const concepts = [
    ...draws.each(stills, () => draws.below(data.concepts.length)),
    ...clips.map(({ concept }) => concept),
  ];
  using own = frames === 0
    ? undefined
    : await data.rows("clips64", clips.map(({ start, length }) => start + draws.below(length)));
  using shown = stills === 0
    ? undefined
    : await data.rows("stills64", concepts.slice(0, stills).map((concept) => data.concepts[concept]?.still ?? 0));
  using pictures = await Tensor.cat([shown, own].filter((part) => part !== undefined), 0);
  const size = pictures.shape[1] ?? 0;
  using clean = await pictures.reshape([samples, 1, size, size, COLOURS]);
  const condition = await images.conditions(
    concepts,
    own === undefined ? undefined : { pictures: own, samples: clips.map((_, index) => stills + index) },
    settings.embeddingNoise,
    draws,
  );
  keep(condition);
  using noise = await Tensor.noise({ shape: clean.shape, seeds: draws.seeds(samples), stream: 0 });
  const { noisy, target, timesteps } = await noisyBatch(
    clean,
    noise,
    drawTimes(decoder, samples, draws),
    decoder.prediction,
  );
  return {
    type: "regression",
    network: 0,
    inputs: {
      sample: keep(noisy),
      timestep: timesteps,
      image_embedding: condition,
      drop: draws.each(samples, () => Number(draws.chance(settings.drop))),
    },
    output: "sample",
    target: keep(target),
  };
}
