// deno-lint-ignore-file no-console
/**
 * Writes the measured parts of `docs/performance.md`, its plots, and those of `docs/cuda.md` from the records beside them:
 *
 *     deno run -A bench/page.ts
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../ffi/errors.ts";
import { writeTextWhole } from "../lib/video.ts";
import { LAYER_KINDS, layerCase, LEVELS } from "./cases.ts";
import { type Curve, linePlot } from "./line_plot.ts";
import {
  type BenchRecord,
  comparisonTable,
  exists,
  machineLine,
  markdownTable,
  milliseconds,
  othersOf,
  readRecord,
  type ScalingRow,
  share,
  tailsTable,
} from "./report.ts";
import { boundOf } from "./roofline.ts";

const mega = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** What each layer's forward reaches of what the processor can do. */
export function rooflineTable({ rows, peaks, machine }: BenchRecord): string[] {
  const best = peaks.find(({ threads }) => threads === machine.threads);
  if (best === undefined) return [];
  const layers = new Map(
    LAYER_KINDS.flatMap((kind) => LEVELS.map((level) => layerCase(kind, level))).map((c) => [c.name, c]),
  );
  const seen = new Set<string>();
  const cells = rows.flatMap(({ name, pass, dtype, kinora_ms: ms }) => {
    const of = layers.get(name);
    if (of === undefined || pass !== "forward" || seen.has(`${name} ${dtype}`)) return [];
    seen.add(`${name} ${dtype}`);
    const bound = boundOf({ of, pass, dtype }, best);
    if (bound === undefined) return [];
    const { operations, bytes, by } = bound;
    return [[
      name,
      dtype,
      by,
      milliseconds(ms),
      operations === 0 ? "" : (operations / ms / 1e6).toFixed(0),
      mega(bytes),
      (bytes / ms / 1e6).toFixed(1),
      share(bound.ms / ms),
    ]];
  });
  return markdownTable(3, ["layer", "dtype", "bound by", "ms", "GFLOP/s", "MB", "GB/s", "of the bound"], cells);
}

/** The processor's best, a line a number of threads. */
export function peakLines({ peaks }: BenchRecord): string[] {
  const rate = (value: number | null): string => value === null ? "no instruction" : `${value.toFixed(0)} GFLOP/s`;
  return peaks.map(({ threads, f32, bf16, memory }) =>
    `- ${threads} ${threads === 1 ? "thread" : "threads"}: f32 ${rate(f32)}, bf16 ${rate(bf16)}, memory ${
      memory.toFixed(0)
    } GB/s`
  );
}

/** Time and memory of the network's forward. */
export function scalingTable({ scaling }: BenchRecord): string[] {
  return markdownTable(
    4,
    ["frames", "size", "threads", "dtype", "ms", "MB", "ms a frame and 64x64 pixels", "others"],
    scaling.map(({ frames, size, threads, dtype, ms, bytes, ...others }) => [
      `${frames}`,
      `${size}x${size}`,
      `${threads}`,
      dtype,
      milliseconds(ms),
      bytes === null ? "" : mega(bytes),
      milliseconds(ms / frames / (size / 64) ** 2),
      othersOf(others),
    ]),
  );
}

/** Most memory of both sides in training. */
function memoryTable({ memory }: BenchRecord): string[] {
  return markdownTable(
    1,
    ["dtype", "PyTorch MB", "Kinora MB", "Kinora / PyTorch"],
    memory.map(({ dtype, peer_bytes: peer, kinora_bytes: kinora }) => [
      dtype,
      mega(peer),
      mega(kinora),
      (kinora / peer).toFixed(2),
    ]),
  );
}

/** The plots by file name; none where nothing was measured. */
export function plots({ scaling, machine }: BenchRecord): Record<string, string> {
  const rows = scaling.filter(({ threads }) => threads === machine.threads);
  const curves = (at: (row: ScalingRow) => number | undefined, value: (row: ScalingRow) => number | null): Curve[] =>
    (["f32", "bf16"] as const).map((dtype) => ({
      name: dtype,
      points: rows.filter((row) => row.dtype === dtype).flatMap((row): [number, number][] => {
        const [x, y] = [at(row), value(row)];
        return x === undefined || y === null ? [] : [[x, y]];
      }).sort(([a], [b]) => a - b),
    })).filter(({ points }) => points.length > 1);
  const overFrames = (row: ScalingRow): number | undefined => row.size === 64 ? row.frames : undefined;
  const overPixels = (row: ScalingRow): number | undefined => row.frames === 16 ? row.size ** 2 / 1000 : undefined;
  const seconds = ({ ms }: ScalingRow): number => ms / 1000;
  const bytes = (row: ScalingRow): number | null => row.bytes === null ? null : row.bytes / 1e6;
  const [frames, pixels] = ["frames of 64x64", "thousand pixels of each of 16 frames"];
  const drawn: [string, Curve[], { title: string; x: string; y: string }][] = [
    ["performance-time-frames.svg", curves(overFrames, seconds), { title: "One forward", x: frames, y: "seconds" }],
    ["performance-memory-frames.svg", curves(overFrames, bytes), {
      title: "One forward",
      x: frames,
      y: "most memory, MB",
    }],
    ["performance-time-size.svg", curves(overPixels, seconds), { title: "One forward", x: pixels, y: "seconds" }],
    ["performance-memory-size.svg", curves(overPixels, bytes), {
      title: "One forward",
      x: pixels,
      y: "most memory, MB",
    }],
  ];
  return Object.fromEntries(
    drawn.filter(([, lines]) => lines.length > 0).map(([name, lines, labels]) => [name, linePlot(lines, labels)]),
  );
}

