/**
 * What a run of the bench found, as JSON and as a table.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { writeTextWhole } from "../lib/video.ts";
import type { Dtype, Pass, Peer } from "./cases.ts";
import type { Machine } from "./machine.ts";

/** A row of `--json`. */
export interface Row {
  /** The case, for example `unet` or `conv3x3-64@64`; `start-up` for a process's first forward. */
  readonly name: string;
  /** What was timed. */
  readonly pass: Pass;
  /** The arithmetic, on both sides. */
  readonly dtype: Dtype;
  /** The form of the other side. */
  readonly peer: Peer;
  /** The other side's milliseconds: the median of the rounds' medians. */
  readonly peer_ms: number;
  /** Kinora's. */
  readonly kinora_ms: number;
  /** The other side's time divided by Kinora's: above 1, Kinora is faster. */
  readonly ratio: number;
  /** Whether both gave the same results, within {@linkcode MeasuredRow.tolerance}. */
  readonly agrees: boolean;
  /** On a GPU, the share of the least time that its arithmetic and memory allow, {@linkcode Peaks}, in Kinora's. */
  readonly share?: number;
}

/** A row with what stands behind it. */
export interface MeasuredRow extends Row {
  /** Medians of the rounds, milliseconds. */
  readonly kinora_rounds: readonly number[];
  /** Medians of the rounds, milliseconds. */
  readonly peer_rounds: readonly number[];
  /** The relative error between the results. */
  readonly error: number;
  /** The largest relative error at which they agree. */
  readonly tolerance: number;
  /** The share of a core that other processes took meanwhile; absent where the system does not tell. */
  readonly foreign?: number;
}

/** The most memory that each side's process had in training. */
export interface MemoryRow {
  /** The arithmetic. */
  readonly dtype: Dtype;
  /** Bytes. */
  readonly peer_bytes: number;
  /** Bytes. */
  readonly kinora_bytes: number;
}

/** What the hardware can do. */
export interface Peaks {
  /** Threads. */
  readonly threads: number;
  /** GFLOP/s of f32: multiply-adds in registers, or on a GPU PyTorch's product of large matrices. */
  readonly f32: number | null;
  /** GFLOP/s of bf16 products, likewise. */
  readonly bf16: number | null;
  /** GB/s of reading two arrays and writing one. */
  readonly memory: number;
}

/** One forward of the whole network. */
export interface ScalingRow {
  /** Frames. */
  readonly frames: number;
  /** Height and width. */
  readonly size: number;
  /** Threads. */
  readonly threads: number;
  /** The arithmetic. */
  readonly dtype: Dtype;
  /** Milliseconds. */
  readonly ms: number;
  /** The most bytes that the process had; `null` where the system does not tell. */
  readonly bytes: number | null;
  /** As {@linkcode MeasuredRow.foreign}. */
  readonly foreign?: number;
}

/** A size that fills no whole vector or tile beside the next that does, on Kinora's side. */
export interface TailRow {
  /** The layer with its channels and side, and its frames unless they are 16. */
  readonly name: string;
  /** The size beside it. */
  readonly full: string;
  /** What is timed. */
  readonly pass: Pass;
  /** The arithmetic. */
  readonly dtype: Dtype;
  /** Milliseconds of the tail: the median of the rounds' medians. */
  readonly ms: number;
  /** Of the size beside it. */
  readonly full_ms: number;
  /** `ms / full_ms`. */
  readonly ratio: number;
}

/** A video by the default model from a text, with the defaults of `generate`. */
export interface VideoRow {
  /** The arithmetic. */
  readonly dtype: Dtype;
  /** Frames. */
  readonly frames: number;
  /** Height and width. */
  readonly size: number;
  /** Seconds: the median of the rounds. */
  readonly seconds: number;
  /** Seconds of each round. */
  readonly rounds: readonly number[];
}

/** Everything that was measured on one machine. */
export interface BenchRecord {
  /** The machine. */
  readonly machine: Machine;
  /** Both sides' versions. */
  readonly versions: Readonly<Record<string, string>>;
  /** Comparisons. */
  readonly rows: readonly MeasuredRow[];
  /** Memory of training. */
  readonly memory: readonly MemoryRow[];
  /** The processor's best, by number of threads. */
  readonly peaks: readonly Peaks[];
  /** Time and memory by size. */
  readonly scaling: readonly ScalingRow[];
  /** Odd sizes beside whole ones. */
  readonly tails: readonly TailRow[];
  /** From text to video. */
  readonly videos: readonly VideoRow[];
}

