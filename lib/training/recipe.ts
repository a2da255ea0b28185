/**
 * A recipe: a JSON file that says which stages of a model are trained, in which order, on what, and for how long.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { LearningRateScale, MuonSettings } from "../../ffi/trainer.ts";
import { JsonFields } from "../cascade/json_fields.ts";
import { parseModelIndex } from "../cascade/model_index.ts";
import type { LearningRate } from "./learning_rate.ts";
import { STAGE_READERS } from "./stages.ts";
import { type StageStarter, TRAINED_STAGES, type TrainedStage } from "./stage_training.ts";

/** How long a stage is trained. */
export type Budget = { readonly minutes: number } | { readonly steps: number };

/** How the weights are changed, and for how long. */
export interface TrainingSettings {
  /** Samples of a batch; of several numbers each holds for an equal part of the run. */
  readonly batch: readonly number[];
  /** The learning rate. */
  readonly learningRate: LearningRate;
  /** Decays of AdamW's two means. */
  readonly betas: readonly [number, number];
  /** How much weights shrink, times the learning rate. */
  readonly weightDecay: number;
  /** What moves matrices in AdamW's place, where the recipe's `optimizer` is `muon`. */
  readonly muon: MuonSettings | undefined;
  /** The greatest length of the gradient. */
  readonly clip: number;
  /** Decay of the averaged weights. */
  readonly emaDecay: number;
  /** Weights that learn at another rate: the last entry whose text is in a weight's name holds. */
  readonly rates: readonly LearningRateScale[];
  /** If there: only weights whose names contain one of these texts are trained. */
  readonly trained: readonly string[] | undefined;
  /** How long. */
  readonly budget: Budget;
  /** Steps from one line of the log to the next. */
  readonly logSteps: number;
  /** Minutes of training from one evaluation to the next; there is always one at the end. */
  readonly evaluationMinutes: number;
}

/** The tokenizer's part of a recipe. */
export interface TokenizerRecipe {
  /** Says which stage this is. */
  readonly stage: "tokenizer";
  /** Tokens it knows at most. */
  readonly vocabulary: number;
}

/** The part of a recipe for a stage with networks. */
export interface NetworkRecipe {
  /** Says which stage this is. */
  readonly stage: Exclude<TrainedStage, "tokenizer">;
  /** How weights are changed. */
  readonly training: TrainingSettings;
  /** Starts it with its own settings. */
  readonly start: StageStarter;
}

/** The part of a recipe for one stage. */
export type StageRecipe = TokenizerRecipe | NetworkRecipe;

/** A recipe, checked. */
export interface Recipe {
  /** Its name: that of the file without its ending. */
  readonly name: string;
  /** The contents of `model_index.json`, with the settings of all stages. */
  readonly model: Readonly<Record<string, unknown>>;
  /** The stages, in order. */
  readonly stages: readonly StageRecipe[];
}

/**
 * Reads and checks a recipe.
 *
 * @param path The file.
 * @throws {KinoraError} `not-found` when there is none, `bad-file` when a field is missing, unknown or wrong.
 */
export async function readRecipe(path: string): Promise<Recipe> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
      throw new KinoraError("not-found", `There is no recipe "${path}"`, { cause });
    }
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("bad-file", `"${path}" is not JSON: ${(cause as Error).message}`, { cause });
  }
  return parseRecipe(json, path);
}

/**
 * Checks the contents of a recipe.
 *
 * @param json The parsed file.
 * @param path Its path, for messages and the name.
 * @throws {KinoraError} `bad-file` when a field is missing, unknown or wrong.
 */
export function parseRecipe(json: unknown, path: string): Recipe {
  const file = new JsonFields(json, path);
  const model = file.object("model") ?? file.refuse("model", "must hold the contents of model_index.json", undefined);
  parseModelIndex(model, `${path} model`);
  const stages = file.objects("stages").map(stageRecipe);
  file.end();
  if (stages.length === 0) file.refuse("stages", "must have at least one stage", []);
  const twice = stages.find(({ stage }, index) => stages.findIndex((other) => other.stage === stage) !== index);
  if (twice !== undefined) {
    file.refuse("stages", `must have each stage once; ${twice.stage} is there twice`, twice.stage);
  }
  const name = path.slice(path.lastIndexOf("/") + 1).replace(/\.json$/, "");
  return { name, model, stages };
}

function stageRecipe(f: JsonFields): StageRecipe {
  const stage = f.choice("stage", TRAINED_STAGES);
  if (stage === "tokenizer") {
    const vocabulary = f.whole("vocabulary", 128, 65_536);
    f.end();
    return { stage, vocabulary };
  }
  const recipe = { stage, training: trainingSettings(f), start: STAGE_READERS[stage](f) };
  f.end();
  return recipe;
}

/** Momentum as published; tables, first and last layers are left to AdamW, as published, by their names here. */
const MUON: MuonSettings = { momentum: 0.95, except: ["embedding", "conv_in", "conv_out"] };

function trainingSettings(f: JsonFields): TrainingSettings {
  const batch = f.wholeList("batch") ?? [f.whole("batch", 1, 65_536)];
  if (f.has("minutes") === f.has("steps")) f.refuse("minutes", "or steps must be there, not both", undefined);
  const betas = f.nested("betas", true);
  const settings: TrainingSettings = {
    batch,
    learningRate: {
      rate: f.number("learning_rate", 1e-8, 1),
      warmupSteps: f.whole("warmup_steps", 0, 1_000_000, 100),
      hold: f.number("hold", 0, 1, 0),
      floor: f.number("floor", 0, 1, 0.02),
    },
    betas: [betas.number("first", 0, 0.9999, 0.9), betas.number("second", 0, 0.99999, 0.98)],
    weightDecay: f.number("weight_decay", 0, 10, 0.01),
    muon: f.choice("optimizer", ["adamw", "muon"], "adamw") === "muon" ? MUON : undefined,
    clip: f.number("clip", 1e-6, 1e6, 1),
    emaDecay: f.number("ema_decay", 0, 0.99999, 0.999),
    rates: f.objects("rates", true).map((rate) => {
      const scale = { namesWith: rate.text("names_with"), scale: rate.number("scale", 0, 1000) };
      rate.end();
      return scale;
    }),
    trained: f.has("trained") ? f.texts("trained") : undefined,
    budget: f.has("minutes")
      ? { minutes: f.number("minutes", 0.001, 1_000_000) }
      : { steps: f.whole("steps", 1, 1_000_000_000) },
    logSteps: f.whole("log_steps", 1, 1_000_000, 10),
    evaluationMinutes: f.number("evaluation_minutes", 0.01, 1_000_000, 4),
  };
  betas.end();
  return settings;
}
