/**
 * Classifier-free guidance (Ho & Salimans 2022): the network is run with and without its condition in one batch, and the
 * difference is exaggerated.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";

/**
 * The factors of the two outputs: `conditional * with + unconditional * without`.
 *
 * @param scale 0 is without the condition, 1 with it, more exaggerates it.
 */
export function guidanceFactors(scale: number): { readonly conditional: number; readonly unconditional: number } {
  return { conditional: scale, unconditional: 1 - scale };
}

/** How many times a batch is run at a guidance scale: twice, unless only one of the two outputs counts. */
export function guidanceRuns(scale: number): 1 | 2 {
  return scale === 0 || scale === 1 ? 1 : 2;
}

/**
 * What a guided output is multiplied with so that its spread comes back to that of the output with the condition (Lin et
 * al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", eq. 15 and 16).
 *
 * @param conditional One sample's output with the condition.
 * @param guided The same sample's guided output.
 * @param rescale 0 changes nothing, 1 gives the spread of `conditional`.
 */
export function rescaleFactor(conditional: ArrayLike<number>, guided: ArrayLike<number>, rescale: number): number {
  return rescale * deviation(conditional) / deviation(guided) + 1 - rescale;
}

function deviation(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index] ?? 0;
  const mean = sum / values.length;
  let squares = 0;
  for (let index = 0; index < values.length; index++) squares += ((values[index] ?? 0) - mean) ** 2;
  return Math.sqrt(squares / values.length);
}

/** What may be done to a guided output. */
export interface GuidanceOptions {
  /**
   * How far its spread is brought back to that of the output with the condition, 0 to 1.
   *
   * @default {0}
   */
  readonly rescale?: number | undefined;
}

/**
 * Runs a network with guidance.
 *
 * @param sample The noisy samples, with the batch as the first axis.
 * @param scale The guidance scale.
 * @param run Runs the network on samples; `drop` says for each whether its condition is to be dropped (1) or not (0).
 * With two runs the batch is twice as long: all samples with, then all without.
 * @param options Rescaling.
 * @returns The guided output, as long as `sample`.
 */
export async function guided(
  sample: Tensor,
  scale: number,
  run: (sample: Tensor, drop: readonly number[]) => Promise<Tensor>,
  options: GuidanceOptions = {},
): Promise<Tensor> {
  const batch = sample.shape[0] ?? 0;
  const all = (value: number): number[] => new Array<number>(batch).fill(value);
  if (guidanceRuns(scale) === 1) return run(sample, all(scale === 0 ? 1 : 0));
  using twice = await repeatBatch(sample, 2);
  using both = await run(twice, [...all(0), ...all(1)]);
  const rows = [...all(0).keys()];
  using conditional = await both.gather(0, rows);
  using unconditional = await both.gather(0, rows.map((row) => row + batch));
  const factors = guidanceFactors(scale);
  const output = await Tensor.combine([
    { tensor: conditional, scale: factors.conditional },
    { tensor: unconditional, scale: factors.unconditional },
  ]);
  const { rescale = 0 } = options;
  if (rescale === 0) return output;
  using plain = output;
  const [given, exaggerated] = await Promise.all([conditional.read(), plain.read()]);
  const size = given.length / batch;
  const sampleOf = (values: Float32Array, row: number): Float32Array => values.subarray(row * size, (row + 1) * size);
  const scales = rows.map((row) => rescaleFactor(sampleOf(given, row), sampleOf(exaggerated, row), rescale));
  return await Tensor.combine([{ tensor: plain, scale: scales }]);
}

/**
 * The batch of a tensor some times over, one after the other.
 *
 * @param tensor Anything with the batch as the first axis.
 * @param times How often, at least 1.
 */
export function repeatBatch(tensor: Tensor, times: number): Promise<Tensor> {
  return Tensor.cat(new Array<Tensor>(times).fill(tensor), 0);
}
