/**
 * The result people hold: frames, a frame rate, and what they were made from.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { encodeMedia, type FrameDuration } from "../ffi/media.ts";
import { Tensor } from "../ffi/tensor.ts";
import type { Manifest } from "./manifest.ts";
import { DISPLAY, type MediaBundle } from "./notebook/media_bundle.ts";
import { videoBundle } from "./notebook/video_bundle.ts";

/** The ending of the name of a contact sheet, which is one picture. */
const SHEET_ENDING = /\.sheet\.png$/i;

/** The file name endings that {@linkcode Video.save} accepts; besides, a path that ends with `/` becomes a folder of PNG. */
export const VIDEO_EXTENSIONS: readonly string[] = [".gif", ".png", ".apng", ".mp4", ".webp", ".y4m"];

/** What was written. */
export interface SavedVideo {
  /** The file or folder. */
  readonly path: string;
  /** The file with the manifest, if the video has one. */
  readonly manifest: string | undefined;
}

/** Options of {@linkcode Video.save}. */
export interface SaveOptions {
  /** Stops the work; nothing is left behind. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A video, or with one frame a picture. It holds its frames in native memory, which is freed when it is disposed or no
 * longer used.
 */
export class Video implements Disposable {
  /** The frames (F, H, W, 3) in [-1, 1]. */
  readonly tensor: Tensor;
  /** Frames a second. */
  readonly fps: number;
  /** How long each frame stays, where they stay for different times; `fps` is the mean then. */
  readonly durations: readonly FrameDuration[] | undefined;
  /** What the video was made from, where it was made by a cascade. */
  readonly manifest: Manifest | undefined;

  /**
   * Makes a video of frames.
   *
   * @param tensor The frames (F, H, W, 3) in [-1, 1], which become the video's.
   * @param options `fps` is the frame rate, `durations` how long each frame stays, if not that, `manifest` what the frames
   * were made from.
   * @throws {KinoraError} `refused` for another shape, an `fps` that is not a number from 0.01 to 1,000, or another number of
   * durations than of frames.
   */
  constructor(
    tensor: Tensor,
    options: {
      readonly fps: number;
      readonly durations?: readonly FrameDuration[] | undefined;
      readonly manifest?: Manifest | undefined;
    },
  ) {
    if (tensor.shape.length !== 4 || tensor.shape[3] !== 3) {
      throw new KinoraError(
        "refused",
        `a video's frames have the shape [F, H, W, 3], not [${tensor.shape.join(", ")}]`,
      );
    }
    if (!(options.fps >= 0.01 && options.fps <= 1000)) {
      throw new KinoraError("refused", `fps must be a number from 0.01 to 1000, not ${options.fps}`);
    }
    const { durations } = options;
    if (durations !== undefined && durations.length !== tensor.shape[0]) {
      throw new KinoraError("refused", `there are ${durations.length} durations for ${tensor.shape[0]} frames`);
    }
    this.tensor = tensor;
    this.fps = options.fps;
    this.durations = durations;
    this.manifest = options.manifest;
  }

  /** Number of frames. */
  get frames(): number {
    return this.tensor.shape[0] ?? 0;
  }

  /** Height in pixels. */
  get height(): number {
    return this.tensor.shape[1] ?? 0;
  }

  /** Width in pixels. */
  get width(): number {
    return this.tensor.shape[2] ?? 0;
  }

  /** Duration in seconds. */
  get duration(): number {
    return this.durations?.reduce((sum, [ticks, perSecond]) => sum + ticks / perSecond, 0) ?? this.frames / this.fps;
  }

  /** All frames as bytes, row-major (F, H, W, 3), 0 to 255. */
  async bytes(): Promise<Uint8ClampedArray<ArrayBuffer>> {
    const values = await this.tensor.read();
    const bytes = new Uint8ClampedArray(values.length);
    // The array rounds half to even and clamps by itself.
    for (let index = 0; index < values.length; index++) bytes[index] = ((values[index] ?? 0) + 1) * 127.5;
    return bytes;
  }

