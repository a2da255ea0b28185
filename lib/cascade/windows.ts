/**
 * How the interpolation network, which sees 16 frames at once, is laid over a longer video: which windows it runs on and
 * which of their frames are known.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** Frames that the interpolation network sees at once. */
export const WINDOW = 16;

/** Where the known frame of a window comes from. */
export interface KnownFrame {
  /** Its place in the window, from 0. */
  readonly position: number;
  /** `key` frames are those that were given; `generated` ones were made by an earlier window. */
  readonly source: "key" | "generated";
  /** The number of the given frame (`key`), or the number of the output frame (`generated`). */
  readonly frame: number;
}

/** One run of the interpolation network. */
export interface FrameWindow {
  /** The output frame it starts at. */
  readonly start: number;
  /** The number of frames it covers: 16, or fewer where the video ends sooner. */
  readonly length: number;
  /** The frames it does not have to make, by position. */
  readonly known: readonly KnownFrame[];
}

/**
 * The number of frames that come out when `skip - 1` frames are put between each two neighbours.
 *
 * @param frames Number of given frames.
 * @param skip Output frames from one given frame to the next.
 */
export function interpolatedLength(frames: number, skip: number): number {
  return (frames - 1) * skip + 1;
}

/**
 * Lays windows of 16 frames over the output so that neighbours share their end frame: they start at 0, 15, 30, and so on.
 * Of 16 frames at skip 5 that makes five windows at 0, 15, 30, 45 and 60, each with the frames 0, 5, 10 and 15 known.
 * Where 15 is not a multiple of the skip, the end frame that the window before has generated is given as known.
 *
 * @param frames Number of given frames, at least 2.
 * @param skip Output frames from one given frame to the next, 1 to 15.
 * @throws {KinoraError} `refused` when `frames` or `skip` is out of its range.
 */
export function frameWindows(frames: number, skip: number): FrameWindow[] {
  if (!Number.isInteger(frames) || frames < 2) {
    throw new KinoraError("refused", `interpolation needs at least 2 frames, not ${frames}`);
  }
  if (!Number.isInteger(skip) || skip < 1 || skip > WINDOW - 1) {
    throw new KinoraError("refused", `skip must be a whole number from 1 to ${WINDOW - 1}, not ${skip}`);
  }
  const total = interpolatedLength(frames, skip);
  const windows: FrameWindow[] = [];
  for (let start = 0; start < total - 1; start += WINDOW - 1) {
    const length = Math.min(WINDOW, total - start);
    const known: KnownFrame[] = [];
    for (let position = 0; position < length; position++) {
      const frame = start + position;
      if (frame % skip === 0) known.push({ position, source: "key", frame: frame / skip });
      else if (position === 0) known.push({ position, source: "generated", frame });
    }
    windows.push({ start, length, known });
  }
  return windows;
}
