/**
 * Collections of pictures: which are alike, how many frames they have, and packing them into files of plain pixels.
 *
 * @module
 */
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";

/** A picture that may be one too many. */
export interface DistinctItem {
  /** The file: PNG, GIF or WebP. */
  readonly path: string;
  /** Of the pictures with the same text here only one is kept. */
  readonly group: string;
}

/** What {@linkcode packPictures} packs, and where. */
export interface PackPlan {
  /** One picture file a row of the still stores, at least one. */
  readonly stills: readonly string[];
  /** Animated files, in the order of the clip stores. */
  readonly clips: readonly string[];
  /** Which clips, by their place in `clips`, also go into the clip store of full size. */
  readonly largeClips: readonly number[];
  /** How many evenly spread frames each of those gives. */
  readonly largeFrames: number;
  /** An existing folder. */
  readonly out: string;
}

/** Where a clip lies in the stores. */
export interface PackedClip {
  /** Its first row in `clips64`. */
  readonly start: number;
  /** Its frames. */
  readonly length: number;
  /** How long a frame stays, in milliseconds. */
  readonly delayMs: number;
  /** Its first row in `clips256` and which frames those rows are, when it is one of the large clips. */
  readonly large: { readonly start: number; readonly frames: readonly number[] } | null;
}

/**
 * Which pictures to keep so that no two are of one group or nearly the same: the first of each.
 *
 * @param items The pictures.
 * @param options `threshold` is the root mean square difference of 16x16 block means in [0, 1] below which two are the
 * same, default 0.008.
 * @returns Places in `items`, ascending.
 * @throws {KinoraError} `not-found`, `bad-file` or `io` with the path of the picture.
 */
export async function distinctPictures(
  items: readonly DistinctItem[],
  options: JobOptions & { readonly threshold?: number } = {},
): Promise<number[]> {
  checkMayRead(...items.map(({ path }) => path));
  const { threshold = 0.008, ...job } = options;
  return (await runJob<{ kept: number[] }>({ verb: "data.distinct", items, threshold }, job)).kept;
}

/**
 * How many frames picture files have; 1 is a still.
 *
 * @param paths The files: PNG, GIF or WebP.
 * @param options Signal and progress.
 * @throws {KinoraError} `not-found`, `bad-file` or `io` with the path of the picture.
 */
export async function frameCounts(paths: readonly string[], options: JobOptions = {}): Promise<number[]> {
  checkMayRead(...paths);
  return (await runJob<{ counts: number[] }>({ verb: "data.frame_counts", paths }, options)).counts;
}

/**
 * Decodes pictures once and writes them as plain RGB on white: `stills256.safetensors`, `stills64.safetensors` and, where
 * there are clips, `clips64.safetensors` and `clips256.safetensors`. The files appear together at the end.
 *
 * @param plan What, and where.
 * @param options Signal and progress; stopped, nothing is left behind.
 * @returns Where each clip lies.
 * @throws {KinoraError} `refused` for a plan without stills; `not-found`, `bad-file` or `io` with the path of the picture.
 */
export async function packPictures(plan: PackPlan, options: JobOptions = {}): Promise<PackedClip[]> {
  checkMayRead(...plan.stills, ...plan.clips);
  checkMayWrite(plan.out);
  const { clips } = await runJob<{ clips: (Omit<PackedClip, "delayMs"> & { readonly delay_ms: number })[] }>({
    verb: "data.pack",
    stills: plan.stills,
    clips: plan.clips,
    large_clips: plan.largeClips,
    large_frames: plan.largeFrames,
    out: plan.out,
  }, options);
  return clips.map(({ start, length, delay_ms: delayMs, large }) => ({
    start,
    length,
    delayMs,
    // In this order wherever it comes from: an index is hashed as text.
    large: large === null ? null : { start: large.start, frames: large.frames },
  }));
}
