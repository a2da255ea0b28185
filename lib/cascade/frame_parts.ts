/**
 * How the decoder's network, which was trained on 16 frames, is run over more frames, round a loop, or with an embedding
 * that changes over time: in parts that overlap, whose outputs are averaged at every step (MultiDiffusion over time; the
 * weights are those of sliding context windows, largest in the middle of a part).
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";

/** One run of the network within a step. */
export interface FramePart {
  /** The frames it sees, in order. */
  readonly frames: readonly number[];
  /** How much its output counts at each of these frames; more than 0, and only the ratio to other parts' matters. */
  readonly weights: readonly number[];
  /** Which time of the video its embedding is of, 0 to 1. */
  readonly place: number;
}

/** What {@linkcode frameParts} is asked for. */
export interface FramePartOptions {
  /** Frames that the network sees at once, at least 2. */
  readonly length: number;
  /** Whether the last frame is followed by the first one. */
  readonly loop: boolean;
  /** Whether the embedding changes over time. */
  readonly travel: boolean;
}

/** Times of the embeddings that frames of a single part are made with. */
const ANCHORS = [0, 0.5, 1];

/**
 * The parts of a step.
 *
 * @param frames Frames of the video, at least 1.
 * @param options The network's length, and what is wanted.
 * @returns One part for up to `length` frames; for more, parts that start half a length apart. With `travel` a single part
 * becomes three, of the embeddings at the start, the middle and the end of the way, between which frames are mixed.
 */
export function frameParts(frames: number, options: FramePartOptions): FramePart[] {
  const { length, loop, travel } = options;
  const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  if (frames <= length) {
    const all = range(frames);
    if (!travel) return [{ frames: all, weights: all.map(() => 1), place: 0 }];
    return ANCHORS.map((place) => {
      const near = all.map((frame) => Math.max(0, 1 - 2 * Math.abs(wayOf(frame, frames, loop) - place)));
      return { frames: all, weights: near, place };
    });
  }
  const stride = Math.max(1, length >> 1);
  // Round a loop the last parts go on at the start; otherwise the last part ends with the video.
  const starts = loop
    ? range(Math.ceil(frames / stride)).map((index) => index * stride)
    : range(Math.ceil((frames - length) / stride) + 1).map((index) => Math.min(index * stride, frames - length));
  return starts.map((start) => ({
    frames: range(length).map((index) => (start + index) % frames),
    weights: range(length).map((index) => Math.min(index + 1, length - index)),
    place: wayOf((start + (length - 1) / 2) % frames, frames, loop),
  }));
}

/**
 * Which noise each frame of a long video starts from, as the number of the frame whose own it is: beyond the network's length
 * that of earlier frames comes again in another order, so that every part starts from the same noise and shows the same thing
 * (FreeNoise, Qiu et al. 2023, 3.2).
 *
 * @param frames Frames of the video.
 * @param length Frames that the network sees at once.
 * @returns A number from 0 to `length - 1` for each frame; the first `length` frames have their own.
 */
export function noiseFrames(frames: number, length: number): number[] {
  const half = Math.max(1, length >> 1);
  return Array.from({ length: frames }, (_, frame) => {
    if (frame < length) return frame;
    const [block, place] = [Math.floor(frame / half), frame % half];
    // Every other block has the noise of the first half: parts start at blocks, and see one of each kind.
    return block % 2 * half + (place * coprime(half) + 3 * block) % half;
  });
}

/** A step that comes to every place of a row, in an order that looks shuffled. */
function coprime(count: number): number {
  const divisor = (a: number, b: number): number => b === 0 ? a : divisor(b, a % b);
  for (let step = Math.round(count * 0.618); step > 1; step--) if (divisor(step, count) === 1) return step;
  return 1;
}

/**
 * A part turned round a loop, so that the seam of its frames lies somewhere else at every step.
 *
 * @param part A part that sees all frames of a loop.
 * @param step The number of the step, from 0.
 */
export function turned(part: FramePart, step: number): FramePart {
  const count = part.frames.length;
  // Steps of the golden ratio come near every place soon.
  const by = Math.floor(count * ((step * (Math.sqrt(5) - 1) / 2) % 1));
  const turn = <T>(list: readonly T[]): T[] => [...list.slice(by), ...list.slice(0, by)];
  return { ...part, frames: turn(part.frames), weights: turn(part.weights) };
}

/** How far along its way, 0 to 1, an embedding is at a frame; round a loop it goes there and back. */
export function wayOf(frame: number, frames: number, loop: boolean): number {
  if (loop) return 1 - Math.abs(2 * frame / frames - 1);
  return frames < 2 ? 0 : frame / (frames - 1);
}

/**
 * Runs the network over parts and averages what it gives.
 *
 * @param sample The noisy frames (B, F, H, W, C).
 * @param parts The parts; each frame must be in one of them.
 * @param run Runs the network on one part's frames, and gives as many (B, L, H, W, C).
 * @returns The averaged outputs (B, F, H, W, C).
 * @throws {KinoraError} `refused` when a frame is in no part.
 */
export async function averagedParts(
  sample: Tensor,
  parts: readonly FramePart[],
  run: (sample: Tensor, part: number) => Promise<Tensor>,
): Promise<Tensor> {
  const [batch = 0, frames = 0, ...rest] = sample.shape;
  const totals = new Float64Array(frames);
  for (const part of parts) {
    part.frames.forEach((frame, at) => totals[frame] = (totals[frame] ?? 0) + (part.weights[at] ?? 0));
  }
  const missing = totals.findIndex((total) => !(total > 0));
  if (missing >= 0) throw new KinoraError("refused", `no part has frame ${missing}`);
  const flat = [batch * frames, ...rest];
  let sum: Tensor | undefined;
  try {
    for (const [index, part] of parts.entries()) {
      using seen = await sample.gather(1, part.frames);
      using output = await run(seen, index);
      // To its places in the video; the other frames get any numbers, and no weight.
      const places = Array.from({ length: frames }, (_, frame) => part.frames.indexOf(frame));
      using placed = await output.gather(1, places.map((place) => Math.max(0, place)));
      using rows = await placed.reshape(flat);
      const weights = places.map((place, frame) => place < 0 ? 0 : (part.weights[place] ?? 0) / (totals[frame] ?? 1));
      const scale = Array.from({ length: batch }, () => weights).flat();
      using before = sum;
      sum = undefined;
      sum = await Tensor.combine([...before === undefined ? [] : [{ tensor: before, scale: 1 }], {
        tensor: rows,
        scale,
      }]);
    }
    if (sum === undefined) throw new KinoraError("refused", "there are no parts");
    return await sum.reshape(sample.shape);
  } finally {
    sum?.dispose();
  }
}
