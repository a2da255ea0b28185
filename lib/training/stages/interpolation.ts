/**
 * Trains the interpolation, grown from the video decoder: it sees the noisy frames, the known ones, and which are masked.
 *
 * @module
 */
import type { Network, NetworkConfig } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import type { Objective } from "../../../ffi/trainer.ts";
import { Interpolation } from "../../cascade/interpolation.ts";
import type { JsonFields } from "../../cascade/json_fields.ts";
import { KnownFrames, knownFrames, type ResidualSettings } from "../../cascade/known_frames.ts";
import { WINDOW } from "../../cascade/windows.ts";
import type { Clip } from "../../data/dataset_index.ts";
import { clipRows } from "../clip_sampling.ts";
import { drawTimes, noisyBatch } from "../diffusion_batch.ts";
import { ImageEmbeddings } from "../embeddings.ts";
import { drawMask, type MaskSettings } from "../frame_masks.ts";
import { curriculumFps, type FpsCurriculum } from "../fps_curriculum.ts";
import { HiddenFrames } from "../hidden_frames.ts";
import type { Measures } from "../measures.ts";
import type { Draws } from "../random.ts";
import { writeClips } from "../sheets.ts";
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
import { clipConditions, readCurriculum } from "./decoder_video.ts";
import { requiredObject } from "./text_pair.ts";

/** Clips, kept from training, that are measured. */
const MEASURED = 6;

/** Below this root mean square of what the network is to give, clips do not count for more. */
const LEAST_DIFFERENCE = 0.05;

/** The settings of the stage. */
interface Settings {
  readonly config: NetworkConfig;
  readonly masks: MaskSettings;
  readonly drop: number;
  readonly embeddingNoise: number;
  readonly ownEmbedding: number;
  readonly leastTime: number;
  readonly curriculum: FpsCurriculum;
}

/** Reads the stage's settings. */
export function readInterpolation(f: JsonFields): StageStarter {
  const skips = f.wholeList("skips") ?? [2, 3, 4, 5];
  if (skips.some((skip) => skip < 2 || skip >= WINDOW)) f.refuse("skips", `must be from 2 to ${WINDOW - 1}`, skips);
  const settings: Settings = {
    config: requiredObject(f, "network"),
    masks: { skips, ends: f.number("ends", 0, 1, 0.3) },
    drop: f.number("drop", 0, 1, 0.1),
    embeddingNoise: f.number("embedding_noise", 0, 2, 0.5),
    ownEmbedding: f.number("own_embedding", 0, 1, 0.25),
    // Few steps of sampling begin at the noisy end, and what is learnt there is all that one step uses.
    leastTime: f.number("least_time", 0, 0.99, 0),
    curriculum: readCurriculum(f),
  };
  return (context) =>
    owning(async (stack) => {
      // The last layer of the decoder gives something else than the difference to a blend, which starts at zero.
      const fresh = context.model.settings("interpolation").residual_scale === undefined ? [] : ["conv_out"];
      const start = { config: settings.config, from: "decoder-video", fresh } as const;
      const network = stack.use(await context.network("interpolation", start));
      const images = stack.use(await ImageEmbeddings.load(context));
      return new InterpolationTraining(context, settings, network, images);
    });
}

class InterpolationTraining implements StageTraining {
  readonly networks: readonly TrainedNetwork[];
  readonly #context: StageContext;
  readonly #settings: Settings;
  readonly #images: ImageEmbeddings;
  readonly #seen: readonly Clip[];
  readonly #unseen: readonly Clip[];

  constructor(context: StageContext, settings: Settings, network: Network, images: ImageEmbeddings) {
    this.#context = context;
    this.#settings = settings;
    this.#images = images;
    this.networks = [{ part: "interpolation", network }];
    this.#seen = context.data.seenClips;
    this.#unseen = context.data.unseenClips;
  }

