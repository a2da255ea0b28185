/**
 * One run of the studio: waits for its turn, runs the cascade, tells the page how it goes, and keeps the video.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { PreparedApplication, type PreparedRun } from "../cascade/applications.ts";
import type { Cascade } from "../cascade/cascade.ts";
import { PreparedGeneration } from "../cascade/generation.ts";
import type { StageName } from "../cascade/stage.ts";
import { slug, unusedPath, withoutExtension } from "../cli/output_path.ts";
import { smallFrames, videoPng } from "../notebook/video_bundle.ts";
import type { Video } from "../video.ts";
import type { EventSender } from "./event_stream.ts";
import type { FairQueue } from "./fair_queue.ts";
import type { Gallery, Run } from "./gallery.ts";
import type { GivenPictures } from "./given_pictures.ts";
import type { StudioRequest } from "./studio_request.ts";

/** Milliseconds from one preview to the next, at least. */
const PREVIEW_MS = 250;

/** The larger side of previews while a stage is at work, and of what it made, in pixels. */
const [PREVIEW_SIDE, STAGE_SIDE] = [128, 384];

/** What a run works with. */
export interface RunRoom {
  /** The cascade. */
  readonly cascade: Cascade;
  /** Whose turn it is. */
  readonly queue: FairQueue;
  /** Where videos go. */
  readonly folder: string;
  /** The past runs. */
  readonly gallery: Gallery;
  /** Pictures and videos that the page has brought. */
  readonly pictures: GivenPictures;
}

/** What the file of a run from pictures ends with, beside the picture's name. */
const ENDINGS = { animate: "animated", interpolate: "interpolated", vary: "varied" } as const;

/** A stage as the page draws it. */
interface StageState {
  readonly stage: StageName;
  readonly steps: number;
}

/**
 * Reads what a run starts from and checks all that was asked for.
 *
 * @param request What is asked for.
 * @param room What the run works with.
 * @param signal Stops the run.
 * @throws {KinoraError} `refused` or `not-found` when it cannot be done.
 */
export async function prepareRun(
  { task, request, seed }: StudioRequest,
  { cascade, pictures }: RunRoom,
  signal?: AbortSignal,
): Promise<PreparedRun> {
  const options = { ...request, seed, signal };
  if (task.verb === "generate") return await PreparedGeneration.create(cascade, task.prompt, options);
  const [first = "", second = ""] = await Promise.all(task.given.map((id) => pictures.path(id)));
  const fitted = task.fit === undefined ? options : { ...options, fit: task.fit };
  const given = task.verb === "interpolate"
    ? { verb: task.verb, given: [first, second] as const, options: fitted }
    : { verb: task.verb, given: first, options: fitted };
  return await PreparedApplication.create(cascade, given);
}

/**
 * Does one run. It sends `queued` (how many are ahead), `begun` (the stages), `step`, `stage` (what a stage made), and in
 * the end `done` or `failed`.
 *
 * @param task What is asked for.
 * @param room What it works with.
 * @param send Tells the page.
 * @param signal Stops it.
 */
export async function runJob(
  task: StudioRequest,
  room: RunRoom,
  send: EventSender,
  signal: AbortSignal,
): Promise<void> {
  try {
    const onAhead = (ahead: number): void => send("queued", { ahead });
    using _turn = await room.queue.enter(task.tab, { signal, onAhead });
    send("done", { run: await makeVideo(task, room, send, signal) });
  } catch (error) {
    if (signal.aborted) return;
    const why = error instanceof KinoraError ? error.message : `internal error: ${(error as Error).message}`;
    send("failed", { why });
  }
}

async function makeVideo(task: StudioRequest, room: RunRoom, send: EventSender, signal: AbortSignal): Promise<Run> {
  const { folder, gallery } = room;
  using prepared = await prepareRun(task, room, signal);
  const { plan } = prepared;
  const stages: StageState[] = plan.stages.map((stage) => ({ stage, steps: plan.steps[stage] ?? 0 }));
  send("begun", { stages, fps: plan.outputFps, frames: plan.frames, size: plan.size });
  let video: Video | undefined;
  try {
    const pace = new Pace();
    for await (const preview of prepared.stream()) {
      const { stage, step, total, done } = preview;
      const left = pace.left(stage, step, total);
      if (preview.stage === "prior") preview.embedding?.dispose();
      else if (done) {
        video?.dispose();
        video = preview.video;
      }
      if (done) {
        const image = preview.stage === "prior" ? undefined : await picture(preview.video, STAGE_SIDE, task.still);
        send("stage", { stage, seconds: pace.lap(), image });
      } else if (pace.due() && send.ready()) {
        const image = preview.stage === "prior" ? undefined : await picture(preview.video, PREVIEW_SIDE, task.still);
        send("step", { stage, step, total, left, image });
      }
      signal.throwIfAborted();
    }
    if (video === undefined) throw new KinoraError("failed", "No stage made a video");
    await Deno.mkdir(folder, { recursive: true });
    const path = await unusedName(`${folder}/${await nameOf(task, room)}-seed-${task.seed}`);
    await video.save(path, { signal });
    const run = await gallery.get(path.slice(path.lastIndexOf("/") + 1));
    if (run === undefined) throw new KinoraError("io", `${path} cannot be read again`);
    return run;
  } finally {
    video?.dispose();
  }
}

/** What the file of a run is named after. */
async function nameOf({ task }: StudioRequest, { pictures }: RunRoom): Promise<string> {
  if (task.verb === "generate") return slug(task.prompt);
  const picture = await pictures.find(task.given[0] ?? "");
  return `${slug(withoutExtension(picture?.name ?? ""))}-${ENDINGS[task.verb]}`;
}

/** A free name that ends with `.png`: animated PNG loses nothing, and every browser plays it. */
async function unusedName(name: string): Promise<string> {
  for (let number = 1;; number++) {
    const path = `${number === 1 ? name : `${name}-${number}`}.png`;
    if (await unusedPath(path) === path) return path;
  }
}

async function picture(video: Video, side: number, still: boolean): Promise<string> {
  using first = still ? await video.tensor.gather(0, [0]) : undefined;
  using small = await smallFrames({ tensor: first ?? video.tensor, fps: video.fps }, side, 32);
  return `data:image/png;base64,${(await videoPng(small)).toBase64()}`;
}

/** How fast a stage goes, and whether it is time for the next preview. */
class Pace {
  #stage: StageName | undefined;
  #since = performance.now();
  #firstStep = 0;
  #sent = -Infinity;

  /** Notes a step and gives the seconds that the stage has left, once that can be told. */
  left(stage: StageName, step: number, total: number): number | undefined {
    const now = performance.now();
    if (stage === this.#stage && step > 1) {
      return Math.ceil((now - this.#firstStep) / (step - 1) * (total - step) / 1000);
    }
    [this.#stage, this.#firstStep] = [stage, now];
    return undefined;
  }

  /** The seconds since the stage before was done. */
  lap(): number {
    const now = performance.now();
    const seconds = (now - this.#since) / 1000;
    this.#since = now;
    return seconds;
  }

  /** Whether it is time for a preview. */
  due(): boolean {
    const now = performance.now();
    if (now - this.#sent < PREVIEW_MS) return false;
    this.#sent = now;
    return true;
  }
}
