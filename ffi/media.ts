/**
 * Pictures and animations, from and to files.
 *
 * @module
 */
import { handleOf } from "./handle.ts";
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import { Tensor } from "./tensor.ts";

/** How long a frame stays: so many ticks, of so many a second. `[1001, 30000]` is a frame at 29.97 frames a second. */
export type FrameDuration = readonly [ticks: number, perSecond: number];

/** A rectangle of whole pixels. */
export interface PixelRect {
  /** Pixels to the left of it. */
  readonly x: number;
  /** Rows above it. */
  readonly y: number;
  /** Pixels a row, at least 1. */
  readonly width: number;
  /** Rows, at least 1. */
  readonly height: number;
}

/**
 * How a picture comes to a size of another aspect: with `"cover"` its middle fills the size and what sticks out is cut
 * off, with `"contain"` all of it lies in the middle of the size and the rest is white.
 */
export type Fit = "cover" | "contain";

/** What part of a picture went where, when it was brought to a size. */
export interface Placement {
  /** The part of the picture that is shown, in the picture's pixels: all of it with `"contain"`. */
  readonly crop: PixelRect;
  /** Where it lies in the wanted size, in that size's pixels: all of it with `"cover"`. */
  readonly content: PixelRect;
  /** The wanted size. */
  readonly size: { readonly width: number; readonly height: number };
}

/** How pictures are written. */
export interface EncodeMediaOptions extends JobOptions {
  /** Frames a second, 0.01 to 1,000 (in a GIF at most 100); not read for a single picture. */
  readonly fps?: number | undefined;
  /** A duration for each frame, at most a minute, instead of `fps`. */
  readonly durations?: readonly FrameDuration[] | undefined;
}

/** How pictures are read. */
export interface DecodeMediaOptions extends JobOptions {
  /** What shows through where a picture is transparent; the result has three channels then instead of four. */
  readonly background?: "white" | undefined;
  /** The wanted size in pixels, 1 to 8,192 each, with how to come to it; the background is white then. */
  readonly size?: { readonly width: number; readonly height: number; readonly fit: Fit } | undefined;
  /**
   * The wanted frames a second, 0.01 to 1,000: at each instant `k / fps` the frame is taken that is shown then. A frame of an
   * animation that has no duration counts as a tenth of a second, as browsers show it.
   */
  readonly fps?: number | undefined;
  /** The most frames that are wanted; those after them are not decoded. */
  readonly frames?: number | undefined;
}

/** What was read. */
export interface DecodedMedia {
  /** The frames (F, H, W, 4) in [-1, 1], or (F, H, W, 3) on white; whoever asked disposes it. */
  readonly tensor: Tensor;
  /** How long each frame stays, in milliseconds; 0 in a still. */
  readonly delaysMs: readonly number[];
  /** The same, exactly as the file says. */
  readonly durations: readonly FrameDuration[];
  /** Whether anything that was read is transparent. */
  readonly alpha: boolean;
  /** What kind of file it is, by its content. */
  readonly format: "png" | "gif" | "webp" | "jpeg" | "y4m" | "mp4";
  /** Width of the source in pixels, as it is shown: EXIF orientation is applied. */
  readonly width: number;
  /** Height of the source in pixels, as it is shown. */
  readonly height: number;
  /** How many pictures were decoded to come to these frames. */
  readonly pictures: number;
  /** How the source was placed, where a size was wanted. */
  readonly placement: Placement | undefined;
}

/**
 * Writes pictures as a file, which appears whole or not at all.
 *
 * @param tensor Frames (F, H, W, 3), or one picture (H, W, 3), in [-1, 1]; what lies beyond is clamped.
 * @param path The file; its ending decides the format: `.gif`; `.png` or `.apng`, animated where there are several frames;
 * `.webp`, lossless and likewise; `.mp4` (H.264, 4:2:0; an odd side becomes one pixel longer); `.y4m` (4:4:4). Both films are
 * BT.601 in limited range.
 * @param options The frame rate, or durations.
 * @returns The size of the file in bytes.
 * @throws {KinoraError} `refused` for another ending or shape, or a timing that the format cannot say; `not-found` when there
 * is no such folder, `permission` or `io` when it cannot be written.
 */
