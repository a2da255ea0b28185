/**
 * `kinora gallery`: a page of prompts and applications, all made once with one seed and none left out.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type Application, PreparedApplication, type PreparedRun } from "../cascade/applications.ts";
import type { Cascade } from "../cascade/cascade.ts";
import type { VideoOptions } from "../cascade/cascade_options.ts";
import { PreparedGeneration } from "../cascade/generation.ts";
import { writeTextWhole } from "../video.ts";
import type { Command, CommandIo } from "./command.ts";
import { type GalleryEntry, galleryPage } from "./gallery_page.ts";
import { type GalleryGiven, type GalleryItem, galleryItems } from "./gallery_plan.ts";
import { makeVideo } from "./make_video.ts";
import { helpText, type Options, parseOptions } from "./options.ts";
import { checkFolderWritable, checkWritable } from "./output_path.ts";
import { MODEL_OPTIONS, openCascade, VIDEO_OPTIONS } from "./video_options.ts";

/** The file in the folder that says what its videos are made with, so that a later run does not mix two galleries. */
const GALLERY_FILE = "gallery.json";

const OPTIONS = {
  out: { type: "text", value: "FOLDER", help: "where to; default out/gallery" },
  seed: { ...VIDEO_OPTIONS.seed, help: "the seed of every item; default 1" },
  size: VIDEO_OPTIONS.size,
  only: { type: "text", value: "ID,ID", help: "only these items, for example p01,a03" },
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "gallery",
  summary: "make a page of prompts and applications",
  help: helpText({
    usage: "gallery [OPTION]...",
    about: "Makes 60 prompts and 12 applications with one seed, and a page that shows all of them, failures included.",
    options: OPTIONS,
    notes: "Run again, it goes on where it stopped. The page is index.html in the folder.",
  }),
  async run(args, io): Promise<number> {
    const { values } = parseOptions("gallery", OPTIONS, args);
    const folder = (values.out ?? "out/gallery").replace(/(?<=.)\/+$/, "");
    const all = galleryItems();
    const items = chosen(all, values.only);
    const [seed, size] = [values.seed ?? 1, values.size ?? 256];
    using cascade = await openCascade(values);
    await openFolder(folder, { format: "kinora-gallery-1", model: cascade.index.name, seed, size });
    const entries = new Map<string, GalleryEntry>();
    for (const item of all) {
      const entry = await finishedEntry(folder, item, seed);
      if (entry !== undefined) entries.set(item.id, entry);
    }
    const write = async (): Promise<void> => {
      const shown = all.map(({ id }) => entries.get(id)).filter((entry) => entry !== undefined);
      const gallery = { model: cascade.index.name, seed, entries: shown, missing: all.length - shown.length };
      await writeTextWhole(`${folder}/index.html`, galleryPage(gallery));
    };
    const wanted = items.filter(({ id }) => !entries.has(id));
    for (const [index, item] of wanted.entries()) {
      io.signal.throwIfAborted();
      const label = `${index + 1}/${wanted.length}`;
      entries.set(item.id, await makeItem(cascade, item, { folder, seed, size, label }, io));
      await write();
    }
    await write();
    const failed = [...entries.values()].filter(({ error }) => error !== undefined).length;
    const report = { out: `${folder}/index.html`, made: wanted.length, shown: entries.size, failed };
    io.out(
      values.json
        ? JSON.stringify(report)
        : `Wrote ${report.out}: ${entries.size} items, ${wanted.length} new, ${failed} failed`,
    );
    return 0;
  },
};

/** How an item is made. */
interface ItemOptions {
  readonly folder: string;
  readonly seed: number;
  readonly size: 64 | 256 | 512 | 768;
  readonly label: string;
}

