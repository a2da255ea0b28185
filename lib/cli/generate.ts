/**
 * `kinora generate`: from a prompt, or a file of prompts, to videos.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { saveTensors } from "../../ffi/tensor.ts";
import { taskManifest } from "../cascade/applications.ts";
import type { Cascade } from "../cascade/cascade.ts";
import type { GenerateOptions } from "../cascade/cascade_options.ts";
import { PreparedGeneration } from "../cascade/generation.ts";
import { MOST_SAMPLES } from "../cascade/ranked_samples.ts";
import { STAGES } from "../cascade/stage.ts";
import { checkPrompt } from "../cascade/text.ts";
import { checkVideoPath, writeTextWhole } from "../video.ts";
import type { Command, CommandIo } from "./command.ts";
import { generateBatch } from "./generate_batch.ts";
import { generateGrid } from "./generate_grid.ts";
import {
  checkRate,
  described,
  keepingFrames,
  type Laps,
  makeVideo,
  type VideoReport,
  type VideoTarget,
} from "./make_video.ts";
import { helpText, type Options, type OptionValues, parseOptions } from "./options.ts";
import { checkWritable, slug } from "./output_path.ts";
import {
  FIT_OPTION,
  FPS_OPTION,
  libraryOptions,
  MODEL_OPTIONS,
  openCascade,
  SAMPLING_OPTIONS,
  VIDEO_OPTIONS,
} from "./video_options.ts";

/** The options of `generate`. */
export const GENERATE_OPTIONS = {
  ...VIDEO_OPTIONS,
  out: { ...VIDEO_OPTIONS.out, help: VIDEO_OPTIONS.out.help.replace("the input's name", "the prompt's words") },
  prompts: { type: "text", value: "FILE", help: "make a video of each line of FILE, into the folder --out" },
  frames: {
    type: "whole",
    value: "N",
    least: 1,
    most: 4096,
    help: "1 is a picture; 31 (or 46, 61, 76 and so on) puts frames between 16 key frames; default 16",
  },
  "key-frames": {
    type: "whole",
    value: "N",
    least: 2,
    most: 256,
    help: "frames that the decoder makes, more than 16 in overlapping parts; default 16",
  },
  fps: { ...FPS_OPTION, help: "frames a second of the key frames, interpolated ones come between; default 8" },
  loop: { type: "flag", help: "the last frame leads to the first: with interpolation 32, 48, 64 or 80 frames" },
  negative: { type: "text", value: "PROMPT", help: "what is not to be seen" },
  to: { type: "text", value: "PROMPT", help: "another prompt, mixed with the first" },
  mix: { type: "number", value: "X", least: 0, most: 1, help: "how much of --to there is; default 0.5" },
  travel: { type: "flag", help: "go from the prompt to --to in the course of the video" },
  image: { type: "text", value: "FILE", help: "start from a picture or a video instead of noise alone" },
  strength: { type: "number", value: "X", least: 0, most: 1, help: "how much of --image is made anew; default 0.6" },
  fit: FIT_OPTION,
  samples: {
    type: "whole",
    value: "N",
    least: 1,
    most: MOST_SAMPLES,
    help: "make N with this seed and the next, keep what looks most like the prompt; default 1",
  },
  grid: {
    type: "text",
    value: "AXIS",
    help: "videos side by side with the same noise: N seeds, or an option's values as guidance=1,2,4",
  },
  by: { type: "text", value: "AXIS", help: "with --grid: another option's values, from top to bottom" },
  candidates: {
    type: "whole",
    value: "N",
    least: 1,
    most: 64,
    help: "embeddings that the prior draws, of which the closest to the prompt is kept",
  },
  ...SAMPLING_OPTIONS,
  until: { type: "choice", choices: STAGES, help: "stop after this stage; prior writes its embedding as .safetensors" },
  ...MODEL_OPTIONS,
} as const satisfies Options;

