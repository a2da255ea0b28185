/**
 * What is measured while a stage is trained.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { clipMotions, type Motion } from "./clip_motion.ts";

/** Named numbers. */
export type Measures = Readonly<Record<string, number>>;

/**
 * The root mean square of the difference of two tensors of one shape.
 *
 * @param a One.
 * @param b The other.
 */
export async function rmsDifference(a: Tensor, b: Tensor): Promise<number> {
  using difference = await Tensor.combine([{ tensor: a, scale: 1 }, { tensor: b, scale: -1 }]);
  return (await difference.stats()).rms;
}

/**
 * Peak signal-to-noise ratio in decibels of pictures in [-1, 1].
 *
 * @param a Some pictures.
 * @param b The true ones.
 */
export async function psnr(a: Tensor, b: Tensor): Promise<number> {
  return -20 * Math.log10(Math.max(1e-6, await rmsDifference(a, b) / 2));
}

/**
 * How often the right rows of a bank are among the nearest, by cosine.
 *
 * @param queries Queries of unit length (Q, E).
 * @param bank The bank, of unit length (N, E).
 * @param right For each query the rows that are right.
 * @returns The shares of queries with a right row first (`r1`) and among the first five (`r5`).
 */
export async function recall(
  queries: Tensor,
  bank: Tensor,
  right: readonly (readonly number[])[],
): Promise<{ readonly r1: number; readonly r5: number }> {
  using products = await Tensor.matmul(queries, bank);
  return rankShares(await products.read(), bank.shape[0] ?? 0, right);
}

/**
 * {@linkcode recall} from scores.
 *
 * @param scores For each query the score of each row, row-major.
 * @param rows Number of rows.
 * @param right For each query the rows that are right.
 */
export function rankShares(
  scores: ArrayLike<number>,
  rows: number,
  right: readonly (readonly number[])[],
): { readonly r1: number; readonly r5: number } {
  let [first, five] = [0, 0];
  for (const [query, wanted] of right.entries()) {
    const best = Math.max(...wanted.map((row) => scores[query * rows + row] ?? -Infinity));
    const better = new Set<number>();
    for (let row = 0; row < rows && better.size < 5; row++) {
      if ((scores[query * rows + row] ?? -Infinity) > best) better.add(row);
    }
    if (better.size < 1) first++;
    if (better.size < 5) five++;
  }
  const count = Math.max(1, right.length);
  return { r1: first / count, r5: five / count };
}

/**
 * The mean cosine of pairs of rows of unit length.
 *
 * @param a Rows (B, E).
 * @param b Rows (B, E).
 */
export async function meanCosine(a: Tensor, b: Tensor): Promise<number> {
  // |a - b|² = 2 - 2 cos, and the mean over coordinates is what stats gives.
  const rms = await rmsDifference(a, b);
  return 1 - rms * rms * (a.shape[1] ?? 1) / 2;
}

/** Pictures of all concepts, to find the nearest among. */
export class PictureBank implements Disposable {
  readonly #pixels: Tensor;
  readonly #squares: readonly number[];
  readonly #side: number;

  private constructor(pixels: Tensor, squares: readonly number[], side: number) {
    this.#pixels = pixels;
    this.#squares = squares;
    this.#side = side;
  }

  /**
   * Makes a bank.
   *
   * @param pictures Pictures (N, H, W, 3); they stay the caller's.
   * @param side Side that pictures are compared at, in pixels.
   */
  static async create(pictures: Tensor, side = 16): Promise<PictureBank> {
    const pixels = await flattened(pictures, side);
    const [count = 0, width = 0] = pixels.shape;
    const values = await pixels.read();
    const squares = Array.from({ length: count }, (_, row) => {
      let sum = 0;
      for (let at = row * width; at < (row + 1) * width; at++) sum += (values[at] ?? 0) ** 2;
      return sum;
    });
    return new PictureBank(pixels, squares, side);
  }

  /**
   * How often the nearest picture by pixels is a right one.
   *
   * @param pictures Pictures (Q, H, W, 3).
   * @param right The right row of each, or all rows that are right.
   */
  async recall(
    pictures: Tensor,
    right: readonly (number | readonly number[])[],
  ): Promise<{ readonly r1: number; readonly r5: number }> {
    using queries = await flattened(pictures, this.#side);
    using products = await Tensor.matmul(queries, this.#pixels);
    const rows = this.#squares.length;
    // Smallest |q|² - 2 q·p + |p|²; |q|² is the same for all.
    const scores = (await products.read()).map((product, at) => 2 * product - (this.#squares[at % rows] ?? 0));
    return rankShares(scores, rows, right.map((rows) => [rows].flat()));
  }

  /** Frees the pictures. */
  [Symbol.dispose](): void {
    this.#pixels.dispose();
  }
}

async function flattened(pictures: Tensor, side: number): Promise<Tensor> {
  using small = await pictures.resize({ height: side, width: side, filter: "area" });
  return await small.reshape([small.shape[0] ?? 0, side * side * 3]);
}

/**
 * How clips move, on the mean over clips.
 *
 * @param clips Clips (B, F, H, W, 3) in [-1, 1], F at least 3.
 */
export async function motionOf(clips: Tensor): Promise<Motion> {
  const all = await clipMotions(clips);
  const mean = (name: keyof Motion): number => all.reduce((sum, one) => sum + one[name], 0) / Math.max(1, all.length);
  return { motion: mean("motion"), acceleration: mean("acceleration"), border: mean("border") };
}
