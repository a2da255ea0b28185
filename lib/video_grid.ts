/**
 * Videos side by side in one, to be compared.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { Tensor } from "../ffi/tensor.ts";
import { Video } from "./video.ts";

/** White pixels between two videos. */
const GAP = 4;

/**
 * Puts videos into rows and columns. A video that is shorter than the longest stays on its last frame.
 *
 * @param videos Videos of one size and rate, row by row; they stay the caller's.
 * @param columns Videos in a row, at least 1; what is missing of the last row is white.
 * @returns A new video, without a manifest.
 * @throws {KinoraError} `refused` when there are none, or they differ in size or rate.
 */
export async function videoGrid(videos: readonly Video[], columns: number): Promise<Video> {
  const [first] = videos;
  if (first === undefined) throw new KinoraError("refused", "a grid needs at least one video");
  if (!Number.isInteger(columns) || columns < 1) {
    throw new KinoraError("refused", `columns must be a whole number of at least 1, not ${columns}`);
  }
  const other = videos.find(({ width, height, fps }) =>
    width !== first.width || height !== first.height || fps !== first.fps
  );
  if (other !== undefined) {
    throw new KinoraError("refused", `videos of one grid have one size and rate: ${first} and ${other} differ`);
  }
  const frames = Math.max(...videos.map((video) => video.frames));
  const { height, width } = first;
  const white = (height: number, width: number): Promise<Tensor> =>
    Tensor.create([frames, height, width, 3], new Float32Array(frames * height * width * 3).fill(1));
  const lines: Tensor[] = [];
  try {
    for (let at = 0; at < videos.length; at += columns) {
      if (lines.length > 0) lines.push(await white(GAP, columns * (width + GAP) - GAP));
      const cells: Tensor[] = [];
      try {
        for (let column = 0; column < columns; column++) {
          if (column > 0) cells.push(await white(height, GAP));
          const video = videos[at + column];
          const places = Array.from({ length: frames }, (_, frame) => Math.min(frame, (video?.frames ?? 1) - 1));
          cells.push(video === undefined ? await white(height, width) : await video.tensor.gather(0, places));
        }
        lines.push(await Tensor.cat(cells, 2));
      } finally {
        for (const cell of cells) cell.dispose();
      }
    }
    return new Video(await Tensor.cat(lines, 1), { fps: first.fps });
  } finally {
    for (const line of lines) line.dispose();
  }
}
