/**
 * Trains the super-resolutions on squares cut out of the full-size stores: of pictures, or of clips for the temporal
 * layers. The networks are convolutional, so what they learn on squares holds for whole pictures.
 *
 * @module
 */
import type { Network, NetworkConfig } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import { COLOURS } from "../../cascade/decoder.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { enlargedFrames, SuperResolution, type SuperResolutionName } from "../../cascade/super_resolution.ts";
import { largeClipRows } from "../clip_sampling.ts";
import { drawTimes, noisyBatch, snrWeights } from "../diffusion_batch.ts";
import { EnlargedPictures } from "../enlarged_pictures.ts";
import { type Measures, psnr } from "../measures.ts";
import type { Draws } from "../random.ts";
import { writeSheet } from "../sheets.ts";
import {
  type BatchRequest,
  EVALUATION_SEED,
  type EvaluationRequest,
  evaluationSeeds,
  owning,
  type StageContext,
  type StageReader,
  type StageStarter,
  type StageTraining,
  type TrainedNetwork,
  type TrainedStage,
} from "../stage_training.ts";
import { heldOut, spread, type SquareCrop } from "../training_data.ts";
import { requiredObject } from "./text_pair.ts";

/** Pictures, kept from training, that are measured. */
const MEASURED = 12;

/** Weights of the losses of networks that predict the clean picture. */
const SNR_RANGE = [0.5, 5] as const;

/** The settings of these stages. */
interface Settings {
  readonly name: SuperResolutionName;
  readonly config: NetworkConfig;
  readonly from: TrainedStage | undefined;
  /** Side of the squares, in pixels. */
  readonly crop: number;
  /** How many times larger the pictures become. */
  readonly factor: number;
  /** Frames of a clip; `undefined` for pictures. */
  readonly frames: number | undefined;
  /** With frames: the share of batches that are pictures, clips of one frame. */
  readonly pictures: number;
  /** The greatest noise added to small pictures. */
  readonly augmentation: number;
  /** The share of small pictures that are blurred, as generated ones are. */
  readonly blur: number;
}

/** The reader of a super-resolution that is trained on pictures. */
export function readSuperResolutionImage(name: SuperResolutionName): StageReader {
  return (f) => starter({ ...shared(f), name, from: undefined, frames: undefined, pictures: 1 });
}

/** Reads the settings of `sr-low` with its temporal layers. */
export function readSuperResolutionVideo(f: JsonFields): StageStarter {
  return starter({
    ...shared(f),
    name: "sr-low",
    from: "sr-low-image",
    frames: f.whole("clip_frames", 2, 64, 8),
    pictures: f.number("pictures", 0, 1, 0.3),
  });
}

function shared(f: JsonFields): Omit<Settings, "name" | "from" | "frames" | "pictures"> {
  const crop = f.whole("crop", 8, 4096);
  const factor = f.whole("factor", 2, 16);
  if (crop % factor !== 0) f.refuse("crop", `must be a multiple of factor (${factor})`, crop);
  return {
    config: requiredObject(f, "network"),
    crop,
    factor,
    augmentation: f.number("augmentation", 0, 1),
    blur: f.number("blur", 0, 1, 0.3),
  };
}

function starter(settings: Settings): StageStarter {
  return (context) =>
    owning(async (stack) => {
      const { name, config, from } = settings;
      return new SuperResolutionTraining(context, settings, stack.use(await context.network(name, { config, from })));
    });
}

class SuperResolutionTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #settings: Settings;

  constructor(context: StageContext, settings: Settings, network: Network) {
    this.#context = context;
    this.#settings = settings;
    this.networks = [{ part: settings.name, network }];
  }

  async batch({ samples, draws, keep }: BatchRequest): Promise<readonly Objective[]> {
    const { name, crop, factor, augmentation, blur } = this.#settings;
    const settings = this.#context.model.settings(name);
    using large = await this.#squares(samples, draws);
    const [batch = 0] = large.shape;
    using small = await smallFrames(large, { side: crop / factor, blur }, draws);
    const levels = draws.each(batch, () => augmentation * draws.next());
    using enlarged = await enlargedFrames(small, { size: crop, level: levels, seeds: draws.seeds(batch), stream: 0 });
    // As in sampling: all frames of a clip share their noise.
    const shape = [batch, 1, crop, crop, COLOURS];
    using noise = await Tensor.noise({ shape, seeds: draws.seeds(batch), stream: 0 });
    const times = drawTimes(settings, batch, draws);
    const { noisy, target } = await noisyBatch(large, noise, times, settings.prediction);
    using frames = noisy;
    const scale = settings.residual_scale;
    if (scale === undefined) keep(target);
    else target.dispose();
    const wanted = scale === undefined ? target : keep(
      await Tensor.combine([{ tensor: large, scale: 1 / scale }, { tensor: enlarged, scale: -1 / scale }]),
    );
    return [{
      type: "regression",
      network: 0,
      inputs: {
        sample: keep(await Tensor.cat([frames, enlarged], 4)),
        timestep: times.timesteps,
        ...this.networks[0]?.network.config["augmentation_conditioning"] === true ? { augmentation: levels } : {},
      },
      output: "sample",
      target: wanted,
      ...settings.prediction === "sample" ? { sampleWeights: snrWeights(times.levels, SNR_RANGE) } : {},
    }];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [network] = networks;
    if (network === undefined) return {};
    const { name, crop, factor } = this.#settings;
    const { model, precision } = this.#context;
    // At the size of the squares. The stage would free the network, so it is not disposed.
    const settings = { ...model.settings(name), size: crop };
    const stage = new SuperResolution(name, network, settings, precision);
    using large = await this.#measured();
    const [batch = 0, frames = 0] = large.shape;
    using enlarged = await EnlargedPictures.make(stage, large, { factor, seeds: evaluationSeeds(batch), signal });
    const { made, bicubic } = await enlarged.psnr();
    const options = {
      size: crop,
      level: settings.augmentation,
      seeds: evaluationSeeds(batch),
      stream: EVALUATION_SEED,
    };
    using noisy = await enlargedFrames(enlarged.small, options);
    using stack = new DisposableStack();
    const first = async (video: Tensor): Promise<Tensor> => {
      const one = stack.use(await video.gather(1, [frames >> 1]));
      return stack.use(await one.reshape([batch, ...video.shape.slice(2)]));
    };
    await writeSheet(sheet, [await first(enlarged.bicubic), await first(enlarged.made), await first(large)]);
    return {
      psnr: made,
      psnr_bicubic: bicubic,
      psnr_bicubic_noisy: await psnr(noisy, large),
    };
  }

  [Symbol.dispose](): void {
    for (const { network } of this.networks) network.dispose();
  }

  /** Random squares of what is trained on: (B, F, S, S, 3). */
  async #squares(samples: number, draws: Draws): Promise<Tensor> {
    const { crop, frames, pictures } = this.#settings;
    const { data } = this.#context;
    if (frames === undefined || draws.chance(pictures)) {
      const concepts = this.#concepts(false);
      const count = samples * (frames ?? 1);
      const rows = draws.each(count, () => data.concepts[draws.pick(concepts)]?.still ?? 0);
      const room = data.side("stills256") - crop + 1;
      const places = {
        top: draws.each(count, () => draws.below(room)),
        left: draws.each(count, () => draws.below(room)),
      };
      return await data.sequences("stills256", rows.map((row) => [row]), { size: crop, ...places });
    }
    const clips = draws.several(this.#largeClips(false), samples);
    const room = data.side("clips256") - crop + 1;
    const rows = clips.map((large) => largeClipRows(large, { frames, first: draws.below(large.frames.length) }));
    const each = (): number[] => clips.flatMap(() => new Array<number>(frames).fill(draws.below(room)));
    return await data.sequences("clips256", rows, { size: crop, top: each(), left: each() });
  }

  /** Squares from the middle of what is kept from training. */
  async #measured(): Promise<Tensor> {
    const { crop, frames } = this.#settings;
    const { data } = this.#context;
    const square = (store: "stills256" | "clips256", rows: number): SquareCrop => {
      const place = new Array<number>(rows).fill((data.side(store) - crop) >> 1);
      return { size: crop, top: place, left: place };
    };
    if (frames === undefined) {
      const rows = spread(this.#concepts(true), MEASURED).map((concept) => data.concepts[concept]?.still ?? 0);
      return await data.sequences("stills256", rows.map((row) => [row]), square("stills256", rows.length));
    }
    const rows = spread(this.#largeClips(true), MEASURED).map((large) => largeClipRows(large, { frames, first: 0 }));
    return await data.sequences("clips256", rows, square("clips256", rows.length * frames));
  }

  /** Concepts that are trained on, or those kept from it; a small data set has none to spare. */
  #concepts(kept: boolean): number[] {
    const all = [...this.#context.data.concepts.keys()];
    const some = all.filter((concept) => heldOut(concept) === kept);
    return some.length === 0 ? all : some;
  }

  #largeClips(kept: boolean): { readonly start: number; readonly frames: readonly number[] }[] {
    const { clips } = this.#context.data;
    const all = clips.filter(({ large }) => large !== null);
    const some = all.filter(({ concept }) => heldOut(concept) === kept);
    return (some.length === 0 ? all : some).flatMap(({ large }) => large ?? []);
  }
}

/** Small frames by area averaging, some of them blurred. */
async function smallFrames(
  large: Tensor,
  settings: { readonly side: number; readonly blur: number },
  draws: Draws,
): Promise<Tensor> {
  const { side, blur } = settings;
  const [batch = 0] = large.shape;
  const shares = draws.each(batch, () => draws.chance(blur) ? draws.between(0.3, 1) : 0);
  const small = await large.resize({ height: side, width: side, filter: "area" });
  if (shares.every((share) => share === 0)) return small;
  using sharp = small;
  const coarse = Math.max(1, Math.round(side * 2 / 3));
  using smaller = await sharp.resize({ height: coarse, width: coarse, filter: "area" });
  using blurred = await smaller.resize({ height: side, width: side, filter: "bilinear" });
  return await Tensor.combine([
    { tensor: sharp, scale: shares.map((share) => 1 - share) },
    { tensor: blurred, scale: shares },
  ]);
}
