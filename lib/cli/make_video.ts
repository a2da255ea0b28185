/**
 * A prepared run of the cascade on the command line: progress on stderr, the result in a file, and what is finished kept
 * when it is stopped or fails.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { PreparedRun } from "../cascade/applications.ts";
import type { Video } from "../video.ts";
import type { CommandIo } from "./command.ts";
import { FinishedFrames } from "./finished_frames.ts";
import { withoutExtension } from "./output_path.ts";
import { type ProgressLine, progressLine } from "./progress.ts";

/** What is printed of one result. */
export interface VideoReport {
  /** The file or folder. */
  readonly out: string;
  /** Number of frames; 0 for an embedding. */
  readonly frames: number;
  /** Width in pixels; 0 for an embedding. */
  readonly width: number;
  /** Height in pixels; 0 for an embedding. */
  readonly height: number;
  /** Frames a second; 0 for an embedding. */
  readonly fps: number;
  /** Seconds of each stage, and of loading and saving. */
  readonly seconds: Readonly<Record<string, number>>;
  /** The file with the manifest. */
  readonly manifest: string;
  /** What was to be said of the prompt, also on stderr; only of what has a prompt. */
  readonly warnings?: readonly string[];
  /** The seed of the sample that was kept, and how each was ranked; only of several samples. */
  readonly ranking?: { readonly seed: number; readonly scores: readonly number[] };
}

/** Where a result goes. */
export interface VideoTarget {
  /** The file or folder, checked. */
  readonly out: string;
  /** What to show before the stage's name. */
  readonly label?: string | undefined;
}

/** What becomes of a video before it is written: the one it gives is the one that is written, and freed after. */
export type FinishVideo = (video: Video) => Promise<Video>;

/** A clock that says how long each part took. */
export class Laps {
  /** Seconds of each part. */
  readonly seconds: Record<string, number> = {};
  #since = performance.now();

  /** Ends a part; a part of the same name that came before is added to. */
  end(name: string): void {
    const now = performance.now();
    this.seconds[name] = Math.round((this.seconds[name] ?? 0) * 1000 + now - this.#since) / 1000;
    this.#since = now;
  }
}

/**
 * Makes one video and writes it. When it is stopped or fails, the frames that are finished are written as PNG files and
 * named on stderr.
 *
 * @param run The run.
 * @param target Where it goes.
 * @param io Where to write, and when to stop.
 */
export async function makeVideo(
  run: PreparedRun,
  target: VideoTarget & { readonly finish?: FinishVideo | undefined },
  io: CommandIo,
): Promise<VideoReport> {
  return await keepingFrames(target, io, async (work) => {
    const made = await runStages(run, target, work);
    io.signal.throwIfAborted();
    using finished = await target.finish?.(made);
    const video = finished ?? made;
    const saved = await video.save(target.out, { signal: io.signal });
    work.laps.end("save");
    const { frames, width, height, fps, manifest } = video;
    return {
      out: saved.path,
      frames,
      width,
      height,
      fps,
      seconds: work.laps.seconds,
      manifest: saved.manifest ?? "",
      ...manifest?.ranking === undefined ? {} : { ranking: { seed: manifest.seed, scores: manifest.ranking.scores } },
    };
  });
}

/** What a run on the command line works with. */
export interface Work {
  /** The line on stderr. */
  readonly line: ProgressLine;
  /** What is finished. */
  readonly kept: FinishedFrames;
  /** How long it takes. */
  readonly laps: Laps;
}

/**
 * Does work whose finished frames are kept when it is stopped or fails.
 *
 * @param target Where the result goes.
 * @param io Where to write, and when to stop.
 * @param make The work.
 */
export async function keepingFrames<Result>(
  target: VideoTarget,
  io: CommandIo,
  make: (work: Work) => Promise<Result>,
): Promise<Result> {
  using kept = new FinishedFrames();
  const work: Work = { line: progressLine(), kept, laps: new Laps() };
  try {
    return await make(work);
  } catch (error) {
    work.line.clear();
    const notes = await kept.save(`${withoutExtension(target.out)}-frames`);
    if (notes.length === 0 && io.signal.aborted) notes.push("no frames were finished");
    for (const note of notes) io.note(`kinora: ${note}`);
    throw error;
  } finally {
    work.line.clear();
  }
}

/**
 * Runs the stages.
 *
 * @param run The run.
 * @param target What to show before the stage's name.
 * @param work What it works with.
 * @returns The last stage's video, which stays in `work.kept`.
 */
export async function runStages(run: PreparedRun, target: VideoTarget, work: Work): Promise<Video> {
  const { line, kept, laps } = work;
  const { plan } = run;
  const label = target.label === undefined ? "" : `${target.label} `;
  const show = (stage: string | undefined, step: number, total: number): void => {
    if (stage !== undefined) line.show({ stage: `${label}${stage}`, step, total });
  };
  await run.load();
  laps.end("load");
  const [first] = plan.stages;
  show(first, 0, first === undefined ? 0 : plan.steps[first] ?? 0);
  for await (const preview of run.stream()) {
    const { stage, step, total } = preview;
    show(stage, step, total);
    if (preview.stage === "prior") preview.embedding?.dispose();
    else if (preview.done) kept.finish(preview.stage, preview.video);
    else if (preview.stage === "sr-high" && preview.finished) await kept.add(preview.stage, preview.video);
    if (!preview.done) continue;
    laps.end(stage);
    const next = plan.stages[plan.stages.indexOf(stage) + 1];
    show(next, 0, next === undefined ? 0 : plan.steps[next] ?? 0);
  }
  const video = kept.last;
  if (video === undefined) throw new KinoraError("failed", "No stage made a video");
  return video;
}

/** The frames a second that a GIF can show: its delays are hundredths of a second. */
const MOST_GIF_FPS = 100;

/**
 * Checks that a file of this name can play as fast as the video does.
 *
 * @throws {KinoraError} `refused` when it cannot.
 */
export function checkRate(out: string, fps: number): void {
  if (!out.toLowerCase().endsWith(".gif") || fps <= MOST_GIF_FPS) return;
  throw new KinoraError(
    "refused",
    `A GIF plays at most ${MOST_GIF_FPS} frames a second, not ${fps}: give a lower --fps, or --out with .png or .mp4`,
  );
}

/** One line about a result. */
export function described(report: VideoReport): string {
  if (report.frames === 0) return "an image embedding";
  const size = `${report.width}x${report.height}`;
  const video = report.frames === 1 ? size : `${report.frames} frames, ${size}, ${report.fps} fps`;
  const { ranking } = report;
  if (ranking === undefined) return video;
  return `${video}, the best of ${ranking.scores.length} samples (seed ${ranking.seed})`;
}