/** What `--json` prints; peaks and videos where they were measured. */
export function reportJson({ machine, versions, rows, peaks, videos }: BenchRecord): {
  readonly machine: Machine;
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly Row[];
  readonly peaks?: readonly Peaks[];
  readonly videos?: readonly VideoRow[];
} {
  return {
    machine,
    versions,
    ...machine.gpu === undefined ? {} : { peaks },
    ...videos.length === 0 ? {} : { videos },
    rows: rows.map(({ name, pass, dtype, peer, peer_ms, kinora_ms, ratio, agrees, share }) => ({
      name,
      pass,
      dtype,
      peer,
      peer_ms,
      kinora_ms,
      ratio,
      agrees,
      ...share === undefined ? {} : { share },
    })),
  };
}

/** One line that says on what it was measured. */
export function machineLine({ cpu, features, cores, threads, pinned, memory, os, gpu }: Machine): string {
  if (gpu !== undefined) {
    const { name, capability, memory, cudnn } = gpu;
    const dnn = "version" in cudnn ? `cuDNN ${cudnn.version}` : "no cuDNN";
    return `${name}, compute capability ${capability.join(".")}, ${
      (memory / 2 ** 30).toFixed(0)
    } GiB, ${dnn}; ${cpu}, ${os}`;
  }
  const on = pinned === null
    ? "not pinned to cores"
    : `both sides pinned to ${cores === 1 ? "core" : "cores"} ${pinned}`;
  return `${cpu}, ${os}, ${cores} cores, ${(memory / 2 ** 30).toFixed(0)} GiB; ${threads} ${
    threads === 1 ? "thread" : "threads"
  }, ${on}; ${features.join(" ") || "instruction sets not known"}`;
}

/**
 * A Markdown table as `deno fmt` leaves it.
 *
 * @param words How many columns hold words; the others are numbers, which stand at the right.
 * @param head The columns' names.
 * @param rows The cells.
 */
export function markdownTable(words: number, head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0), i < words ? 3 : 2));
  const line = (cells: readonly string[]): string =>
    `| ${
      cells.map((cell, i) => i < words ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)).join(" | ")
    } |`;
  const rule = widths.map((width, i) => i < words ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  return [line(head), `| ${rule.join(" | ")} |`, ...rows.map(line)];
}

/** Milliseconds with three digits that mean something. */
export function milliseconds(ms: number): string {
  return ms >= 100 ? ms.toFixed(0) : ms.toPrecision(3);
}

/** A share in whole percents. */
export function share(of: number): string {
  return `${(100 * of).toFixed(0)} %`;
}

/** The share of a core above which others disturbed a row. */
const DISTURBED = 0.05;

/** What others took, marked where it is much. */
export function othersOf({ foreign }: { readonly foreign?: number }): string {
  return foreign === undefined ? "" : `${share(foreign)}${foreign > DISTURBED ? " !" : ""}`;
}

/** The comparisons as a table. */
export function comparisonTable(rows: readonly MeasuredRow[]): string[] {
  const shares = rows.some((row) => row.share !== undefined);
  const cells = rows.map((row) => [
    row.name,
    row.pass,
    row.dtype,
    row.peer,
    milliseconds(row.peer_ms),
    milliseconds(row.kinora_ms),
    row.ratio.toFixed(2),
    `${row.agrees ? "yes" : "NO"} ${row.error.toExponential(1)}`,
    shares ? row.share === undefined ? "" : share(row.share) : othersOf(row),
  ]);
  return markdownTable(
    4,
    [
      "row",
      "pass",
      "dtype",
      "peer",
      "PyTorch ms",
      "Kinora ms",
      "PyTorch / Kinora",
      "agrees",
      shares ? "of the bound" : "others",
    ],
    cells,
  );
}

/** Odd sizes beside whole ones as a Markdown table. */
export function tailsTable({ tails }: BenchRecord): string[] {
  return markdownTable(
    4,
    ["layer", "beside", "pass", "dtype", "ms", "beside ms", "ratio"],
    tails.map(({ name, full, pass, dtype, ms, full_ms: fullMs, ratio }) => [
      name,
      full,
      pass,
      dtype,
      milliseconds(ms),
      milliseconds(fullMs),
      ratio.toFixed(2),
    ]),
  );
}

