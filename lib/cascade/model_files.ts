/**
 * The files of a network's folder, looked at without loading the weights: whether they are there, whole, and the kind
 * that is expected.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { KinoraError } from "../../ffi/errors.ts";

/** File name of a network's configuration. */
export const CONFIG_FILE = "config.json";

/** File name of a network's weights. */
export const WEIGHTS_FILE = "diffusion_pytorch_model.safetensors";

/** The largest safetensors header that is accepted, as in the safetensors library. */
const MOST_HEADER = 100_000_000;

/** A network's folder that looks right. */
export interface NetworkFiles {
  /** The folder. */
  readonly folder: string;
  /** The `_class_name` of its configuration. */
  readonly className: string;
  /** The weights file. */
  readonly weights: string;
  /** Size of the weights file in bytes. */
  readonly bytes: number;
  /** Number of weights. */
  readonly parameters: number;
}

/**
 * Checks a network's folder: the configuration is JSON and names one of the classes, and the weights are a safetensors
 * file that is as long as its header says.
 *
 * @param folder The folder.
 * @param classes The class names that are expected.
 * @throws {KinoraError} `not-found` when a file is missing, `bad-file` when one is truncated or of another kind.
 */
export async function checkNetworkFiles(folder: string, classes: readonly string[]): Promise<NetworkFiles> {
  const configPath = `${folder}/${CONFIG_FILE}`;
  let config: unknown;
  try {
    config = JSON.parse(await reading(configPath, () => Deno.readTextFile(configPath)));
  } catch (cause) {
    if (cause instanceof KinoraError) throw cause;
    throw new KinoraError("bad-file", `"${configPath}" is not JSON: ${(cause as Error).message}`, { cause });
  }
  const className = typeof config === "object" && config !== null
    ? (config as Record<string, unknown>)["_class_name"]
    : undefined;
  if (typeof className !== "string" || !classes.includes(className)) {
    throw new KinoraError(
      "bad-file",
      `"${configPath}" is of ${typeof className === "string" ? `a ${className}` : "something else"}, not of a ${
        classes.join(" or ")
      }`,
    );
  }
  const weights = `${folder}/${WEIGHTS_FILE}`;
  return { folder, className, weights, ...await checkSafetensors(weights) };
}

/**
 * Checks that a safetensors file is as long as its header says.
 *
 * @param path The file.
 * @throws {KinoraError} `not-found` when it is missing, `bad-file` when it is truncated or something else.
 */
export async function checkSafetensors(path: string): Promise<{ bytes: number; parameters: number }> {
  using file = await reading(path, () => Deno.open(path));
  const { size, isFile } = await file.stat();
  if (!isFile) throw new KinoraError("bad-file", `"${path}" is not a file`);
  const foreign = (why: string): KinoraError =>
    new KinoraError("bad-file", `"${path}" is not a safetensors file: ${why}`);
  const start = await readExactly(file, 8);
  if (start === undefined) throw foreign(`it has only ${size} bytes`);
  const length = Number(new DataView(start.buffer).getBigUint64(0, true));
  if (length < 2 || length > MOST_HEADER) throw foreign("it does not begin with the length of a header");
  const header = await readExactly(file, Math.min(length, Math.max(0, size - 8)));
  if (header === undefined || header.length < length) throw truncated(path, size, 8 + length);
  let entries: Record<string, { shape?: number[]; data_offsets?: number[] }>;
  try {
    entries = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(header));
  } catch (cause) {
    throw new KinoraError("bad-file", `"${path}" is not a safetensors file: its header is not JSON`, { cause });
  }
  let end = 0;
  let parameters = 0;
  for (const [name, entry] of Object.entries(entries)) {
    if (name === "__metadata__") continue;
    const last = entry?.data_offsets?.[1];
    if (typeof last !== "number" || !Array.isArray(entry.shape)) throw foreign(`its entry "${name}" has no offsets`);
    end = Math.max(end, last);
    parameters += entry.shape.reduce((count, side) => count * side, 1);
  }
  if (size < 8 + length + end) throw truncated(path, size, 8 + length + end);
  if (size > 8 + length + end) throw foreign(`it has ${size - 8 - length - end} bytes too many`);
  return { bytes: size, parameters };
}

/**
 * The SHA-256 of a file, as 64 hexadecimal digits.
 *
 * @param path The file.
 * @throws {KinoraError} `not-found` when it is missing, `io` when it cannot be read.
 */
export async function fileSha256(path: string): Promise<string> {
  using file = await reading(path, () => Deno.open(path));
  const hash = createHash("sha256");
  const buffer = new Uint8Array(1 << 20);
  for (;;) {
    const count = await file.read(buffer);
    if (count === null) return hash.digest("hex");
    hash.update(buffer.subarray(0, count));
  }
}

function truncated(path: string, size: number, wanted: number): KinoraError {
  return new KinoraError("bad-file", `"${path}" is truncated: it has ${size} of ${wanted} bytes`);
}

async function readExactly(file: Deno.FsFile, length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const bytes = new Uint8Array(length);
  let at = 0;
  while (at < length) {
    const count = await file.read(bytes.subarray(at));
    if (count === null) return undefined;
    at += count;
  }
  return bytes;
}

async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
      throw new KinoraError("not-found", `The model's file "${path}" is missing`, { cause });
    }
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
}
