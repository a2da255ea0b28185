/**
 * `kinora generate`: from a prompt, or a file of prompts, to videos.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { saveTensors } from "../../ffi/tensor.ts";
import type { Cascade } from "../cascade/cascade.ts";
import type { RunPlan, RunRequest } from "../cascade/run_plan.ts";
import { STAGES } from "../cascade/stage.ts";
import { checkPrompt } from "../cascade/text.ts";
import { loadCascade } from "../load_cascade.ts";
import { checkVideoPath, type Video, writeTextWhole } from "../video.ts";
import type { Command, CommandIo } from "./command.ts";
import { FinishedFrames } from "./finished_frames.ts";
import { generateBatch } from "./generate_batch.ts";
import { helpText, type Options, type OptionValues, parseOptions } from "./options.ts";
import { checkWritable, slug, withoutExtension } from "./output_path.ts";
import { type ProgressLine, progressLine } from "./progress.ts";

/** The options of `generate`. */
export const GENERATE_OPTIONS = {
  out: {
    type: "text",
    value: "FILE",
    help:
      "where to write: .gif, .png (animated), .webp, .mp4, .y4m, .sheet.png (a contact sheet), or a folder of PNG " +
      "with / at its end; default the prompt's words",
  },
  prompts: { type: "text", value: "FILE", help: "make a video of each line of FILE, into the folder --out" },
  seed: {
    type: "whole",
    value: "N",
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    help: "another seed, another video; default 0",
  },
  frames: {
    type: "choice",
    choices: [1, 16, 31, 76],
    help: "1 is a picture, 31 and 76 use frame interpolation; default 16",
  },
  size: { type: "choice", choices: [64, 256, 512, 768], help: "width and height in pixels; default 256" },
  fps: {
    type: "number",
    value: "N",
    least: 1,
    most: 30,
    help: "frames a second of the 16 key frames, interpolated ones come between; default 8",
  },
  steps: { type: "whole", value: "N", least: 1, most: 1000, help: "steps of decoder and interpolation" },
  guidance: { type: "number", value: "X", least: 0, most: 50, help: "how closely the decoder follows, 1 is plain" },
  model: { type: "text", value: "DIR", help: "folder of another model" },
  until: { type: "choice", choices: STAGES, help: "stop after this stage; prior writes its embedding as .safetensors" },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** The values of the options of `generate`. */
export type GenerateValues = OptionValues<typeof GENERATE_OPTIONS>;

/** What is printed of one result. */
export interface GenerateReport {
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
}

/** The verb. */
export const command: Command = {
  name: "generate",
  summary: "make a video from a prompt",
  help: helpText({
    usage: "generate PROMPT [OPTION]...\n       kinora generate --prompts FILE --out FOLDER [OPTION]...",
    about:
      "Makes a video from a prompt: 16 frames of 256x256 pixels unless asked otherwise. The whole cascade runs with\n" +
      "--frames 76 --size 768. A manifest, from which the video can be made again, is written beside it as FILE.json.",
    options: GENERATE_OPTIONS,
    notes: "With --prompts the folder gets 0000.gif, 0001.gif and so on; run again, it goes on where it stopped.\n" +
      "Interrupted, or if a stage fails, the frames that are finished are kept as PNG files and named.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("generate", GENERATE_OPTIONS, args, {
      positionals: 1,
      called: "prompt",
    });
    if (values.prompts !== undefined) {
      if (positionals.length > 0) throw new KinoraError("refused", "Give a prompt or --prompts FILE, not both");
      return await generateBatch(values.prompts, values, io);
    }
    const [given] = positionals;
    if (given === undefined) {
      throw new KinoraError("refused", 'The prompt is missing: kinora generate "a butterfly"');
    }
    const prompt = checkPrompt(given);
    const request = runRequest(values);
    const out = values.out ?? `${slug(prompt)}${extension(request)}`;
    checkOut(out, request);
    using cascade = await openCascade(values);
    checkRate(out, cascade.plan(request).outputFps);
    await checkWritable(out);
    const report = await generateOne(cascade, { prompt, seed: values.seed ?? 0, request, out }, io);
    io.out(values.json ? JSON.stringify(report) : `Wrote ${report.out}: ${described(report)}`);
    return 0;
  },
};

/** One video to be made. */
export interface GenerateTask {
  /** The prompt, checked. */
  readonly prompt: string;
  /** The seed. */
  readonly seed: number;
  /** What is asked for. */
  readonly request: RunRequest;
  /** Where it goes, checked. */
  readonly out: string;
  /** What to show before the stage's name. */
  readonly label?: string;
}

/** What the options ask of a run. */
export function runRequest(values: GenerateValues): RunRequest {
  const { frames, size, fps, steps, guidance, until } = values;
  return Object.fromEntries(
    Object.entries({ frames, size, fps, steps, guidance, until }).filter(([, value]) => value !== undefined),
  );
}

/** The ending of a name that was not given. */
export function extension(request: RunRequest): string {
  return request.until === "prior" ? ".safetensors" : request.frames === 1 ? ".png" : ".gif";
}

/**
 * Opens the model that the options name.
 *
 * @throws {KinoraError} `not-found` or `bad-file` when it is not there or not a cascade.
 */
