/**
 * Watching a cascade, or one of its stages, at work under a notebook's cell.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import type { CascadePreview } from "../cascade/previews.ts";
import type { SamplingStep } from "../diffusion/sample.ts";
import { Video } from "../video.ts";
import { live, type LiveTarget } from "./live.ts";

/** How a run is watched. */
export interface WatchOptions {
  /** What the line says; by default `video`. */
  readonly label?: string;
  /** Where the line is drawn; by default under the notebook's cell. */
  readonly target?: LiveTarget;
}

/** How a stage is watched. */
export interface WatchStepsOptions extends WatchOptions {
  /** Frames a second that previews are shown at. @default {8} */
  readonly fps?: number;
}

/**
 * Runs a cascade to its end with a live line and a preview that sharpens, and shows the video in their place.
 *
 * @example In a notebook
 * ```ts ignore
 * const video = await watch(cascade.stream("a butterfly", { seed: 7 }));
 * ```
 *
 * @param previews What `Cascade.stream` gives.
 * @param options How.
 * @returns The video of the last stage, which is the caller's. A run that Interrupt stopped throws `cancelled`.
 */
export async function watch(previews: AsyncIterable<CascadePreview>, options: WatchOptions = {}): Promise<Video> {
  const { label = "video", target } = options;
  return await live(label, async ({ signal, report }) => {
    let video: Video | undefined;
    try {
      for await (const preview of previews) {
        const { stage, step, total } = preview;
        if (preview.stage === "prior") preview.embedding?.dispose();
        else if (preview.done) {
          video?.dispose();
          video = preview.video;
        }
        signal.throwIfAborted();
        await report({ stage, step, total, preview: preview.stage === "prior" ? undefined : preview.video });
      }
    } catch (error) {
      video?.dispose();
      throw error;
    }
    if (video === undefined) {
      throw new KinoraError("refused", "watch shows a video, but no stage of this run makes one");
    }
    return video;
  }, { target, result: (video) => video });
}

/**
 * Runs one stage to its end with a live line, and a preview where it makes frames.
 *
 * @param label What the line says, for example `decoder`.
 * @param steps What the `stream` of a stage gives.
 * @param options How.
 * @returns What the stage makes.
 */
export async function watchSteps(
  label: string,
  steps: AsyncGenerator<SamplingStep, Tensor, void>,
  options: WatchStepsOptions = {},
): Promise<Tensor> {
  const { fps = 8, target } = options;
  return await live(label, async ({ signal, report }) => {
    try {
      for (;;) {
        const result = await steps.next();
        if (result.done) return result.value;
        signal.throwIfAborted();
        const { step, total, clean } = result.value;
        const pictures = clean.shape.length === 5 && clean.shape[4] === 3;
        using first = pictures ? await clean.gather(0, [0]) : undefined;
        using frames = first === undefined ? undefined : await first.reshape(first.shape.slice(1));
        const preview = frames === undefined ? undefined : { tensor: frames, fps };
        await report({ stage: label, step, total, preview });
      }
    } finally {
      await steps.return(undefined as unknown as Tensor);
    }
  }, { target });
}

/**
 * A batch's first video, to be shown.
 *
 * @param frames Frames (B, F, H, W, 3) in [-1, 1], as the stages make them; they stay the caller's.
 * @param fps Frames a second.
 */
export async function firstVideo(frames: Tensor, fps: number): Promise<Video> {
  using first = await frames.gather(0, [0]);
  return new Video(await first.reshape(first.shape.slice(1)), { fps });
}
