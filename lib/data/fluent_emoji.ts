/**
 * The Fluent Emoji collection as a data set: from the packages to stores of pixels and their index.
 *
 * @module
 */
import { distinctPictures, frameCounts, packPictures } from "../../ffi/dataset.ts";
import { KinoraError } from "../../ffi/errors.ts";
import { writeTextWhole } from "../video.ts";
import { type DatasetIndex, type DatasetSource, INDEX_FILE, readIndex, sealIndex } from "./dataset_index.ts";
import { emojiRows, type EmojiSources } from "./fluent_emoji_rows.ts";
import { sourceConfig, sourceLock, SOURCES } from "./fluent_emoji_sources.ts";
import { withPackages } from "./source_packages.ts";

/** One of so many clips also goes into the store of full size, which the super-resolution over frames learns from. */
const LARGE_EVERY = 4;

/** Frames that each of those gives: of the usual three seconds at 24 frames a second every third, that is 8 a second. */
const LARGE_FRAMES = 24;

/** How far the work is. */
export interface DatasetProgress {
  /** What is going on. */
  readonly stage: "packages" | "comparing" | "counting" | "packing";
  /** Steps that are done. */
  readonly step: number;
  /** Steps in all. */
  readonly total: number;
}

/** How a data set is made. */
export interface DatasetOptions {
  /** Stops the work; what is left then has no index, and the next run makes it whole. */
  readonly signal?: AbortSignal | undefined;
  /** Called after steps. */
  readonly onProgress?: ((progress: DatasetProgress) => void) | undefined;
}

/** A data set that is there. */
export interface MadeDataset {
  /** Its index. */
  readonly index: DatasetIndex;
  /** Whether it was made now; it was there already otherwise. */
  readonly made: boolean;
}

/**
 * Gets the packages and makes the data set of them, unless it is there already.
 *
 * @param out The folder of the data set, made if need be. While the work goes on it also holds the packages (0.8 GB).
 * @param options How.
 * @throws {KinoraError} `permission`, `bad-file` or `io` when the packages cannot be got; `io` when the folder cannot be
 * written.
 */
export async function makeFluentEmoji(out: string, options: DatasetOptions = {}): Promise<MadeDataset> {
  const sources = SOURCES.map(({ name, version, licence, integrity }): DatasetSource => ({
    package: name,
    version,
    licence,
    integrity,
  }));
  const there = await completeIndex(out);
  if (there !== undefined && JSON.stringify(there.sources) === JSON.stringify(sources)) {
    return { index: there, made: false };
  }
  const { signal, onProgress } = options;
  const total = SOURCES.length;
  await makeFolder(out);
  onProgress?.({ stage: "packages", step: 0, total });
  const install = {
    signal,
    onPackage: (step: number): void => onProgress?.({ stage: "packages", step: Math.min(step, total), total }),
  };
  const project = { config: sourceConfig(), lock: sourceLock() };
  const index = await withPackages(
    project,
    out,
    install,
    async (packages) => packFluentEmoji(await emojiSources(packages), sources, out, options),
  );
  return { index, made: true };
}

/**
 * The index of a data set whose stores are all there and as long as it says.
 *
 * @param folder The folder.
 * @returns `undefined` when there is no whole data set.
 */
export async function completeIndex(folder: string): Promise<DatasetIndex | undefined> {
  let index: DatasetIndex;
  try {
    index = await readIndex(folder);
  } catch (error) {
    if (error instanceof KinoraError && (error.code === "not-found" || error.code === "bad-file")) return undefined;
    throw error;
  }
  for (const [name, shape] of Object.entries(index.stores)) {
    const file = await Deno.stat(`${folder}/${name}.safetensors`).catch(() => undefined);
    const header = (file?.size ?? 0) - shape.reduce((product, size) => product * size, 1);
    if (!(file?.isFile && header > 8 && header < 4096)) return undefined;
  }
  return index;
}