/** Everything as text: tables, and under them what they mean. */
export function reportText(record: BenchRecord): string[] {
  const { machine, versions, rows, memory, peaks, videos } = record;
  const named = Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ");
  const lines = [machineLine(machine), named, ""];
  if (rows.length > 0) {
    lines.push(
      ...comparisonTable(rows),
      "",
      "Times are medians of the rounds' medians. 'agrees' gives the relative error between both results; allowed are",
      `${tolerances(rows)}.`,
      ...machine.gpu === undefined
        ? ["'others' is the share of a core that other processes took meanwhile; above 5 % the row is marked."]
        : peaks.map(({ f32, bf16, memory }) =>
          `'of the bound' is the share of the least time: PyTorch reaches ${f32?.toFixed(0)} GFLOP/s in f32 and ` +
          `${bf16?.toFixed(0)} in bf16 with large matrices, and ${
            memory.toFixed(0)
          } GB/s. Of the unet no bytes are counted.`
        ),
      "",
    );
  }
  if (record.tails.length > 0) lines.push(...tailsTable(record), "");
  for (const { dtype, frames, size, seconds, rounds } of videos) {
    lines.push(
      `Text to video by the default model, ${frames} frames of ${size}x${size}, ${dtype}: ${
        seconds.toPrecision(3)
      } s, ` +
        `the median of ${rounds.length} after one that is not counted`,
    );
  }
  for (const { dtype, peer_bytes: peer, kinora_bytes: kinora } of memory) {
    const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
    lines.push(
      `Most memory in training the unet, ${dtype}: PyTorch ${mega(peer)}, Kinora ${mega(kinora)}, ` +
        `Kinora / PyTorch ${(kinora / peer).toFixed(2)}`,
    );
  }
  return lines;
}

function tolerances(rows: readonly MeasuredRow[]): string {
  const found = new Map(rows.map(({ name, pass, dtype, tolerance }) => {
    const of = name === "unet" || name === "start-up" ? "the unet" : "layers";
    return [`${dtype} ${of} ${pass}`, tolerance];
  }));
  return [...found].map(([what, tolerance]) => `${tolerance} (${what})`).join(", ");
}

/**
 * Reads what was recorded.
 *
 * @throws {KinoraError} `not-found` when there is no such file, `bad-file` when it is something else.
 */
export async function readRecord(path: string): Promise<BenchRecord> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new KinoraError("not-found", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
  try {
    const { machine, versions, rows, memory, peaks, scaling, tails = [], videos = [] } = JSON.parse(text);
    if ([rows, memory, peaks, scaling, tails, videos].every(Array.isArray) && machine?.cpu && versions?.kinora) {
      return { machine, versions, rows, memory, peaks, scaling, tails, videos };
    }
  } catch {
    // Refused below.
  }
  throw new KinoraError("bad-file", `"${path}" is not a record of the bench`);
}

/**
 * Adds measurements to a record: they take the place of earlier ones of the same name.
 *
 * @throws {KinoraError} `refused` when the two were made on different machines or versions.
 */
export function merged(old: BenchRecord, added: BenchRecord): BenchRecord {
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  if (
    !same(old.machine, added.machine) ||
    Object.keys(added.versions).some((n) => (old.versions[n] ?? added.versions[n]) !== added.versions[n])
  ) {
    throw new KinoraError("refused", "The record holds measurements of another machine, number of threads or versions");
  }
  const join = <Item>(old: readonly Item[], added: readonly Item[], key: (item: Item) => string): Item[] => {
    const items = new Map(old.map((item) => [key(item), item]));
    for (const item of added) items.set(key(item), item);
    return [...items.values()];
  };
  return {
    machine: added.machine,
    versions: { ...old.versions, ...added.versions },
    rows: join(old.rows, added.rows, ({ name, pass, dtype, peer }) => `${name} ${pass} ${dtype} ${peer}`),
    memory: join(old.memory, added.memory, ({ dtype }) => dtype),
    peaks: join(old.peaks, added.peaks, ({ threads }) => `${threads}`),
    scaling: join(
      old.scaling,
      added.scaling,
      ({ frames, size, threads, dtype }) => `${frames} ${size} ${threads} ${dtype}`,
    ),
    tails: join(old.tails, added.tails, ({ name, pass, dtype }) => `${name} ${pass} ${dtype}`),
    videos: join(old.videos, added.videos, ({ frames, size, dtype }) => `${frames} ${size} ${dtype}`),
  };
}

/**
 * Looks whether measurements on a machine could be added to the record in a file, if there is one.
 *
 * @throws {KinoraError} As {@linkcode readRecord} and {@linkcode merged}.
 */
export async function checkRecord(path: string, machine: Machine): Promise<void> {
  const nothing = { machine, versions: {}, rows: [], memory: [], peaks: [], scaling: [], tails: [], videos: [] };
  if (await exists(path)) merged(await readRecord(path), nothing);
}

/** Adds measurements to the record in a file, or begins one. */
export async function record(path: string, added: BenchRecord): Promise<void> {
  const all = await exists(path) ? merged(await readRecord(path), added) : added;
  await writeTextWhole(path, `${JSON.stringify(all, undefined, 1)}\n`);
}

/** Whether there is a file. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
