/**
 * `kinora evaluate`: measures a model against the data it was trained on.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { readModelIndex } from "../cascade/model_index.ts";
import { evaluateModel, MEASURE_NAMES, type MeasureName } from "../evaluation/evaluate.ts";
import { calibrateWarnings } from "../evaluation/prompt_warnings.ts";
import { barText, type Figure } from "../evaluation/figure.ts";
import { loadCascade } from "../load_cascade.ts";
import { TrainingData } from "../training/training_data.ts";
import type { Command } from "./command.ts";
import { helpText, nearest, type Options, parseOptions } from "./options.ts";
import { progressLine } from "./progress.ts";

const OPTIONS = {
  data: { type: "text", value: "DIR", help: "the data set; default data/fluent-emoji" },
  model: { type: "text", value: "DIR", help: "folder of the model; default models/ and its name" },
  only: { type: "text", value: "NAMES", help: "only these measures, with commas between" },
  concepts: {
    type: "whole",
    value: "N",
    least: 1,
    most: 1_000_000,
    help: "concepts, clips or texts of each measure; default 64",
  },
  seed: { type: "whole", value: "N", least: 0, most: 1_000_000_000, help: "the first seed; default 0" },
  calibrate: { type: "flag", help: "first store in the model which words it has seen, and when prompts are warned of" },
  precision: { type: "choice", choices: ["f32", "bf16"], help: "default bf16 where the machine makes it fast" },
  json: { type: "flag", help: "print one JSON object, with the protocol of every figure" },
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "evaluate",
  summary: "measure a model against the data it was trained on",
  help: helpText({
    usage: "evaluate NAME [OPTION]...",
    about:
      "Measures a model: whether the whole chain from text shows what was asked for and moves as the real clips do, and\n" +
      "what each stage is worth alone. NAME is the folder's name in models/, such as default. Every figure stands beside\n" +
      "the goal it is to reach, where there is one; goals are this project's own, and missing one is no failure.",
    options: OPTIONS,
    notes: `Measures: ${MEASURE_NAMES.join(", ")}.\n` +
      "A concept takes 3 to 4 videos of retrieval and motion: 64 concepts about ten minutes on two cores.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("evaluate", OPTIONS, args, { positionals: 1, called: "model" });
    const [name] = positionals;
    if (name === undefined) throw new KinoraError("refused", "The model is missing: kinora evaluate default");
    const only = values.only?.split(",").map((name) => measureName(name.trim()));
    using data = await TrainingData.open(values.data ?? "data/fluent-emoji");
    const model = values.model ?? modelFolder(name);
    const { precision = "auto" } = values;
    if (values.calibrate) {
      const { threshold, file } = await calibrateWarnings(await readModelIndex(model), data);
      io.note(`kinora: wrote ${model}/${file}; prompts are warned of from a share of ${threshold} unknown letters on`);
    }
    using cascade = await loadCascade({ model, precision });
    const line = progressLine();
    const from = performance.now();
    try {
      const evaluation = await evaluateModel(cascade, data, {
        only,
        seed: values.seed,
        concepts: values.concepts,
        signal: io.signal,
        onProgress: ({ measure, step, total }) => line.show({ stage: measure, step, total }),
        onFigures: (figures) => {
          line.clear();
          if (!values.json) { for (const row of figures.map(described)) io.out(row); }
        },
      });
      const seconds = Math.round(performance.now() - from) / 1000;
      if (values.json) io.out(JSON.stringify({ ...evaluation, seconds }));
      else for (const row of summary(evaluation.figures)) io.out(row);
    } finally {
      line.clear();
    }
    return 0;
  },
};

function measureName(given: string): MeasureName {
  const name = MEASURE_NAMES.find((name) => name === given);
  if (name !== undefined) return name;
  const meant = nearest(given, MEASURE_NAMES);
  const hint = meant === undefined ? `there are ${MEASURE_NAMES.join(", ")}` : `did you mean ${meant}?`;
  throw new KinoraError("refused", `There is no measure "${given.slice(0, 60)}"; ${hint}`);
}

/** A model that comes with this package, or a folder. */
function modelFolder(name: string): string {
  if (name.includes("/")) return name;
  return fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
}

/** One line for a figure: name, number, how many were measured, goal. */
function described({ name, value, unit, bar, met, protocol }: Figure): string {
  const digits = unit === "dB" ? 2 : unit === "colour" ? 4 : 3;
  const number = value === null ? "none" : `${value.toFixed(digits)}${unit === "dB" ? " dB" : ""}`;
  const goal = bar === undefined ? "" : `  goal ${barText(bar)}: ${met ? "met" : "not met"}`;
  return `${name.padEnd(36)} ${number.padStart(9)}  of ${protocol.count}${goal}`;
}

/** How many goals are met, where there are any. */
function summary(figures: readonly Figure[]): string[] {
  const goals = figures.filter(({ bar }) => bar !== undefined);
  return goals.length === 0 ? [] : [`${goals.filter(({ met }) => met).length} of ${goals.length} goals met`];
}
