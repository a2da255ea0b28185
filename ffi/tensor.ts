/**
 * Tensors in native memory: f32, row-major, channels last. Operations run on native threads and give new tensors.
 *
 * @module
 */
import { KinoraError } from "./errors.ts";
import { handleOf, holding, NativeObject } from "./handle.ts";
import { call, callSync, type JobOptions, Reply, type Request, runJob } from "./job.ts";
import { library, openLibrary } from "./library.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import { STATUS } from "./symbols.ts";

/** Bytes up to which copying is quicker than handing it to another thread. */
const COPY_AT_ONCE = 1 << 20;

/** What {@linkcode Tensor.noise} is asked for. */
export interface NoiseOptions {
  /** The shape, `[B, ...]`; with at least three axes the second one is the frame axis. */
  readonly shape: readonly number[];
  /** One seed for each sample, 0 to 2^53 - 1. */
  readonly seeds: readonly number[];
  /**
   * Which of a seed's streams of numbers, 0 to 2^32 - 1.
   *
   * @default {0}
   */
  readonly stream?: number | undefined;
  /** The frames' numbers in the whole video; by default 0, 1, 2 and so on. */
  readonly frames?: readonly number[] | undefined;
  /** Whether all frames get the noise of frame 0; not together with `frames`. */
  readonly shared?: boolean | undefined;
}

/** An addend of {@linkcode Tensor.combine}. */
export interface TensorTerm {
  /** The tensor. */
  readonly tensor: Tensor;
  /** What it is multiplied with: one number, or one for each sample. */
  readonly scale: number | readonly number[];
}

/** What {@linkcode Tensor.combine} does with the sum. */
export interface CombineOptions {
  /**
   * Added to every number.
   *
   * @default {0}
   */
  readonly offset?: number | undefined;
  /** The least and the greatest number that may come out. */
  readonly clamp?: readonly [low: number, high: number] | undefined;
}

/** Which part {@linkcode Tensor.crop} gives. */
export interface CropOptions {
  /** First row: one number, or one for each sample. */
  readonly top: number | readonly number[];
  /** First column: one number, or one for each sample. */
  readonly left: number | readonly number[];
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
}

/** What {@linkcode Tensor.between} is asked for. */
export interface BetweenOptions {
  /** For each picture how far the new one lies on the way to the other, 0 to 1. */
  readonly shares: readonly number[];
  /** How many pixels anything may move down and across, 1 to 16. */
  readonly reach: number;
}

/** How {@linkcode Tensor.resize} looks between pixels. */
export type ResizeFilter = "nearest" | "area" | "bilinear" | "bicubic" | "lanczos3";

/** What {@linkcode Tensor.resize} is asked for. */
export interface ResizeOptions {
  /** Rows, 1 to 32,768. */
  readonly height: number;
  /** Columns, 1 to 32,768. */
  readonly width: number;
  /** The filter; `area` is the mean of what a new pixel covers. */
  readonly filter: ResizeFilter;
}

/**
 * `[a, b, c, d, e, f]`: the new picture shows at (x, y) what is at (a x + b y + c, d x + e y + f), in coordinates from -1 to 1
 * between the outer edges of the picture.
 */
export type AffineMatrix = readonly [number, number, number, number, number, number];

/** What {@linkcode Tensor.stats} says; over the finite numbers, and NaN where there are none. */
export interface TensorStats {
  /** The least. */
  readonly min: number;
  /** The greatest. */
  readonly max: number;
  /** The mean. */
  readonly mean: number;
  /** The root of the mean square. */
  readonly rms: number;
  /** Whether all numbers are finite. */
  readonly finite: boolean;
}

/** A tensor in native memory. */
export class Tensor extends NativeObject {
  /** The axes' lengths. */
  readonly shape: readonly number[];

  /**
   * Not for calling: {@linkcode Tensor.create} and the operations make tensors.
   *
   * @param handle The number of a native tensor, which becomes this object's.
   */
  constructor(handle: number) {
    super("tensor", handle);
    this.shape = callSync<{ readonly shape: number[] }>({ verb: "tensor.info", tensor: handle }).shape;
  }

