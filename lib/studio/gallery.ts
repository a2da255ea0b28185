/**
 * Past runs, from the manifests beside their files.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { decodeMedia } from "../../ffi/media.ts";
import type { Manifest, TaskManifest } from "../manifest.ts";
import { smallFrames, videoPng } from "../notebook/video_bundle.ts";
import type { GivenPictures } from "./given_pictures.ts";
import { GIVEN_COUNTS, NUMBERS } from "./studio_request.ts";

/** Kinds of files that are shown, and their MIME types. */
const TYPES: Readonly<Record<string, string>> = {
  ".png": "image/png",
  ".gif": "image/gif",
  ".webp": "image/webp",
};

/** Most runs that are listed, the latest first, and most bytes of a manifest. */
const [MOST_RUNS, MOST_MANIFEST] = [200, 1 << 20];

/** The larger side of a thumbnail in pixels, and bytes of them that are kept. */
const [THUMB_SIDE, MOST_KEPT] = [192, 64 << 20];

/** Options that the page can ask for, and of how many pictures it can ask for what. */
const ASKED: readonly string[] = ["seed", "fit", ...NUMBERS];
const COUNTS: Readonly<Partial<Record<TaskManifest["verb"], number>>> = { generate: 0, ...GIVEN_COUNTS };

/** A picture or video that a run was made from. */
export interface RunPicture {
  /** The SHA-256 of the file. */
  readonly id: string;
  /** Its name, where it is kept. */
  readonly name?: string;
}

/** A past run. */
export interface Run {
  /** The file's name. */
  readonly file: string;
  /** When it was written, in milliseconds since 1970. */
  readonly made: number;
  /** The model's name. */
  readonly model: string;
  /** The prompt; empty where the video was made from pictures alone. */
  readonly prompt: string;
  /** The seed. */
  readonly seed: number;
  /** Number of frames. */
  readonly frames: number;
  /** Width and height in pixels. */
  readonly size: number;
  /** Frames a second of the video. */
  readonly fps: number;
  /** Frames a second that its key frames were made for. */
  readonly keyFps: number;
  /** Steps of the decoder, or where it did not run of the interpolation. */
  readonly steps: number | undefined;
  /** Guidance of the same. */
  readonly guidance: number | undefined;
  /** What was done: a method of `Cascade`. */
  readonly verb: TaskManifest["verb"];
  /** What it was made from, besides the prompt. */
  readonly given: readonly RunPicture[];
  /** The options that were given, besides the seed, of those that the page can ask for. */
  readonly asked: Readonly<Record<string, unknown>>;
  /** Whether the page can ask for the same again: nothing else was asked for, and all it was made from is kept. */
  readonly repeatable: boolean;
}

/** The runs in a folder. */
export class Gallery {
  readonly #folder: string;
  readonly #pictures: GivenPictures;
  readonly #thumbs = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  #kept = 0;

  /**
   * @param folder The folder; it may not exist yet.
   * @param pictures Where what runs were made from is looked for.
   */
  constructor(folder: string, pictures: GivenPictures) {
    this.#folder = folder;
    this.#pictures = pictures;
  }

