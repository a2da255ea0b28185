/**
 * Which frames of a looping clip make a training clip.
 *
 * @module
 */
import type { Clip } from "../data/dataset_index.ts";

/** What is wanted of a clip. */
export interface ClipSampling {
  /** Number of frames, at least 1. */
  readonly frames: number;
  /** Frames a second. */
  readonly fps: number;
  /** The frame of the clip that it starts at. */
  readonly first: number;
}

/**
 * The rows of a clip that show it at a frame rate. Clips loop, so any start and rate gives as many frames as are wanted.
 *
 * @param clip The clip.
 * @param sampling What is wanted.
 * @returns Rows of `clips64`, one for each frame.
 */
export function clipRows(clip: Clip, sampling: ClipSampling): number[] {
  const stride = 1000 / clip.delayMs / sampling.fps;
  return Array.from(
    { length: sampling.frames },
    (_, frame) => clip.start + (sampling.first + Math.round(frame * stride)) % clip.length,
  );
}

/**
 * Neighbouring rows of a clip in the full-size store, going round at its end.
 *
 * @param large Where the clip lies.
 * @param sampling The number of frames, and the row (of the clip's own) to start at.
 * @returns Rows of `clips256`.
 */
export function largeClipRows(
  large: NonNullable<Clip["large"]>,
  sampling: Omit<ClipSampling, "fps">,
): number[] {
  return Array.from(
    { length: sampling.frames },
    (_, frame) => large.start + (sampling.first + frame) % large.frames.length,
  );
}