  /**
   * Makes a tensor of numbers.
   *
   * @param shape One to six axes.
   * @param values The numbers, row-major; not to be changed before the promise is kept.
   * @throws {KinoraError} `refused` when they do not fit the shape.
   */
  static async create(shape: readonly number[], values: Float32Array | readonly number[]): Promise<Tensor> {
    const wrong = shape.find((length) => !Number.isInteger(length) || length < 1 || length > 0xffff_ffff);
    if (wrong !== undefined) {
      throw new KinoraError("refused", `shape must hold whole numbers of at least 1, not ${wrong}`);
    }
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    const bytes = bytesOf(floats);
    const { symbols } = await library();
    const [handle, reply] = [new Uint32Array(1), new Reply()];
    const create = bytes.length > COPY_AT_ONCE ? symbols.kinora_tensor_create_async : symbols.kinora_tensor_create;
    const status = await create(
      Uint32Array.from(shape),
      shape.length,
      bytes,
      bytes.length,
      handle,
      reply.bytes,
      reply.bytes.length,
      reply.length,
    );
    reply.value(status);
    return new Tensor(handle[0] ?? 0);
  }

  /**
   * Makes normally distributed numbers. Each is a function of seed, stream, and the frame's number: it does not depend on
   * how many samples or frames are made at once.
   *
   * @param options Shape and seeds.
   */
  static async noise(options: NoiseOptions): Promise<Tensor> {
    const { shape, seeds, stream, frames, shared } = options;
    return await made({ verb: "tensor.noise", shape, seeds, stream, frames, shared }, []);
  }

  /**
   * Adds tensors up: `offset + sum of scale * tensor`, clamped where asked for. Shapes are equal, save that a frame axis
   * (the second of at least three) may be 1 and is then repeated.
   *
   * @param terms 1 to 16 addends.
   * @param options Offset and clamp.
   */
  static async combine(terms: readonly TensorTerm[], options: CombineOptions = {}): Promise<Tensor> {
    const addends = terms.map(({ tensor, scale }) => ({ tensor: handleOf(tensor), scale }));
    const { offset, clamp } = options;
    return await made({ verb: "tensor.combine", terms: addends, offset, clamp }, terms.map(({ tensor }) => tensor));
  }

  /**
   * Puts tensors behind one another.
   *
   * @param tensors At least one; they agree in all other axes.
   * @param axis Along which axis, from 0.
   */
  static async cat(tensors: readonly Tensor[], axis: number): Promise<Tensor> {
    return await made({ verb: "tensor.cat", tensors: tensors.map(handleOf), axis }, tensors);
  }

  /**
   * Multiplies two matrices, the second transposed: all inner products of their rows.
   *
   * @param a The one, (M, K).
   * @param b The other, (N, K).
   * @returns The products, (M, N).
   */
  static async matmul(a: Tensor, b: Tensor): Promise<Tensor> {
    return await made({ verb: "tensor.matmul", a: handleOf(a), b: handleOf(b) }, [a, b]);
  }

  /**
   * Picks slices, in any order and as often as wanted.
   *
   * @param axis Of which axis, from 0.
   * @param indices Which, from 0.
   */
  async gather(axis: number, indices: readonly number[]): Promise<Tensor> {
    return await this.#made({ verb: "tensor.gather", axis, indices });
  }

  /**
   * The same numbers in another shape. With its own shape this gives a second hold on the tensor.
   *
   * @param shape As many numbers.
   */
  async reshape(shape: readonly number[]): Promise<Tensor> {
    return await this.#made({ verb: "tensor.reshape", shape });
  }

  /**
   * Scales each row (along the last axis) to a length; a row of length 0 stays.
   *
   * @param length The Euclidean length.
   */
  async normalize(length = 1): Promise<Tensor> {
    return await this.#made({ verb: "tensor.normalize", length });
  }

  /**
   * Cuts a part out of pictures `[..., H, W, C]`.
   *
   * @param options Which part.
   */
  async crop(options: CropOptions): Promise<Tensor> {
    const { top, left, height, width } = options;
    return await this.#made({ verb: "tensor.crop", top: [top].flat(), left: [left].flat(), height, width });
  }

  /**
   * Resizes pictures `[..., H, W, C]`.
   *
   * @param options Size and filter.
   */
  async resize(options: ResizeOptions): Promise<Tensor> {
    const { height, width, filter } = options;
    return await this.#made({ verb: "tensor.resize", height, width, filter });
  }

  /**
   * Warps pictures `[..., H, W, C]`.
   *
   * @param matrices One for all, one for each sample, or one for each frame of all samples.
   * @param options `fill` is what lies around the pictures, default 0.
   */
  async affine(
    matrices: readonly AffineMatrix[],
    options: { readonly fill?: number | undefined } = {},
  ): Promise<Tensor> {
    return await this.#made({ verb: "tensor.affine", matrices, fill: options.fill });
  }