  /** The runs, the latest first; files that are no manifests are passed over. */
  async list(): Promise<Run[]> {
    const names: string[] = [];
    try {
      for await (const { name, isFile } of Deno.readDir(this.#folder)) if (isFile) names.push(name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
    const files = new Set(names);
    const media = names.filter((name) => mediaType(name) !== undefined && files.has(`${name}.json`));
    const times = await Promise.all(media.map(async (name) => {
      const stat = await Deno.stat(`${this.#folder}/${name}`).catch(() => undefined);
      return { name, made: stat?.mtime?.getTime() ?? 0 };
    }));
    times.sort((a, b) => b.made - a.made || a.name.localeCompare(b.name));
    const runs = await Promise.all(times.slice(0, MOST_RUNS).map(({ name, made }) => this.#run(name, made)));
    return runs.filter((run) => run !== undefined);
  }

  /**
   * One run.
   *
   * @param file The file's name.
   */
  async get(file: string): Promise<Run | undefined> {
    const stat = await Deno.stat(this.#path(file)).catch(() => undefined);
    return stat === undefined ? undefined : await this.#run(file, stat.mtime?.getTime() ?? 0);
  }

  /**
   * A run's file.
   *
   * @throws {KinoraError} `not-found` when there is none of this name.
   */
  async file(file: string): Promise<{ readonly type: string; readonly body: ReadableStream<Uint8Array<ArrayBuffer>> }> {
    const type = mediaType(file);
    const path = this.#path(file);
    const stat = await Deno.lstat(path).catch(() => undefined);
    if (type === undefined || !stat?.isFile) throw new KinoraError("not-found", `There is no run ${file}`);
    return { type, body: (await Deno.open(path)).readable };
  }

  /**
   * A small moving picture of a run, or its first frame; PNG.
   *
   * @param file The file's name.
   * @param still Whether only the first frame.
   * @throws {KinoraError} `not-found` when there is none of this name, `bad-file` when it cannot be read.
   */
  async thumb(file: string, still: boolean): Promise<Uint8Array<ArrayBuffer>> {
    const path = this.#path(file);
    const stat = await Deno.lstat(path).catch(() => undefined);
    if (mediaType(file) === undefined || !stat?.isFile) throw new KinoraError("not-found", `There is no run ${file}`);
    const key = `${file} ${stat.mtime?.getTime()} ${stat.size} ${still}`;
    let thumb = this.#thumbs.get(key);
    if (thumb === undefined) {
      thumb = makeThumb(path, still);
      this.#thumbs.set(key, thumb);
      thumb.then(({ length }) => this.#keep(length), () => this.#thumbs.delete(key));
    }
    return await thumb;
  }

  /** Forgets the oldest thumbnails when there are too many. */
  async #keep(length: number): Promise<void> {
    this.#kept += length;
    for (const [key, thumb] of this.#thumbs) {
      if (this.#kept <= MOST_KEPT) return;
      this.#thumbs.delete(key);
      this.#kept -= (await thumb.catch(() => new Uint8Array())).length;
    }
  }

  #path(file: string): string {
    // Names only: no way leads out of the folder.
    if (!/^[^/\\\0]+$/.test(file) || file.startsWith(".")) throw new KinoraError("not-found", "There is no such run");
    return `${this.#folder}/${file}`;
  }

  async #run(file: string, made: number): Promise<Run | undefined> {
    const manifest = await readManifest(`${this.#path(file)}.json`);
    if (manifest === undefined) return undefined;
    const { prompt, seed, frames, width, fps, skip, model } = manifest;
    const sampling = ["decoder", "interpolation"].map((name) => manifest.stages.find(({ stage }) => stage === name))
      .find((stage) => stage !== undefined)?.sampling;
    const { verb, options } = manifest.task;
    const given = await Promise.all((manifest.given ?? []).map(async ({ sha256 }): Promise<RunPicture> => {
      const kept = await this.#pictures.find(sha256);
      return { id: sha256, ...kept === undefined ? {} : { name: kept.name } };
    }));
    const asked = Object.entries(options).filter(([name]) => name !== "seed" && ASKED.includes(name));
    const other = Object.entries(options).some(([name, value]) => !ASKED.includes(name) && value !== false);
    return {
      file,
      made,
      model,
      prompt: prompt ?? "",
      seed,
      frames,
      size: width,
      fps,
      keyFps: fps / skip,
      steps: sampling?.steps,
      guidance: sampling?.guidance,
      verb,
      given,
      asked: Object.fromEntries(asked),
      repeatable: !other && manifest.placedBack !== true && given.every(({ name }) => name !== undefined) &&
        given.length === COUNTS[verb],
    };
  }
}

/** A manifest, if the file is one. */
async function readManifest(path: string): Promise<Manifest | undefined> {
  try {
    if ((await Deno.stat(path)).size > MOST_MANIFEST) return undefined;
    const value = JSON.parse(await Deno.readTextFile(path));
    const numbers = ["seed", "frames", "width", "fps", "skip"].every((name) => Number.isFinite(value[name]));
    const texts = typeof value.model === "string" && ["string", "undefined"].includes(typeof value.prompt);
    const { format, task, given = [], stages } = value;
    const lists = Array.isArray(stages) && Array.isArray(given) &&
      given.every((picture) => typeof picture?.sha256 === "string");
    const asked = typeof task?.verb === "string" && typeof task.options === "object" && task.options !== null;
    return format === "kinora-manifest-1" && numbers && texts && lists && asked ? value : undefined;
  } catch {
    return undefined;
  }
}

async function makeThumb(path: string, still: boolean): Promise<Uint8Array<ArrayBuffer>> {
  const { tensor, delaysMs } = await decodeMedia(path, { background: "white" });
  using whole = tensor;
  const [count = 1] = whole.shape;
  const seconds = delaysMs.reduce((sum, delay) => sum + delay, 0) / 1000;
  const fps = Math.min(1000, Math.max(0.01, seconds > 0 ? count / seconds : 8));
  using first = still ? await whole.gather(0, [0]) : undefined;
  using small = await smallFrames({ tensor: first ?? whole, fps }, THUMB_SIDE);
  return await videoPng(small);
}

function mediaType(file: string): string | undefined {
  const dot = file.lastIndexOf(".");
  return dot < 0 ? undefined : TYPES[file.slice(dot).toLowerCase()];
}
