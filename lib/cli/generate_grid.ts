/**
 * `kinora generate PROMPT --grid AXIS`: the same prompt and noise with several settings, side by side in one video.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { GenerateOptions } from "../cascade/cascade_options.ts";
import { PreparedGeneration } from "../cascade/generation.ts";
import type { Manifest } from "../manifest.ts";
import { checkVideoPath, type Video, writeTextWhole } from "../video.ts";
import { videoGrid } from "../video_grid.ts";
import type { CommandIo } from "./command.ts";
import { GENERATE_OPTIONS, generateRequest, type GenerateValues } from "./generate.ts";
import { checkRate, keepingFrames, runStages, type VideoReport } from "./make_video.ts";
import { parseOptions } from "./options.ts";
import { checkWritable, slug } from "./output_path.ts";
import { openCascade } from "./video_options.ts";

/** The most videos of a grid. */
const MOST_CELLS = 64;

/** Options that every video of a grid must share, for they would not fit together, or go elsewhere. */
const SHARED = [
  "out",
  "prompts",
  "frames",
  "size",
  "key-frames",
  "loop",
  "fps",
  "until",
  "model",
  "json",
  "grid",
  "by",
];

/** An option with the values it has along one side of a grid. */
interface Axis {
  readonly name: string;
  readonly values: readonly string[];
}

/** What stands beside a grid: the manifest of each of its videos, row by row. */
interface GridManifest {
  readonly format: "kinora-grid-1";
  readonly columns: number;
  readonly cells: readonly Manifest[];
}

/**
 * Makes the videos of a grid, which differ in one or two options only, and writes them side by side.
 *
 * @param prompt The prompt, checked.
 * @param values The options; `grid` goes from left to right, `by` from top to bottom.
 * @param io Where to write, and when to stop.
 * @throws {KinoraError} `refused` when an option or one of its values is not accepted, before any work.
 */
export async function generateGrid(prompt: string, values: GenerateValues, io: CommandIo): Promise<number> {
  const across = readAxis("grid", values.grid ?? "");
  const down = values.by === undefined ? undefined : readAxis("by", values.by);
  if (down?.name === across.name) throw new KinoraError("refused", "--grid and --by must be of different options");
  const requests = cellRequests(values, across, down);
  if (requests.length > MOST_CELLS) {
    throw new KinoraError("refused", `The grid would have ${requests.length} videos; at most ${MOST_CELLS} are made`);
  }
  const out = values.out ?? `${slug(prompt)}-grid.gif`;
  checkVideoPath(out);
  using cascade = await openCascade(values);
  // All are checked before the first is made.
  for (const request of requests) {
    using prepared = await PreparedGeneration.create(cascade, prompt, request);
    if (prepared.plan.stages.length < 2) throw new KinoraError("refused", "A grid shows videos: not --until prior");
    checkRate(out, prepared.plan.outputFps);
  }
  await checkWritable(out);
  const cells: Video[] = [];
  try {
    const report = await keepingFrames({ out }, io, async (work): Promise<VideoReport> => {
      for (const [index, request] of requests.entries()) {
        using run = await PreparedGeneration.create(cascade, prompt, { ...request, signal: io.signal });
        await runStages(run, { out, label: `${index + 1}/${requests.length}` }, work);
        const video = work.kept.release();
        if (video !== undefined) cells.push(video);
      }
      using grid = await videoGrid(cells, across.values.length);
      const saved = await grid.save(out, { signal: io.signal });
      const manifest = out.endsWith("/") ? `${out}manifest.json` : `${out}.json`;
      const text: GridManifest = {
        format: "kinora-grid-1",
        columns: across.values.length,
        cells: cells.map(({ manifest }) => manifest).filter((manifest) => manifest !== undefined),
      };
      await writeTextWhole(manifest, `${JSON.stringify(text, undefined, 2)}\n`);
      work.laps.end("save");
      const { frames, width, height, fps } = grid;
      return { out: saved.path, frames, width, height, fps, seconds: work.laps.seconds, manifest };
    });
    const sides = down === undefined ? `${across.values.length}` : `${across.values.length} x ${down.values.length}`;
    io.out(values.json ? JSON.stringify(report) : `Wrote ${report.out}: ${sides} videos side by side`);
  } finally {
    for (const video of cells) video.dispose();
  }
  return 0;
}

/** Reads `guidance=1,2,4`; a plain number N stands for the seeds 0 to N - 1. */
function readAxis(option: "grid" | "by", text: string): Axis {
  if (/^\d{1,2}$/.test(text)) {
    return readAxis(
      option,
      `seed=${Array.from({ length: Number(text) }, (_, seed) => seed)}`,
    );
  }
  const [, name = "", list = ""] = /^([a-z-]+)=(.+)$/.exec(text) ?? [];
  const known = Object.keys(GENERATE_OPTIONS).filter((name) => !SHARED.includes(name));
  if (!known.includes(name) || GENERATE_OPTIONS[name as keyof typeof GENERATE_OPTIONS].type === "flag") {
    throw new KinoraError(
      "refused",
      `--${option} must be a number of seeds or NAME=VALUE,VALUE... with an option's name, for example guidance=1,2,4, not "${
        text.slice(0, 60)
      }"`,
    );
  }
  // Prompts may have commas in them, so their values are separated by bars.
  const values = list.split(GENERATE_OPTIONS[name as keyof typeof GENERATE_OPTIONS].type === "text" ? "|" : ",");
  return { name, values: values.map((value) => value.trim()) };
}

/** The requests of all videos, row by row. */
function cellRequests(values: GenerateValues, across: Axis, down: Axis | undefined): GenerateOptions[] {
  const given = generateRequest(values);
  return (down?.values ?? [undefined]).flatMap((row) =>
    across.values.map((column) => {
      const args = [`--${across.name}=${column}`, ...row === undefined ? [] : [`--${down?.name}=${row}`]];
      return { ...given, ...generateRequest(parseOptions("generate", GENERATE_OPTIONS, args).values) };
    })
  );
}