/** Makes an item; a failure becomes part of the page, an interrupt does not. */
async function makeItem(
  cascade: Cascade,
  item: GalleryItem,
  options: ItemOptions,
  io: CommandIo,
): Promise<GalleryEntry> {
  const { folder, seed, size, label } = options;
  const { id, group, title } = item;
  const given = item.given.map((_, index) => givenName(item, index));
  try {
    for (const [index, source] of item.given.entries()) {
      await makeGiven(cascade, source, { path: `${folder}/${given[index]}`, seed, size, signal: io.signal });
    }
    const paths = given.map((name) => `${folder}/${name}`);
    using run = await prepared(cascade, item, paths, { seed, size, signal: io.signal });
    const out = `${folder}/${id}.gif`;
    await makeVideo(run, { out, label: `${label} ${title}` }, io);
    return await finishedEntry(folder, item, seed) ?? { id, group, title, given, error: "the file is gone" };
  } catch (error) {
    if (io.signal.aborted || !(error instanceof KinoraError)) throw error;
    io.note(`kinora: ${id} (${title}): ${error.message}`);
    return { id, group, title, given, error: error.message };
  }
}

function prepared(
  cascade: Cascade,
  item: GalleryItem,
  given: readonly string[],
  shared: { readonly seed: number; readonly size: number; readonly signal: AbortSignal },
): Promise<PreparedRun> {
  const [first = "", second] = given;
  if (item.generate !== undefined) {
    const image = given.length === 0 ? {} : { image: first };
    return PreparedGeneration.create(cascade, item.generate.prompt, { ...item.generate.options, ...image, ...shared });
  }
  const options = { ...item.apply?.options, ...shared };
  const application = { verb: item.apply?.verb, given: second === undefined ? first : [first, second], options };
  return PreparedApplication.create(cascade, application as Application);
}

/** Makes what an application starts from, unless it is there. */
async function makeGiven(
  cascade: Cascade,
  given: GalleryGiven,
  options: { readonly path: string; readonly seed: number; readonly size: number; readonly signal: AbortSignal },
): Promise<void> {
  const { path, seed, size, signal } = options;
  if (await exists(`${path}.json`) && await exists(path)) return;
  const request: VideoOptions = { frames: given.frames, seed, size, signal };
  using video = await cascade.generate(given.prompt, request);
  await video.save(path, { signal });
}

/** An item that is there already. */
async function finishedEntry(folder: string, item: GalleryItem, seed: number): Promise<GalleryEntry | undefined> {
  const { id, group, title } = item;
  const [file, manifest] = [`${id}.gif`, `${id}.gif.json`];
  // The manifest is written last, so it says that the video is whole.
  const text = await Deno.readTextFile(`${folder}/${manifest}`).catch(() => undefined);
  if (text === undefined || !await exists(`${folder}/${file}`)) return undefined;
  const made: unknown = JSON.parse(text).seed;
  const given = item.given.map((_, index) => givenName(item, index));
  return { id, group, title, given, file, manifest, seed: typeof made === "number" ? made : seed };
}

function givenName(item: GalleryItem, index: number): string {
  return `${item.id}-given${item.given.length > 1 ? `-${index + 1}` : ""}.png`;
}

function chosen(items: readonly GalleryItem[], only: string | undefined): readonly GalleryItem[] {
  if (only === undefined) return items;
  const ids = only.split(",").map((id) => id.trim());
  const unknown = ids.find((id) => !items.some((item) => item.id === id));
  if (unknown !== undefined) {
    throw new KinoraError(
      "refused",
      `--only must name items from ${items[0]?.id} to ${items.at(-1)?.id}, not "${unknown.slice(0, 40)}"`,
    );
  }
  return items.filter(({ id }) => ids.includes(id));
}

/** Makes the folder, or checks that it holds the same gallery. */
async function openFolder(folder: string, settings: object): Promise<void> {
  const path = `${folder}/${GALLERY_FILE}`;
  const text = `${JSON.stringify(settings, undefined, 2)}\n`;
  if (await exists(folder)) {
    await checkFolderWritable(folder);
    const before = await Deno.readTextFile(path).catch(() => undefined);
    if (before === text) return;
    if (before !== undefined) {
      throw new KinoraError(
        "refused",
        `"${folder}" holds a gallery of another model or other options (see ${GALLERY_FILE}); choose another folder`,
      );
    }
    throw new KinoraError("refused", `"${folder}" is there already and holds no gallery; choose another folder`);
  }
  if (folder !== "out/gallery") await checkWritable(`${folder}/`);
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new KinoraError("io", `Cannot make the folder "${folder}": ${(cause as Error).message}`, { cause });
  }
  await writeTextWhole(path, text);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
