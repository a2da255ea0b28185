/**
 * Safetensors files in plain TypeScript: every number keeps its type, f64 and 64-bit integers included, and nothing is
 * allocated before the header was checked against the size of the file.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** How many header bytes are accepted; tables of some hundred thousand tensors fit. */
const MOST_HEADER = 1 << 24;

/** More axes than any tensor has. */
const MOST_AXES = 16;

/** The type of a tensor's numbers, as safetensors calls it. */
export type TensorType =
  | "F64"
  | "F32"
  | "F16"
  | "BF16"
  | "I64"
  | "I32"
  | "I16"
  | "I8"
  | "U64"
  | "U32"
  | "U16"
  | "U8"
  | "BOOL";

/** Bytes a number, by type. */
const SIZES: Readonly<Record<TensorType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

/** A tensor's numbers; those of `F16` and `BF16` are widened, those of `BOOL` are 0 and 1. */
export type TensorValues =
  | Float64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/** A tensor in memory, row-major. */
export interface PlainTensor {
  /** The type it has, or had, in a file. */
  readonly type: TensorType;
  /** The axes' lengths; none for a single number. */
  readonly shape: readonly number[];
  /** The numbers. */
  readonly values: TensorValues;
}

/** What a safetensors file holds. */
export interface PlainTensors {
  /** The tensors by name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, PlainTensor>;
  /** The file's own words. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** A tensor of numbers; its type is that of the array. */
export function plainTensor(shape: readonly number[], values: TensorValues): PlainTensor {
  if (values.length !== shape.reduce((product, length) => product * length, 1)) {
    throw new KinoraError("failed", `${values.length} numbers do not make a tensor of the shape [${shape.join(", ")}]`);
  }
  return { type: typeOf(values), shape, values };
}

/** A tensor's numbers in f64; integers beyond 2^53 are rounded. */
export function numbersOf(tensor: PlainTensor): Float64Array<ArrayBuffer> {
  const { values } = tensor;
  if (values instanceof Float64Array) return values;
  return values instanceof BigInt64Array || values instanceof BigUint64Array
    ? Float64Array.from(values, Number)
    : new Float64Array(values);
}

/** Number of elements of a shape. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/**
 * Reads a whole file.
 *
 * @param path The file.
 * @throws {KinoraError} `not-found` or `io` when it cannot be read, `bad-file` when it is damaged or something else.
 */
export async function readSafetensors(path: string): Promise<PlainTensors> {
  using file = await opened(path);
  const { metadata, entries, start } = await readHeader(file, path);
  const tensors = new Map<string, PlainTensor>();
  for (const { name, type, shape, from, to } of entries) {
    const bytes = await readAt(file, path, start + from, to - from);
    tensors.set(name, { type, shape, values: decoded(type, bytes.buffer) });
  }
  return { tensors, metadata };
}

/**
 * Reads only what a file says of itself, as quickly as a folder is listed.
 *
 * @param path The file.
 * @throws {KinoraError} As {@linkcode readSafetensors}.
 */
export async function readSafetensorsMetadata(path: string): Promise<ReadonlyMap<string, string>> {
  using file = await opened(path);
  return (await readHeader(file, path)).metadata;
}

/**
 * Writes a file; it appears whole or not at all. The same tensors give the same bytes.
 *
 * @param path The file.
 * @param tensors The tensors by name.
 * @param metadata Words to be kept with them.
 * @throws {KinoraError} `io` when it cannot be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, PlainTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Wide types first, so that every tensor lies at a multiple of its own size.
  const sorted = [...tensors].sort(([a, x], [b, y]) =>
    y.values.BYTES_PER_ELEMENT - x.values.BYTES_PER_ELEMENT || (a < b ? -1 : 1)
  );
  const entries: [string, unknown][] = [["__metadata__", metadata]];
  let end = 0;
  for (const [name, { shape, values }] of sorted) {
    entries.push([name, { dtype: typeOf(values), shape, data_offsets: [end, end += values.byteLength] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const start = 8 + Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(start + end).fill(0x20, 8, start);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  bytes.set(json, 8);
  let at = start;
  for (const [, { values }] of sorted) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  const partial = `${path}.${crypto.randomUUID().slice(0, 8)}.partial`;
  try {
    await Deno.writeFile(partial, bytes, { createNew: true });
    await Deno.rename(partial, path);
  } catch (cause) {
    await Deno.remove(partial).catch(() => undefined);
    throw new KinoraError("io", `Cannot write "${path}": ${(cause as Error).message}`, { cause });
  }
}

/** An entry of a header that was checked. */
interface Entry {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly from: number;
  readonly to: number;
}

async function readHeader(
  file: Deno.FsFile,
  path: string,
): Promise<{ metadata: ReadonlyMap<string, string>; entries: readonly Entry[]; start: number }> {
  const { size } = await file.stat();
  const bad = (why: string): KinoraError => new KinoraError("bad-file", `"${path}" is not a safetensors file: ${why}`);
  if (size < 10) throw bad(`it has only ${size} bytes`);
  const length = new DataView((await readAt(file, path, 0, 8)).buffer).getBigUint64(0, true);
  if (length < 2n || length > BigInt(size - 8)) throw bad(`its header would have ${length} of ${size - 8} bytes`);
  if (length > BigInt(MOST_HEADER)) throw bad(`its header has ${length} bytes, more than ${MOST_HEADER}`);
  const start = 8 + Number(length);
  let header: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      await readAt(file, path, 8, Number(length)),
    );
    header = text.startsWith("{") ? JSON.parse(text) : undefined;
  } catch (cause) {
    if (cause instanceof KinoraError) throw cause;
    throw bad("its header is not JSON");
  }
  if (!isObject(header)) throw bad("its header is not a JSON object");
  const metadata = new Map<string, string>();
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== "__metadata__") {
      entries.push(entryOf(name, value, bad));
      continue;
    }
    if (!isObject(value)) throw bad("its __metadata__ is not an object");
    for (const [key, word] of Object.entries(value)) {
      if (typeof word !== "string") throw bad(`its __metadata__ has an entry "${clip(key)}" that is not a text`);
      metadata.set(key, word);
    }
  }
  // Between them the tensors cover all bytes once: nothing hidden, nothing shared, and no name that is there twice.
  let end = 0;
  for (const { name, from, to } of entries.toSorted((a, b) => a.from - b.from || a.to - b.to)) {
    if (from !== end) throw bad(`its tensor "${clip(name)}" begins at byte ${from}, not at ${end}`);
    end = to;
  }
  if (end !== size - start) throw bad(`its tensors take ${end} bytes, but ${size - start} are there`);
  return { metadata, entries, start };
}

