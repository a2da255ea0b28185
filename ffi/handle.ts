/**
 * Objects that live in native memory.
 *
 * @module
 */
import { KinoraError } from "./errors.ts";
import { openLibrary } from "./library.ts";

const registry = new FinalizationRegistry<number>(release);

function release(handle: number): void {
  openLibrary().symbols.kinora_release(handle);
}

let read: (object: NativeObject) => number;
let take: (object: NativeObject) => void;
let giveBack: (object: NativeObject) => void;

/**
 * An object that lives in native memory. The memory is freed when it is disposed, or some time after nothing refers to
 * it any more.
 */
export abstract class NativeObject implements Disposable {
  readonly #kind: string;
  readonly #handle: number;
  #disposed = false;
  // Requests on their way that name the handle.
  #holds = 0;

  static {
    read = (object) => {
      if (object.#disposed) throw new KinoraError("disposed", `The ${object.#kind} was disposed and cannot be used`);
      return object.#handle;
    };
    take = (object) => void object.#holds++;
    giveBack = (object) => {
      if (--object.#holds === 0 && object.#disposed) release(object.#handle);
    };
  }

  /**
   * Takes over a native object.
   *
   * @param kind What messages call it.
   * @param handle Its number in the native library, which becomes this object's.
   */
  constructor(kind: string, handle: number) {
    this.#kind = kind;
    this.#handle = handle;
    registry.register(this, handle, this);
  }

  /** Whether it was disposed. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /**
   * Frees the native memory; when work that was begun still needs it, as soon as that is finished. Afterwards only
   * `dispose` may be called.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    registry.unregister(this);
    if (this.#holds === 0) release(this.#handle);
  }

  /** Frees the native memory. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * The number of an object in the native library.
 *
 * @throws {KinoraError} `disposed` when it was disposed.
 */
export function handleOf(object: NativeObject): number {
  return read(object);
}

/**
 * Runs work that uses handles: until it is finished, their objects are neither freed nor collected.
 *
 * @param objects The objects whose handles are used.
 * @param work What is done; it begins at once.
 */
export async function holding<T>(objects: readonly NativeObject[], work: () => Promise<T>): Promise<T> {
  for (const object of objects) take(object);
  try {
    return await work();
  } finally {
    for (const object of objects) giveBack(object);
  }
}
