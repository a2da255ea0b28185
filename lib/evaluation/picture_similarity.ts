/**
 * How like two pictures are, in f64: PSNR, and SSIM (Wang, Bovik, Sheikh & Simoncelli 2004, "Image Quality Assessment: From
 * Error Visibility to Structural Similarity") in the two forms that are usual.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** Two pictures of one size, row-major with channels last. */
export interface PicturePair {
  /** The one, height * width * channels numbers. */
  readonly a: ArrayLike<number>;
  /** The other. */
  readonly b: ArrayLike<number>;
  /** Rows. */
  readonly height: number;
  /** Pixels a row. */
  readonly width: number;
  /** Channels of a pixel. */
  readonly channels: number;
  /** The greatest number less the least that a pixel can have: 255 for bytes. */
  readonly range: number;
}

/**
 * The window that SSIM compares pictures through: `uniform` 7x7 with sample variances, as is scikit-image's default, or
 * `gaussian` 11x11 with a deviation of 1.5, as in the paper.
 */
export type SsimWindow = "uniform" | "gaussian";

/**
 * The peak signal-to-noise ratio in decibels; infinite where the pictures are equal.
 *
 * @param pair The pictures.
 */
export function psnrOf(pair: PicturePair): number {
  const { a, b, range } = pair;
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += ((a[at] ?? 0) - (b[at] ?? 0)) ** 2;
  return 10 * Math.log10(range ** 2 / (sum / a.length));
}

/**
 * The structural similarity, at most 1: the mean over channels and over all pixels whose window lies in the picture.
 *
 * @param pair The pictures.
 * @param window The window.
 * @throws {KinoraError} `refused` when the pictures are smaller than the window.
 */
export function ssimOf(pair: PicturePair, window: SsimWindow): number {
  const { a, b, height, width, channels, range } = pair;
  const weights = WEIGHTS[window];
  const size = weights.length;
  if (height < size || width < size) {
    throw new KinoraError("refused", `SSIM needs pictures of at least ${size}x${size} pixels, not ${width}x${height}`);
  }
  const [c1, c2] = [(0.01 * range) ** 2, (0.03 * range) ** 2];
  // Sample variances divide by one less than the number of pixels.
  const sampled = window === "uniform" ? size ** 2 / (size ** 2 - 1) : 1;
  const shape = { height, width };
  let sum = 0;
  for (let channel = 0; channel < channels; channel++) {
    const x = Float64Array.from({ length: height * width }, (_, at) => a[at * channels + channel] ?? 0);
    const y = Float64Array.from({ length: height * width }, (_, at) => b[at * channels + channel] ?? 0);
    const mean = (value: (at: number) => number): Float64Array =>
      windowMeans(x.map((_, at) => value(at)), shape, weights);
    const [mx, my] = [mean((at) => x[at] ?? 0), mean((at) => y[at] ?? 0)];
    const [mxx, myy] = [mean((at) => (x[at] ?? 0) ** 2), mean((at) => (y[at] ?? 0) ** 2)];
    const mxy = mean((at) => (x[at] ?? 0) * (y[at] ?? 0));
    let total = 0;
    for (let at = 0; at < mx.length; at++) {
      const [ux, uy] = [mx[at] ?? 0, my[at] ?? 0];
      const variances = sampled * ((mxx[at] ?? 0) - ux * ux + (myy[at] ?? 0) - uy * uy);
      const covariance = sampled * ((mxy[at] ?? 0) - ux * uy);
      total += (2 * ux * uy + c1) * (2 * covariance + c2) / ((ux * ux + uy * uy + c1) * (variances + c2));
    }
    sum += total / mx.length;
  }
  return sum / channels;
}

const WEIGHTS: Readonly<Record<SsimWindow, readonly number[]>> = {
  uniform: normalized(new Array<number>(7).fill(1)),
  gaussian: normalized(Array.from({ length: 11 }, (_, at) => Math.exp(-((at - 5) ** 2) / (2 * 1.5 ** 2)))),
};

function normalized(weights: readonly number[]): readonly number[] {
  const sum = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** Weighted means over every window that lies in the picture. */
function windowMeans(
  values: Float64Array,
  { height, width }: { readonly height: number; readonly width: number },
  weights: readonly number[],
): Float64Array {
  const [rows, columns] = [height - weights.length + 1, width - weights.length + 1];
  const across = new Float64Array(height * columns);
  for (let at = 0; at < across.length; at++) {
    const from = Math.floor(at / columns) * width + at % columns;
    across[at] = weights.reduce((sum, weight, index) => sum + weight * (values[from + index] ?? 0), 0);
  }
  return Float64Array.from(
    { length: rows * columns },
    (_, at) => weights.reduce((sum, weight, index) => sum + weight * (across[at + index * columns] ?? 0), 0),
  );
}
