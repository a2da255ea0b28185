/**
 * `kinora generate --prompts FILE --out FOLDER`: a video a line, with the model loaded once.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { checkPrompt } from "../cascade/text.ts";
import { fileSha256 } from "../cascade/model_files.ts";
import { writeTextWhole } from "../video.ts";
import type { CommandIo } from "./command.ts";
import { extension, generateOne, generateRequest, type GenerateTask, type GenerateValues } from "./generate.ts";
import { checkRate, type VideoReport } from "./make_video.ts";
import { checkFolderWritable, checkWritable } from "./output_path.ts";
import { openCascade } from "./video_options.ts";

/** The file in the folder that says what its videos are made from, so that a later run does not mix two batches. */
const BATCH_FILE = "batch.json";

/** What a folder of a batch is made from. */
interface Batch {
  readonly format: "kinora-batch-1";
  readonly prompts: string;
  readonly seed: number;
  readonly request: ReturnType<typeof generateRequest>;
  readonly model: string;
}

/**
 * Makes the videos of a file of prompts that are not there yet.
 *
 * @param file The prompts, one a line; empty lines are left out.
 * @param values The options.
 * @param io Where to write, and when to stop.
 * @throws {KinoraError} `refused` when a prompt is not accepted (before any work), or the folder holds another batch.
 */
export async function generateBatch(file: string, values: GenerateValues, io: CommandIo): Promise<number> {
  if (values.out === undefined) throw new KinoraError("refused", "--prompts needs --out FOLDER");
  const folder = values.out.replace(/(?<=.)\/+$/, "");
  const prompts = await readPrompts(file);
  const request = generateRequest(values);
  using cascade = await openCascade(values);
  checkRate(extension(request), cascade.plan(request).outputFps);
  const seed = values.seed ?? 0;
  await openFolder(folder, {
    format: "kinora-batch-1",
    prompts: await fileSha256(file),
    seed,
    request,
    model: cascade.index.name,
  });
  const digits = Math.max(4, String(prompts.length - 1).length);
  const results: Pick<VideoReport, "out">[] = [];
  let made = 0;
  for (const [index, prompt] of prompts.entries()) {
    const out = `${folder}/${String(index).padStart(digits, "0")}${extension(request)}`;
    // The manifest is written last, so it says that the video is whole.
    if (await exists(`${out}.json`) && await exists(out)) {
      results.push({ out });
      continue;
    }
    io.signal.throwIfAborted();
    const task: GenerateTask = { prompt, request, out, label: `${index + 1}/${prompts.length}` };
    const report = await generateOne(cascade, task, io);
    made++;
    results.push(report);
    if (!values.json) io.out(`Wrote ${out}: "${prompt}"`);
  }
  if (values.json) io.out(JSON.stringify({ out: folder, made, results }));
  else if (made < prompts.length) io.out(`${prompts.length - made} of ${prompts.length} were there already`);
  return 0;
}

async function readPrompts(file: string): Promise<string[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(file);
  } catch (cause) {
    throw new KinoraError("not-found", `Cannot read the prompts "${file}": ${(cause as Error).message}`, { cause });
  }
  const prompts: string[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    try {
      prompts.push(checkPrompt(line));
    } catch (cause) {
      throw new KinoraError("refused", `Line ${index + 1} of "${file}": ${(cause as Error).message}`, { cause });
    }
  }
  if (prompts.length === 0) throw new KinoraError("refused", `There is no prompt in "${file}"`);
  return prompts;
}

/** Makes the folder, or checks that it holds the same batch. */
async function openFolder(folder: string, batch: Batch): Promise<void> {
  const path = `${folder}/${BATCH_FILE}`;
  const text = `${JSON.stringify(batch, undefined, 2)}\n`;
  if (await exists(folder)) {
    const before = await Deno.readTextFile(path).catch(() => undefined);
    if (before !== undefined && before !== text) {
      throw new KinoraError(
        "refused",
        `"${folder}" holds videos of other prompts or options (see ${BATCH_FILE}); choose another folder`,
      );
    }
    await checkFolderWritable(folder);
  } else {
    await checkWritable(`${folder}/`);
    await Deno.mkdir(folder);
  }
  await writeTextWhole(path, text);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
