// deno-lint-ignore-file no-console
/**
 * Which sampler comes nearest at equal steps: the model's decoder draws pictures from the embeddings of stills by every
 * sampler, from the same noise, and they are compared with the stills.
 *
 *     deno run -A bench/quality/samplers.ts --out docs/samplers.md
 *
 * @module
 */
import type { DiffusionSettings } from "../../lib/cascade/model_index.ts";
import { helpText, parseOptions } from "../../lib/cli/options.ts";
import { progressLine } from "../../lib/cli/progress.ts";
import type { SamplerConfig } from "../../lib/diffusion/sampler.ts";
import { Bench, seedsFrom } from "../../lib/evaluation/measure.ts";
import { loadCascade } from "../../lib/load_cascade.ts";
import { rmsDifference } from "../../lib/training/measures.ts";
import { spread, TrainingData } from "../../lib/training/training_data.ts";
import { writeTextWhole } from "../../lib/video.ts";
import { thisMachine } from "../machine.ts";

/** What is compared; the first is what the others are held against. */
export const SAMPLERS: Readonly<Record<string, SamplerConfig>> = {
  "DDIM": { type: "ddim", eta: 0 },
  "DDPM": { type: "ddpm" },
  "DPM-Solver++ 2M": { type: "dpmsolver++" },
  "DPM-Solver++ 3M": { type: "dpmsolver++", order: 3 },
  "SDE-DPM-Solver++ 2M": { type: "dpmsolver++", stochastic: true },
};

/** What one sampler made with one number of steps. */
export interface SamplerResult {
  /** The name in {@linkcode SAMPLERS}. */
  readonly sampler: string;
  /** Steps. */
  readonly steps: number;
  /** For each concept, the root mean square difference to its still, of colours in [0, 1]. */
  readonly distances: readonly number[];
  /** For each concept, the cosine of the picture's embedding and the one it was drawn from. */
  readonly cosines: readonly number[];
  /** Seconds a picture. */
  readonly seconds: number;
}

/** A mean and its standard error. */
export interface Mean {
  /** The mean. */
  readonly mean: number;
  /** Its standard error; 0 of a single value. */
  readonly error: number;
}

/** The mean of some values. */
export function meanOf(values: readonly number[]): Mean {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1) / values.length) };
}

/** Pictures that are drawn at once. */
const BATCH = 8;

/**
 * Draws with every sampler.
 *
 * @param bench The model and its data.
 * @param options How many concepts, the first one's seed (each has its own), the numbers of steps.
 * @param onRow Called after each sampler and number of steps.
 */
export async function measureSamplers(
  bench: Bench,
  options: { readonly concepts: number; readonly seed: number; readonly steps: readonly number[] },
  onRow: (done: number, total: number) => void = () => {},
): Promise<SamplerResult[]> {
  const { cascade, data } = bench;
  const decoder = await cascade.stage("decoder");
  const images = await bench.images();
  const concepts = spread([...data.concepts.keys()], options.concepts);
  const results: SamplerResult[] = [];
  const runs = options.steps.flatMap((steps) => Object.keys(SAMPLERS).map((sampler) => ({ steps, sampler })));
  for (const { steps, sampler } of runs) {
    const [distances, cosines]: [number[], number[]] = [[], []];
    let seconds = 0;
    for (let first = 0; first < concepts.length; first += BATCH) {
      const some = concepts.slice(first, first + BATCH);
      using wanted = await images.bank.gather(0, some);
      using truth = await data.rows("stills64", some.map((concept) => data.concepts[concept]?.still ?? 0));
      const since = performance.now();
      const seeds = seedsFrom(options.seed + first, some.length);
      using drawn = await decoder.sample(wanted, { seeds, frames: 1, steps, sampler: SAMPLERS[sampler] });
      seconds += (performance.now() - since) / 1000;
      using pictures = await drawn.reshape(truth.shape);
      using embeddings = await images.encode(pictures);
      const [got, asked] = [await embeddings.read(), await wanted.read()];
      const length = got.length / some.length;
      for (const index of some.keys()) {
        using one = await pictures.gather(0, [index]);
        using other = await truth.gather(0, [index]);
        distances.push(await rmsDifference(one, other) / 2);
        const row = got.subarray(index * length, (index + 1) * length);
        cosines.push(row.reduce((sum, value, at) => sum + value * (asked[index * length + at] ?? 0), 0));
      }
    }
    results.push({ sampler, steps, distances, cosines, seconds: seconds / concepts.length });
    onRow(results.length, runs.length);
  }
  return results;
}

/** How much less a sampler differs than the first one does with as many steps, picture by picture. */
export function gain(
  results: readonly SamplerResult[],
  { sampler, steps, distances }: SamplerResult,
): Mean | undefined {
  const first = results.find((other) => other.steps === steps);
  if (first === undefined || first.sampler === sampler) return undefined;
  return meanOf(distances.map((distance, at) => (first.distances[at] ?? 0) - distance));
}

