/**
 * A stream run to its end.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Video } from "../video.ts";
import type { CascadeProgress } from "./cascade_options.ts";
import type { CascadePreview } from "./previews.ts";

/**
 * The last video of a stream; those before it are freed.
 *
 * @param previews The stream.
 * @param onProgress Called after each step.
 */
export async function lastVideo(
  previews: AsyncIterable<CascadePreview>,
  onProgress: ((progress: CascadeProgress) => void) | undefined,
): Promise<Video | undefined> {
  let video: Video | undefined;
  try {
    for await (const preview of previews) {
      const { stage, step, total } = preview;
      if (!preview.done) onProgress?.({ stage, step, total });
      else if (preview.stage === "prior") preview.embedding?.dispose();
      else {
        video?.dispose();
        video = preview.video;
      }
    }
    return video;
  } catch (error) {
    video?.dispose();
    throw error;
  }
}

/** A video that must be there. */
export function made(video: Video | undefined): Video {
  if (video === undefined) throw new KinoraError("failed", "No stage made a video");
  return video;
}
