/**
 * What the verbs that start from pictures or a video have in common.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Fit } from "../../ffi/media.ts";
import type { Device } from "../../ffi/network.ts";
import { type Application, PreparedApplication } from "../cascade/applications.ts";
import { openMedia } from "../media/open_media.ts";
import { placeBack } from "../media/place_back.ts";
import { checkVideoPath, Video } from "../video.ts";
import type { CommandIo } from "./command.ts";
import { checkRate, described, type FinishVideo, makeVideo } from "./make_video.ts";
import { checkWritable, withoutExtension } from "./output_path.ts";
import { openCascade } from "./video_options.ts";

/** What such a verb was given. */
export interface ApplyValues {
  /** Where the video goes. */
  readonly out: string | undefined;
  /** The model's folder. */
  readonly model: string | undefined;
  /** What computes. */
  readonly device: Device | undefined;
  /** Whether one JSON object is printed. */
  readonly json: boolean;
  /** Whether the video gets the size and aspect of what was given first. */
  readonly "place-back": boolean;
}

/**
 * Makes the video of an application and writes it.
 *
 * @param application The application.
 * @param values Where to, with which model. By default the file is named after the first input, with `ending` at its end.
 * @param io Where to write, and when to stop.
 * @throws {KinoraError} `refused`, `not-found` or `bad-file` when something is not accepted, before any work.
 */
export async function applyAndWrite(
  application: Application,
  values: ApplyValues & { readonly ending: string },
  io: CommandIo,
): Promise<number> {
  const first = String([application.given].flat()[0]);
  const out = values.out ?? `${baseName(first)}-${values.ending}.gif`;
  checkVideoPath(out);
  using cascade = await openCascade(values);
  using run = await PreparedApplication.create(cascade, application);
  checkRate(out, run.plan.outputFps);
  await checkWritable(out);
  const finish = values["place-back"] ? placingBack(first, application.options.fit, io.signal) : undefined;
  const report = await makeVideo(run, { out, finish }, io);
  io.out(values.json ? JSON.stringify(report) : `Wrote ${report.out}: ${described(report)}`);
  return 0;
}

/**
 * The one argument of a verb.
 *
 * @param positionals The arguments.
 * @param missing What to say when there is none.
 * @throws {KinoraError} `refused` when there is none.
 */
export function onlyArgument(positionals: readonly string[], missing: string): string {
  const [given] = positionals;
  if (given === undefined) throw new KinoraError("refused", missing);
  return given;
}

/** Puts a video back at the size and aspect of a file; what was cut off of it is that of its first frame. */
function placingBack(path: string, fit: Fit | undefined, signal: AbortSignal): FinishVideo {
  return async (video) => {
    const size = { width: video.width, height: video.height };
    using placed = await openMedia(path, { size, fit, frames: 1, signal });
    using whole = await openMedia(path, { frames: 1, signal });
    const tensor = await placeBack(video.tensor, placed, { background: whole.tensor });
    const [, height = 0, width = 0] = tensor.shape;
    const { fps, manifest } = video;
    return new Video(tensor, {
      fps,
      ...manifest === undefined ? {} : { manifest: { ...manifest, width, height, placedBack: true } },
    });
  };
}

/** The name of a file without its folder and its ending. */
function baseName(path: string): string {
  const trimmed = withoutExtension(path);
  return trimmed.slice(trimmed.lastIndexOf("/") + 1) || "video";
}