export async function encodeMedia(
  tensor: Tensor,
  path: string,
  options: EncodeMediaOptions,
): Promise<{ readonly bytes: number }> {
  checkMayWrite(path);
  const { fps, durations, ...rest } = options;
  return await runJob({ verb: "media.encode", tensor: handleOf(tensor), path, fps, durations }, rest, [tensor]);
}

/**
 * Reads a PNG, APNG, JPEG, GIF, WebP, MP4 (H.264 of the profiles Baseline, Main and High with 8 bits and 4:2:0) or Y4M
 * file; frames are whole pictures, upright. Samples deeper than 8 bits are rounded to 8; colour profiles and pixels that
 * are not square are not minded.
 *
 * @param path The file.
 * @param options What is wanted of it. A file is decoded a frame at a time, so that it may be much larger than what is wanted.
 * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be read; `unsupported` when it is of a
 * kind that is not decoded; `refused`, before anything is decoded, when the frames would take more than 2 GiB.
 */
export async function decodeMedia(path: string, options: DecodeMediaOptions = {}): Promise<DecodedMedia> {
  checkMayRead(path);
  return await decoded({ path }, options);
}

/**
 * Reads still pictures of one size as the frames of a film.
 *
 * @param paths The files, in order.
 * @param options As in {@linkcode decodeMedia}; `rate` is how many of the pictures make a second, 0.01 to 1,000.
 * @throws {KinoraError} As {@linkcode decodeMedia}; `refused` also when a picture is animated, or of another size than the first.
 */
export async function decodeMediaSequence(
  paths: readonly string[],
  options: DecodeMediaOptions & { readonly rate: number },
): Promise<DecodedMedia> {
  checkMayRead(...paths);
  const { rate, ...rest } = options;
  return await decoded({ paths, rate }, rest);
}

/** The planes of a film, as they are stored. */
export interface MediaPlanes {
  /** Luma (F, H, W), 0 to 255. */
  readonly y: Tensor;
  /** Blue-difference and red-difference (F, H', W'), 0 to 255, of the size they are stored in; none in a grey film. */
  readonly chroma: readonly [u: Tensor, v: Tensor] | undefined;
}

/**
 * Reads the luma and chroma of an MP4 or Y4M file, in the order they are shown: neither turned nor converted. For comparing
 * decoders; {@linkcode decodeMedia} gives colours.
 *
 * @param path The file.
 * @param options Signal.
 * @throws {KinoraError} As {@linkcode decodeMedia}; `unsupported` for a format without planes.
 */
export async function decodePlanes(path: string, options: JobOptions = {}): Promise<MediaPlanes> {
  checkMayRead(path);
  const { y, u, v } = await runJob<{ readonly y: number; readonly u: number | null; readonly v: number | null }>(
    { verb: "media.planes", path },
    options,
  );
  return { y: new Tensor(y), chroma: u === null || v === null ? undefined : [new Tensor(u), new Tensor(v)] };
}

async function decoded(from: Readonly<Record<string, unknown>>, options: DecodeMediaOptions): Promise<DecodedMedia> {
  const { background, size, fps, frames, ...rest } = options;
  const { tensor, placement, frames: pictures, durations, ...found } = await runJob<
    & Omit<DecodedMedia, "tensor" | "delaysMs" | "placement" | "pictures">
    & { readonly tensor: number; readonly placement: Omit<Placement, "size"> | null; readonly frames: number }
  >({ verb: "media.decode", ...from, background, ...size, fps, frames }, rest);
  const delaysMs = durations.map(([ticks, perSecond]) => ticks * 1000 / perSecond);
  return {
    ...found,
    tensor: new Tensor(tensor),
    durations,
    delaysMs,
    pictures,
    placement: placement === null || size === undefined
      ? undefined
      : { ...placement, size: { width: size.width, height: size.height } },
  };
}
