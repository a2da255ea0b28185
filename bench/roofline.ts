/**
 * The least time that hardware allows: that of its arithmetic, or of its memory.
 *
 * @module
 */
import { type Dtype, type Job, leastBytes, operations } from "./cases.ts";
import type { Peaks } from "./report.ts";

/** What a job has to do, and how long that takes at least. */
export interface Bound {
  /** Operations; 0 where none are counted. */
  readonly operations: number;
  /** Bytes that are moved. */
  readonly bytes: number;
  /** What takes longer. */
  readonly by: "arithmetic" | "memory";
  /** Milliseconds. */
  readonly ms: number;
}

/**
 * The roofline of a job.
 *
 * @param job The job.
 * @param peaks What the hardware can do.
 * @param counted The operations of what is not a layer, and whose bytes are not counted.
 * @returns `undefined` where the operations or the peak are not known.
 */
export function boundOf({ of, pass, dtype }: Job, peaks: Peaks, counted?: number): Bound | undefined {
  const work = operations(of, pass) ?? counted;
  // Attention computes in f32 whatever the precision of products is.
  const used: Dtype = of.layer.endsWith("attention") ? "f32" : dtype;
  const peak = used === "bf16x3" ? peaks.bf16 && peaks.bf16 / 3 : peaks[used];
  if (work === undefined || peak === null) return undefined;
  const bytes = operations(of) === undefined ? 0 : leastBytes(of, pass);
  const [arithmetic, memory] = [work / peak / 1e6, bytes / peaks.memory / 1e6];
  const by = arithmetic > memory ? "arithmetic" : "memory";
  return { operations: work, bytes, by, ms: Math.max(arithmetic, memory) };
}