  /**
   * Frames between these pictures `[..., H, W, C]` and others, along the motion from the ones to the others: block matching
   * with a soft choice among displacements, three fifths of it and two fifths of a plain blend.
   *
   * @param to The others, of the same shape.
   * @param options How far on the way each new frame lies, and how far anything may move.
   */
  async between(to: Tensor, { shares, reach }: BetweenOptions): Promise<Tensor> {
    return await made({ verb: "tensor.between", from: handleOf(this), to: handleOf(to), shares, reach }, [this, to]);
  }

  /** Least, greatest and mean numbers. */
  async stats(): Promise<TensorStats> {
    const stats = await call<{ readonly [Key in keyof TensorStats]: TensorStats[Key] | null }>(
      { verb: "tensor.stats", tensor: handleOf(this) },
      [this],
    );
    const { min, max, mean, rms, finite } = stats;
    return { min: min ?? NaN, max: max ?? NaN, mean: mean ?? NaN, rms: rms ?? NaN, finite: finite === true };
  }

  /**
   * Copies the numbers out, row-major.
   *
   * @param into Where to, when not to a new array: exactly as many numbers.
   * @throws {KinoraError} `refused` when `into` is of another length.
   */
  async read(into?: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>> {
    const handle = handleOf(this);
    const floats = into ?? new Float32Array(this.shape.reduce((product, length) => product * length, 1));
    const bytes = bytesOf(floats);
    const { symbols } = openLibrary();
    const reply = new Reply();
    const read = bytes.length > COPY_AT_ONCE ? symbols.kinora_tensor_read_async : symbols.kinora_tensor_read;
    const status = await holding(
      [this],
      async () => await read(handle, bytes, bytes.length, reply.bytes, reply.bytes.length, reply.length),
    );
    // Nothing but an error is ever replied, so only `into` can be too small.
    if (status === STATUS.bufferTooSmall) {
      throw new KinoraError("refused", `into must hold as many numbers as the shape [${this.shape.join(", ")}] has`);
    }
    reply.value(status);
    return floats;
  }

  async #made(request: Request): Promise<Tensor> {
    return await made({ ...request, tensor: handleOf(this) }, [this]);
  }
}

/** Tensors of a file, and what else it says. */
export interface LoadedTensors {
  /** The tensors by name; whoever loads them disposes them. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** The file's own words. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** How {@linkcode saveTensors} writes. */
export interface SaveTensorsOptions extends JobOptions {
  /** Words to be kept with the tensors. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/**
 * Writes tensors into a safetensors file; it appears whole or not at all. The same tensors give the same bytes.
 *
 * @param tensors The tensors by name.
 * @param path The file.
 * @param options Metadata.
 * @throws {KinoraError} `permission` or `io` when it cannot be written.
 */
export async function saveTensors(
  tensors: Readonly<Record<string, Tensor>>,
  path: string,
  options: SaveTensorsOptions = {},
): Promise<void> {
  checkMayWrite(path);
  const { metadata, ...rest } = options;
  const handles = mapValues(tensors, handleOf);
  await runJob({ verb: "tensor.save", tensors: handles, path, metadata }, rest, Object.values(tensors));
}

/**
 * Reads all tensors of a safetensors file; numbers of any kind become f32.
 *
 * @param path The file.
 * @param options Signal and progress.
 * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be read.
 */
export async function loadTensors(path: string, options: JobOptions = {}): Promise<LoadedTensors> {
  checkMayRead(path);
  const { tensors, metadata } = await runJob<{
    readonly tensors: Readonly<Record<string, number>>;
    readonly metadata: Readonly<Record<string, string>>;
  }>({ verb: "tensor.load", path }, options);
  return { tensors: mapValues(tensors, (handle) => new Tensor(handle)), metadata };
}

/** An object with the same keys and other values. */
export function mapValues<From, To>(
  object: Readonly<Record<string, From>>,
  change: (value: From) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

async function made(request: Request, uses: readonly NativeObject[]): Promise<Tensor> {
  return new Tensor((await call<{ readonly tensor: number }>(request, uses)).tensor);
}

/** The bytes of numbers; every system that Deno runs on is little-endian, as the library wants them. */
function bytesOf(values: Float32Array): Uint8Array<ArrayBuffer> {
  if (!(values.buffer instanceof ArrayBuffer)) return bytesOf(values.slice());
  if (values.byteLength > 0xffff_ffff) {
    throw new KinoraError("refused", `a tensor of ${values.length} numbers is too large to be copied at once`);
  }
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
