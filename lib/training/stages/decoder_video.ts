/**
 * Trains the inflated decoder on clips without texts, among batches of pictures.
 *
 * @module
 */
import type { Network } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import { Decoder } from "../../cascade/decoder.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import type { Clip } from "../../data/dataset_index.ts";
import { frameNoise } from "../../diffusion/frame_noise.ts";
import { clipRows } from "../clip_sampling.ts";
import { drawTimes, noisyBatch } from "../diffusion_batch.ts";
import { ImageEmbeddings } from "../embeddings.ts";
import { curriculumFps, type FpsCurriculum } from "../fps_curriculum.ts";
import { type Measures, motionOf, PictureBank } from "../measures.ts";
import { writeClips } from "../sheets.ts";
import { swayingClips } from "../swaying_clips.ts";
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
import { type ConditionSettings, pictureObjective, readConditions } from "./decoder_image.ts";
import { requiredObject } from "./text_pair.ts";

/** Concepts with and without clips that are drawn for measures and sheet. */
const MOVING = 6;
const STILL = 2;

/** Concepts that are drawn at the greatest frame rate too. */
const QUICK = 3;

/** The settings of the stage. */
interface Settings extends ConditionSettings {
  readonly clipFrames: number;
  readonly pictures: number;
  readonly ownEmbedding: number;
  readonly swaying: number;
  readonly curriculum: FpsCurriculum;
}

/** Reads the stage's settings. */
export function readDecoderVideo(f: JsonFields): StageStarter {
  const config = requiredObject(f, "network");
  const settings: Settings = {
    ...readConditions(f),
    clipFrames: f.whole("clip_frames", 2, 256, 16),
    pictures: f.number("pictures", 0, 1, 0.3),
    ownEmbedding: f.number("own_embedding", 0, 1, 0.25),
    swaying: f.number("swaying", 0, 1, 0),
    curriculum: readCurriculum(f),
  };
  return (context) =>
    owning(async (stack) => {
      const decoder = stack.use(await context.network("decoder", { config, from: "decoder-image" }));
      const images = stack.use(await ImageEmbeddings.load(context));
      using stills = await context.data.rows("stills64", context.data.concepts.map(({ still }) => still));
      const bank = stack.use(await PictureBank.create(stills));
      return new DecoderVideoTraining(context, settings, { decoder, images, bank });
    });
}

/** Reads `fps_curriculum`. */
export function readCurriculum(f: JsonFields): FpsCurriculum {
  const fields = f.nested("fps_curriculum");
  const curriculum = { start: fields.number("start", 0.01, 100), end: fields.number("end", 0.01, 100) };
  fields.end();
  return curriculum;
}

class DecoderVideoTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #settings: Settings;
  readonly #images: ImageEmbeddings;
  readonly #bank: PictureBank;

  constructor(
    context: StageContext,
    settings: Settings,
    parts: { readonly decoder: Network; readonly images: ImageEmbeddings; readonly bank: PictureBank },
  ) {
    this.#context = context;
    this.#settings = settings;
    this.#images = parts.images;
    this.#bank = parts.bank;
    this.networks = [{ part: "decoder", network: parts.decoder }];
  }

  async batch(request: BatchRequest): Promise<readonly Objective[]> {
    const { draws, samples } = request;
    const { clipFrames, pictures } = this.#settings;
    if (!draws.chance(pictures)) return [await this.#clips(request)];
    const flat = { ...request, samples: samples * clipFrames };
    return [await pictureObjective(this.#context, this.#images, this.#settings, flat)];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [network] = networks;
    if (network === undefined) return {};
    const { data, model, precision } = this.#context;
    const { clipFrames } = this.#settings;
    const settings = model.settings("decoder");
    // The stage would free the network, so it is not disposed.
    const decoder = new Decoder(network, settings, precision);
    const clips = spread(data.clips, MOVING);
    const concepts = [...clips.map(({ concept }) => concept), ...spread(data.stillConcepts, STILL)];
    using embeddings = await this.#images.bank.gather(0, concepts);
    const options = { seeds: evaluationSeeds(concepts.length), frames: clipFrames, signal };
    using drawn = await decoder.sample(embeddings, options);
    const rows = clips.map((clip) => clipRows(clip, { frames: clipFrames, fps: settings.fps, first: 0 }));
    using truth = await data.sequences("clips64", rows);
    const shown = Array.from({ length: Math.min(8, clipFrames) }, (_, index) => Math.floor(index * clipFrames / 8));
    await writeClips(sheet, [truth, drawn], shown);
    using moving = await drawn.gather(0, [...clips.keys()]);
    using middle = await drawn.gather(1, [clipFrames >> 1]);
    using pictures = await middle.reshape([concepts.length, ...middle.shape.slice(2)]);
    const { r1, r5 } = await this.#bank.recall(pictures, concepts);
    const some = [...clips.keys()].slice(0, QUICK);
    using fewer = await embeddings.gather(0, some);
    const seeds = evaluationSeeds(some.length);
    using quick = await decoder.sample(fewer, { ...options, seeds, fps: settings.fps_range.most });
    const [made, real, fast] = [await motionOf(moving), await motionOf(truth), await motionOf(quick)];
    return {
      r1,
      r5,
      motion: made.motion,
      motion_real: real.motion,
      motion_at_most_fps: fast.motion,
      acceleration: made.acceleration,
      acceleration_real: real.acceleration,
      border: made.border,
      border_real: real.border,
    };
  }

  [Symbol.dispose](): void {
    this.#bank[Symbol.dispose]();
    this.#images[Symbol.dispose]();
    for (const { network } of this.networks) network.dispose();
  }

  async #clips({ samples, progress, draws, keep }: BatchRequest): Promise<Objective> {
    const { data, model } = this.#context;
    const { curriculum, swaying, ownEmbedding, embeddingNoise, drop } = this.#settings;
    const decoder = model.settings("decoder");
    const still = data.stillConcepts;
    const swayed = still.length === 0 ? 0 : draws.each(samples, () => draws.chance(swaying)).filter(Boolean).length;
    const clips = [
      ...draws.several(data.seenClips, samples - swayed),
      ...draws.several(still, swayed).map((concept) => ({ concept })),
    ];
    const fps = clips.map(() => curriculumFps(decoder.fps_range, curriculum, { progress, uniform: draws.next() }));
    using clean = await this.#frames(clips, fps, draws);
    const condition = keep(await clipConditions(this.#images, clips, clean, { ownEmbedding, embeddingNoise }, draws));
    using noise = await frameNoise({
      shape: clean.shape,
      seeds: draws.seeds(clips.length),
      stream: 0,
      common: decoder.common_noise,
      smooth: { seconds: decoder.noise_seconds, fps },
    });
    const times = drawTimes(decoder, clips.length, draws);
    const { noisy, target, timesteps } = await noisyBatch(clean, noise, times, decoder.prediction);
    return {
      type: "regression",
      network: 0,
      inputs: {
        sample: keep(noisy),
        timestep: timesteps,
        image_embedding: condition,
        drop: draws.each(clips.length, () => Number(draws.chance(drop))),
        fps,
      },
      output: "sample",
      target: keep(target),
    };
  }

  /** Frames (B, F, H, W, 3): of clips, and where only a concept is given, of its swaying still. Clips come first. */
  async #frames(
    clips: readonly (Clip | { readonly concept: number })[],
    fps: readonly number[],
    draws: BatchRequest["draws"],
  ): Promise<Tensor> {
    const { data, model } = this.#context;
    const frames = this.#settings.clipFrames;
    const rateOf = (sample: number): number => fps[sample] ?? model.settings("decoder").fps;
    const rows: number[][] = [];
    const stills: number[] = [];
    for (const clip of clips) {
      if ("start" in clip) {
        rows.push(clipRows(clip, { frames, fps: rateOf(rows.length), first: draws.below(clip.length) }));
      } else stills.push(data.concepts[clip.concept]?.still ?? 0);
    }
    using real = rows.length === 0 ? undefined : await data.sequences("clips64", rows);
    using pictures = stills.length === 0 ? undefined : await data.rows("stills64", stills);
    using swaying = pictures &&
      await swayingClips(pictures, { frames, fps: stills.map((_, at) => rateOf(rows.length + at)) }, draws);
    return await Tensor.cat([real, swaying].filter((part) => part !== undefined), 0);
  }
}

/**
 * Embeddings that clips are conditioned on: that of the concept's still, or of the clip's first frame as in the paper.
 *
 * @param images The image tower.
 * @param clips The clips; only their concepts are looked at.
 * @param clean Their frames (B, F, H, W, 3).
 * @param settings The share of first frames, and the greatest length of the noise.
 * @param draws Where randomness comes from.
 */
export async function clipConditions(
  images: ImageEmbeddings,
  clips: readonly { readonly concept: number }[],
  clean: Tensor,
  settings: { readonly ownEmbedding: number; readonly embeddingNoise: number },
  draws: Parameters<ImageEmbeddings["conditions"]>[3],
): Promise<Tensor> {
  const concepts = clips.map(({ concept }) => concept);
  const samples = [...clips.keys()].filter(() => draws.chance(settings.ownEmbedding));
  if (samples.length === 0) return await images.conditions(concepts, undefined, settings.embeddingNoise, draws);
  using chosen = await clean.gather(0, samples);
  using first = await chosen.gather(1, [0]);
  return await images.conditions(concepts, { pictures: first, samples }, settings.embeddingNoise, draws);
}
