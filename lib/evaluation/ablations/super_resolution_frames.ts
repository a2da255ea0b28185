/**
 * Super-resolution frame by frame and over frames: SR_l^t against per-frame SR_l, and noise of SR_h.
 *
 * @module
 */
import { Tensor } from "../../../ffi/tensor.ts";
import { stageSettings } from "../../cascade/model_index.ts";
import { loadNetwork } from "../../cascade/network_stage.ts";
import { enlargedFrames, SuperResolution, type SuperResolutionName } from "../../cascade/super_resolution.ts";
import type { Clip } from "../../data/dataset_index.ts";
import { largeClipRows } from "../../training/clip_sampling.ts";
import { psnr, rmsDifference } from "../../training/measures.ts";
import { heldOut, spread, type TrainingData } from "../../training/training_data.ts";
import { cutSide } from "../super_resolution.ts";
import type { AblationArm, AblationGroup, AblationSettings, ArmOptions, Measured } from "./ablation.ts";
import { firstClip, numbers } from "./clip_figures.ts";

/** Frames of each clip; data sets keep few large ones. */
const FRAMES = 6;

/** Deviation of the grain on the frames at rest, of colours from -1 to 1: what clips of the decoder have is of this order. */
const GRAIN = 0.05;

/** Streams of the grain: no stage uses them. */
const GRAIN_STREAM = 0xffff_fff0;

const PROTOCOL =
  `Real clips of ${FRAMES} frames, of concepts kept from training, are made small by box averages and large ` +
  "again. gain: peak signal-to-noise ratio over that of a bicubic filter, in dB; mean over clips. change_error: root mean " +
  "square difference between the change from frame to frame and the real one; change_error_bicubic: of the filter. " +
  "flicker: root mean square change from frame to frame where the clip's first frame stands still; flicker_grain: the same " +
  `with grain of deviation ${GRAIN} on the small frames, another on each; flicker_grain_bicubic: of the filter. Colours from 0 to 1.`;

/** Whether the first super-resolution sees the frames together. */
export const superResolutionTime: AblationGroup = {
  name: "sr-low-time",
  question: "SR_l^t over frames against SR_l frame by frame",
  protocol: `${PROTOCOL} Frame by frame the same weights run without their temporal layers.`,
  stages: ["sr-low"],
  needsData: true,
  arms: (cascade, options) => {
    const { steps, augmentation } = stageSettings(cascade.index, "sr-low");
    const settings = { steps, augmentation };
    return [
      arm("sr-low", "together", { together: true, noise: "shared" }, settings, options),
      arm("sr-low", "frame by frame", { together: false, noise: "shared" }, settings, options),
      arm("sr-low", "frame by frame, own noise", { together: false, noise: "independent" }, settings, options),
    ];
  },
};

/** Whether all frames of the second super-resolution start from the same noise. */
export const superResolutionNoise: AblationGroup = {
  name: "sr-high-noise",
  question: "Shared against independent noise in SR_h",
  protocol: PROTOCOL,
  stages: ["sr-high"],
  needsData: true,
  arms: (cascade, options) => {
    const { steps, augmentation } = stageSettings(cascade.index, "sr-high");
    const settings = { steps, augmentation };
    return [
      arm("sr-high", "shared", { noise: "shared", together: false }, settings, options),
      arm("sr-high", "independent", { noise: "independent", together: false }, settings, options),
    ];
  },
};

/** How frames are enlarged. */
interface Way {
  readonly together: boolean;
  readonly noise: "shared" | "independent";
}