/** The values of the options of `generate`. */
export type GenerateValues = OptionValues<typeof GENERATE_OPTIONS>;

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
      const alone = (["grid", "by"] as const).find((name) => values[name] !== undefined);
      if (alone !== undefined) throw new KinoraError("refused", `--prompts and --${alone} do not go together`);
      if (positionals.length > 0) throw new KinoraError("refused", "Give a prompt or --prompts FILE, not both");
      return await generateBatch(values.prompts, values, io);
    }
    const [given] = positionals;
    if (given === undefined) {
      throw new KinoraError("refused", 'The prompt is missing: kinora generate "a butterfly"');
    }
    const prompt = checkPrompt(given);
    if (values.grid !== undefined) return await generateGrid(prompt, values, io);
    if (values.by !== undefined) throw new KinoraError("refused", "--by needs --grid");
    const request = generateRequest(values);
    const out = values.out ?? `${slug(prompt)}${extension(request)}`;
    checkOut(out, request);
    using cascade = await openCascade(values);
    const report = await generateOne(cascade, { prompt, request, out }, io);
    io.out(values.json ? JSON.stringify(report) : `Wrote ${report.out}: ${described(report)}`);
    return 0;
  },
};

/** One video to be made. */
export interface GenerateTask extends VideoTarget {
  /** The prompt, checked. */
  readonly prompt: string;
  /** What is asked for. */
  readonly request: GenerateOptions;
}

/** What the options ask of the library. */
export function generateRequest(values: GenerateValues): GenerateOptions {
  return libraryOptions(values);
}

/** The ending of a name that was not given. */
export function extension(request: GenerateOptions): string {
  return request.until === "prior" ? ".safetensors" : request.frames === 1 ? ".png" : ".gif";
}

/**
 * Makes one video, or one embedding, and writes it.
 *
 * @param cascade The cascade.
 * @param task What to make.
 * @param io Where to write, and when to stop.
 * @throws {KinoraError} `refused`, `not-found` or `bad-file` when something is not accepted, before any work.
 */
export async function generateOne(cascade: Cascade, task: GenerateTask, io: CommandIo): Promise<VideoReport> {
  const { prompt, request, out } = task;
  using run = await PreparedGeneration.create(cascade, prompt, { ...request, signal: io.signal });
  checkRate(out, run.plan.outputFps);
  await checkWritable(out);
  const warnings = await cascade.warnings(prompt);
  for (const warning of warnings) io.note(`kinora: ${task.label === undefined ? "" : `${task.label}: `}${warning}`);
  const report = request.until === "prior"
    ? await keepingFrames(task, io, (work) => writeEmbedding(cascade, run, task, io, work.laps))
    : await makeVideo(run, task, io);
  return { ...report, warnings };
}

async function writeEmbedding(
  cascade: Cascade,
  run: PreparedGeneration,
  task: GenerateTask,
  io: CommandIo,
  laps: Laps,
): Promise<VideoReport> {
  const { prompt, request, out } = task;
  await run.load();
  laps.end("load");
  using embedding = await cascade.embed(prompt, { ...request, signal: io.signal });
  laps.end("prior");
  const none = { frames: 0, width: 0, height: 0, fps: 0 };
  const parts = { task: taskManifest("generate", request), prompt, seed: request.seed ?? 0, ...none };
  await saveTensors({ image_embedding: embedding }, out, { metadata: { prompt } });
  const manifest = `${out}.json`;
  await writeTextWhole(manifest, `${JSON.stringify(await cascade.manifest(run.plan, "prior", parts), undefined, 2)}\n`);
  laps.end("save");
  return { out, ...none, seconds: laps.seconds, manifest };
}

/** Checks the ending of a file name. */
function checkOut(out: string, request: GenerateOptions): void {
  if (request.until !== "prior") return checkVideoPath(out);
  if (!out.toLowerCase().endsWith(".safetensors")) {
    throw new KinoraError("refused", `Cannot write "${out}": with --until prior the name must end with .safetensors`);
  }
}
