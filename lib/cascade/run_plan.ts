/**
 * From what was asked for to which stages run with which numbers. Nothing is computed here, so that whatever cannot be
 * done is refused before any work.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type ModelIndex, stageSettings } from "./model_index.ts";
import type { SamplingChoices } from "./network_stage.ts";
import { frameCount, optionalNumber, optionalWhole, pictureSize, samplingPlan } from "./plan_parts.ts";
import type { StageName } from "./stage.ts";
import type { FrameLayout } from "./windows.ts";

/** A sampler by the name that requests have for it. */
export type SamplerName = "ddim" | "ddpm" | "dpm-solver++";

/** How the stages that make frames of noise are to be sampled; every field has a default. */
export interface SamplingRequest {
  /** Steps of the decoder and of the interpolation, 1 to 1,000; by default what the model says. */
  readonly steps?: number;
  /**
   * Classifier-free guidance, 0 to 50, 1 for none, of the decoder, or where it does not run of the interpolation; by
   * default what the model says.
   */
  readonly guidance?: number;
  /** The sampler of the decoder and of the interpolation; by default what the model says. */
  readonly sampler?: SamplerName;
  /**
   * How far the spread of guided outputs is brought back, 0 to 1 (Lin et al. 2023).
   *
   * @default {0}
   */
  readonly rescale?: number;
  /** Dynamic thresholding: the quantile that is scaled to the end of the range, 0.5 to 1; by default frames are cut there. */
  readonly threshold?: number;
  /**
   * The share of the noise's variance that all frames have in common, 0 to 1 (Ge et al. 2023); by default what the model's
   * decoder was trained with, and none for the interpolation.
   */
  readonly commonNoise?: number;
  /**
   * Seconds over which the rest of the decoder's noise changes, 0 to 60: the longer, the slower a video moves. At 0 each
   * frame's noise is its own; by default what the model's decoder was trained with.
   */
  readonly noiseSeconds?: number;
}

/** What can be asked of a run; every field has a default. */
export interface RunRequest extends SamplingRequest {
  /**
   * Frames of the video: up to as many as the decoder makes (16), or as many as the interpolation makes of these: 31 at
   * skip 2, 46, 61, 76 at skip 5, up to 226 at skip 15. 1 is a still picture.
   *
   * @default {16}
   */
  readonly frames?: number;
  /**
   * Frames that the decoder makes, 2 to 256: more than the model says (16) are made in overlapping parts. The
   * interpolation then makes `(keyFrames - 1) * skip + 1` of them.
   *
   * @default {16}
   */
  readonly keyFrames?: number;
  /**
   * Side of the video in pixels: what the decoder (64) or a super-resolution (256, 768) makes, or two thirds of the
   * largest (512), which is the largest one made smaller, as the paper shows its results.
   *
   * @default {256}
   */
  readonly size?: number;
  /**
   * Frames a second that the decoder's frames are made for, 1 to 30. The video has this times the skip, so that it lasts
   * as long with interpolation as without.
   *
   * @default {8}
   */
  readonly fps?: number;
  /** The last stage that runs; by default what `frames` and `size` need. */
  readonly until?: StageName;
  /** Embeddings that the prior draws, of which the closest to the text's is kept, 1 to 64; by default what the model says. */
  readonly candidates?: number;
  /**
   * Whether the last frame is to be followed by the first one. The interpolation then makes `keyFrames * skip` frames.
   *
   * @default {false}
   */
  readonly loop?: boolean;
}

/** Which stages run, with which numbers. */
export interface RunPlan {
  /** The stages that run, in order. */
  readonly stages: readonly StageName[];
  /** Frames that the decoder makes. */
  readonly keyFrames: number;
  /** Output frames from one of the decoder's frames to the next; 1 without interpolation. */
  readonly skip: number;
  /** Frames of the video. */
  readonly frames: number;
  /** Side of what the last stage makes, in pixels. */
  readonly madeSize: number;
  /** Side of the video in pixels, at most `madeSize`. */
  readonly size: number;
  /** The rate that the decoder's frames are made for. */
  readonly fps: number;
  /** The rate of the video, `fps * skip`. */
  readonly outputFps: number;
  /** Steps of each stage that runs. */
  readonly steps: Readonly<Partial<Record<StageName, number>>>;
  /** Guidance of each stage that runs. */
  readonly guidance: Readonly<Partial<Record<StageName, number>>>;
  /** How else the stages that make frames of noise are sampled, where not as the model says. */
  readonly choices: Readonly<Partial<Record<StageName, SamplingChoices>>>;
  /** Embeddings that the prior draws, where not as many as the model says. */
  readonly candidates?: number;
  /** Whether the last frame is followed by the first. */
  readonly loop: boolean;
  /** Where given frames lie among the key frames, which the interpolation then makes instead of the decoder. */
  readonly layout?: FrameLayout;
}

/**
 * Decides which stages run.
 *
 * @param index The model.
 * @param request What is asked for.
 * @throws {KinoraError} `refused` when a number is not accepted or two do not go together, `not-found` when the model has
 * no stage that is needed.
 */
export function planRun(index: ModelIndex, request: RunRequest = {}): RunPlan {
  const { until } = request;
  const chosen = samplingPlan(index, request);
  const candidates = optionalWhole("candidates", request.candidates, 1, 64);
  const more = { loop: request.loop ?? false, ...candidates === undefined ? {} : { candidates } };
  stageSettings(index, "text");
  stageSettings(index, "prior");
  if (until === "prior") {
    const given = ([
      "frames",
      "keyFrames",
      "size",
      "fps",
      "steps",
      "guidance",
      "sampler",
      "rescale",
      "threshold",
      "commonNoise",
      "noiseSeconds",
      "loop",
    ] as const).find((name) => request[name] !== undefined && request[name] !== false);
    if (given !== undefined) {
      throw new KinoraError("refused", `${given} cannot be given with until "prior", which makes an embedding`);
    }
    const stages: StageName[] = ["prior"];
    const none = { keyFrames: 0, skip: 1, frames: 0, madeSize: 0, size: 0, fps: 0, outputFps: 0 };
    return { stages, ...none, ...chosen(stages), ...more };
  }
  const decoder = stageSettings(index, "decoder");
  const fps = optionalNumber("fps", request.fps, 1, 30) ?? decoder.fps;
  const keyFrames = optionalWhole("keyFrames", request.keyFrames, 2, 256) ?? decoder.frames;
  const { frames, skip } = frameCount(keyFrames, request);
  const { stages: enlarging, madeSize, size } = pictureSize(index, decoder.size, request);
  const stages: StageName[] = ["prior", "decoder", ...skip > 1 ? ["interpolation" as const] : [], ...enlarging];
  return {
    stages,
    keyFrames: skip > 1 ? keyFrames : frames,
    skip,
    frames,
    madeSize,
    size,
    fps,
    outputFps: fps * skip,
    ...chosen(stages),
    ...more,
  };
}