  async batch({ samples, progress, draws, keep }: BatchRequest): Promise<readonly Objective[]> {
    const { data, model } = this.#context;
    const { masks, curriculum, drop, leastTime } = this.#settings;
    const settings = model.settings("interpolation");
    const clips = draws.several(this.#seen, samples);
    const fps = clips.map(() => curriculumFps(settings.fps_range, curriculum, { progress, uniform: draws.next() }));
    const rows = clips.map((clip, sample) =>
      clipRows(clip, { frames: WINDOW, fps: fps[sample] ?? settings.fps_range.most, first: draws.below(clip.length) })
    );
    using clean = await data.sequences("clips64", rows);
    const condition = keep(await clipConditions(this.#images, clips, clean, this.#settings, draws));
    using given = await maskedClips(clean, masks, settings, draws);
    using noise = await Tensor.noise({ shape: clean.shape, seeds: draws.seeds(clips.length), stream: 0 });
    const times = drawTimes(settings, clips.length, draws, leastTime);
    const { noisy, target, timesteps } = await noisyBatch(clean, noise, times, settings.prediction);
    using frames = noisy;
    const wanted = given.wanted ?? target;
    if (wanted !== target) target.dispose();
    return [{
      type: "regression",
      network: 0,
      inputs: {
        sample: keep(await Tensor.cat([frames, given.channels], 4)),
        timestep: timesteps,
        image_embedding: condition,
        drop: draws.each(clips.length, () => Number(draws.chance(drop))),
        fps,
      },
      output: "sample",
      target: keep(wanted),
      ...given.wanted === undefined ? {} : { sampleWeights: await evenWeights(wanted) },
    }];
  }

  async evaluate({ networks, sheet, signal }: EvaluationRequest): Promise<Measures> {
    const [network] = networks;
    if (network === undefined) return {};
    const { data, model, precision } = this.#context;
    const settings = model.settings("interpolation");
    // The stage would free the network, so it is not disposed.
    const stage = new Interpolation(network, settings, precision);
    const clips = spread(this.#unseen, MEASURED);
    using hidden = await HiddenFrames.make(stage, data, {
      clips,
      bank: this.#images.bank,
      seeds: evaluationSeeds(clips.length),
      // Fast enough that the frames between differ from a blend of their neighbours.
      fps: settings.fps_range.most / 2,
      signal,
    });
    await writeClips(sheet, [hidden.truth, hidden.made], Array.from({ length: WINDOW }, (_, frame) => frame));
    const { made, blend } = await hidden.psnr();
    return { psnr: made, psnr_blend: blend };
  }

  [Symbol.dispose](): void {
    this.#images[Symbol.dispose]();
    for (const { network } of this.networks) network.dispose();
  }
}

/**
 * A weight for each clip's loss, so that clips count alike however much they differ from a blend: else those that move most
 * decide everything, and the network disturbs those that are nearly still, where a blend is all but right.
 *
 * @param differences What the network is to give, (B, F, H, W, C).
 */
async function evenWeights(differences: Tensor): Promise<number[]> {
  const weights: number[] = [];
  for (let clip = 0; clip < (differences.shape[0] ?? 0); clip++) {
    using one = await differences.gather(0, [clip]);
    const { rms } = await one.stats();
    weights.push(1 / (rms ** 2 + LEAST_DIFFERENCE ** 2));
  }
  const mean = weights.reduce((sum, weight) => sum + weight, 0) / weights.length;
  return weights.map((weight) => weight / mean);
}

/** What the network sees of clips besides noisy frames, each with a mask of its own, and the difference it is to give. */
async function maskedClips(
  clips: Tensor,
  masks: MaskSettings,
  settings: ResidualSettings,
  draws: Draws,
): Promise<Disposable & { readonly channels: Tensor; readonly wanted: Tensor | undefined }> {
  const [batch = 0, frames = 0] = clips.shape;
  using parts = new DisposableStack();
  const channels: Tensor[] = [];
  const differences: Tensor[] = [];
  for (let sample = 0; sample < batch; sample++) {
    const window = drawMask(frames, masks, draws);
    using clip = await clips.gather(0, [sample]);
    using known = await knownFrames(clip, undefined, window);
    const given = parts.use(await KnownFrames.of(known, window, settings));
    channels.push(given.channels);
    const difference = await given.target(clip);
    if (difference !== undefined) differences.push(parts.use(difference));
  }
  // The target goes to the trainer, which keeps it; the channels are copied.
  const all = await Tensor.cat(channels, 0);
  const wanted = differences.length === 0 ? undefined : await Tensor.cat(differences, 0);
  return { channels: all, wanted, [Symbol.dispose]: () => all.dispose() };
}
