/**
 * The file with the rows that were measured, and the pictures beside it.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import type { Tensor } from "../../../ffi/tensor.ts";
import { Video, writeTextWhole } from "../../video.ts";
import { type AblationRow, sameArm } from "./ablation.ts";

/** Says what kind of file it is. */
const FORMAT = "kinora-ablations-1";

/** Side of a frame in the pictures, in pixels; of larger ones the middle is shown. */
const SHOWN_SIDE = 64;

/** Frames in a picture. */
const SHOWN_FRAMES = 4;

/** What a row must have, by the type of its values. */
const FIELDS: readonly (readonly [name: keyof AblationRow, type: "string" | "object" | "number"])[] = [
  ["group", "string"],
  ["arm", "string"],
  ["varied", "object"],
  ["settings", "object"],
  ["seeds", "object"],
  ["model", "string"],
  ["weights", "object"],
  ["arithmetic", "object"],
  ["machine", "object"],
  ["figures", "object"],
  ["seconds", "number"],
  ["cpu_seconds", "number"],
];

/** A file of rows, which grows row by row. */
export class AblationFile {
  /** The file. */
  readonly path: string;
  #rows: readonly AblationRow[];

  private constructor(path: string, rows: readonly AblationRow[]) {
    this.path = path;
    this.#rows = rows;
  }

  /**
   * Reads the rows, if the file is there.
   *
   * @param path The file, a `.json`.
   * @throws {KinoraError} `bad-file` when it is something else or damaged, `io` when it cannot be read, `refused` when the
   * path does not end with `.json`.
   */
  static async open(path: string): Promise<AblationFile> {
    if (!path.endsWith(".json")) {
      throw new KinoraError("refused", `Ablations are kept in a .json file, not in "${path}"`);
    }
    return new AblationFile(path, await readRows(path));
  }

  /** The rows, in the order they were first measured. */
  get rows(): readonly AblationRow[] {
    return this.#rows;
  }

  /** Where the picture of a row is, whether it is there or not. */
  picturePath({ group, arm }: Pick<AblationRow, "group" | "arm">): string {
    const name = `${group} ${arm}`.replaceAll(/[^a-z0-9.]+/gi, "-");
    return `${this.path.replace(/\.json$/, "")}/${name}.png`;
  }

  /**
   * Adds a row, in place of an older one of the same arm, and writes the file.
   *
   * @param row The row.
   * @param frames Frames to look at, (F, H, W, 3) in [-1, 1]; they stay the caller's.
   */
  async add(row: AblationRow, frames?: Tensor): Promise<void> {
    // Another run may have added some.
    this.#rows = await readRows(this.path);
    const there = this.#rows.some((other) => sameArm(other, row));
    this.#rows = there ? this.#rows.map((other) => sameArm(other, row) ? row : other) : [...this.#rows, row];
    if (frames !== undefined) await savePicture(frames, this.picturePath(row));
    const slash = this.path.lastIndexOf("/");
    if (slash > 0) await Deno.mkdir(this.path.slice(0, slash), { recursive: true });
    const json = { format: FORMAT, rows: this.#rows };
    await writeTextWhole(this.path, `${JSON.stringify(json, undefined, 1)}\n`);
  }
}

/** The rows of a file, none where it is not there. */
async function readRows(path: string): Promise<AblationRow[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return [];
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
  let json: { readonly format?: unknown; readonly rows?: unknown } | null;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("bad-file", `"${path}" is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (json?.format !== FORMAT || !Array.isArray(json.rows)) {
    throw new KinoraError("bad-file", `"${path}" holds no ablations: its "format" must be "${FORMAT}"`);
  }
  for (const [index, row] of json.rows.entries()) {
    const wrong = FIELDS.find(([name, type]) => typeof row?.[name] !== type || row[name] === null);
    if (wrong !== undefined) throw new KinoraError("bad-file", `"${path}": row ${index + 1} has no ${wrong[0]}`);
  }
  return json.rows;
}

/** Some frames beside each other. */
async function savePicture(frames: Tensor, path: string): Promise<void> {
  const [count = 0, height = 0, width = 0] = frames.shape;
  const shown = Math.min(SHOWN_FRAMES, count);
  using some = await frames.gather(0, Array.from({ length: shown }, (_, index) => Math.floor(index * count / shown)));
  const side = Math.min(SHOWN_SIDE, height, width);
  using middle = await some.crop({ top: (height - side) >> 1, left: (width - side) >> 1, height: side, width: side });
  using video = new Video(await middle.reshape(middle.shape), { fps: 1 });
  using sheet = await video.contactSheet(shown);
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await sheet.save(path);
}
