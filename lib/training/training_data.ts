/**
 * A data set opened for training.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Store } from "../../ffi/store.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { type Clip, type Concept, type DatasetIndex, readIndex } from "../data/dataset_index.ts";
import { Captions } from "./captions.ts";

/** The stores that stages read. */
export type StoreName = "stills64" | "stills256" | "clips64" | "clips256";

/** Of this many concepts or clips one is kept from training where a stage measures on what it has not seen. */
const HELD_OUT = 16;

/** A square cut out of each row. */
export interface SquareCrop {
  /** Side in pixels. */
  readonly size: number;
  /** Topmost line of each row's square. */
  readonly top: readonly number[];
  /** Leftmost pixel of each row's square. */
  readonly left: readonly number[];
}

/** A data set. Stores are opened when they are first needed, and closed when it is disposed. */
export class TrainingData implements Disposable {
  /** What the rows are. */
  readonly index: DatasetIndex;
  /** Captions for the concepts. */
  readonly captions: Captions;
  readonly #folder: string;
  readonly #stores = new Map<StoreName, Promise<Store>>();

  private constructor(folder: string, index: DatasetIndex) {
    this.#folder = folder;
    this.index = index;
    this.captions = new Captions(index.concepts);
  }

  /**
   * Opens a data set.
   *
   * @param folder The folder with `index.json`.
   * @throws {KinoraError} `not-found` when there is none, `bad-file` when it is damaged or something else.
   */
  static async open(folder: string): Promise<TrainingData> {
    const index = await readIndex(folder).catch((cause) => {
      if (!(cause instanceof KinoraError && cause.code === "not-found")) throw cause;
      throw new KinoraError("not-found", `There is no data set in "${folder}"; "kinora data" makes one`, { cause });
    });
    if (index.concepts.length === 0) throw new KinoraError("bad-file", `The data set in "${folder}" is empty`);
    return new TrainingData(folder, index);
  }

  /** The concepts, in row order. */
  get concepts(): readonly Concept[] {
    return this.index.concepts;
  }

  /** The clips. */
  get clips(): readonly Clip[] {
    return this.index.clips;
  }

  /** The clips that stages train on; of a small data set all. */
  get seenClips(): readonly Clip[] {
    const seen = this.clips.filter((_, index) => !heldOut(index));
    return seen.length === 0 ? this.clips : seen;
  }

  /** The clips that no stage trains on, for measures; of a small data set all. */
  get unseenClips(): readonly Clip[] {
    const unseen = this.clips.filter((_, index) => heldOut(index));
    return unseen.length === 0 ? this.clips : unseen;
  }

  /** Indices of the concepts that have no clip. */
  get stillConcepts(): number[] {
    return this.concepts.flatMap(({ clip }, index) => clip === null ? [index] : []);
  }

  /** Side of a store's pictures in pixels. */
  side(store: StoreName): number {
    const shape = this.index.stores[store];
    if (shape?.[1] === undefined) {
      throw new KinoraError("not-found", `The data set in "${this.#folder}" has no store ${store}`);
    }
    return shape[1];
  }

  /**
   * Reads rows of a store.
   *
   * @param store Which.
   * @param rows The rows, in any order, as often as wanted.
   * @param crop A square of each.
   * @returns Pictures (rows, H, W, 3) in [-1, 1].
   */
  async rows(store: StoreName, rows: readonly number[], crop?: SquareCrop): Promise<Tensor> {
    const opened = await this.#open(store);
    return await opened.gather(store, rows, crop === undefined ? {} : { crop });
  }

  /**
   * Reads rows of a store as clips.
   *
   * @param store Which.
   * @param clips The rows of each clip, as many for each.
   * @param crop A square of each row.
   * @returns Clips (clips, frames, H, W, 3) in [-1, 1].
   */
  async sequences(store: StoreName, clips: readonly (readonly number[])[], crop?: SquareCrop): Promise<Tensor> {
    using flat = await this.rows(store, clips.flat(), crop);
    return await flat.reshape([clips.length, clips[0]?.length ?? 0, ...flat.shape.slice(1)]);
  }

  /** Closes the stores. */
  dispose(): void {
    for (const store of this.#stores.values()) store.then((store) => store.dispose(), () => {});
    this.#stores.clear();
  }

  /** Closes the stores. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #open(name: StoreName): Promise<Store> {
    this.side(name);
    let store = this.#stores.get(name);
    if (store === undefined) {
      store = Store.open(`${this.#folder}/${name}.safetensors`);
      this.#stores.set(name, store);
      store.catch(() => this.#stores.delete(name));
    }
    return store;
  }
}

/** Whether a concept or clip is kept from training, where a stage does so. */
export function heldOut(index: number): boolean {
  return index % HELD_OUT === HELD_OUT - 1;
}

/**
 * A few of many, evenly spread.
 *
 * @param list The many.
 * @param count How many at most.
 */
export function spread<Item>(list: readonly Item[], count: number): Item[] {
  const most = Math.min(count, list.length);
  return Array.from({ length: most }, (_, index) => list[Math.floor((index + 0.5) * list.length / most)] as Item);
}
