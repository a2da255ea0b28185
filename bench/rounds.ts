/**
 * Taking turns, and the middle of what came out.
 *
 * @module
 */

/** The middle value; of an even number of values the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new RangeError("there is no median of no values");
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/**
 * Lets the sides run in turn: all once, then all again.
 *
 * @param rounds How often each runs.
 * @param sides What each does; it gives the times of its runs.
 * @returns For each side the median of every round.
 */
export async function interleaved(
  rounds: number,
  sides: readonly ((round: number) => Promise<readonly number[]>)[],
): Promise<number[][]> {
  const medians: number[][] = sides.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, side] of sides.entries()) medians[index]?.push(median(await side(round)));
  }
  return medians;
}
