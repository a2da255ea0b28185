/**
 * What a video was made from, so that it can be made again.
 *
 * @module
 */
import type { Fit } from "../ffi/media.ts";
import type { DiffusionSettings } from "./cascade/model_index.ts";
import type { SamplingChoices } from "./cascade/network_stage.ts";
import type { StageName } from "./cascade/stage.ts";

/** One stage's part in a video. */
export interface StageManifest {
  /** The stage; `text` is the text encoder, `image` the image encoder. */
  readonly stage: "text" | "image" | StageName;
  /** The folder of the network, below the model's own. */
  readonly folder: string;
  /** SHA-256 of the weights file, hexadecimal. */
  readonly weights: string;
  /** How it was sampled; the encoders are not. */
  readonly sampling?:
    & Pick<DiffusionSettings, "schedule" | "prediction" | "sampler" | "times" | "steps" | "guidance">
    & Pick<SamplingChoices, "rescale" | "threshold" | "commonNoise" | "noiseSeconds">;
}

/** A picture or video that another was made from. */
export interface GivenManifest {
  /** SHA-256 of the file, or of the frames' numbers where there was no file, hexadecimal. */
  readonly sha256: string;
  /** Number of frames. */
  readonly frames: number;
  /** Width in pixels. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** Frames a second of a video. */
  readonly fps?: number;
  /** How it was made square. */
  readonly fit: Fit;
}

/** What was asked for: the method of `Cascade` and its options, except what only concerns how it is followed. */
export interface TaskManifest {
  /** The method's name. */
  readonly verb: "generate" | "animate" | "interpolate" | "extend" | "vary";
  /** The options that were given, by their names in the library. */
  readonly options: Readonly<Record<string, unknown>>;
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
  /** What was asked for. */
  readonly task: TaskManifest;
  /** Whether the frames were put back at the size and aspect of the first of `given`. */
  readonly placedBack?: true;
  /** The prompt, where there was one. */
  readonly prompt?: string;
  /** The pictures and videos it was made from, in the order they were given; absent where there are none. */
  readonly given?: readonly GivenManifest[];
  /** The seed; of several samples the seed of the one that was kept. */
  readonly seed: number;
  /** How several samples were ranked, where there were several. */
  readonly ranking?: {
    /** The seed of the first sample; the others have the next ones. */
    readonly firstSeed: number;
    /** For each sample the mean cosine between its frames' embeddings and the text's. */
    readonly scores: readonly number[];
  };
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
