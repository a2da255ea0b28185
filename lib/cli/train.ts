/**
 * `kinora train`: trains the stages of a recipe.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { readRecipe } from "../training/recipe.ts";
import type { StageReport } from "../training/run_stage.ts";
import { TRAINED_STAGES } from "../training/stage_training.ts";
import { trainRecipe } from "../training/train_recipe.ts";
import type { Command } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";
import { progressLine } from "./progress.ts";
import { MODEL_OPTIONS } from "./video_options.ts";

const OPTIONS = {
  stage: { type: "text", value: "NAMES", help: "train only these stages, with commas between; default all, in order" },
  minutes: {
    type: "number",
    value: "N",
    least: 0.01,
    most: 1_000_000,
    help: "minutes of training a stage, in place of the recipe's",
  },
  data: { type: "text", value: "DIR", help: "the data set; default data/fluent-emoji" },
  run: { type: "text", value: "DIR", help: "where checkpoints and logs go; default runs/ and the recipe's name" },
  model: { type: "text", value: "DIR", help: "where finished weights go; default models/ and the recipe's name" },
  workers: { type: "whole", value: "N", least: 1, most: 256, help: "threads that share a batch; default all cores" },
  device: MODEL_OPTIONS.device,
  seed: { type: "whole", value: "N", least: 0, most: Number.MAX_SAFE_INTEGER, help: "another seed; default 0" },
  precision: {
    type: "choice",
    choices: ["f32", "bf16"],
    help: "default bf16 on a GPU and where the machine makes it fast",
  },
  continue: { type: "flag", help: "ignore checkpoints and start from the model's weights, with a new budget" },
  restart: { type: "flag", help: "ignore checkpoints and start over" },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "train",
  summary: "train a stage by a recipe",
  help: helpText({
    usage: "train RECIPE [OPTION]...",
    about:
      "Trains the stages of a recipe: a JSON file, or the name of one in recipes/, such as default. A stage that was\n" +
      "interrupted goes on from its checkpoint; one whose budget is spent is left as it is, and goes on with more\n" +
      "--minutes. When a stage ends or is interrupted, its averaged weights go into the model.",
    options: OPTIONS,
    notes: `Stages: ${TRAINED_STAGES.join(", ")}.`,
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("train", OPTIONS, args, { positionals: 1, called: "recipe" });
    const [given] = positionals;
    if (given === undefined) throw new KinoraError("refused", "The recipe is missing: kinora train default");
    if (values.continue && values.restart) throw new KinoraError("refused", "Give --continue or --restart, not both");
    const stages = values.stage?.split(",").map((name) => {
      const stage = TRAINED_STAGES.find((stage) => stage === name.trim());
      if (stage !== undefined) return stage;
      throw new KinoraError("refused", `--stage must be of ${TRAINED_STAGES.join(", ")}, not "${name}"`);
    });
    const recipe = await readRecipe(recipePath(given));
    const line = progressLine();
    const reports: StageReport[] = [];
    const print = (): void => {
      if (values.json) io.out(JSON.stringify({ recipe: recipe.name, stages: reports }));
    };
    try {
      await trainRecipe(recipe, {
        data: values.data ?? "data/fluent-emoji",
        model: values.model ?? `models/${recipe.name}`,
        run: values.run ?? `runs/${recipe.name}`,
        stages,
        minutes: values.minutes,
        seed: values.seed,
        precision: values.precision,
        workers: values.workers,
        device: values.device,
        start: values.continue ? "continue" : values.restart ? "restart" : "resume",
        signal: io.signal,
        onProgress: ({ stage, step, progress, loss }) => {
          const note = `${(100 * progress).toFixed(1)}%, loss ${loss.toPrecision(4)}`;
          // The total as it looks now: of a budget in minutes it is only known in the end.
          line.show({ stage, step, total: Math.max(step, Math.round(step / progress)), note });
        },
        onNote: (note) => {
          line.clear();
          io.note(`kinora: ${note}; --restart takes the recipe's`);
        },
        onStage: (report) => {
          line.clear();
          reports.push(report);
          if (!values.json) io.out(described(report));
        },
      });
    } catch (error) {
      // What was interrupted is written, and said.
      if (io.signal.aborted) print();
      throw error;
    } finally {
      line.clear();
    }
    print();
    return 0;
  },
};

/** A file, or the name of a recipe that comes with this package. */
function recipePath(given: string): string {
  if (given.endsWith(".json") || given.includes("/")) return given;
  return fileURLToPath(new URL(`../../recipes/${given}.json`, import.meta.url));
}

function described({ stage, steps, seconds, finished, measures }: StageReport): string {
  const numbers = Object.entries(measures).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  const done = finished ? "" : ", interrupted";
  return [`${stage}: ${steps} steps, ${(seconds / 60).toFixed(1)} min${done}`, ...numbers].join(", ");
}
