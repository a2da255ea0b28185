/**
 * What the verbs that start from pictures or a video have in common.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type Application, PreparedApplication } from "../cascade/applications.ts";
import { checkVideoPath } from "../video.ts";
import type { CommandIo } from "./command.ts";
import { checkRate, described, makeVideo } from "./make_video.ts";
import { checkWritable, withoutExtension } from "./output_path.ts";
import { openCascade } from "./video_options.ts";

/** What such a verb was given. */
export interface ApplyValues {
  /** Where the video goes. */
  readonly out: string | undefined;
  /** The model's folder. */
  readonly model: string | undefined;
  /** Whether one JSON object is printed. */
  readonly json: boolean;
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
  const [first] = [application.given].flat();
  const out = values.out ?? `${baseName(String(first))}-${values.ending}.gif`;
  checkVideoPath(out);
  using cascade = await openCascade(values);
  using run = await PreparedApplication.create(cascade, application);
  checkRate(out, run.plan.outputFps);
  await checkWritable(out);
  const report = await makeVideo(run, { out }, io);
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

/** The name of a file without its folder and its ending. */
function baseName(path: string): string {
  const trimmed = withoutExtension(path);
  return trimmed.slice(trimmed.lastIndexOf("/") + 1) || "video";
}