export function openCascade(values: GenerateValues): Promise<Cascade> {
  return loadCascade(values.model === undefined ? {} : { model: values.model });
}

/**
 * Makes one video and writes it. When it is stopped or fails, the frames that are finished are written as PNG files and
 * named on stderr.
 *
 * @param cascade The cascade.
 * @param task What to make.
 * @param io Where to write, and when to stop.
 */
export async function generateOne(cascade: Cascade, task: GenerateTask, io: CommandIo): Promise<GenerateReport> {
  const line = progressLine();
  const seconds: Record<string, number> = {};
  let since = performance.now();
  const lap = (name: string): void => {
    const now = performance.now();
    seconds[name] = Math.round(now - since) / 1000;
    since = now;
  };
  const plan = cascade.plan(task.request);
  await cascade.prepare(task.request);
  lap("load");
  using kept = new FinishedFrames();
  try {
    if (task.request.until === "prior") return await writeEmbedding(cascade, plan, task, io, seconds, lap);
    const video = await runStages(cascade, plan, task, io, { line, kept, lap });
    io.signal.throwIfAborted();
    const saved = await video.save(task.out, { signal: io.signal });
    lap("save");
    const { frames, width, height, fps } = video;
    return { out: saved.path, frames, width, height, fps, seconds, manifest: saved.manifest ?? "" };
  } catch (error) {
    line.clear();
    const notes = await kept.save(`${withoutExtension(task.out)}-frames`);
    if (notes.length === 0 && io.signal.aborted) notes.push("no frames were finished");
    for (const note of notes) io.note(`kinora: ${note}`);
    throw error;
  } finally {
    line.clear();
  }
}

/** Runs the stages and returns the last one's video, which stays in `kept`. */
async function runStages(
  cascade: Cascade,
  plan: RunPlan,
  task: GenerateTask,
  io: CommandIo,
  run: { readonly line: ProgressLine; readonly kept: FinishedFrames; readonly lap: (name: string) => void },
): Promise<Video> {
  const { line, kept, lap } = run;
  const label = task.label === undefined ? "" : `${task.label} `;
  const show = (stage: string | undefined, step: number, total: number): void => {
    if (stage !== undefined) line.show({ stage: `${label}${stage}`, step, total });
  };
  show(plan.stages[0], 0, plan.steps.prior ?? 0);
  for await (const preview of cascade.stream(task.prompt, { ...task.request, seed: task.seed, signal: io.signal })) {
    const { stage, step, total } = preview;
    show(stage, step, total);
    if (preview.stage === "prior") preview.embedding?.dispose();
    else if (preview.done) kept.finish(preview.stage, preview.video);
    else if (preview.stage === "sr-high" && preview.finished) await kept.add(preview.stage, preview.video);
    if (!preview.done) continue;
    lap(stage);
    const next = plan.stages[plan.stages.indexOf(stage) + 1];
    show(next, 0, next === undefined ? 0 : plan.steps[next] ?? 0);
  }
  const video = kept.last;
  if (video === undefined) throw new KinoraError("failed", "No stage made a video");
  return video;
}

async function writeEmbedding(
  cascade: Cascade,
  plan: RunPlan,
  task: GenerateTask,
  io: CommandIo,
  seconds: Record<string, number>,
  lap: (name: string) => void,
): Promise<GenerateReport> {
  using embedding = await cascade.embed(task.prompt, { seed: task.seed, signal: io.signal });
  lap("prior");
  const parts = { prompt: task.prompt, seed: task.seed, frames: 0, width: 0, height: 0, fps: 0 };
  await saveTensors({ image_embedding: embedding }, task.out, { metadata: { prompt: task.prompt } });
  const manifest = `${task.out}.json`;
  await writeTextWhole(manifest, `${JSON.stringify(await cascade.manifest(plan, "prior", parts), undefined, 2)}\n`);
  lap("save");
  const { frames, width, height, fps } = parts;
  return { out: task.out, frames, width, height, fps, seconds, manifest };
}

/** Checks the ending of a file name. */
function checkOut(out: string, request: RunRequest): void {
  if (request.until !== "prior") return checkVideoPath(out);
  if (!out.toLowerCase().endsWith(".safetensors")) {
    throw new KinoraError("refused", `Cannot write "${out}": with --until prior the name must end with .safetensors`);
  }
}

/** The frames a second that a GIF can show: its delays are hundredths of a second. */
const MOST_GIF_FPS = 100;

/** Checks that a file of this name can play as fast as the video does. */
export function checkRate(out: string, fps: number): void {
  if (!out.toLowerCase().endsWith(".gif") || fps <= MOST_GIF_FPS) return;
  throw new KinoraError(
    "refused",
    `A GIF plays at most ${MOST_GIF_FPS} frames a second, not ${fps}: give a lower --fps, or --out with .png or .mp4`,
  );
}

function described(report: GenerateReport): string {
  if (report.frames === 0) return "an image embedding";
  const size = `${report.width}x${report.height}`;
  return report.frames === 1 ? size : `${report.frames} frames, ${size}, ${report.fps} fps`;
}
