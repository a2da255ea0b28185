/**
 * Pictures and videos that people bring, made square and of the size that the networks take.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { GivenManifest } from "../manifest.ts";
import { Video } from "../video.ts";
import { fileSha256 } from "./model_files.ts";

/** A picture or a video: a file, or one that is in memory already, which stays the caller's. */
export type FrameSource = string | URL | Video;

/** How a picture that is not square becomes square: `cover` cuts its longer sides, `contain` puts white beside the shorter. */
export type Fit = "cover" | "contain";

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
  const { tensor: whole, fps, sha256 } = await opened(source, options.signal);
  using frames = whole;
  const [count = 0, height = 0, width = 0] = frames.shape;
  if (count > most) {
    throw new KinoraError(
      "refused",
      `${called} has ${count} frames; ${most === 1 ? "one picture is" : `at most ${most} are`} taken`,
    );
  }
  const tensor = await square(frames, size, fit);
  return {
    tensor,
    fps,
    manifest: { sha256, frames: count, width, height, ...fps === undefined ? {} : { fps }, fit },
    [Symbol.dispose]: (): void => tensor.dispose(),
  };
}

/** The frames (K, H, W, 3) of a source, and what is known of it. */
async function opened(
  source: FrameSource,
  signal: AbortSignal | undefined,
): Promise<{ tensor: Tensor; fps: number | undefined; sha256: string }> {
  if (source instanceof Video) {
    const sha256 = createHash("sha256").update(new Uint8Array((await source.tensor.read()).buffer)).digest("hex");
    const tensor = await source.tensor.reshape(source.tensor.shape);
    return { tensor, fps: source.frames > 1 ? source.fps : undefined, sha256 };
  }
  if (source instanceof URL && source.protocol !== "file:") {
    throw new KinoraError("refused", `Pictures are read from files, not from ${source.href}`);
  }
  const path = source instanceof URL ? fileURLToPath(source) : source;
  const { tensor, delaysMs } = await decodeMedia(path, {
    background: "white",
    ...signal === undefined ? {} : { signal },
  });
  try {
    const seconds = delaysMs.reduce((sum, delay) => sum + delay, 0) / 1000;
    const fps = delaysMs.length > 1 && seconds > 0 ? Math.round(delaysMs.length / seconds * 1000) / 1000 : undefined;
    return { tensor, fps, sha256: await fileSha256(path) };
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}

/** Frames (K, H, W, 3) as squares of a size: the middle cut out, or white put around, then resized. */
async function square(frames: Tensor, size: number, fit: Fit): Promise<Tensor> {
  const [count = 0, height = 0, width = 0] = frames.shape;
  const side = fit === "cover" ? Math.min(height, width) : Math.max(height, width);
  const filter = side > size ? "area" : "bicubic";
  if (fit === "cover" || height === width) {
    const [top, left] = [height - side >> 1, width - side >> 1];
    using cut = await frames.crop({ top, left, height: side, width: side });
    return await resized(cut, size, filter);
  }
  const axis = height < side ? 1 : 2;
  const missing = side - Math.min(height, width);
  const bars: Tensor[] = [];
  try {
    for (const thick of [missing >> 1, missing - (missing >> 1)]) {
      if (thick === 0) continue;
      const shape = [count, height, width, 3].with(axis, thick);
      bars.push(await Tensor.create(shape, new Float32Array(shape.reduce((a, b) => a * b)).fill(1)));
    }
    using whole = await Tensor.cat(bars.length === 1 ? [frames, ...bars] : bars.toSpliced(1, 0, frames), axis);
    return await resized(whole, size, filter);
  } finally {
    for (const bar of bars) bar.dispose();
  }
}

/** Frames of a size; a bicubic filter may go beyond the range, so it is cut. */
async function resized(frames: Tensor, size: number, filter: "area" | "bicubic"): Promise<Tensor> {
  if (frames.shape[1] === size) return await frames.reshape(frames.shape);
  using sized = await frames.resize({ height: size, width: size, filter });
  return await Tensor.combine([{ tensor: sized, scale: 1 }], { clamp: [-1, 1] });
}
