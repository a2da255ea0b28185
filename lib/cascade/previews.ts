/**
 * What `Cascade.stream` yields: a union on `stage`.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import type { Video } from "../video.ts";

/** What every preview has. */
export interface PreviewProgress {
  /** Steps of the stage that are done. */
  readonly step: number;
  /** Steps of the stage in all. */
  readonly total: number;
  /** Whether the stage is finished: once for each stage, after its last step. */
  readonly done: boolean;
}

/** A step of the prior, or its result. */
export interface PriorPreview extends PreviewProgress {
  /** Says what is previewed. */
  readonly stage: "prior";
  /** The image embedding (1, E) of unit length, once the stage is done. It is the receiver's. */
  readonly embedding: Tensor | undefined;
}

/** A step of the decoder or the interpolation, or its result. */
export interface FramesPreview extends PreviewProgress {
  /** Says what is previewed. */
  readonly stage: "decoder" | "interpolation";
  /**
   * How the frames look now; of the interpolation the window that is worked on. Freed when the next preview is asked for,
   * unless the stage is done: then it is the receiver's.
   */
  readonly video: Video;
}

/** A step of a super-resolution, or its result. */
export interface SuperResolutionPreview extends PreviewProgress {
  /** Says what is previewed. */
  readonly stage: "sr-low" | "sr-high";
  /**
   * How the frames look now; run in chunks, those that are worked on. Freed when the next preview is asked for, unless the
   * stage is done: then it is the receiver's.
   */
  readonly video: Video;
  /** The number of the first frame in `video`. */
  readonly firstFrame: number;
  /** Whether the frames in `video` are finished, though perhaps others are not. */
  readonly finished: boolean;
}

/** A step of a stage, or its result. */
export type CascadePreview = PriorPreview | FramesPreview | SuperResolutionPreview;
