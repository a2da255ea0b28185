/**
 * What sizes cost that fill no whole vector or tile: odd frames, sides and channels beside the next size that does.
 *
 * @module
 */
import { type Case, type Dtype, FRAMES, type Pass } from "./cases.ts";
import { caseFile, kinoraSide, type Measuring } from "./measure.ts";
import type { TailRow } from "./report.ts";
import { interleaved, median } from "./rounds.ts";
import type { Side } from "./side.ts";

type Size = readonly [channels: number, side: number, frames: number];

/** Of every layer: a tail, and the size beside it. */
const OF_ALL: readonly (readonly [Size, Size])[] = [[[64, 16, 15], [64, 16, FRAMES]], [[64, 15, 16], [64, 16, FRAMES]]];

/** Of layers with a kernel, whose channels are of no heads or groups. */
const OF_KERNELS: readonly (readonly [Size, Size])[] = ([[3, 16], [7, 16], [40, 48], [48, 64]] as const).map((
  [tail, full],
) => [[tail, 16, FRAMES], [full, 16, FRAMES]]);

const LAYERS: Readonly<Record<string, readonly (readonly [Size, Size])[]>> = {
  conv3x3: [...OF_ALL, ...OF_KERNELS],
  temporal_conv: [...OF_ALL, ...OF_KERNELS],
  linear: [...OF_ALL, ...OF_KERNELS],
  norm: OF_ALL,
  temporal_attention: OF_ALL,
  spatial_attention: OF_ALL,
};

function sized(layer: string, [channels, size, frames]: Size): Case {
  const name = `${layer}-${channels}@${size}${frames === FRAMES ? "" : `, ${frames} frames`}`;
  return { name, layer, config: { frames, size, channels, heads: Math.ceil(channels / 64) }, peers: [] };
}

/** The pairs that are timed: a tail, and the size beside it. */
export function tailPairs(): (readonly [tail: Case, full: Case])[] {
  return Object.entries(LAYERS).flatMap(([layer, pairs]) =>
    pairs.map(([tail, full]) => [sized(layer, tail), sized(layer, full)] as const)
  );
}

/** Turns a row takes for each round that is asked for, and their share of the seconds a side else runs in a round. */
const TURNS = { rounds: 3, seconds: 1 / 12 };

/**
 * Times each tail and the size beside it in turn, on Kinora's side alone. What is compared differs by little and takes at most
 * a few milliseconds: many short turns see both alike, whatever else the machine does.
 */
export async function tails(
  passes: readonly Pass[],
  dtypes: readonly Dtype[],
  python: Side,
  options: Measuring,
): Promise<TailRow[]> {
  await using first = kinoraSide(options);
  await using second = kinoraSide(options);
  const request = { seconds: options.seconds * TURNS.seconds, least: 3, warm: true };
  const rows: TailRow[] = [];
  for (const [tail, full] of tailPairs()) {
    const files = [await caseFile(tail, python, options.folder), await caseFile(full, python, options.folder)];
    for (const pass of passes) {
      for (const dtype of dtypes) {
        for (const [index, [side, { layer, config }]] of ([[first, tail], [second, full]] as const).entries()) {
          await side.ask({ do: "load", wanted: { layer, config, pass, dtype }, file: files[index] });
        }
        const timed = [first, second].map((side) => async () => (await side.time(request)).ms);
        const [ours = [], theirs = []] = await interleaved(TURNS.rounds * options.rounds, timed);
        const [ms, fullMs] = [median(ours), median(theirs)];
        rows.push({ name: tail.name, full: full.name, pass, dtype, ms, full_ms: fullMs, ratio: ms / fullMs });
      }
    }
  }
  return rows;
}
