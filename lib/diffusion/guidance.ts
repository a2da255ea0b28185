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
 * Runs a network with guidance.
 *
 * @param sample The noisy samples, with the batch as the first axis.
 * @param scale The guidance scale.
 * @param run Runs the network on samples; `drop` says for each whether its condition is to be dropped (1) or not (0).
 * With two runs the batch is twice as long: all samples with, then all without.
 * @returns The guided output, as long as `sample`.
 */
export async function guided(
  sample: Tensor,
  scale: number,
  run: (sample: Tensor, drop: readonly number[]) => Promise<Tensor>,
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
  return Tensor.combine([
    { tensor: conditional, scale: factors.conditional },
    { tensor: unconditional, scale: factors.unconditional },
  ]);
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
