/**
 * The image embeddings of given frames, which take the place of the prior's.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import { meanEmbedding } from "./image_tower.ts";
import { type FrameWindow, WINDOW } from "./windows.ts";

/** Embeddings of given frames. They are freed when it is disposed. */
export class GivenEmbeddings implements Disposable {
  readonly #rows: Tensor;

  /** @param rows One embedding of unit length for each frame, (K, E), which become this object's. */
  constructor(rows: Tensor) {
    this.#rows = rows;
  }

  /** The mean of all of them (1, E), as the paper takes it to vary a video. */
  mean(): Promise<Tensor> {
    return meanEmbedding(this.#rows);
  }

  /** The mean of the given frames that a window sees (of a loop one is given twice) (1, E), or where it sees none of those nearest to it. */
  of(window: FrameWindow): Promise<Tensor> {
    const count = this.#rows.shape[0] ?? 0;
    const seen = window.known.filter(({ source }) => source === "key").map(({ frame }) => frame % count);
    if (seen.length > 0) return meanEmbedding(this.#rows, seen);
    const near = Array.from({ length: Math.min(count, WINDOW >> 1) }, (_, row) => row);
    // A window that goes on from others knows their last frames, one that leads to them their first.
    const after = window.known[0]?.position === 0;
    return meanEmbedding(this.#rows, after ? near.map((row) => count - 1 - row) : near);
  }

  /** Frees the embeddings. */
  [Symbol.dispose](): void {
    this.#rows.dispose();
  }
}
