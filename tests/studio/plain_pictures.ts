/**
 * Pictures for tests.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { videoPng } from "../../lib/notebook/video_bundle.ts";
import { Video } from "../../lib/video.ts";

/**
 * A picture, or with several colours a video, of one grey a frame, as a PNG file.
 *
 * @param width Its width in pixels.
 * @param height Its height.
 * @param colours The grey of each frame, -1 to 1.
 */
export async function plainPng(
  width: number,
  height: number,
  colours: readonly number[],
): Promise<Uint8Array<ArrayBuffer>> {
  const values = colours.flatMap((colour) => Array(width * height * 3).fill(colour));
  using video = new Video(await Tensor.create([colours.length, height, width, 3], values), { fps: 4 });
  return await videoPng(video);
}