/** What every page says of a record: the machine with versions, whole networks, and layers. */
function compared({ machine, versions, rows }: BenchRecord): Record<"machine" | "unet" | "layers", string[]> {
  const whole = ({ name }: { readonly name: string }): boolean => /^(unet|start-up)\b/.test(name);
  const named = Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ");
  return {
    machine: [`${machineLine(machine)}.`, "", `${named}.`],
    unet: comparisonTable(rows.filter(whole)),
    layers: comparisonTable(rows.filter((row) => !whole(row))),
  };
}

/** The measured parts of the page of a processor by name. */
export function parts(found: BenchRecord): Record<string, string[]> {
  return {
    ...compared(found),
    memory: memoryTable(found),
    peaks: peakLines(found),
    roofline: rooflineTable(found),
    scaling: scalingTable(found),
    tails: found.tails.length > 0 ? tailsTable(found) : ["Not measured on this machine yet."],
  };
}

/** Those of another processor on the same page. */
function amxParts(found: BenchRecord): Record<string, string[]> {
  const { machine, unet, layers } = compared(found);
  return { "amx-machine": machine, "amx-unet": unet, "amx-layers": layers };
}

/** Those of a GPU. */
function gpuParts(found: BenchRecord): Record<string, string[]> {
  const { machine, unet, layers } = compared(found);
  const rate = (value: number | null): string => `${((value ?? 0) / 1000).toFixed(0)} TFLOP/s`;
  const peaks = found.peaks.map(({ f32, bf16, memory }) =>
    `PyTorch's products of large matrices reach ${rate(f32)} in f32 and ${rate(bf16)} in bf16, its sums ${
      memory.toFixed(0)
    } GB/s.`
  );
  const videos = found.videos.map(({ dtype, frames, size, seconds }) =>
    `${frames} frames of ${size}x${size} in ${dtype}: ${seconds.toPrecision(3)} s.`
  );
  return { "gpu-machine": [...machine, "", ...peaks], "gpu-unet": unet, "gpu-video": videos, "gpu-layers": layers };
}

/** The records in `docs`, the page that shows each, and how; that of a GPU need not be there. */
export const PAGES: readonly (readonly [
  record: string,
  page: string,
  parts: (found: BenchRecord) => Record<string, string[]>,
])[] = [
  ["performance.json", "performance.md", parts],
  ["performance-amx.json", "performance.md", amxParts],
  ["performance-gpu.json", "cuda.md", gpuParts],
];

/**
 * Puts each part between the comments `<!-- NAME -->` and `<!-- /NAME -->` of a page.
 *
 * @throws {KinoraError} `bad-file` when the page lacks a part's comments.
 */
export function filled(page: string, parts: Readonly<Record<string, readonly string[]>>): string {
  for (const [name, lines] of Object.entries(parts)) {
    const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
    const [from, to] = [page.indexOf(begin), page.indexOf(end)];
    if (from < 0 || to < from) throw new KinoraError("bad-file", `The page has no place for "${name}"`);
    page = `${page.slice(0, from + begin.length)}\n\n${lines.join("\n")}\n\n${page.slice(to)}`;
  }
  return page;
}

if (import.meta.main) {
  const docs = fileURLToPath(new URL("../docs/", import.meta.url));
  for (const [record, name, parts] of PAGES) {
    if (!await exists(docs + record)) continue;
    const page = docs + name;
    await writeTextWhole(page, filled(await Deno.readTextFile(page), parts(await readRecord(docs + record))));
    console.error(`page: ${page} shows ${record}`);
  }
  const drawn = plots(await readRecord(`${docs}performance.json`));
  for (const [name, svg] of Object.entries(drawn)) await writeTextWhole(docs + name, svg);
}
