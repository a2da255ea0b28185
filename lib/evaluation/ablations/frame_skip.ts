/**
 * Frame skip and mask of upF.
 *
 * @module
 */
import type { NetworkInputs } from "../../../ffi/network.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import { COLOURS } from "../../cascade/decoder.ts";
import { Interpolation } from "../../cascade/interpolation.ts";
import { stageSettings } from "../../cascade/model_index.ts";
import { loadNetwork } from "../../cascade/network_stage.ts";
import { HiddenFrames } from "../../training/hidden_frames.ts";
import { motionOf } from "../../training/measures.ts";
import { spread } from "../../training/training_data.ts";
import type { AblationArm, AblationGroup, AblationWork, ArmOptions, Measured } from "./ablation.ts";
import { firstClip, numbers } from "./clip_figures.ts";

/** Distances of known frames in the window of 16 that the network sees. */
const SKIPS: readonly number[] = [2, 3, 4, 5, 15];

/** The channel that is 1 where a frame is masked: behind the noisy and the known frames. */
const MASK = 2 * COLOURS;

/** Frame skip, with the channel that says which frames are masked and without it. */
export const frameSkip: AblationGroup = {
  name: "frame-skip",
  question: "Frame skip and mask of the interpolation",
  protocol:
    "Of real clips kept from training every SKIPth frame is given, at half the greatest trained rate. gain: peak " +
    "signal-to-noise ratio of the hidden frames, less that of a linear blend, in dB; mean over clips. motion and " +
    "motion_real: mean absolute difference of neighbouring frames at 8 x 8 pixels. Without the mask the network's channel " +
    "that is 1 where a frame is masked is 0 everywhere: the network was trained with it.",
  stages: ["image", "interpolation"],
  needsData: true,
  arms(cascade, options): AblationArm[] {
    const { steps, guidance, fps_range } = stageSettings(cascade.index, "interpolation");
    return [true, false].flatMap((mask) =>
      SKIPS.map((skip) => arm({ skip, mask }, { fps: fps_range.most / 2, steps, guidance }, options))
    );
  },
};

function arm(
  varied: { readonly skip: number; readonly mask: boolean },
  settings: { readonly fps: number; readonly steps: number; readonly guidance: number },
  options: ArmOptions,
): AblationArm {
  const { skip, mask } = varied;
  return {
    name: `skip ${skip}${mask ? "" : ", no mask"}`,
    varied,
    settings: { ...settings, clips: options.samples },
    seeds: numbers(1, options.samples),
    async measure(work): Promise<Measured> {
      // It frees the network.
      using stage = await interpolation(work, mask);
      const bank = await work.bank();
      const clips = spread(work.data.unseenClips, options.samples);
      const sums = { psnr: 0, psnr_blend: 0, motion: 0, motion_real: 0 };
      let frames: Tensor | undefined;
      for (const [index, clip] of clips.entries()) {
        const wanted = { clips: [clip], bank, seeds: [index + 1], fps: settings.fps, skip, signal: work.signal };
        using hidden = await HiddenFrames.make(stage, work.data, wanted);
        const { made, blend } = await hidden.psnr();
        sums.psnr += made / clips.length;
        sums.psnr_blend += blend / clips.length;
        sums.motion += (await motionOf(hidden.made)).motion / clips.length;
        sums.motion_real += (await motionOf(hidden.truth)).motion / clips.length;
        frames ??= await firstClip(hidden.made);
        work.onProgress(index + 1, clips.length);
      }
      return {
        figures: { gain: sums.psnr - sums.psnr_blend, ...sums },
        ...frames === undefined ? {} : { frames },
      };
    },
  };
}

async function interpolation({ cascade }: AblationWork, mask: boolean): Promise<Interpolation> {
  const settings = stageSettings(cascade.index, "interpolation");
  const network = await loadNetwork(cascade.index.folder, settings, { precision: cascade.precision });
  return new (mask ? Interpolation : MasklessInterpolation)(network, settings, cascade.precision);
}

/** An interpolation that is not told which frames are masked. */
class MasklessInterpolation extends Interpolation {
  protected override async predict(inputs: NetworkInputs, channels: number, signal?: AbortSignal): Promise<Tensor> {
    const { sample } = inputs;
    if (!(sample instanceof Tensor)) return await super.predict(inputs, channels, signal);
    const last = sample.shape.length - 1;
    const all = numbers(0, sample.shape[last] ?? 0);
    using channel = await sample.gather(last, [MASK]);
    using zeros = await Tensor.combine([{ tensor: channel, scale: 0 }]);
    using both = await Tensor.cat([sample, zeros], last);
    using told = await both.gather(last, all.map((channel) => channel === MASK ? all.length : channel));
    return await super.predict({ ...inputs, sample: told }, channels, signal);
  }
}
