/**
 * Collections of pictures on disk, read row by row: safetensors files, mapped into memory.
 *
 * @module
 */
import { handleOf, NativeObject } from "./handle.ts";
import { call, runJob } from "./job.ts";
import { checkMayRead } from "./permission.ts";
import { Tensor } from "./tensor.ts";

/** An array of a store. */
export interface StoredTensor {
  /** The type of its numbers as in the file, for example `"U8"`. */
  readonly dtype: string;
  /** The axes' lengths; the first are its rows. */
  readonly shape: readonly number[];
}

/** Which part of each picture is read. */
export interface StoreCrop {
  /** First row of pixels: one for all, or one for each row that is read. */
  readonly top: readonly number[];
  /** First column of pixels: one for all, or one for each row that is read. */
  readonly left: readonly number[];
  /** Height and width in pixels. */
  readonly size: number;
}

/** A file that is open. It must not be shortened meanwhile; replacing it by renaming is fine. */
export class Store extends NativeObject {
  /** Its arrays by name. */
  readonly tensors: Readonly<Record<string, StoredTensor>>;
  /** The file's own words. */
  readonly metadata: Readonly<Record<string, string>>;

  private constructor(reply: { readonly store: number } & Pick<Store, "tensors" | "metadata">) {
    super("store", reply.store);
    this.tensors = reply.tensors;
    this.metadata = reply.metadata;
  }

  /**
   * Opens a file.
   *
   * @param path The safetensors file.
   * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be opened.
   */
  static async open(path: string): Promise<Store> {
    checkMayRead(path);
    return new Store(await runJob({ verb: "store.open", path }));
  }

  /**
   * Reads rows. Bytes become numbers in [-1, 1], other numbers stay.
   *
   * @param name The array.
   * @param rows Which rows, in any order and as often as wanted.
   * @param options `crop` reads a part of pictures `[rows, ..., H, W, C]`.
   * @returns The rows, `[rows.length, ...]`.
   * @throws {KinoraError} `refused` for an unknown name, or a row or part that is not there.
   */
  async gather(
    name: string,
    rows: readonly number[],
    options: { readonly crop?: StoreCrop | undefined } = {},
  ): Promise<Tensor> {
    const { tensor } = await call<{ readonly tensor: number }>(
      { verb: "store.gather", store: handleOf(this), name, rows, crop: options.crop },
      [this],
    );
    return new Tensor(tensor);
  }
}
