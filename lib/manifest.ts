/**
 * What a video was made from, so that it can be made again.
 *
 * @module
 */
import type { DiffusionSettings } from "./cascade/model_index.ts";
import type { StageName } from "./cascade/stage.ts";

/** One stage's part in a video. */
export interface StageManifest {
  /** The stage; `text` is the text encoder. */
  readonly stage: "text" | StageName;
  /** The folder of the network, below the model's own. */
  readonly folder: string;
  /** SHA-256 of the weights file, hexadecimal. */
  readonly weights: string;
  /** How it was sampled; the text encoder is not. */
  readonly sampling?: Pick<DiffusionSettings, "schedule" | "prediction" | "sampler" | "times" | "steps" | "guidance">;
}

/** What a video was made from. It has no times and no places, so the same request gives the same manifest. */
export interface Manifest {
  /** Says what kind of file this is. */
  readonly format: "kinora-manifest-1";
  /** Versions of what made it. */
  readonly versions: {
    /** This package. */
    readonly kinora: string;
    /** Its native library. */
    readonly native: string;
    /** Deno. */
    readonly deno: string;
  };
  /** The arithmetic, and the instruction set it ran on; both can change the last bits. */
  readonly arithmetic: { readonly precision: string; readonly isa: string };
  /** The name in the model's `model_index.json`. */
  readonly model: string;
  /** The prompt. */
  readonly prompt: string;
  /** The seed. */
  readonly seed: number;
  /** Number of frames. */
  readonly frames: number;
  /** Output frames from one of the decoder's to the next; 1 without interpolation. */
  readonly skip: number;
  /** Width in pixels. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** Frames a second. */
  readonly fps: number;
  /** What was to be said of the prompt before the work, as that the model has not seen its words; often nothing. */
  readonly warnings: readonly string[];
  /** The stages that ran, in order. */
  readonly stages: readonly StageManifest[];
}