  /**
   * Writes the video, and its manifest beside it as `<path>.json` (in a folder as `manifest.json`). Files appear whole or
   * not at all.
   *
   * @param path `.gif`; `.png` or `.apng`, animated if there is more than one frame; `.webp`, likewise; `.mp4` (H.264);
   * `.y4m`; `.sheet.png`, a contact sheet; or a folder (ending with `/`) that gets one PNG
   * a frame, `0000.png` and so on.
   * @param options How.
   * @throws {KinoraError} `refused` for another ending, `not-found` when there is no such folder, `io` when the file cannot be written.
   */
  async save(path: string, options: SaveOptions = {}): Promise<SavedVideo> {
    checkVideoPath(path);
    if (path.endsWith("/")) return await this.#saveFrames(path.replace(/\/+$/, ""), options);
    if (SHEET_ENDING.test(path)) {
      using sheet = await this.contactSheet();
      await encodeMedia(sheet.tensor, path, { fps: this.fps, ...defined(options.signal) });
    } else {
      await encodeMedia(this.tensor, path, { ...this.#timing, ...defined(options.signal) });
    }
    return { path, manifest: await this.#saveManifest(`${path}.json`) };
  }

  /**
   * The frames side by side, for a look at all of them.
   *
   * @param columns Frames in a row, 1 to 64; default as square as can be.
   * @returns A picture: a video of one frame.
   */
  async contactSheet(columns: number = Math.min(64, Math.ceil(Math.sqrt(this.frames)))): Promise<Video> {
    if (!Number.isInteger(columns) || columns < 1 || columns > 64) {
      throw new KinoraError("refused", `columns must be a whole number from 1 to 64, not ${columns}`);
    }
    const { frames, height, width } = this;
    const rows = Math.ceil(frames / columns);
    const white = new Float32Array(height * width * 3).fill(1);
    using blank = await Tensor.create([1, height, width, 3], white);
    using pool = await Tensor.cat([this.tensor, blank], 0);
    // Row by row of pixels: the cells of a row are gathered as (columns, H, W, 3) and put beside each other along W.
    const lines: Tensor[] = [];
    try {
      for (let row = 0; row < rows; row++) {
        const cells: Tensor[] = [];
        try {
          for (let column = 0; column < columns; column++) {
            cells.push(await pool.gather(0, [Math.min(frames, row * columns + column)]));
          }
          lines.push(await Tensor.cat(cells, 2));
        } finally {
          for (const cell of cells) cell.dispose();
        }
      }
      return new Video(await Tensor.cat(lines, 1), { fps: this.fps, manifest: this.manifest });
    } finally {
      for (const line of lines) line.dispose();
    }
  }

  /** For example `Video 256x256, 16 frames, 8 fps, 2.0 s`. */
  toString(): string {
    const size = `${this.width}x${this.height}`;
    return this.frames === 1
      ? `Picture ${size}`
      : `Video ${size}, ${this.frames} frames, ${this.fps} fps, ${this.duration.toFixed(1)} s`;
  }

  /** Frees the frames. */
  dispose(): void {
    this.tensor.dispose();
  }

  /** Frees the frames. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Shows the video in a notebook: an animated PNG, or a contact sheet where that would be large. */
  async [DISPLAY](): Promise<MediaBundle> {
    return await videoBundle(this);
  }

  get #timing(): { fps: number } | { durations: readonly FrameDuration[] } {
    return this.durations === undefined ? { fps: this.fps } : { durations: this.durations };
  }

  async #saveFrames(folder: string, options: SaveOptions): Promise<SavedVideo> {
    await writing(folder, () => Deno.mkdir(folder, { recursive: true }));
    const digits = Math.max(4, String(this.frames - 1).length);
    for (let frame = 0; frame < this.frames; frame++) {
      using picture = await this.tensor.gather(0, [frame]);
      const path = `${folder}/${String(frame).padStart(digits, "0")}.png`;
      await encodeMedia(picture, path, { fps: this.fps, ...defined(options.signal) });
    }
    return { path: `${folder}/`, manifest: await this.#saveManifest(`${folder}/manifest.json`) };
  }

  async #saveManifest(path: string): Promise<string | undefined> {
    if (this.manifest === undefined) return undefined;
    await writeTextWhole(path, `${JSON.stringify(this.manifest, undefined, 2)}\n`);
    return path;
  }
}

/**
 * Checks that a video can be written to a path, as far as its name tells.
 *
 * @throws {KinoraError} `refused` for an unknown ending; the message names the accepted ones.
 */
export function checkVideoPath(path: string): void {
  if (path.endsWith("/") && path !== "/") return;
  const name = path.slice(path.lastIndexOf("/") + 1);
  const dot = name.lastIndexOf(".");
  const extension = dot < 0 ? "" : name.slice(dot).toLowerCase();
  if (!VIDEO_EXTENSIONS.includes(extension)) {
    throw new KinoraError(
      "refused",
      `Cannot write "${path}": the name must end with ${VIDEO_EXTENSIONS.join(", ")}, or with / for a folder of PNG`,
    );
  }
}

/**
 * Writes a text file under a temporary name and renames it; where only the file's own name is permitted, writes it as it is.
 *
 * @throws {KinoraError} `io` when it cannot be written.
 */
export async function writeTextWhole(path: string, text: string): Promise<void> {
  const partial = `${path}.${crypto.randomUUID().slice(0, 8)}.partial`;
  if (!await permitted(partial)) return await writing(path, () => Deno.writeTextFile(path, text));
  await writing(path, async () => {
    try {
      await Deno.writeTextFile(partial, text);
      await Deno.rename(partial, path);
    } catch (error) {
      await Deno.remove(partial).catch(() => {});
      throw error;
    }
  });
}

/** Whether a file may be written and renamed, which needs both permissions. */
async function permitted(path: string): Promise<boolean> {
  const [read, write] = await Promise.all(
    (["read", "write"] as const).map((name) => Deno.permissions.query({ name, path })),
  );
  return read?.state === "granted" && write?.state === "granted";
}

async function writing(path: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (cause) {
    throw new KinoraError("io", `Cannot write "${path}": ${(cause as Error).message}`, { cause });
  }
}

function defined(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
