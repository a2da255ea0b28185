/**
 * What people bring: a picture, an animation, a film, or a folder of numbered pictures, as frames to work on.
 *
 * ```ts ignore
 * using media = await openMedia("cat.jpg", { size: { width: 64, height: 64 } });
 * media.tensor; // (1, 64, 64, 3) in [-1, 1]
 * using back = await placeBack(result, media); // at the aspect of cat.jpg
 * ```
 *
 * Everything becomes RGB in 8 bits per channel, upright as EXIF says, on white where it is transparent. The fitting of
 * another aspect is {@linkcode Fit}; a picture is resized with an antialiased bicubic filter, as Pillow's.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { JobOptions } from "../../ffi/job.ts";
import {
  type DecodedMedia,
  decodeMedia,
  type DecodeMediaOptions,
  decodeMediaSequence,
  type Fit,
  type FrameDuration,
  type Placement,
} from "../../ffi/media.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { Video } from "../video.ts";
import { ffmpegIsThere, withFfmpeg } from "./ffmpeg.ts";
import { numberedPictures } from "./numbered_pictures.ts";

/** The frames a second of a folder of pictures, unless another rate is said. */
export const SEQUENCE_FPS = 8;

/** What is wanted of a file. */
export interface OpenMediaOptions extends JobOptions {
  /** The wanted size in pixels, 1 to 8,192 each; default the file's own. */
  readonly size?: { readonly width: number; readonly height: number } | undefined;
  /** How a file of another aspect comes to that size; default `"cover"`. */
  readonly fit?: Fit | undefined;
  /**
   * The wanted frames a second, 0.01 to 1,000; default the file's own timing. At each instant `k / fps` the frame is taken
   * that is shown then, so that frames are repeated or left out, never mixed.
   */
  readonly fps?: number | undefined;
  /** The most frames that are wanted, from the first on; default all. */
  readonly frames?: number | undefined;
  /** How many of the pictures of a folder make a second, 0.01 to 1,000; default {@linkcode SEQUENCE_FPS}. */
  readonly sequenceFps?: number | undefined;
}

/** The size of a file as it is shown, and how it was placed; what {@linkcode placeBack} needs. */
export interface PlacedSource {
  /** Width of the file in pixels, as it is shown. */
  readonly sourceWidth: number;
  /** Height of the file in pixels, as it is shown. */
  readonly sourceHeight: number;
  /** How it was brought to a wanted size; `undefined` where none was wanted. */
  readonly placement: Placement | undefined;
}

/** An opened file. It holds its frames in native memory, which is freed when it is disposed or no longer used. */
export class Media implements Disposable, PlacedSource {
  /** The file or folder. */
  readonly path: string;
  /** The frames (F, H, W, 3) in [-1, 1]. */
  readonly tensor: Tensor;
  /** What kind of file it is, by its content; `"sequence"` for a folder, `"ffmpeg"` where that decoded it. */
  readonly format: DecodedMedia["format"] | "sequence" | "ffmpeg";
  /** How long each frame stays; `[0, n]` in a still. */
  readonly durations: readonly FrameDuration[];
  /** Whether anything was transparent and is white now. */
  readonly alpha: boolean;
  /** Width of the file in pixels, as it is shown. */
  readonly sourceWidth: number;
  /** Height of the file in pixels, as it is shown. */
  readonly sourceHeight: number;
  /** How it was brought to a wanted size; `undefined` where none was wanted. */
  readonly placement: Placement | undefined;

  /** Takes what was read; see {@linkcode openMedia}. */
  constructor(path: string, format: Media["format"], decoded: DecodedMedia) {
    this.path = path;
    this.format = format;
    this.tensor = decoded.tensor;
    this.durations = decoded.durations;
    this.alpha = decoded.alpha;
    this.sourceWidth = decoded.width;
    this.sourceHeight = decoded.height;
    this.placement = decoded.placement;
  }

  /** Number of frames. */
  get frames(): number {
    return this.tensor.shape[0] ?? 0;
  }

  /** Height of the frames in pixels. */
  get height(): number {
    return this.tensor.shape[1] ?? 0;
  }

  /** Width of the frames in pixels. */
  get width(): number {
    return this.tensor.shape[2] ?? 0;
  }

  /** Duration in seconds; 0 of a still. */
  get duration(): number {
    return this.durations.reduce((sum, [ticks, perSecond]) => sum + ticks / perSecond, 0);
  }

  /** Whether all frames stay equally long. */
  get steady(): boolean {
    const [first] = this.durations;
    return first === undefined || this.durations.every(([ticks, of]) => ticks * first[1] === first[0] * of);
  }

  /** Frames a second, the mean where they stay for different times; `undefined` where there is no time, as in a still. */
  get fps(): number | undefined {
    const [first] = this.durations;
    if (first !== undefined && first[0] > 0 && this.steady) return first[1] / first[0];
    return this.duration > 0 ? this.frames / this.duration : undefined;
  }

  /**
   * The frames as a video, which keeps their durations where they differ.
   *
   * @param options `fps` is the rate of a still; default 1.
   */
  async video(options: { readonly fps?: number | undefined } = {}): Promise<Video> {
    const tensor = await this.tensor.reshape(this.tensor.shape);
    const fps = Math.min(1000, Math.max(0.01, this.fps ?? options.fps ?? 1));
    return new Video(tensor, { fps, durations: this.steady ? undefined : this.durations });
  }

  /** Frees the frames. */
  dispose(): void {
    this.tensor.dispose();
  }

  /** Frees the frames. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Opens a picture, an animation or a film (see {@linkcode decodeMedia}), or a folder of numbered pictures of one size, in
 * the order of the last number in their names. A film of a kind that is not decoded here, such as HEVC, is decoded by
 * `ffmpeg`, at a steady rate, where that is on the path and may be run.
 *
 * @param path The file or folder.
 * @param options What is wanted of it.
 * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be read; `unsupported` when it is of a
 * kind that is not decoded; `refused` for options out of range, a folder without numbered pictures, or frames that would
 * take more than 2 GiB.
 */
export async function openMedia(path: string, options: OpenMediaOptions = {}): Promise<Media> {
  const { size, fit = "cover", sequenceFps = SEQUENCE_FPS, ...rest } = options;
  const wanted: DecodeMediaOptions = {
    ...rest,
    background: "white",
    size: size === undefined ? undefined : { width: size.width, height: size.height, fit },
  };
  if (await isFolder(path)) {
    const paths = await numberedPictures(path);
    return new Media(path, "sequence", await decodeMediaSequence(paths, { ...wanted, rate: sequenceFps }));
  }
  try {
    const decoded = await decodeMedia(path, wanted);
    return new Media(path, decoded.format, decoded);
  } catch (error) {
    if (!(error instanceof KinoraError) || error.code !== "unsupported") throw error;
    if (!await ffmpegIsThere()) {
      throw new KinoraError(
        "unsupported",
        `${error.message}; with ffmpeg on the path, and --allow-run=ffmpeg, it would be`,
      );
    }
    const { fps, frames, signal } = rest;
    const decoded = await withFfmpeg(path, { fps, frames, signal }, (y4m) => decodeMedia(y4m, wanted));
    return new Media(path, "ffmpeg", decoded);
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) {
      throw new KinoraError("permission", `"${path}" may not be read: run Deno with --allow-read=${path}`, { cause });
    }
    // Whatever else is wrong, reading it says so.
    return false;
  }
}
