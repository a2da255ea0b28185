/**
 * Pictures and animations, from and to files.
 *
 * @module
 */
import { handleOf } from "./handle.ts";
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import { Tensor } from "./tensor.ts";

/** How pictures are written. */
export interface EncodeMediaOptions extends JobOptions {
  /** Frames a second; not read for a single picture. */
  readonly fps: number;
}

/** How pictures are read. */
export interface DecodeMediaOptions extends JobOptions {
  /** What shows through where a picture is transparent; the result has three channels then instead of four. */
  readonly background?: "white" | undefined;
}

/** What was read. */
export interface DecodedMedia {
  /** The frames (F, H, W, 4) in [-1, 1], or (F, H, W, 3) on white; whoever asked disposes it. */
  readonly tensor: Tensor;
  /** How long each frame stays, in milliseconds. */
  readonly delaysMs: readonly number[];
  /** Whether anything in the file is transparent. */
  readonly alpha: boolean;
  /** What kind of file it is, by its content. */
  readonly format: "png" | "gif" | "webp";
}

/**
 * Writes pictures as a file, which appears whole or not at all.
 *
 * @param tensor Frames (F, H, W, 3), or one picture (H, W, 3), in [-1, 1]; what lies beyond is clamped.
 * @param path The file; its ending decides the format: `.gif`, or `.png`, which is animated where there are several
 * frames.
 * @param options The frame rate.
 * @returns The size of the file in bytes.
 * @throws {KinoraError} `refused` for another ending or shape, `not-found` when there is no such folder, `permission` or `io`
 * when it cannot be written.
 */
export async function encodeMedia(
  tensor: Tensor,
  path: string,
  options: EncodeMediaOptions,
): Promise<{ readonly bytes: number }> {
  checkMayWrite(path);
  const { fps, ...rest } = options;
  return await runJob({ verb: "media.encode", tensor: handleOf(tensor), path, fps }, rest, [tensor]);
}

/**
 * Reads a PNG, GIF or WebP file, still or animated; frames are whole pictures.
 *
 * @param path The file.
 * @param options How.
 * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be read.
 */
export async function decodeMedia(path: string, options: DecodeMediaOptions = {}): Promise<DecodedMedia> {
  checkMayRead(path);
  const { background, ...rest } = options;
  const { tensor, delays_ms: delaysMs, alpha, format } = await runJob<
    { readonly tensor: number; readonly delays_ms: number[] } & Pick<DecodedMedia, "alpha" | "format">
  >({ verb: "media.decode", path, background }, rest);
  return { tensor: new Tensor(tensor), delaysMs, alpha, format };
}
