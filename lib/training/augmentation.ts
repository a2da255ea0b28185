/**
 * Random changes to pictures and embeddings that must not change what they show.
 *
 * @module
 */
import { type AffineMatrix, Tensor } from "../../ffi/tensor.ts";
import type { Draws } from "./random.ts";

/** White in [-1, 1]: the ground of all pictures. */
export const WHITE = 1;

/**
 * A random matrix for `Tensor.affine`: turned, stretched, moved and perhaps mirrored.
 *
 * @param draws Where randomness comes from.
 * @returns `[a, b, c, d, e, f]` in coordinates from -1 to 1.
 */
export function drawAffine(draws: Draws): AffineMatrix {
  const angle = draws.between(-0.18, 0.18);
  const across = 1 + draws.between(-0.12, 0.15);
  const down = across * (1 + draws.between(-0.08, 0.08));
  const side = draws.chance(0.25) ? -1 : 1;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [
    cos * across * side,
    -sin * down,
    draws.between(-0.15, 0.15),
    sin * across * side,
    cos * down,
    draws.between(-0.15, 0.15),
  ];
}

/**
 * Changes pictures as the CLIP pair sees them in training: position, brightness, sharpness, and a little noise.
 *
 * @param pictures Pictures (B, H, W, 3) in [-1, 1] on white; they stay the caller's.
 * @param draws Where randomness comes from.
 */
export async function augmentedPictures(pictures: Tensor, draws: Draws): Promise<Tensor> {
  const [batch = 0, height = 0, width = 0, channels = 0] = pictures.shape;
  using moved = await pictures.affine(draws.each(batch, () => drawAffine(draws)), { fill: WHITE });
  const coarse = draws.pick([1, 1, 2, 4]);
  using small = coarse === 1 ? undefined : await moved.resize({
    height: Math.max(1, Math.floor(height / coarse)),
    width: Math.max(1, Math.floor(width / coarse)),
    filter: "area",
  });
  using blurred = await small?.resize({ height, width, filter: "bilinear" });
  // One line of ones, which `combine` spreads over the picture: a brightness for each sample.
  using ones = await Tensor.create(
    [batch, 1, width, channels],
    new Float32Array(batch * width * channels).fill(1),
  );
  using noise = await Tensor.noise({ shape: pictures.shape, seeds: draws.seeds(batch), stream: 0 });
  return await Tensor.combine([
    { tensor: blurred ?? moved, scale: draws.each(batch, () => draws.between(0.85, 1.1)) },
    { tensor: ones, scale: draws.each(batch, () => draws.between(-0.1, 0.1)) },
    { tensor: noise, scale: draws.each(batch, () => 0.03 * Math.abs(draws.normal())) },
  ]);
}

/**
 * Turns embeddings a little in random directions, so that a decoder gets along with the errors of the prior.
 *
 * @param embeddings Embeddings of unit length (B, E); they stay the caller's.
 * @param most The greatest length of what is added; each sample gets a random share of it.
 * @param draws Where randomness comes from.
 * @returns Embeddings of unit length.
 */
export async function noisyEmbeddings(embeddings: Tensor, most: number, draws: Draws): Promise<Tensor> {
  const [batch = 0, width = 1] = embeddings.shape;
  using noise = await Tensor.noise({ shape: embeddings.shape, seeds: draws.seeds(batch), stream: 0 });
  using moved = await Tensor.combine([
    { tensor: embeddings, scale: 1 },
    { tensor: noise, scale: draws.each(batch, () => most * draws.next() / Math.sqrt(width)) },
  ]);
  return await moved.normalize(1);
}
