/**
 * Noise for frames: a part that all have in common (Ge et al. 2023, "Preserve Your Own Correlation", the mixed noise model),
 * and one that changes from frame to frame, at once or smoothly. Neighbouring frames of real videos look alike, and noise
 * that is alike keeps them so: an image network turns noise that changes smoothly into pictures that do.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";

/** What {@linkcode frameNoise} is asked for. */
export interface FrameNoiseOptions {
  /** The shape, `[B, F, ...]`. */
  readonly shape: readonly number[];
  /** One seed for each sample. */
  readonly seeds: readonly number[];
  /** Which of a seed's streams of numbers. */
  readonly stream: number;
  /** The frames' numbers in the whole video; by default 0, 1, 2 and so on. */
  readonly frames?: readonly number[] | undefined;
  /**
   * The share of the variance that is the same in all frames, 0 to 1: `alpha² / (1 + alpha²)` of the paper's alpha. At 0
   * frames are independent, at 1 all have the same noise.
   *
   * @default {0}
   */
  readonly common?: number | undefined;
  /** How the rest changes over time; by default frames are independent. */
  readonly smooth?: SmoothNoise | undefined;
}

/** Noise that changes smoothly over time: a Gaussian process, cut out of white noise by a Gaussian window. */
export interface SmoothNoise {
  /** The correlation of two frames `t` seconds apart is `exp(-(t / seconds)² / 2)`; at 0 frames are independent. */
  readonly seconds: number;
  /** Frames a second: of each sample, or of all. */
  readonly fps: number | readonly number[];
  /** After this many frames the noise comes round again; by default it never does. */
  readonly period?: number | undefined;
}

/** The number of the frame that the common part is taken from; no video has so many frames. */
const COMMON_FRAME = 0xffff_ffff;

/** The numbers of the frames that smooth noise is mixed from start here; no video has so many frames. */
const FIRST_KNOT = 0x4000_0000;

/** Knots on either side of a moment that count: the window is below 4e-4 beyond. */
const REACH = 4;

/**
 * Unit noise for frames. Each number is a function of seed, stream and the frame's number.
 *
 * @param options Shape, seeds, and how much frames have in common.
 * @throws {KinoraError} `refused` when `common` is not from 0 to 1, or the seconds are negative.
 */
export async function frameNoise(options: FrameNoiseOptions): Promise<Tensor> {
  const { shape, seeds, stream, frames, common = 0, smooth } = options;
  if (!(common >= 0 && common <= 1)) {
    throw new KinoraError("refused", `common noise must be a number from 0 to 1, not ${common}`);
  }
  if (smooth !== undefined && !(smooth.seconds >= 0)) {
    throw new KinoraError("refused", `noise must change over at least 0 seconds, not ${smooth.seconds}`);
  }
  const changing = (): Promise<Tensor> =>
    smooth === undefined || smooth.seconds === 0
      ? Tensor.noise({ shape, seeds, stream, frames })
      : smoothNoise(options, smooth);
  if (common === 0) return await changing();
  using one = await Tensor.noise({ shape: shape.with(1, 1), seeds, stream, frames: [COMMON_FRAME] });
  if (common === 1) return await one.gather(1, new Array<number>(shape[1] ?? 1).fill(0));
  using own = await changing();
  return await Tensor.combine([
    { tensor: own, scale: Math.sqrt(1 - common) },
    { tensor: one, scale: Math.sqrt(common) },
  ]);
}

/** Unit noise that changes smoothly: each frame is a mixture of white frames at the knots around its moment. */
async function smoothNoise(options: FrameNoiseOptions, smooth: SmoothNoise): Promise<Tensor> {
  const { shape, seeds, stream } = options;
  const [batch = 0, length = 0, ...frame] = shape;
  const frames = options.frames ?? Array.from({ length }, (_, index) => index);
  const samples: Tensor[] = [];
  try {
    for (let sample = 0; sample < batch; sample++) {
      const fps = typeof smooth.fps === "number" ? smooth.fps : smooth.fps[sample] ?? 1;
      const mixtures = frames.map((frame) => mixture(frame, fps, smooth));
      const first = Math.min(...mixtures.flatMap(({ knots }) => knots));
      const last = Math.max(...mixtures.flatMap(({ knots }) => knots));
      const numbers = Array.from({ length: last - first + 1 }, (_, at) => FIRST_KNOT + first + at);
      using white = await Tensor.noise({
        shape: [1, numbers.length, ...frame],
        seeds: seeds.slice(sample, sample + 1),
        stream,
        frames: numbers,
      });
      using knots = await white.reshape([numbers.length, ...frame]);
      const terms: { tensor: Tensor; scale: number[] }[] = [];
      try {
        for (let at = 0; at <= 2 * REACH; at++) {
          const tensor = await knots.gather(0, mixtures.map(({ knots }) => (knots[at] ?? first) - first));
          terms.push({ tensor, scale: mixtures.map(({ weights }) => weights[at] ?? 0) });
        }
        using mixed = await Tensor.combine(terms);
        samples.push(await mixed.reshape([1, length, ...frame]));
      } finally {
        for (const { tensor } of terms) tensor.dispose();
      }
    }
    return await Tensor.cat(samples, 0);
  } finally {
    for (const sample of samples) sample.dispose();
  }
}

/** The knots around a frame's moment, and how much of each is in its noise: squares add up to 1. */
function mixture(
  frame: number,
  fps: number,
  { seconds, period }: SmoothNoise,
): { readonly knots: readonly number[]; readonly weights: readonly number[] } {
  // White noise under a Gaussian window has a correlation that is wider by the root of two.
  const window = seconds / Math.SQRT2;
  const around = period === undefined ? undefined : Math.max(1, Math.round(period / fps / window));
  const spacing = around === undefined ? window : (period ?? 1) / fps / around;
  const moment = frame / fps / spacing;
  const middle = Math.round(moment);
  const knots: number[] = [];
  const gains: number[] = [];
  for (let place = middle - REACH; place <= middle + REACH; place++) {
    // Round a short period one knot comes several times.
    const knot = around === undefined ? place + REACH : (place % around + around) % around;
    const gain = Math.exp(-(((moment - place) * spacing / window) ** 2) / 2);
    const before = knots.indexOf(knot);
    if (before >= 0) gains[before] = (gains[before] ?? 0) + gain;
    knots.push(knot);
    gains.push(before >= 0 ? 0 : gain);
  }
  const norm = Math.hypot(...gains);
  return { knots, weights: gains.map((gain) => gain / norm) };
}
