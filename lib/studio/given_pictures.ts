/**
 * Pictures and videos that the page brings: looked at before anything is made of them, and kept, so that a run can be made
 * again from its manifest, which names them by their SHA-256.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { KinoraError } from "../../ffi/errors.ts";
import { type DecodedMedia, decodeMedia } from "../../ffi/media.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { MOST_FRAMES } from "../cascade/given_plan.ts";
import { slug, withoutExtension } from "../cli/output_path.ts";
import { videoPng } from "../notebook/video_bundle.ts";

/** Most bytes of one. */
export const MOST_PICTURE_BYTES = 256 << 20;

/** Sides in pixels: at which all frames are decoded to see that they can be, and the larger one of what the page shows. */
const [CHECKED_SIDE, SHOWN_SIDE] = [32, 256];

/** Frames that the page shows of a moving one. */
const SHOWN_FRAMES = 16;

/** A picture or video that is kept. */
export interface KeptPicture {
  /** The SHA-256 of the file, hexadecimal. */
  readonly id: string;
  /** A name for people, made from that of the file. */
  readonly name: string;
  /** Where it is kept. */
  readonly path: string;
}

/** What the page shows of one. */
export interface ShownPicture extends Omit<KeptPicture, "path"> {
  /** Width in pixels, as it is shown. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** Number of frames, 1 of a still picture. */
  readonly frames: number;
  /** It, made small, as the address of a PNG. */
  readonly image: string;
}

/** The pictures and videos in a folder, each in one of its own that is named after its SHA-256. */
export class GivenPictures {
  readonly #folder: string;

  /** @param folder The folder; it may not exist yet. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Keeps a picture or video.
   *
   * @param bytes The file.
   * @param name Its name; of its ending nothing is believed.
   * @throws {KinoraError} `refused` when it is not one that can be read to its end.
   */
  async add(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<KeptPicture> {
    const id = createHash("sha256").update(bytes).digest("hex");
    const kept = await this.find(id);
    if (kept !== undefined) return kept;
    const partial = `${this.#folder}/.${crypto.randomUUID()}.partial`;
    await Deno.mkdir(partial, { recursive: true });
    try {
      const unnamed = `${partial}/file`;
      await Deno.writeFile(unnamed, bytes);
      const called = [...name].slice(0, 80).join("");
      const format = await checked(unnamed, bytes, called);
      const words = slug(withoutExtension(called));
      await Deno.rename(unnamed, `${partial}/${words}.${format}`);
      await Deno.rename(partial, `${this.#folder}/${id}`);
    } catch (error) {
      await Deno.remove(partial, { recursive: true });
      // The same one may have come twice at once.
      if (error instanceof KinoraError || await this.find(id) === undefined) throw error;
    }
    return await this.#kept(id);
  }

  /**
   * One that is kept.
   *
   * @param id Its SHA-256.
   */
  async find(id: string): Promise<KeptPicture | undefined> {
    if (!/^[0-9a-f]{64}$/.test(id)) return undefined;
    try {
      for await (const { name, isFile } of Deno.readDir(`${this.#folder}/${id}`)) {
        if (isFile) return { id, name, path: `${this.#folder}/${id}/${name}` };
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return undefined;
  }

  /**
   * Where one is kept.
   *
   * @param id Its SHA-256.
   * @throws {KinoraError} `refused` when it is not.
   */
  async path(id: string): Promise<string> {
    return (await this.#kept(id)).path;
  }

  /**
   * What the page shows of one.
   *
   * @param id Its SHA-256.
   * @param still Whether only its first frame.
   * @throws {KinoraError} `refused` when it is not kept, `bad-file` when it cannot be read.
   */
  async show(id: string, still: boolean): Promise<ShownPicture> {
    const { path, name } = await this.#kept(id);
    const { frames, width, height } = await counted(path);
    const large = { width: SHOWN_SIDE, height: SHOWN_SIDE, fit: "contain" } as const;
    const media = await decodeMedia(path, { size: large, frames: still ? 1 : SHOWN_FRAMES });
    using white = media.tensor;
    using small = await withoutMargins(media);
    const seconds = media.delaysMs.reduce((sum, delay) => sum + delay, 0) / 1000;
    const fps = seconds > 0 ? Math.min(100, Math.max(0.1, (white.shape[0] ?? 1) / seconds)) : 8;
    const image = `data:image/png;base64,${(await videoPng({ tensor: small, fps })).toBase64()}`;
    return { id, name, width, height, frames, image };
  }

  async #kept(id: string): Promise<KeptPicture> {
    const kept = await this.find(id);
    if (kept === undefined) throw new KinoraError("refused", "The picture is not there any more: choose it again");
    return kept;
  }
}

/**
 * The kind of a file.
 *
 * @throws {KinoraError} `refused` when it cannot be read to its end, with the name it has for people.
 */
async function checked(path: string, bytes: Uint8Array, name: string): Promise<string> {
  // Photographs of telephones, which would be taken for films without frames.
  const brand = new TextDecoder("latin1").decode(bytes.subarray(4, 12));
  if (/^ftyp(hei[cfmsx]|hev|mif1|msf1|avi[fs])/.test(brand)) {
    throw new KinoraError("refused", `${name}: HEIC and AVIF pictures are not read; save it as JPEG or PNG`);
  }
  try {
    const { frames, format } = await counted(path);
    if (frames > MOST_FRAMES) throw new KinoraError("refused", `it has more than ${MOST_FRAMES} frames`);
    return format;
  } catch (error) {
    if (!(error instanceof KinoraError)) throw error;
    throw new KinoraError("refused", `${name}: ${error.message.replace(` (${path})`, "")}`, { cause: error });
  }
}

/** Decodes a whole file, at a size that costs little. */
async function counted(path: string): Promise<Pick<DecodedMedia, "width" | "height" | "format"> & { frames: number }> {
  const size = { width: CHECKED_SIDE, height: CHECKED_SIDE, fit: "contain" } as const;
  const { tensor, width, height, format } = await decodeMedia(path, { size, frames: MOST_FRAMES + 1 });
  using all = tensor;
  return { width, height, format, frames: all.shape[0] ?? 0 };
}

async function withoutMargins({ tensor, placement }: DecodedMedia): Promise<Tensor> {
  if (placement === undefined) return await tensor.reshape(tensor.shape);
  const { x, y, width, height } = placement.content;
  return await tensor.crop({ left: x, top: y, width, height });
}
