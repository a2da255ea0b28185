/**
 * `index.json` of a packed data set: what its rows are, where they came from, and a hash of both.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** One named thing of a data set. */
export interface Concept {
  /** Short name, unique in the set: `"butterfly"`. */
  readonly name: string;
  /** Another name for it, often the same. */
  readonly label: string;
  /** Search words of the first source. */
  readonly tags: readonly string[];
  /** Further search words. */
  readonly keywords: readonly string[];
  /** What it belongs to: `"Animals & Nature"`. */
  readonly group: string;
  /** An identifier in the source (for emoji the code points). */
  readonly code: string;
  /** Its row in the still stores. */
  readonly still: number;
  /** Its index among the clips, or `null` when it has none. */
  readonly clip: number | null;
}

/** One looping clip of a data set. */
export interface Clip {
  /** Index of its concept. */
  readonly concept: number;
  /** Its first row in `clips64`. */
  readonly start: number;
  /** Its frames, at least 2. */
  readonly length: number;
  /** How long a frame stays, in milliseconds (42 for a source of 24 frames a second). */
  readonly delayMs: number;
  /** Where it lies in `clips256`, for the clips that do: its first row there, and which frames those rows are. */
  readonly large: { readonly start: number; readonly frames: readonly number[] } | null;
}

/** A package that a data set was made from. */
export interface DatasetSource {
  /** Package name. */
  readonly package: string;
  /** Its exact version. */
  readonly version: string;
  /** SPDX identifier. */
  readonly licence: string;
  /** Subresource integrity of its archive. */
  readonly integrity: string;
}

/** The whole of `index.json`. */
export interface DatasetIndex {
  /** Always `"kinora-dataset-1"`. */
  readonly format: "kinora-dataset-1";
  /** `"fluent-emoji"`. */
  readonly name: string;
  /** SHA-256 in hex of everything below, so that a manifest can say what a network was trained on. */
  readonly hash: string;
  /** The packages behind the pictures and words. */
  readonly sources: readonly DatasetSource[];
  /** The stores by name, with the shapes of their `U8` tensors `[rows, side, side, 3]`. */
  readonly stores: Readonly<Record<string, readonly number[]>>;
  /** Concepts in row order: concept `i` is row `i` of the still stores. */
  readonly concepts: readonly Concept[];
  /** Clips in the order of the clip stores. */
  readonly clips: readonly Clip[];
}

/** The version of the file that this code writes and reads. */
export const INDEX_FORMAT = "kinora-dataset-1";

/**
 * Completes an index with its hash.
 *
 * @param content Everything but format and hash.
 * @returns The index, ready to be written.
 */
export async function sealIndex(content: Omit<DatasetIndex, "format" | "hash">): Promise<DatasetIndex> {
  const { name, sources, stores, concepts, clips } = content;
  const hash = await hashOf({ name, sources, stores, concepts, clips });
  return { format: INDEX_FORMAT, name, hash, sources, stores, concepts, clips };
}

/**
 * The hash that belongs to an index.
 *
 * @param content The hashed fields, in the order of {@linkcode DatasetIndex}.
 * @returns SHA-256 of its JSON, in hex.
 */
async function hashOf(content: Omit<DatasetIndex, "format" | "hash">): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(content));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** File name of the index in the folder of a data set. */
export const INDEX_FILE = "index.json";

/**
 * Reads the index of a data set.
 *
 * @param folder The folder of the data set.
 * @throws {KinoraError} `not-found` when there is none, `bad-file` when it is damaged or of another version.
 */
export async function readIndex(folder: string): Promise<DatasetIndex> {
  const path = `${folder.replace(/(?<=.)\/+$/, "")}/${INDEX_FILE}`;
  let index: DatasetIndex | null;
  try {
    index = JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new KinoraError("bad-file", `"${path}" is not JSON`, { cause });
    const absent = cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory;
    const why = absent ? "is missing" : `cannot be read (${(cause as Error).message})`;
    throw new KinoraError(absent ? "not-found" : "io", `"${path}" ${why}`, { cause });
  }
  if (index?.format !== INDEX_FORMAT) {
    throw new KinoraError("bad-file", `"${path}" is not the index of a data set: its format must be "${INDEX_FORMAT}"`);
  }
  const { name, sources, stores, concepts, clips } = index;
  if (index.hash !== await hashOf({ name, sources, stores, concepts, clips })) {
    throw new KinoraError("bad-file", `"${path}" is damaged: its content does not have its hash`);
  }
  return index;
}
