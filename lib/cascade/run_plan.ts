/**
 * From what was asked for to which stages run with which numbers. Nothing is computed here, so that whatever cannot be
 * done is refused before any work.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type ModelIndex, stageSettings } from "./model_index.ts";
import type { StageName } from "./stage.ts";
import { interpolatedLength, WINDOW } from "./windows.ts";

/** What can be asked of a run; every field has a default. */
export interface RunRequest {
  /**
   * Frames of the video: up to as many as the decoder makes (16), or as many as the interpolation makes of these: 31 at
   * skip 2, 46, 61, 76 at skip 5, up to 226 at skip 15. 1 is a still picture.
   *
   * @default {16}
   */
  readonly frames?: number;
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
  /** Steps of the decoder and of the interpolation, 1 to 1,000; by default what the model says. */
  readonly steps?: number;
  /** Classifier-free guidance of the decoder, 0 to 50, 1 for none; by default what the model says. */
  readonly guidance?: number;
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
  const steps = optionalWhole("steps", request.steps, 1, 1000);
  const guidance = optionalNumber("guidance", request.guidance, 0, 50);
  const settings = (name: StageName): { steps: number; guidance: number } => stageSettings(index, name);
  const chosen = (stages: readonly StageName[]): Pick<RunPlan, "steps" | "guidance"> => ({
    steps: Object.fromEntries(
      stages.map((
        name,
      ) => [name, (name === "decoder" || name === "interpolation" ? steps : undefined) ?? settings(name).steps]),
    ),
    guidance: Object.fromEntries(
      stages.map((name) => [name, (name === "decoder" ? guidance : undefined) ?? settings(name).guidance]),
    ),
  });
  stageSettings(index, "text");
  stageSettings(index, "prior");
  if (until === "prior") {
    const given = (["frames", "size", "fps", "steps", "guidance"] as const).find((name) => request[name] !== undefined);
    if (given !== undefined) {
      throw new KinoraError("refused", `${given} cannot be given with until "prior", which makes an embedding`);
    }
    const stages: StageName[] = ["prior"];
    return { stages, keyFrames: 0, skip: 1, frames: 0, madeSize: 0, size: 0, fps: 0, outputFps: 0, ...chosen(stages) };
  }
  const decoder = stageSettings(index, "decoder");
  const fps = optionalNumber("fps", request.fps, 1, 30) ?? decoder.fps;
  const { frames, skip } = length(decoder.frames, request);
  const { stages: enlarging, madeSize, size } = pictureSize(index, decoder.size, request);
  const stages: StageName[] = ["prior", "decoder", ...skip > 1 ? ["interpolation" as const] : [], ...enlarging];
  stages.forEach(settings);
  return {
    stages,
    keyFrames: skip > 1 ? decoder.frames : frames,
    skip,
    frames,
    madeSize,
    size,
    fps,
    outputFps: fps * skip,
    ...chosen(stages),
  };
}

/** The number of frames, and the skip that makes them. */
function length(keyFrames: number, request: RunRequest): { frames: number; skip: number } {
  const most = WINDOW - 1;
  const frames = request.frames ??
    (request.until === "interpolation" ? interpolatedLength(keyFrames, Math.min(5, most)) : keyFrames);
  const skip = (frames - 1) / (keyFrames - 1);
  const few = Number.isInteger(frames) && frames >= 1 && frames <= keyFrames;
  if (!few && !(Number.isInteger(skip) && skip <= most)) {
    const longer = Array.from({ length: most - 1 }, (_, at) => interpolatedLength(keyFrames, at + 2));
    throw new KinoraError(
      "refused",
      `frames must be 1 to ${keyFrames}, or with interpolation ${longer.join(", ")}, not ${frames}`,
    );
  }
  if (few && request.until === "interpolation") {
    throw new KinoraError(
      "refused",
      `until "interpolation" needs more than ${keyFrames} frames, for example ${
        interpolatedLength(keyFrames, 5)
      }, not ${frames}`,
    );
  }
  if (!few && request.until === "decoder") {
    throw new KinoraError("refused", `until "decoder" gives at most ${keyFrames} frames, not ${frames}`);
  }
  return { frames, skip: few ? 1 : skip };
}

/** The size, and the stages that enlarge to it. */
function pictureSize(
  index: ModelIndex,
  smallest: number,
  request: RunRequest,
): { stages: StageName[]; madeSize: number; size: number } {
  const low = index.stages["sr-low"]?.size;
  const high = index.stages["sr-high"]?.size;
  const shown = high === undefined ? undefined : Math.round(high * 2 / 3);
  let stages: StageName[];
  if (request.until === "decoder" || request.until === "interpolation") stages = [];
  else if (request.until === "sr-low") stages = ["sr-low"];
  else if (request.until === "sr-high") stages = ["sr-low", "sr-high"];
  else if (request.size === undefined || request.size === low) stages = ["sr-low"];
  else if (request.size === high || request.size === shown) stages = ["sr-low", "sr-high"];
  else stages = [];
  const last = stages.at(-1);
  const madeSize = last === undefined ? smallest : stageSettings(index, last as "sr-low" | "sr-high").size;
  const size = request.size ?? madeSize;
  if (size !== madeSize && !(last === "sr-high" && size === shown)) {
    if (request.until !== undefined) {
      throw new KinoraError(
        "refused",
        `until "${request.until}" makes ${madeSize} pixels${last === "sr-high" ? ` (or ${shown})` : ""}, not ${size}`,
      );
    }
    const sizes = [...new Set([smallest, low, shown, high])].filter((size) => size !== undefined);
    throw new KinoraError("refused", `size must be one of ${sizes.join(", ")}, not ${size}`);
  }
  return { stages, madeSize, size };
}

function optionalNumber(name: string, value: number | undefined, least: number, most: number): number | undefined {
  if (value !== undefined && !(value >= least && value <= most)) {
    throw new KinoraError("refused", `${name} must be a number from ${least} to ${most}, not ${value}`);
  }
  return value;
}

function optionalWhole(name: string, value: number | undefined, least: number, most: number): number | undefined {
  if (value !== undefined && !(Number.isInteger(value) && value >= least && value <= most)) {
    throw new KinoraError("refused", `${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
  return value;
}
