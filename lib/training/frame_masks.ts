/**
 * Which frames the interpolation network is given in training: every k-th, or the first or last few, so that one network
 * learns to interpolate, to go on from a start, and to lead to an end.
 *
 * @module
 */
import type { FrameWindow } from "../cascade/windows.ts";
import type { Draws } from "./random.ts";

/** How masks are drawn. */
export interface MaskSettings {
  /** The distances between known frames that are drawn from, each at least 2. */
  readonly skips: readonly number[];
  /** The share of clips that have only their first or last frames known, 0 to 1. */
  readonly ends: number;
}

/**
 * A random mask.
 *
 * @param length Frames of the clip, at least 2.
 * @param settings How masks are drawn.
 * @param draws Where randomness comes from.
 * @returns The clip as a window whose known frames are its own.
 */
export function drawMask(length: number, settings: MaskSettings, draws: Draws): FrameWindow {
  const places = (test: (position: number) => boolean): FrameWindow => ({
    start: 0,
    length,
    known: Array.from({ length }, (_, position) => position).filter(test).map((position) => ({
      position,
      source: "key",
      frame: position,
    })),
  });
  if (draws.chance(settings.ends)) {
    // One known frame is image animation; half the clip, extrapolation.
    const count = 1 + draws.below(Math.max(1, length >> 1));
    return draws.chance(0.5)
      ? places((position) => position < count)
      : places((position) => position >= length - count);
  }
  const skip = draws.pick(settings.skips);
  // Windows after the first start between two given frames, and have their first frame from the window before.
  const offset = draws.chance(0.75) ? 0 : draws.below(skip);
  return places((position) => position === 0 || position % skip === offset);
}
