/**
 * `kinora ablate`: measures what the paper never ablated.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { ablate, ABLATION_GROUPS } from "../evaluation/ablations/ablate.ts";
import type { AblationRow } from "../evaluation/ablations/ablation.ts";
import { AblationFile } from "../evaluation/ablations/ablation_file.ts";
import { loadCascade } from "../load_cascade.ts";
import { TrainingData } from "../training/training_data.ts";
import type { Command } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";
import { progressLine } from "./progress.ts";

const OPTIONS = {
  only: { type: "text", value: "NAMES", help: "only these ablations, with commas between" },
  arm: { type: "text", value: "NAME", help: "only this arm of them" },
  out: { type: "text", value: "FILE", help: "the rows, and beside it pictures; default docs/ablations.json" },
  again: { type: "flag", help: "measure anew what the file has already" },
  steps: { type: "whole", value: "N", least: 1, most: 1_000_000, help: "steps of each short training; default 40" },
  batch: { type: "whole", value: "N", least: 1, most: 256, help: "clips of each of its batches; default 4" },
  samples: { type: "whole", value: "N", least: 1, most: 64, help: "prompts or clips of each arm; default 4" },
  data: { type: "text", value: "DIR", help: "the data set; default data/fluent-emoji" },
  model: { type: "text", value: "DIR", help: "folder of another model" },
  recipe: { type: "text", value: "FILE", help: "what short trainings follow; default recipes/default.json" },
  run: { type: "text", value: "DIR", help: "where checkpoints go; default runs/ablations" },
  precision: { type: "choice", choices: ["f32", "bf16"], help: "default bf16 where the machine makes it fast" },
  json: { type: "flag", help: "print one JSON object with all rows" },
} as const satisfies Options;

/** The verb. */
export const command: Command = {
  name: "ablate",
  summary: "measure what each choice of the model is worth",
  help: helpText({
    usage: "ablate [OPTION]...",
    about:
      "Measures a model with one thing changed at a time, row by row: samplers, guidance, noise, frame skip, temporal\n" +
      "layers. Each row is written as soon as it is measured, with all that decided it; what the file has already of the\n" +
      "same weights, data and settings is not measured again, so an interrupted run goes on where it was.",
    options: OPTIONS,
    notes: `Ablations: ${ABLATION_GROUPS.map(({ name }) => name).join(", ")}.`,
  }),
  async run(args, io): Promise<number> {
    const { values } = parseOptions("ablate", OPTIONS, args, { positionals: 0, called: "argument" });
    const groups = values.only?.split(",").map((name) => name.trim());
    const file = await AblationFile.open(values.out ?? "docs/ablations.json");
    const chosen = ABLATION_GROUPS.filter(({ name }) => groups?.includes(name) ?? true);
    using data = chosen.some(({ needsData }) => needsData)
      ? await TrainingData.open(values.data ?? "data/fluent-emoji")
      : undefined;
    const recipe = await recipeJson(values.recipe);
    const { precision = "auto", model } = values;
    using cascade = await loadCascade({ precision, ...model === undefined ? {} : { model } });
    const line = progressLine();
    try {
      const rows = await ablate(cascade, {
        data,
        recipe,
        groups,
        arms: values.arm === undefined ? undefined : [values.arm],
        known: values.again ? [] : file.rows,
        run: values.run,
        trainingSteps: values.steps,
        batch: values.batch,
        samples: values.samples,
        signal: io.signal,
        onProgress: ({ group, arm, step, total }) => line.show({ stage: `${group}, ${arm}`, step, total }),
        async onRow(row, frames): Promise<void> {
          await file.add(row, frames);
          line.clear();
          if (!values.json) io.out(described(row));
        },
      });
      line.clear();
      if (values.json) io.out(JSON.stringify({ file: file.path, rows }));
      else io.out(`${rows.length} rows in ${file.path}`);
    } finally {
      line.clear();
    }
    return 0;
  },
};

async function recipeJson(given: string | undefined): Promise<Record<string, unknown>> {
  const path = given ?? fileURLToPath(new URL("../../recipes/default.json", import.meta.url));
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new KinoraError("not-found", `There is no recipe "${path}"`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("bad-file", `"${path}" is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** One line for a row. */
function described({ group, arm, figures, seconds }: AblationRow): string {
  const numbers = Object.entries(figures).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  return `${group}, ${arm}: ${numbers.join(", ")} (${Math.round(seconds)} s)`;
}
