/**
 * Trains the stages of a recipe, one after the other.
 *
 * @module
 */
import type { ModelStages } from "../cascade/model_index.ts";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import type { Precision } from "../../ffi/network.ts";
import { exists, ModelFolder } from "./model_folder.ts";
import type { NetworkRecipe, Recipe, StageRecipe } from "./recipe.ts";
import { runStage, type StageReport, type StageRunOptions } from "./run_stage.ts";
import { trainTokenizer } from "./stages/tokenizer.ts";
import type { TrainedStage } from "./stage_training.ts";
import { TrainingData } from "./training_data.ts";

/** How a recipe is trained. */
export interface TrainRecipeOptions
  extends Pick<StageRunOptions, "device" | "workers" | "start" | "onProgress" | "signal"> {
  /** The data set's folder. */
  readonly data: string;
  /** The model's folder; it is made where it is not there. */
  readonly model: string;
  /** The folder for checkpoints and logs; it is made where it is not there. */
  readonly run: string;
  /** Which stages; by default all. */
  readonly stages?: readonly TrainedStage[] | undefined;
  /** Minutes of training of each stage, in place of what the recipe says. */
  readonly minutes?: number | undefined;
  /**
   * Decides every random number, 0 to 2^53 - 1.
   *
   * @default {0}
   */
  readonly seed?: number | undefined;
  /** The arithmetic; by default `bf16` on a GPU and where the machine makes it fast, else `f32`. */
  readonly precision?: Precision | undefined;
  /** Called with a sentence that should be known before a stage is trained: which settings of the model hold. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Called when a stage is done. */
  readonly onStage?: ((report: StageReport) => void) | undefined;
}

/**
 * Trains the stages of a recipe, one after the other. Stages whose budget is spent are left as they are.
 *
 * @param recipe The recipe.
 * @param options Where, and how.
 * @returns What each stage came to.
 * @throws {KinoraError} `refused` when the recipe does not have a stage that is asked for, and as `runStage`.
 */
export async function trainRecipe(recipe: Recipe, options: TrainRecipeOptions): Promise<StageReport[]> {
  const stages = chosen(recipe, options);
  using data = await TrainingData.open(options.data);
  const anew = options.start === "restart" ? stages.flatMap(({ stage }) => PARTS[stage]) : [];
  const model = await ModelFolder.open(options.model, recipe.model, anew);
  const fast = options.device === "cuda" || (await libraryInfo()).fastBf16;
  const precision = options.precision ?? (fast ? "bf16" : "f32");
  for (const folder of [options.model, options.run]) await makeFolder(folder);
  const { run, seed = 0, device, workers, start, onProgress, signal } = options;
  const reports: StageReport[] = [];
  for (const stage of stages) {
    signal?.throwIfAborted();
    for (const part of PARTS[stage.stage]) {
      const differences = model.differences(part);
      if (differences.length === 0) continue;
      options.onNote?.(
        `${stage.stage} keeps settings that the weights in "${options.model}" were trained with: ${
          differences.join(", ")
        }`,
      );
    }
    const report = stage.stage === "tokenizer"
      ? await tokenizerStage(stage, data, model, start === "restart")
      : await runStage(stage, { data, model, run, seed, precision, device, workers, start, onProgress, signal });
    reports.push(report);
    options.onStage?.(report);
  }
  signal?.throwIfAborted();
  return reports;
}

/** The parts of a model whose settings decide how a stage is trained. */
const PARTS: Readonly<Record<StageRecipe["stage"], readonly (keyof ModelStages)[]>> = {
  "tokenizer": [],
  "text-pair": ["text", "image"],
  "text-tuning": ["text"],
  "prior": ["prior"],
  "decoder-image": ["decoder"],
  "decoder-video": ["decoder"],
  "interpolation": ["interpolation"],
  "sr-low-image": ["sr-low"],
  "sr-low": ["sr-low"],
  "sr-high": ["sr-high"],
};

function chosen(recipe: Recipe, options: TrainRecipeOptions): StageRecipe[] {
  const names = recipe.stages.map(({ stage }) => stage);
  const unknown = options.stages?.find((stage) => !names.includes(stage));
  if (unknown !== undefined) {
    throw new KinoraError("refused", `The recipe "${recipe.name}" has no stage ${unknown}; it has ${names.join(", ")}`);
  }
  const { minutes } = options;
  return recipe.stages.filter(({ stage }) => options.stages?.includes(stage) ?? true).map((stage) =>
    stage.stage === "tokenizer" || minutes === undefined ? stage : withMinutes(stage, minutes)
  );
}

function withMinutes(stage: NetworkRecipe, minutes: number): NetworkRecipe {
  return { ...stage, training: { ...stage.training, budget: { minutes } } };
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new KinoraError("io", `Cannot make the folder "${folder}": ${(cause as Error).message}`, { cause });
  }
}

/** Another tokenizer would make all that was trained on this one worthless, so one that is there stays. */
async function tokenizerStage(
  recipe: Extract<StageRecipe, { stage: "tokenizer" }>,
  data: TrainingData,
  model: ModelFolder,
  restart: boolean,
): Promise<StageReport> {
  const from = performance.now();
  const measures: Record<string, number> = {};
  if (restart || !await exists(model.tokenizer)) measures["vocabulary"] = await trainTokenizer(data, model, recipe);
  const seconds = (performance.now() - from) / 1000;
  return { stage: "tokenizer", steps: 1, seconds, cpu_seconds: seconds, finished: true, measures };
}
