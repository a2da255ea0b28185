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

/** Where given frames lie in a video, and the runs that make the frames between, before and after them. */
export interface FrameLayout {
  /** Frames of the video. */
  readonly total: number;
  /** The number in the video of each given frame. */
  readonly places: readonly number[];
  /** The runs of the network, in order; a frame that two of them cover is made by the first. */
  readonly windows: readonly FrameWindow[];
}

/** How a video is made longer. */
export interface ExtensionOptions {
  /** Frames put before the first one, at least 0. */
  readonly before: number;
  /** Frames put after the last one, at least 0. */
  readonly after: number;
  /** Frames that a window is given of those beside it, 1 to 15; fewer where there are not so many. */
  readonly overlap: number;
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

/**
 * The layout of {@linkcode frameWindows}.
 *
 * @param frames Number of given frames, at least 2.
 * @param skip Output frames from one given frame to the next, 1 to 15.
 * @throws {KinoraError} `refused` when `frames` or `skip` is out of its range.
 */
export function interpolationLayout(frames: number, skip: number): FrameLayout {
  const windows = frameWindows(frames, skip);
  const places = Array.from({ length: frames }, (_, frame) => frame * skip);
  return { total: interpolatedLength(frames, skip), places, windows };
}

/**
 * One window with some of its frames given: the first one animates a picture, the first and the last lead from one picture
 * to another.
 *
 * @param total Frames of the window, 2 to 16.
 * @param places Which of them are given, in order.
 * @throws {KinoraError} `refused` when a number is out of its range.
 */
export function windowLayout(total: number, places: readonly number[]): FrameLayout {
  if (!Number.isInteger(total) || total < 2 || total > WINDOW) {
    throw new KinoraError("refused", `frames must be a whole number from 2 to ${WINDOW}, not ${total}`);
  }
  if (
    places.length === 0 || places.some((place, at) => !(place >= 0 && place < total && place > (places[at - 1] ?? -1)))
  ) {
    throw new KinoraError("refused", `places must be frames from 0 to ${total - 1} in order, not ${places.join(", ")}`);
  }
  const known = places.map((position, frame): KnownFrame => ({ position, source: "key", frame }));
  return { total, places, windows: [{ start: 0, length: total, known }] };
}

/**
 * Windows that go on from the end of a video, and others that lead to its start. Each is given the last (or first) few
 * frames of what is there, and makes the rest of its 16.
 *
 * @param frames Number of given frames, at least 1.
 * @param options How many more, and how many each window is given.
 * @throws {KinoraError} `refused` when a number is out of its range, or nothing is to be added.
 */
export function extensionLayout(frames: number, options: ExtensionOptions): FrameLayout {
  const { before, after, overlap } = options;
  for (const [name, value] of Object.entries({ before, after })) {
    if (!Number.isInteger(value) || value < 0) {
      throw new KinoraError("refused", `${name} must be a whole number of at least 0, not ${value}`);
    }
  }
  if (before + after === 0) throw new KinoraError("refused", "before or after must be at least 1");
  if (!Number.isInteger(overlap) || overlap < 1 || overlap > WINDOW - 1) {
    throw new KinoraError("refused", `overlap must be a whole number from 1 to ${WINDOW - 1}, not ${overlap}`);
  }
  if (!Number.isInteger(frames) || frames < 1) {
    throw new KinoraError("refused", `an extension needs at least 1 frame, not ${frames}`);
  }
  const total = before + frames + after;
  const windows: FrameWindow[] = [];
  // What is there already: from `start` to before `end`.
  let [start, end] = [before, before + frames];
  const add = (first: number, last: number): void => {
    const known: KnownFrame[] = [];
    for (let frame = Math.max(first, start); frame < Math.min(last, end); frame++) {
      const given = frame >= before && frame < before + frames;
      known.push({
        position: frame - first,
        source: given ? "key" : "generated",
        frame: given ? frame - before : frame,
      });
    }
    windows.push({ start: first, length: last - first, known });
    [start, end] = [Math.min(start, first), Math.max(end, last)];
  };
  while (end < total) {
    const first = end - Math.min(overlap, end - start);
    add(first, Math.min(total, first + WINDOW));
  }
  while (start > 0) {
    const last = start + Math.min(overlap, end - start);
    add(Math.max(0, last - WINDOW), last);
  }
  const places = Array.from({ length: frames }, (_, frame) => before + frame);
  return { total, places, windows };
}