function entryOf(name: string, value: unknown, bad: (why: string) => KinoraError): Entry {
  const called = `its tensor "${clip(name)}"`;
  if (!isObject(value)) throw bad(`${called} has no description`);
  const { dtype, shape, data_offsets: offsets } = value as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (typeof dtype !== "string" || !Object.hasOwn(SIZES, dtype)) {
    throw bad(`${called} is of the type ${clip(JSON.stringify(dtype) ?? "nothing")}`);
  }
  const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || shape.length > MOST_AXES || !shape.every(isSize)) {
    throw bad(`${called} has no shape of whole numbers`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) throw bad(`${called} has no offsets`);
  const [from, to] = offsets as [number, number];
  const type = dtype as TensorType;
  if (to - from !== elementsOf(shape) * SIZES[type]) {
    throw bad(`${called} has ${to - from} bytes, which is not what [${shape.join(", ")}] of ${type} takes`);
  }
  return { name, type, shape, from, to };
}

async function opened(path: string): Promise<Deno.FsFile> {
  try {
    // A pipe is not opened: that would wait for whoever writes into it.
    if (!(await Deno.stat(path)).isFile) throw new KinoraError("bad-file", `"${path}" is not a file`);
    return await Deno.open(path);
  } catch (cause) {
    if (cause instanceof KinoraError) throw cause;
    const missing = cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory;
    throw missing
      ? new KinoraError("not-found", `"${path}" is not there`, { cause })
      : new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
}

async function readAt(
  file: Deno.FsFile,
  path: string,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  try {
    await file.seek(offset, Deno.SeekMode.Start);
    for (let at = 0; at < length;) {
      const count = await file.read(bytes.subarray(at));
      if (count === null) throw new KinoraError("bad-file", `"${path}" became shorter while it was read`);
      at += count;
    }
  } catch (cause) {
    if (cause instanceof KinoraError) throw cause;
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
  return bytes;
}

/** Bytes as numbers; every system that Deno runs on is little-endian, as the files are. */
function decoded(type: TensorType, bytes: ArrayBuffer): TensorValues {
  switch (type) {
    case "F64":
      return new Float64Array(bytes);
    case "F32":
      return new Float32Array(bytes);
    case "F16":
      return new Float32Array(new Float16Array(bytes));
    case "BF16":
      return new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer);
    case "I64":
      return new BigInt64Array(bytes);
    case "I32":
      return new Int32Array(bytes);
    case "I16":
      return new Int16Array(bytes);
    case "I8":
      return new Int8Array(bytes);
    case "U64":
      return new BigUint64Array(bytes);
    case "U32":
      return new Uint32Array(bytes);
    case "U16":
      return new Uint16Array(bytes);
    default:
      return new Uint8Array(bytes);
  }
}

function typeOf(values: TensorValues): TensorType {
  switch (values.constructor) {
    case Float64Array:
      return "F64";
    case Float32Array:
      return "F32";
    case BigInt64Array:
      return "I64";
    case Int32Array:
      return "I32";
    case Int16Array:
      return "I16";
    case Int8Array:
      return "I8";
    case BigUint64Array:
      return "U64";
    case Uint32Array:
      return "U32";
    case Uint16Array:
      return "U16";
    default:
      return "U8";
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
