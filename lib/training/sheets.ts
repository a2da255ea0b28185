/**
 * Sheets of pictures to look at while a stage is trained: rows of data and rows of what the network makes.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { Video } from "../video.ts";
import type { TrainingData } from "./training_data.ts";

/** Texts as people might write them, of which sheets show what they are taken for. */
export const SHEET_PROMPTS: readonly string[] = [
  "a butterfly",
  "a red car",
  "a flying dragon",
  "a spooky ghost",
  "rocket launch",
  "a cat sleeping",
  "pizza, please",
  "my birthday cake",
];

/** Pictures in a row of a sheet of nearest pictures. */
const NEAREST = 6;

/**
 * Writes rows of pictures as one PNG.
 *
 * @param path The file.
 * @param rows Each a row of pictures (K, H, W, 3) in [-1, 1], all of one size and number; they stay the caller's.
 */
export async function writeSheet(path: string, rows: readonly Tensor[]): Promise<void> {
  const columns = rows[0]?.shape[0] ?? 0;
  using all = await Tensor.cat(rows, 0);
  using bounded = await Tensor.combine([{ tensor: all, scale: 1 }], { clamp: [-1, 1] });
  // The sheet takes `bounded` over; disposing twice does nothing.
  using video = new Video(bounded, { fps: 1 });
  using sheet = await video.contactSheet(columns);
  await sheet.save(path);
}

/**
 * Writes what a network made below the data, in blocks as wide as the sheet.
 *
 * @param path The file.
 * @param columns Pictures in a row, at least 1.
 * @param sets Kinds of pictures (K, H, W, 3), each drawn below the one before.
 */
export async function writeComparison(path: string, columns: number, sets: readonly Tensor[]): Promise<void> {
  using stack = new DisposableStack();
  const count = sets[0]?.shape[0] ?? 0;
  const rows: Tensor[] = [];
  for (let first = 0; first + columns <= count; first += columns) {
    for (const set of sets) {
      rows.push(stack.use(await set.gather(0, Array.from({ length: columns }, (_, at) => first + at))));
    }
  }
  await writeSheet(path, rows);
}

/**
 * Writes clips, each in a row of its own.
 *
 * @param path The file.
 * @param clips Sets of clips (K, F, H, W, 3); row k of each set is drawn below that of the set before.
 * @param frames Which frames are shown.
 */
export async function writeClips(path: string, clips: readonly Tensor[], frames: readonly number[]): Promise<void> {
  using stack = new DisposableStack();
  const rows: Tensor[] = [];
  for (let row = 0; row < Math.max(...clips.map(({ shape }) => shape[0] ?? 0)); row++) {
    for (const set of clips) {
      if (row >= (set.shape[0] ?? 0)) continue;
      const one = stack.use(await set.gather(0, [row]));
      const shown = stack.use(await one.gather(1, frames));
      rows.push(stack.use(await shown.reshape(shown.shape.slice(1))));
    }
  }
  await writeSheet(path, rows);
}

/**
 * Writes the pictures nearest to embeddings: a row for each, the nearest first.
 *
 * @param path The file.
 * @param queries Embeddings of unit length (Q, E).
 * @param bank The embeddings of all stills (N, E).
 * @param data The data set.
 */
export async function writeNearest(path: string, queries: Tensor, bank: Tensor, data: TrainingData): Promise<void> {
  using products = await Tensor.matmul(queries, bank);
  const [count = 0, rows = 0] = products.shape;
  const scores = await products.read();
  using stack = new DisposableStack();
  const lines: Tensor[] = [];
  for (let query = 0; query < count; query++) {
    const own = scores.subarray(query * rows, (query + 1) * rows);
    const order = Array.from(own.keys()).sort((a, b) => (own[b] ?? 0) - (own[a] ?? 0));
    lines.push(stack.use(await data.rows("stills64", order.slice(0, NEAREST))));
  }
  await writeSheet(path, lines);
}