function arm(
  name: SuperResolutionName,
  called: string,
  way: Way & AblationSettings,
  settings: AblationSettings,
  { samples }: ArmOptions,
): AblationArm {
  return {
    name: called,
    varied: way,
    settings: { ...settings, frames: FRAMES, clips: samples, grain: GRAIN },
    seeds: numbers(1, samples).map((index) => index * FRAMES),
    async measure({ cascade, data, signal, onProgress }): Promise<Measured> {
      const own = stageSettings(cascade.index, name);
      const smaller = name === "sr-low"
        ? stageSettings(cascade.index, "decoder")
        : stageSettings(cascade.index, "sr-low");
      const factor = own.size / smaller.size;
      const network = await loadNetwork(cascade.index.folder, own, { precision: cascade.precision });
      const side = cutSide(data.side("clips256"), factor, network.config);
      // It frees the network.
      using stage = new SuperResolution(name, network, { ...own, size: side }, cascade.precision);
      const clips = spread(largeClips(data), samples);
      const sums: Record<string, number> = {};
      let frames: Tensor | undefined;
      for (const [index, large] of clips.entries()) {
        using truth = await squares(data, large, side);
        const seed = (index + 1) * FRAMES;
        using small = await truth.resize({ height: side / factor, width: side / factor, filter: "area" });
        using made = await enlarge(stage, small, way, seed, signal);
        using bicubic = await enlargedFrames(small, { size: side, level: 0, seeds: [seed], stream: 0 });
        using still = await small.gather(1, new Array<number>(FRAMES).fill(0));
        using resting = await enlarge(stage, still, way, seed, signal);
        using grain = await Tensor.noise({ shape: still.shape, seeds: [seed], stream: GRAIN_STREAM });
        using grainy = await Tensor.combine([{ tensor: still, scale: 1 }, { tensor: grain, scale: GRAIN }]);
        using restless = await enlarge(stage, grainy, way, seed, signal);
        using filtered = await enlargedFrames(grainy, { size: side, level: 0, seeds: [seed], stream: 0 });
        const figures = {
          gain: await psnr(made, truth) - await psnr(bicubic, truth),
          change_error: await changeError(made, truth),
          change_error_bicubic: await changeError(bicubic, truth),
          flicker: await change(resting),
          flicker_grain: await change(restless),
          flicker_grain_bicubic: await change(filtered),
        };
        for (const [key, value] of Object.entries(figures)) sums[key] = (sums[key] ?? 0) + value / clips.length;
        frames ??= await firstClip(made);
        onProgress(index + 1, clips.length);
      }
      return { figures: sums, ...frames === undefined ? {} : { frames } };
    },
  };
}

/** Large clips of concepts kept from training; a small data set has none to spare. */
function largeClips(data: TrainingData): NonNullable<Clip["large"]>[] {
  const all = data.clips.filter(({ large }) => large !== null);
  const kept = all.filter(({ concept }) => heldOut(concept));
  return (kept.length === 0 ? all : kept).flatMap(({ large }) => large ?? []);
}

/** The middle of a clip, (1, F, S, S, 3). */
async function squares(data: TrainingData, large: NonNullable<Clip["large"]>, side: number): Promise<Tensor> {
  const place = new Array<number>(FRAMES).fill((data.side("clips256") - side) >> 1);
  const rows = largeClipRows(large, { frames: FRAMES, first: 0 });
  return await data.sequences("clips256", [rows], { size: side, top: place, left: place });
}

/** Enlarges one clip: as frames of a video, or as so many videos of one frame. */
async function enlarge(
  stage: SuperResolution,
  small: Tensor,
  way: Way,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<Tensor> {
  if (way.together) return await stage.sample(small, { seeds: [seed], signal });
  const [, frames = 0, ...picture] = small.shape;
  using apart = await small.reshape([frames, 1, ...picture]);
  const seeds = numbers(seed, frames).map((own) => way.noise === "shared" ? seed : own);
  using made = await stage.sample(apart, { seeds, signal });
  return await made.reshape([1, frames, ...made.shape.slice(2)]);
}

/** Each frame less the one before, of (1, F, H, W, 3). */
async function changes(clip: Tensor): Promise<Tensor> {
  const frames = clip.shape[1] ?? 0;
  using before = await clip.gather(1, numbers(0, frames - 1));
  using after = await clip.gather(1, numbers(1, frames - 1));
  return await Tensor.combine([{ tensor: after, scale: 1 }, { tensor: before, scale: -1 }]);
}

/** Root mean square change from frame to frame, of colours from 0 to 1. */
async function change(clip: Tensor): Promise<number> {
  using difference = await changes(clip);
  return (await difference.stats()).rms / 2;
}

async function changeError(clip: Tensor, truth: Tensor): Promise<number> {
  using made = await changes(clip);
  using real = await changes(truth);
  return await rmsDifference(made, real) / 2;
}