/**
 * Makes a data set of the files of the packages.
 *
 * @param sources The files and tables.
 * @param provenance The packages, for the index.
 * @param out An existing folder.
 * @param options How.
 * @returns The index, which is written last.
 * @throws {KinoraError} `refused` when there is nothing to pack; `not-found`, `bad-file` or `io` with the file.
 */
export async function packFluentEmoji(
  sources: EmojiSources,
  provenance: readonly DatasetSource[],
  out: string,
  options: DatasetOptions = {},
): Promise<DatasetIndex> {
  const job = (stage: DatasetProgress["stage"]) => ({
    signal: options.signal,
    onProgress: ({ step, total }: { readonly step: number; readonly total: number }): void =>
      options.onProgress?.({ stage, step, total }),
  });
  const named = emojiRows(sources);
  const kept = await distinctPictures(named.map(({ still, name }) => ({ path: still, group: name })), job("comparing"));
  const rows = named.filter((_, place) => kept.includes(place));

  const animated = rows.flatMap(({ clip }, concept) => clip === null ? [] : [{ concept, path: clip }]);
  const lengths = await frameCounts(animated.map(({ path }) => path), job("counting"));
  const clips = animated.filter((_, place) => (lengths[place] ?? 0) > 1);
  // A set without its index is not whole: that is so from here on until the new index is written.
  await Deno.remove(`${out}/${INDEX_FILE}`).catch(() => {});
  const packed = await packPictures({
    stills: rows.map(({ still }) => still),
    clips: clips.map(({ path }) => path),
    largeClips: clips.map((_, clip) => clip).filter((clip) => clip % LARGE_EVERY === 0),
    largeFrames: LARGE_FRAMES,
    out,
  }, job("packing"));

  const frames = packed.reduce((sum, { length }) => sum + length, 0);
  const largeFrames = packed.reduce((sum, { large }) => sum + (large?.frames.length ?? 0), 0);
  const clipOf = new Map(clips.map(({ concept }, clip) => [concept, clip]));
  const index = await sealIndex({
    name: "fluent-emoji",
    sources: provenance,
    stores: {
      stills256: [rows.length, 256, 256, 3],
      stills64: [rows.length, 64, 64, 3],
      ...frames === 0 ? {} : { clips64: [frames, 64, 64, 3], clips256: [largeFrames, 256, 256, 3] },
    },
    concepts: rows.map(({ name, label, tags, keywords, group, code }, still) => ({
      name,
      label,
      tags,
      keywords,
      group,
      code,
      still,
      clip: clipOf.get(still) ?? null,
    })),
    clips: packed.map((clip, place) => ({ concept: clips[place]?.concept ?? 0, ...clip })),
  });
  await writeTextWhole(`${out}/${INDEX_FILE}`, `${JSON.stringify(index)}\n`);
  return index;
}

/** Finds the files and tables in the packages. */
async function emojiSources(packages: string): Promise<EmojiSources> {
  const pictures = async (name: string): Promise<[string, string][]> => {
    const folder = `${packages}/${name}/assets`;
    return (await Array.fromAsync(Deno.readDir(folder))).map((file) => [file.name, `${folder}/${file.name}`]);
  };
  const table = async (path: string) => JSON.parse(await Deno.readTextFile(`${packages}/${path}`));
  const named = (part: string): string[] => SOURCES.map(({ name }) => name).filter((name) => name.includes(part));
  const [stills, clips] = [new Map<string, string>(), new Map<string, string>()];
  for (const name of named("fluent-emoji-3d")) for (const [file, path] of await pictures(name)) stills.set(file, path);
  for (const name of named("fluent-emoji-anim")) for (const [file, path] of await pictures(name)) clips.set(file, path);
  return {
    stills,
    clips,
    unicode: await table("unicode-emoji-json/data-by-emoji.json"),
    emojibase: await table("emojibase-data/en/data.json"),
    emojilib: await table("emojilib/dist/emoji-en-US.json"),
  };
}

async function makeFolder(out: string): Promise<void> {
  try {
    await Deno.mkdir(out, { recursive: true });
  } catch (cause) {
    throw new KinoraError("io", `Cannot make the folder "${out}": ${(cause as Error).message}`, { cause });
  }
}
