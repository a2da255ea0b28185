/**
 * What is measured of clips that the decoder made.
 *
 * @module
 */
import type { Tensor } from "../../../ffi/tensor.ts";
import type { Cascade } from "../../cascade/cascade.ts";
import { meanCosine, motionOf } from "../../training/measures.ts";

/** Colours in [0, 1]. */
export interface ClipFigures {
  /** Mean cosine of the frames' image embeddings to the one that the clip was asked for with. */
  readonly agreement: number;
  /** Mean absolute difference of neighbouring frames at 8 x 8 pixels: motion without grain. */
  readonly motion: number;
  /** The same of second differences, over `motion`: 1.73 for white noise, less for smooth motion. */
  readonly acceleration: number;
  /** Mean absolute difference of neighbouring frames in the outermost two of 32 pixels: flicker of a still ground. */
  readonly border: number;
}

/**
 * Measures clips.
 *
 * @param cascade The model, whose image tower looks at the frames.
 * @param clips Clips (B, F, H, W, 3).
 * @param embeddings What each was asked for with, (B, E).
 */
export async function clipFigures(cascade: Cascade, clips: Tensor, embeddings: Tensor): Promise<ClipFigures> {
  const [batch = 0, frames = 0, ...picture] = clips.shape;
  const tower = await cascade.stage("image");
  using pictures = await clips.reshape([batch * frames, ...picture]);
  using seen = await tower.encode(pictures);
  using wanted = await embeddings.gather(0, Array.from({ length: batch * frames }, (_, at) => Math.floor(at / frames)));
  return { agreement: await meanCosine(seen, wanted), ...await motionOf(clips) };
}

/** The first clip of a batch, as the frames of a picture. */
export async function firstClip(clips: Tensor): Promise<Tensor> {
  using first = await clips.gather(0, [0]);
  return await first.reshape(clips.shape.slice(1));
}

/** `from`, `from + 1` and so on. */
export function numbers(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}
