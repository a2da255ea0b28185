/**
 * Clips out of pictures that sway: smooth motion whose speed is known, for concepts that have no clip.
 *
 * @module
 */
import type { AffineMatrix, Tensor } from "../../ffi/tensor.ts";
import { WHITE } from "./augmentation.ts";
import type { Draws } from "./random.ts";

/** Seconds that a sway takes, least and greatest. */
const PERIOD = [0.7, 2.8] as const;

/** How likely each part of a motion is there. */
const SHARE = 0.55;

/** The greatest amplitudes: of turning in radians, of moving and swelling in halves of the picture. */
const MOST = { turn: 0.18, move: 0.09, swell: 0.08 };

/** What swaying clips are like. */
export interface SwayingClipOptions {
  /** Frames of each, at least 1. */
  readonly frames: number;
  /** Frames a second of each. */
  readonly fps: readonly number[];
}

/**
 * Clips in which each picture turns, moves and swells about its rest, each in its own time.
 *
 * @param pictures Pictures (B, H, W, 3) in [-1, 1] on white; they stay the caller's.
 * @param options How many frames, and how fast they follow each other.
 * @param draws Where randomness comes from.
 * @returns Clips (B, F, H, W, 3).
 */
export async function swayingClips(pictures: Tensor, options: SwayingClipOptions, draws: Draws): Promise<Tensor> {
  const [batch = 0, ...picture] = pictures.shape;
  const { frames, fps } = options;
  const matrices: AffineMatrix[] = [];
  const rows: number[] = [];
  for (let sample = 0; sample < batch; sample++) {
    const at = drawSway(draws);
    for (let frame = 0; frame < frames; frame++) {
      rows.push(sample);
      matrices.push(at(frame / (fps[sample] ?? 1)));
    }
  }
  using still = await pictures.gather(0, rows);
  using moved = await still.affine(matrices, { fill: WHITE });
  return await moved.reshape([batch, frames, ...picture]);
}

/** A motion: the matrix for `Tensor.affine` at a time in seconds. */
function drawSway(draws: Draws): (seconds: number) => AffineMatrix {
  const wave = (most: number): (seconds: number) => number => {
    const strength = draws.chance(SHARE) ? most * draws.between(0.25, 1) : 0;
    const period = draws.between(...PERIOD);
    const phase = draws.next();
    return (seconds) => strength * Math.sin(2 * Math.PI * (seconds / period + phase));
  };
  const [turn, across, down, swell] = [wave(MOST.turn), wave(MOST.move), wave(MOST.move), wave(MOST.swell)];
  // Some turn about their middle, others about their foot, as what stands does.
  const foot = draws.chance(0.5) ? 0.8 : 0;
  return (seconds) => {
    const [angle, size] = [turn(seconds), 1 - swell(seconds)];
    const [cos, sin] = [size * Math.cos(angle), size * Math.sin(angle)];
    // The foot stays where it is.
    return [cos, -sin, across(seconds) + sin * foot, sin, cos, down(seconds) + foot - cos * foot];
  };
}
