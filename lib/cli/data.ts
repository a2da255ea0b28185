/**
 * `kinora data`: gets training data and makes a data set of it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { makeFluentEmoji } from "../data/fluent_emoji.ts";
import type { Command } from "./command.ts";
import { helpText, nearest, type Options, parseOptions } from "./options.ts";
import { checkFolderWritable, parentFolder } from "./output_path.ts";
import { progressLine } from "./progress.ts";

const OPTIONS = {
  out: { type: "text", value: "DIR", help: "where to; default data/NAME" },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** The data sets by name. */
const DATASETS = { "fluent-emoji": makeFluentEmoji } as const;

/** What is printed. */
export interface DataReport {
  /** The folder. */
  readonly out: string;
  /** Whether it was made now; it was there already otherwise. */
  readonly made: boolean;
  /** Name of the data set. */
  readonly name: string;
  /** The hash of its index. */
  readonly hash: string;
  /** Number of named things. */
  readonly concepts: number;
  /** Number of animated ones. */
  readonly clips: number;
  /** Frames of all clips. */
  readonly frames: number;
  /** Bytes of the stores. */
  readonly bytes: number;
  /** Seconds it took. */
  readonly seconds: number;
}

/** The verb. */
export const command: Command = {
  name: "data",
  summary: "get and index training data",
  help: helpText({
    usage: "data NAME [OPTION]...",
    about:
      "Gets training data and makes a data set of it: stores of plain pixels and an index. One that is there already\n" +
      "and whole is left as it is.",
    options: OPTIONS,
    notes: "Data sets:\n" +
      "  fluent-emoji  1,603 named pictures and 730 looping clips of Microsoft's Fluent Emoji (MIT); 0.8 GB of packages,\n" +
      "                1.8 GB on disk, about a minute",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("data", OPTIONS, args, { positionals: 1, called: "data set" });
    const name = datasetName(positionals[0]);
    const out = (values.out ?? `data/${name}`).replace(/(?<=.)\/+$/, "");
    await checkOut(out);
    const line = progressLine();
    const since = performance.now();
    try {
      const { index, made } = await DATASETS[name](out, { signal: io.signal, onProgress: line.show });
      line.clear();
      const sizes = Object.values(index.stores).map((shape) => shape.reduce((product, size) => product * size, 1));
      const report: DataReport = {
        out,
        made,
        name: index.name,
        hash: index.hash,
        concepts: index.concepts.length,
        clips: index.clips.length,
        frames: index.clips.reduce((sum, { length }) => sum + length, 0),
        bytes: sizes.reduce((sum, size) => sum + size, 0),
        seconds: Math.round(performance.now() - since) / 1000,
      };
      io.out(values.json ? JSON.stringify(report) : described(report));
      return 0;
    } finally {
      line.clear();
    }
  },
};

function datasetName(given: string | undefined): keyof typeof DATASETS {
  const names = Object.keys(DATASETS) as (keyof typeof DATASETS)[];
  const list = names.join(", ");
  if (given === undefined) {
    throw new KinoraError("refused", `The data set is missing: kinora data ${names[0]} (there are ${list})`);
  }
  const name = names.find((name) => name === given);
  if (name !== undefined) return name;
  const meant = nearest(given, names);
  const hint = meant === undefined ? `there are ${list}` : `did you mean ${meant}?`;
  throw new KinoraError("refused", `Unknown data set "${given.slice(0, 60)}"; ${hint}`);
}

/** Refuses a folder that cannot be written, before anything is fetched. */
async function checkOut(out: string): Promise<void> {
  for (let folder = out;; folder = parentFolder(folder)) {
    const there = await Deno.stat(folder).catch(() => undefined);
    if (there?.isDirectory) return await checkFolderWritable(folder, out);
    if (there !== undefined || folder === parentFolder(folder)) {
      throw new KinoraError("refused", `Cannot write "${out}": "${folder}" is not a folder`);
    }
  }
}

function described(report: DataReport): string {
  const { out, made, concepts, clips, bytes } = report;
  const what = `${concepts} concepts, ${clips} clips, ${(bytes / 1e9).toFixed(2)} GB`;
  return made ? `Wrote ${out}: ${what}` : `Nothing to do: ${out} is there and whole (${what})`;
}
