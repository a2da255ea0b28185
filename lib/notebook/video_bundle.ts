/**
 * A video as a notebook shows it.
 *
 * @module
 */
import { encodeMedia } from "../../ffi/media.ts";
import type { Video } from "../video.ts";
import { escapeHtml, imageHtml, type MediaBundle } from "./media_bundle.ts";

/** Bytes of an animation up to which it is put into a notebook whole; above, a contact sheet stands for it. */
export const MOST_INLINE = 4_000_000;

/** Bytes of pixels above which it is not tried: PNG does not make our pictures ten times smaller. */
const MOST_TRIED = 10 * MOST_INLINE;

/** Bytes up to which it is put there as `image/png` too; above, its first frame stands for it there, made small. */
const MOST_TWICE = 64_000;

/** Pixels that small pictures are enlarged to at least, by a whole number: their larger side, and of strips the smaller. */
const [LEAST_SHOWN, LEAST_STRIP] = [192, 64];

/** The larger side of such a frame, in pixels. */
const STILL_SIDE = 256;

/** Pixels that strips are not enlarged beyond. */
const MOST_STRIP = 800;

/** What of a video is encoded. */
type Frames = Pick<Video, "tensor" | "fps"> & Partial<Pick<Video, "durations">>;

/**
 * Encodes frames as PNG, animated where there are several.
 *
 * @param video The frames.
 * @param signal Stops the work.
 */
export async function videoPng(video: Frames, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const path = await Deno.makeTempFile({ prefix: "kinora-", suffix: ".png" });
  try {
    const { durations, fps } = video;
    await encodeMedia(video.tensor, path, { ...durations === undefined ? { fps } : { durations }, signal });
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}

/**
 * How wide a picture is shown: pictures of 64 pixels would be stamps, and sheets of small frames threads.
 *
 * @param width Its width in pixels.
 * @param height Its height.
 */
export function shownWidth(width: number, height: number): number {
  let scale = Math.max(1, Math.ceil(LEAST_SHOWN / Math.max(width, height)));
  const [long, short] = [Math.max(width, height), Math.min(width, height)];
  while (short * scale < LEAST_STRIP && long * (scale + 1) <= MOST_STRIP) scale++;
  return width * scale;
}

/**
 * A smaller form of a video, quick to encode and to send.
 *
 * @param video The video; it stays the caller's.
 * @param side Its larger side at most, in pixels.
 * @param frames Its frames at most; they are taken evenly, and the rate with them.
 */
export async function smallFrames(
  video: Frames,
  side: number,
  frames = 16,
): Promise<Frames & Disposable> {
  const [count = 0, height = 0, width = 0] = video.tensor.shape;
  const every = Math.ceil(count / frames);
  using some = await video.tensor.gather(0, Array.from({ length: Math.ceil(count / every) }, (_, at) => at * every));
  const scale = Math.min(1, side / Math.max(height, width));
  const size = (length: number): number => Math.max(1, Math.round(length * scale));
  const tensor = scale === 1
    ? await some.reshape(some.shape)
    : await some.resize({ height: size(height), width: size(width), filter: "area" });
  return { tensor, fps: video.fps / every, [Symbol.dispose]: (): void => tensor.dispose() };
}

/**
 * The forms of a video: an animated PNG, or a contact sheet where that would be large.
 *
 * @param video The video.
 */
export async function videoBundle(video: Video): Promise<MediaBundle> {
  const text = video.toString();
  const tried = video.frames * video.height * video.width * 3 <= MOST_TRIED;
  let bytes = tried ? await videoPng(video) : new Uint8Array();
  let [note, width] = ["", shownWidth(video.width, video.height)];
  if (!tried || bytes.length > MOST_INLINE) {
    using sheet = await video.contactSheet();
    using small = await smallFrames(sheet, 1024);
    bytes = await videoPng(small);
    width = small.tensor.shape[2] ?? 0;
    note = `Its frames side by side: moving, it is too large for a notebook; video.save("name.gif") writes it`;
  }
  const still = bytes.length > MOST_TWICE ? await stillPng(video) : bytes;
  return {
    "text/plain": note === "" ? text : `${text}. ${note}`,
    "text/html": imageHtml("image/png", bytes, { alt: text, width }) +
      (note === "" ? "" : `<p>${escapeHtml(`${text}. ${note}`)}</p>`),
    "image/png": still.toBase64(),
  };
}

/** The first frame, made small. */
async function stillPng(video: Frames): Promise<Uint8Array<ArrayBuffer>> {
  using first = await video.tensor.gather(0, [0]);
  using small = await smallFrames({ tensor: first, fps: video.fps }, STILL_SIDE);
  return await videoPng(small);
}
