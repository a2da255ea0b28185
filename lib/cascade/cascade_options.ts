/**
 * What can be asked of a cascade.
 *
 * @module
 */
import type { Fit } from "../../ffi/media.ts";
import type { Device, Precision } from "../../ffi/network.ts";
import type { FrameSource } from "./given_frames.ts";
import type { RunRequest } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import type { TextRequest } from "./text_choices.ts";

/** How a cascade is loaded. */
export interface CascadeOptions {
  /**
   * The arithmetic: `f32` is the reference; `auto` is `bf16` where the device makes that fast, else `f32`; `bf16x3` is never
   * chosen unasked.
   *
   * @default {"auto"}
   */
  readonly precision?: Precision | "auto";
  /**
   * What networks compute on: `cuda` is the first NVIDIA GPU, with a library that was built for it.
   *
   * @default {"cpu"}
   */
  readonly device?: Device;
}

/** What can be asked of a cascade. */
export interface GenerateOptions extends RunRequest, TextRequest {
  /**
   * Decides every random number, 0 to 2^53 - 1. The same seed gives the same video on the same machine.
   *
   * @default {0}
   */
  readonly seed?: number;
  /**
   * Samples that prior and decoder make with this seed and the next ones, 1 to 64; the one whose frames the CLIP pair finds
   * most like the prompt is kept.
   *
   * @default {1}
   */
  readonly samples?: number;
  /** A picture or a video that the decoder starts from, in place of noise alone; with `strength`. */
  readonly image?: FrameSource;
  /**
   * How much of `image` is made anew: more than 0, and 1 leaves next to nothing of it.
   *
   * @default {0.6}
   */
  readonly strength?: number;
  /**
   * How `image` becomes square.
   *
   * @default {"cover"}
   */
  readonly fit?: Fit;
  /** Called after each step. */
  readonly onProgress?: (progress: CascadeProgress) => void;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** What can be asked of a cascade that is to make a video. */
export interface VideoOptions extends GenerateOptions {
  /** The last stage that runs, which makes frames; by default what `frames` and `size` need. */
  readonly until?: Exclude<StageName, "prior">;
}

/** What can be asked of a cascade that is to make an embedding. */
export type EmbedOptions = Pick<GenerateOptions, "seed" | "signal" | "negative" | "to" | "mix" | "candidates">;

/** How far a run is. */
export interface CascadeProgress {
  /** The stage that is at work. */
  readonly stage: StageName;
  /** Its steps that are done. */
  readonly step: number;
  /** Its steps in all. */
  readonly total: number;
}
