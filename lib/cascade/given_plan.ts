/**
 * Plans of the runs that start from pictures or a video instead of a prompt.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type ModelIndex, stageSettings } from "./model_index.ts";
import { frameCount, optionalNumber, pictureSize, samplingPlan } from "./plan_parts.ts";
import type { RunPlan, SamplingRequest } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import { extensionLayout, interpolatedLength, windowLayout } from "./windows.ts";

/** The most frames of a video that is made of given ones. */
export const MOST_FRAMES = 1024;

/** Frames that a window of an extension is given, unless asked otherwise: half of what the network sees. */
export const OVERLAP = 8;

/** What is to be done with given frames. */
export type GivenTask =
  /** A picture becomes the first frame of a video, and of a loop the one after the last too. */
  | { readonly verb: "animate"; readonly frames?: number | undefined; readonly loop?: boolean | undefined }
  /** Two pictures become the first and the last key frame. */
  | { readonly verb: "join"; readonly frames?: number | undefined }
  /** Frames are put between those of a video. */
  | { readonly verb: "interpolate"; readonly given: number; readonly skip: number }
  /** Frames are put before and after a video. */
  | {
    readonly verb: "extend";
    readonly given: number;
    readonly before: number;
    readonly after: number;
    readonly overlap?: number | undefined;
  }
  /** The decoder makes another video of what a video shows. */
  | { readonly verb: "vary"; readonly frames?: number | undefined; readonly loop?: boolean | undefined };

/** What can be asked of a run that starts from given frames. */
export interface GivenRequest extends SamplingRequest {
  /** Side of the video in pixels, as for `RunRequest`. Default 256. */
  readonly size?: number;
  /** Frames a second of the key frames, 1 to 30; by default those of the given video, else what the model says. */
  readonly fps?: number;
}

/**
 * Decides which stages run.
 *
 * @param index The model.
 * @param task What is to be done.
 * @param request What is asked for; `givenFps` is the rate of the given video, if it has one.
 * @throws {KinoraError} `refused` when a number is not accepted, `not-found` when the model has no stage that is needed.
 */
export function planGiven(
  index: ModelIndex,
  task: GivenTask,
  request: GivenRequest & { readonly givenFps?: number | undefined } = {},
): RunPlan {
  const chosen = samplingPlan(index, request);
  stageSettings(index, "image");
  const decoder = stageSettings(index, "decoder");
  const fps = optionalNumber("fps", request.fps, 1, 30) ??
    (task.verb === "vary" ? undefined : request.givenFps) ?? decoder.fps;
  const { keyFrames, frames, skip, layout, loop = false } = keyFramesOf(decoder.frames, task);
  if (frames > MOST_FRAMES) {
    throw new KinoraError("refused", `the video would have ${frames} frames; at most ${MOST_FRAMES} are made`);
  }
  const { stages: enlarging, madeSize, size } = pictureSize(index, decoder.size, request);
  const stages: StageName[] = [
    ...task.verb === "vary" ? ["decoder" as const] : [],
    ...skip > 1 || layout !== undefined ? ["interpolation" as const] : [],
    ...enlarging,
  ];
  return {
    stages,
    keyFrames,
    skip,
    frames,
    madeSize,
    size,
    fps,
    outputFps: fps * skip,
    ...chosen(stages),
    loop,
    ...layout === undefined ? {} : { layout },
  };
}

function keyFramesOf(
  usual: number,
  task: GivenTask,
): Pick<RunPlan, "keyFrames" | "frames" | "skip"> & Partial<Pick<RunPlan, "layout" | "loop">> {
  switch (task.verb) {
    case "interpolate": {
      const { given, skip } = task;
      if (!Number.isInteger(skip) || skip < 2 || skip > 15) {
        throw new KinoraError("refused", `skip must be a whole number from 2 to 15, not ${skip}`);
      }
      if (given < 2) throw new KinoraError("refused", "A video of one frame has nothing between: give two pictures");
      return { keyFrames: given, frames: interpolatedLength(given, skip), skip };
    }
    case "extend": {
      const { given, before, after, overlap = OVERLAP } = task;
      const layout = extensionLayout(given, { before, after, overlap });
      return { keyFrames: layout.total, frames: layout.total, skip: 1, layout };
    }
    case "join": {
      const { frames, skip } = frameCount(usual, wanted(task));
      const keyFrames = skip > 1 ? usual : frames;
      if (keyFrames < 3) throw new KinoraError("refused", `frames must be at least 3, not ${frames}`);
      return { keyFrames, frames, skip, layout: windowLayout(keyFrames, [0, keyFrames - 1]) };
    }
    case "vary": {
      const { loop = false } = task;
      const { frames, skip } = frameCount(usual, { ...wanted(task), loop });
      return { keyFrames: skip > 1 ? usual : frames, frames, skip, loop };
    }
    default: {
      const { loop = false } = task;
      // The network's last frame is the first one again, and is left out.
      const most = loop ? usual - 1 : usual;
      const { frames, skip } = frameCount(most, { ...wanted(task), loop });
      const keyFrames = skip > 1 ? most : frames;
      if (keyFrames < 2) throw new KinoraError("refused", `frames must be at least 2, not ${frames}`);
      const layout = loop ? windowLayout(keyFrames + 1, [0, keyFrames]) : windowLayout(keyFrames, [0]);
      return { keyFrames, frames, skip, layout, loop };
    }
  }
}

function wanted({ frames }: { readonly frames?: number | undefined }): { readonly frames?: number } {
  return frames === undefined ? {} : { frames };
}
