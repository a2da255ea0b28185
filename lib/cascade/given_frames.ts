/**
 * Pictures and videos that people bring, made square and of the size that the networks take.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import type { Fit } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { GivenManifest } from "../manifest.ts";
import { numberedPictures } from "../media/numbered_pictures.ts";
import { openMedia } from "../media/open_media.ts";
import { Video } from "../video.ts";
import { fileSha256 } from "./model_files.ts";

/**
 * A picture or a video: a file or a folder of numbered pictures (see {@linkcode openMedia}), or one that is in memory already,
 * which stays the caller's.
 */
export type FrameSource = string | URL | Video;

/** Every {@linkcode Fit}. */
export const FITS: readonly Fit[] = ["cover", "contain"];

/** How given frames are read. */
export interface GivenOptions {
  /** Side of the square frames, in pixels. */
  readonly size: number;
  /**
   * How they become square.
   *
   * @default {"cover"}
   */
  readonly fit?: Fit | undefined;
  /** The most frames. */
  readonly most: number;
  /** What it is, for messages, for example `"the image"`. */
  readonly called: string;
  /** Stops the reading. */
  readonly signal?: AbortSignal | undefined;
}

/** Given frames. They are freed when it is disposed. */
export interface GivenFrames extends Disposable {
  /** The frames (K, S, S, 3) in [-1, 1]. */
  readonly tensor: Tensor;
  /** Their rate; `undefined` for a single picture. */
  readonly fps: number | undefined;
  /** What they were made from. */
  readonly manifest: GivenManifest;
}

/**
 * Reads frames and makes them square.
 *
 * @param source The file or video.
 * @param options How.
 * @throws {KinoraError} `not-found` or `bad-file` when there is no such picture, `refused` when it has too many frames.
 */
export async function readGiven(source: FrameSource, options: GivenOptions): Promise<GivenFrames> {
  const { size, fit = "cover", most, called } = options;
  if (!FITS.includes(fit)) throw new KinoraError("refused", `fit must be "cover" or "contain", not "${fit}"`);
  // One frame more than is taken, to know that there are too many.
  const given = source instanceof Video
    ? await ofVideo(source, size, fit)
    : await ofFile(source, { size, fit, frames: most + 1, signal: options.signal });
  const { tensor, manifest } = given;
  const count = tensor.shape[0] ?? 0;
  if (count > most) {
    tensor.dispose();
    throw new KinoraError(
      "refused",
      most === 1 ? `${called} is moving; one still picture is taken` : `${called} has more than ${most} frames`,
    );
  }
  return { tensor, fps: manifest.fps, manifest, [Symbol.dispose]: (): void => tensor.dispose() };
}

async function ofVideo(video: Video, size: number, fit: Fit): Promise<{ tensor: Tensor; manifest: GivenManifest }> {
  const { frames, width, height } = video;
  const sha256 = createHash("sha256").update(new Uint8Array((await video.tensor.read()).buffer)).digest("hex");
  const tensor = await square(video.tensor, size, fit);
  return { tensor, manifest: { sha256, frames, width, height, ...frames > 1 ? { fps: video.fps } : {}, fit } };
}

async function ofFile(
  source: string | URL,
  options: {
    readonly size: number;
    readonly fit: Fit;
    readonly frames: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<{ tensor: Tensor; manifest: GivenManifest }> {
  if (source instanceof URL && source.protocol !== "file:") {
    throw new KinoraError("refused", `Pictures are read from files, not from ${source.href}`);
  }
  const path = source instanceof URL ? fileURLToPath(source) : source;
  const { size, fit, frames, signal } = options;
  const media = await openMedia(path, {
    size: { width: size, height: size },
    fit,
    frames,
    ...signal === undefined ? {} : { signal },
  });
  try {
    const { fps, sourceWidth: width, sourceHeight: height } = media;
    // The hash of a folder of pictures is that of their hashes.
    const sha256 = media.format === "sequence" ? await folderSha256(path) : await fileSha256(path);
    // Rounded, so that a rate of hundredths of a second reads as it was meant.
    const rate = fps === undefined || media.frames < 2 ? {} : { fps: Math.round(fps * 1000) / 1000 };
    return { tensor: media.tensor, manifest: { sha256, frames: media.frames, width, height, ...rate, fit } };
  } catch (error) {
    media.dispose();
    throw error;
  }
}

/** One SHA-256 of all files of a folder of numbered pictures. */
async function folderSha256(folder: string): Promise<string> {
  const hash = createHash("sha256");
  for (const path of await numberedPictures(folder)) hash.update(`${await fileSha256(path)}\n`);
  return hash.digest("hex");
}

/** Frames (K, H, W, 3) as squares of a size, as files are fitted: the middle cut out, or white put around, then resized. */
async function square(frames: Tensor, size: number, fit: Fit): Promise<Tensor> {
  const [count = 0, height = 0, width = 0] = frames.shape;
  if (fit === "cover" || height === width) {
    const side = Math.min(height, width);
    using cut = await frames.crop({ top: height - side >> 1, left: width - side >> 1, height: side, width: side });
    return await resized(cut, size, size);
  }
  const scale = size / Math.max(height, width);
  const [high, wide] = [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
  const axis = high < size ? 1 : 2;
  const missing = size - Math.min(high, wide);
  const before = missing >> 1;
  const parts: Tensor[] = [];
  const bar = async (thick: number): Promise<void> => {
    const shape = [count, size, size, 3].with(axis, thick);
    if (thick > 0) parts.push(await Tensor.create(shape, new Float32Array(shape.reduce((a, b) => a * b)).fill(1)));
  };
  try {
    await bar(before);
    parts.push(await resized(frames, high, wide));
    await bar(missing - before);
    return await Tensor.cat(parts, axis);
  } finally {
    for (const part of parts) part.dispose();
  }
}

/** Frames of a size; a bicubic filter may go beyond the range, so it is cut. */
async function resized(frames: Tensor, height: number, width: number): Promise<Tensor> {
  if (frames.shape[1] === height && frames.shape[2] === width) return await frames.reshape(frames.shape);
  using sized = await frames.resize({ height, width, filter: "bicubic" });
  return await Tensor.combine([{ tensor: sized, scale: 1 }], { clamp: [-1, 1] });
}
