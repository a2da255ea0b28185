/**
 * The `ffmpeg` of the machine, for what this package does not decode itself. It is only asked where it is there and Deno
 * may run it; nothing needs it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** How {@linkcode withFfmpeg} runs it. */
export interface FfmpegOptions {
  /** The wanted frames a second; default the film's own mean rate. */
  readonly fps?: number | undefined;
  /** The most frames that are wanted; default all. */
  readonly frames?: number | undefined;
  /** Stops it. */
  readonly signal?: AbortSignal | undefined;
}

/** The longest intermediate file, in bytes; a longer one is refused when it is read. */
const MOST_BYTES = (1 << 30) + 1;

/** Whether `ffmpeg` is on the path and may be run. Nobody is prompted. */
export async function ffmpegIsThere(): Promise<boolean> {
  if ((await Deno.permissions.query({ name: "run", command: "ffmpeg" })).state !== "granted") return false;
  try {
    const { success } = await new Deno.Command("ffmpeg", { args: ["-version"], stdout: "null", stderr: "null" })
      .output();
    return success;
  } catch {
    return false;
  }
}

/**
 * Has `ffmpeg` decode the first video of a file at a steady rate, and gives the result to `use` as a Y4M file (4:4:4), which is
 * removed afterwards.
 *
 * @param path The file.
 * @param options Rate and number of frames.
 * @param use What is done with it.
 * @throws {KinoraError} `bad-file` with ffmpeg's own words when it cannot decode the file either; whatever `use` throws.
 */
export async function withFfmpeg<T>(
  path: string,
  options: FfmpegOptions,
  use: (y4m: string) => Promise<T>,
): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-ffmpeg-" });
  try {
    const y4m = `${folder}/film.y4m`;
    const { success, stderr } = await new Deno.Command("ffmpeg", {
      args: [
        ...["-nostdin", "-hide_banner", "-loglevel", "error", "-i", `file:${path}`, "-map", "0:v:0"],
        ...options.fps === undefined ? [] : ["-r", String(options.fps)],
        ...options.frames === undefined ? [] : ["-frames:v", String(options.frames)],
        ...["-pix_fmt", "yuv444p", "-fs", String(MOST_BYTES), "-f", "yuv4mpegpipe", y4m],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      ...options.signal === undefined ? {} : { signal: options.signal },
    }).output();
    options.signal?.throwIfAborted();
    if (!success) {
      const words = new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "";
      throw new KinoraError("bad-file", `ffmpeg cannot decode "${path}" either: ${words}`);
    }
    return await use(y4m);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
