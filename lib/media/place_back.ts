/**
 * Results at the aspect of the file they were made from: the inverse of fitting.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { PixelRect } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { PlacedSource } from "./open_media.ts";

/** How results are put back. */
export interface PlaceBackOptions {
  /**
   * What lies around a result whose source was cut off by `"cover"`: frames of the source, (F, H, W, 3) at its size, or one
   * frame for all; default white.
   */
  readonly background?: Tensor | undefined;
}

/**
 * Brings frames that were made from a fitted source back to the source's size and aspect. After `"contain"` the white
 * margins are cut off and the rest is resized; after `"cover"` the frames are resized to the part that was shown, and laid
 * over the background there. The frames may be larger or smaller than the size that the source was fitted to, for example
 * after super-resolution. Where the source was not fitted, frames are only resized.
 *
 * @param frames The frames (F, H, W, 3) in [-1, 1], of the fitted size's aspect.
 * @param source What the source was; a `Media` will do.
 * @param options What lies around.
 * @returns Frames (F, source height, source width, 3), which the caller disposes.
 * @throws {KinoraError} `refused` for another shape, or a background that is not of the source's size.
 */
export async function placeBack(
  frames: Tensor,
  source: PlacedSource,
  options: PlaceBackOptions = {},
): Promise<Tensor> {
  const [count, height, width, channels] = frames.shape;
  if (count === undefined || height === undefined || width === undefined || channels !== 3) {
    throw new KinoraError("refused", `frames must have the shape [F, H, W, 3], not [${frames.shape.join(", ")}]`);
  }
  const whole = { x: 0, y: 0, width: source.sourceWidth, height: source.sourceHeight };
  const size = { width, height };
  const { crop, content, size: fitted } = source.placement ?? { crop: whole, content: { x: 0, y: 0, ...size }, size };
  const inner = scaled(content, width / fitted.width, height / fitted.height, size);
  const filled = inner.width === width && inner.height === height;
  using part = filled ? undefined : await frames.crop({
    top: inner.y,
    left: inner.x,
    height: inner.height,
    width: inner.width,
  });
  const resized = await (part ?? frames).resize({ height: crop.height, width: crop.width, filter: "bicubic" });
  if (crop.width === whole.width && crop.height === whole.height) return resized;
  using middle = resized;
  using background = await backgroundOf(options.background, [count, whole.height, whole.width, 3]);
  return await laidOver(background, middle, crop);
}

function scaled(rect: PixelRect, across: number, down: number, most: { width: number; height: number }): PixelRect {
  const x = Math.min(most.width - 1, Math.round(rect.x * across));
  const y = Math.min(most.height - 1, Math.round(rect.y * down));
  return {
    x,
    y,
    width: Math.max(1, Math.min(most.width, Math.round((rect.x + rect.width) * across)) - x),
    height: Math.max(1, Math.min(most.height, Math.round((rect.y + rect.height) * down)) - y),
  };
}

async function backgroundOf(given: Tensor | undefined, shape: [number, number, number, number]): Promise<Tensor> {
  const [frames, height, width] = shape;
  if (given === undefined) {
    using white = await Tensor.create([1, height, width, 3], new Float32Array(height * width * 3).fill(1));
    return await white.gather(0, new Array(frames).fill(0));
  }
  const [count, ...size] = given.shape;
  if (given.shape.length !== 4 || size.join() !== [height, width, 3].join() || (count !== 1 && count !== frames)) {
    throw new KinoraError(
      "refused",
      `background must have the shape [${shape.join(", ")}], or one frame of it, not [${given.shape.join(", ")}]`,
    );
  }
  return await given.gather(0, Array.from({ length: frames }, (_, frame) => count === 1 ? 0 : frame));
}

/** Puts frames over others of their number: what lies around is cut out and laid together with them. */
async function laidOver(background: Tensor, frames: Tensor, at: PixelRect): Promise<Tensor> {
  const [, height = 0, width = 0] = background.shape;
  const [below, right] = [height - at.y - at.height, width - at.x - at.width];
  const parts: Tensor[] = [];
  const cut = async (top: number, left: number, height: number, width: number): Promise<Tensor[]> => {
    if (height === 0 || width === 0) return [];
    const part = await background.crop({ top, left, height, width });
    parts.push(part);
    return [part];
  };
  try {
    const row = await Tensor.cat([
      ...await cut(at.y, 0, at.height, at.x),
      frames,
      ...await cut(at.y, at.x + at.width, at.height, right),
    ], 2);
    parts.push(row);
    return await Tensor.cat([
      ...await cut(0, 0, at.y, width),
      row,
      ...await cut(at.y + at.height, 0, below, width),
    ], 1);
  } finally {
    for (const part of parts) part.dispose();
  }
}