/** What the results say, in a sentence each. */
export function verdicts(results: readonly SamplerResult[]): string[] {
  const [first, ...others] = [...new Set(results.map(({ sampler }) => sampler))];
  return others.map((sampler) => {
    const own = results.filter((result) => result.sampler === sampler);
    const clear = (sign: number): number[] =>
      own.filter((result) => {
        const by = gain(results, result);
        return by !== undefined && sign * by.mean > 2 * by.error;
      }).map(({ steps }) => steps);
    const [nearer, farther] = [clear(1), clear(-1)];
    const parts = [
      ...nearer.length > 0 ? [`nearer than ${first} at ${nearer.join(", ")} steps`] : [],
      ...farther.length > 0 ? [`farther at ${farther.join(", ")}`] : [],
    ];
    return `${sampler} is ${parts.length > 0 ? parts.join(" and ") : `no different from ${first} beyond noise`}.`;
  });
}

/** What the page says of how it was made. */
export interface SamplerProtocol {
  /** Model, decoder's weights, settings, machine: each with its value. */
  readonly facts: Readonly<Record<string, string>>;
  /** How many concepts. */
  readonly concepts: number;
}

/** The page. */
export function samplersPage(results: readonly SamplerResult[], { facts, concepts }: SamplerProtocol): string {
  const signed = ({ mean, error }: Mean): string =>
    `${mean < 0 ? "−" : "+"}${Math.abs(mean).toFixed(4)} ± ${error.toFixed(4)}`;
  const rows = results.map((result) => {
    const [distance, cosine, by] = [meanOf(result.distances), meanOf(result.cosines), gain(results, result)];
    return [
      `${result.steps}`,
      result.sampler,
      `${distance.mean.toFixed(4)} ± ${distance.error.toFixed(4)}`,
      by === undefined ? "" : signed(by),
      cosine.mean.toFixed(3),
      result.seconds.toFixed(2),
    ];
  });
  const head = ["steps", "sampler", "RMSE to the still", "nearer by", "cosine", "s a picture"];
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((text, column) => text.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return `# Samplers at equal steps

Single frames of the decoder from the embeddings of ${concepts} stills of the training data, from the same noise for every
sampler and number of steps. RMSE is the root mean square difference of colours in [0, 1] to the still; "nearer by" is how
much smaller it is than DDIM's with as many steps, picture by picture; cosine is that of the picture's own embedding and the
one it was drawn from. ± is one standard error. A difference counts where it is more than two.

${verdicts(results).map((text) => `- ${text}`).join("\n")}

${[head, widths.map((width) => "-".repeat(width)), ...rows].map(line).join("\n")}

${Object.entries(facts).map(([name, value]) => `- ${name}: ${value}`).join("\n")}
`;
}

const OPTIONS = {
  out: { type: "text", value: "FILE", help: "write the page to this file instead of stdout" },
  data: { type: "text", value: "DIR", help: "the data set; default data/fluent-emoji" },
  model: { type: "text", value: "DIR", help: "folder of the model; default models/default" },
  concepts: { type: "whole", value: "N", least: 2, most: 100_000, help: "pictures of each; default 24" },
  seed: { type: "whole", value: "N", least: 0, most: 1_000_000_000, help: "the first picture's seed; default 0" },
  steps: { type: "text", value: "N,N", help: "numbers of steps; default 8,12,16,24" },
} as const;

const HELP = helpText({
  usage: "samplers [OPTION]...",
  about: "Compares samplers of the decoder at equal steps, and writes a page of Markdown.",
  options: OPTIONS,
}).replace("kinora samplers", "deno run -A bench/quality/samplers.ts");

async function main(args: readonly string[]): Promise<void> {
  if (args.includes("--help")) return console.log(HELP);
  const { values } = parseOptions("samplers", OPTIONS, args);
  const { concepts = 24, seed = 0 } = values;
  const steps = (values.steps ?? "8,12,16,24").split(",").map(Number);
  const wrong = steps.find((count) => !Number.isInteger(count) || count < 1 || count > 1000);
  if (wrong !== undefined) throw new Error(`--steps must be whole numbers from 1 to 1000, not ${values.steps}`);
  using data = await TrainingData.open(values.data ?? "data/fluent-emoji");
  using cascade = await loadCascade(values.model === undefined ? {} : { model: values.model });
  using bench = new Bench(cascade, data);
  const progress = progressLine();
  try {
    const results = await measureSamplers(
      bench,
      { concepts, seed, steps },
      (step, total) => progress.show({ stage: "samplers", step, total }),
    );
    progress.clear();
    const [protocol] = await bench.stages("decoder");
    const { schedule, prediction, guidance } = (await cascade.stage("decoder")).settings as DiffusionSettings & {
      readonly guidance: number;
    };
    const machine = await thisMachine(navigator.hardwareConcurrency, undefined);
    const page = samplersPage(results, {
      concepts: results[0]?.distances.length ?? 0,
      facts: {
        "model": `${cascade.index.name}; decoder's weights, SHA-256: ${protocol?.weights}`,
        "settings": `guidance ${guidance}, ${prediction}, schedule ${JSON.stringify(schedule)}, ${cascade.precision}`,
        "seeds": `${seed} and up, one a picture`,
        "machine": `${machine.cpu}, ${machine.cores} cores, ${machine.os}`,
        "command": `deno run -A bench/quality/samplers.ts ${args.join(" ")}`.trim(),
      },
    });
    if (values.out === undefined) console.log(page);
    else await writeTextWhole(values.out, page);
  } finally {
    progress.clear();
  }
}

if (import.meta.main) await main(Deno.args);
