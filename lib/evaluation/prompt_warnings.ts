/**
 * Whether a model warns of prompts it cannot know, and of no others; and how well cosines would tell them apart instead.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { KnownWords } from "../cascade/known_words.ts";
import { type ModelIndex, stageSettings, type WordSettings } from "../cascade/model_index.ts";
import { inChunks } from "../training/embeddings.ts";
import { spread, type TrainingData } from "../training/training_data.ts";
import { writeTextWhole } from "../video.ts";
import type { Figure, Protocol } from "./figure.ts";
import { type Bench, figure, type MeasureOptions } from "./measure.ts";
import { promptSet, SENTENCES } from "./prompts.ts";
import { STRANGE_SETS, strangePrompts } from "./strange_prompts.ts";

/** The share of names in unseen sentences that may be warned of. */
const FALSE_ALARMS = 0.02;

/** The files of words and of fillers in the tokenizer's folder. */
const [WORDS_FILE, FILLERS_FILE] = ["words.txt", "fillers.txt"] as const;

/** Texts that are encoded at once. */
const BATCH = 32;

/**
 * Measures the shares of prompts that are warned of, and the area under the ROC curve (0.5 is chance, 1 perfect) of the share
 * of unknown letters and of three cosines: text to nearest picture, the prior's embedding to nearest picture, and text to the
 * prior's embedding. Known are names and sentences, unknown all the others.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureWarnings(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { data, cascade } = bench;
  const { seed } = options;
  const stored = stageSettings(cascade.index, "text").words;
  const known = stored === undefined
    ? new KnownWords(data.captions.words())
    : await KnownWords.load(cascade.index.folder, stored);
  const threshold = stored?.threshold ?? wordThreshold(data, known);
  const strange = strangePrompts(known);
  const texts = (set: "names" | "sentences"): string[] =>
    promptSet(data, set, options.concepts).map(({ text }) => text);
  const sets: [name: string, texts: readonly string[]][] = [
    ["names", texts("names")],
    ["sentences", texts("sentences")],
    ...STRANGE_SETS.map((set): [string, string[]] => [set, spread(strange[set], options.concepts)]),
  ];
  const protocol = (what: string, count: number): Protocol => ({
    what,
    count,
    seeds: "none",
    stages: [],
    settings: { threshold, words: known.size, from: stored === undefined ? "the data set" : "the model" },
  });
  const figures = sets.map(([name, texts]) => {
    const warned = texts.filter((text) => known.unknown(text).share >= threshold).length;
    return figure(
      `warnings.${name}`,
      warned / texts.length,
      "share",
      protocol("prompts whose share of letters in unknown words reaches the threshold", texts.length),
    );
  });
  const all = sets.flatMap(([, texts]) => texts);
  const strangeFrom = (sets[0]?.[1].length ?? 0) + (sets[1]?.[1].length ?? 0);
  const signals = { words: all.map((text) => -known.unknown(text).share), ...await cosines(bench, all, options) };
  const stages = await bench.stages("text", "image", "prior");
  for (const [signal, values] of Object.entries(signals)) {
    const auc = areaUnderCurve(values.slice(0, strangeFrom), values.slice(strangeFrom));
    figures.push(figure(`warnings.auc.${signal}`, auc, "share", {
      ...protocol("area under the ROC curve, known prompts against unknown ones", all.length),
      ...signal === "words" ? {} : { stages, seeds: `${seed} for every prompt` },
    }));
  }
  return figures;
}

/**
 * Writes into a model which words it has seen, and from what share of unknown ones on a prompt is warned of.
 *
 * @param index The model.
 * @param data The data set it was trained on.
 * @returns What was written into `model_index.json`.
 */
export async function calibrateWarnings(index: ModelIndex, data: TrainingData): Promise<WordSettings> {
  const { tokenizer } = stageSettings(index, "text");
  const [words, fillers] = [data.captions.words(), data.captions.fillers()];
  const settings = {
    file: `${tokenizer}/${WORDS_FILE}`,
    fillers: `${tokenizer}/${FILLERS_FILE}`,
    threshold: wordThreshold(data, new KnownWords(words)),
  };
  const path = `${index.folder}/model_index.json`;
  const json = JSON.parse(await Deno.readTextFile(path));
  json.stages.text.words = settings;
  await writeTextWhole(`${index.folder}/${settings.file}`, `${words.join("\n")}\n`);
  await writeTextWhole(`${index.folder}/${settings.fillers}`, `${fillers.join("\n")}\n`);
  await writeTextWhole(path, `${JSON.stringify(json, undefined, 2)}\n`);
  return settings;
}

/**
 * The least share, in hundredths, that at most one in fifty names in unseen sentences reaches.
 *
 * @param data The data set.
 * @param known The words a model of it has seen.
 */
export function wordThreshold(data: TrainingData, known: KnownWords): number {
  const shares = data.captions.names
    .flatMap((name) => SENTENCES.map((sentence) => known.unknown(sentence.replace("{}", name)).share))
    .sort((a, b) => a - b);
  const least = shares[Math.min(shares.length - 1, Math.ceil((1 - FALSE_ALARMS) * shares.length))] ?? 1;
  return Math.min(1, (Math.floor(least * 100) + 1) / 100);
}

/**
 * The share of pairs in which the known one has the greater value; ties count half.
 *
 * @param known Values of what is known.
 * @param strange Values of what is not.
 */
export function areaUnderCurve(known: readonly number[], strange: readonly number[]): number {
  const wins = known.reduce(
    (sum, a) => sum + strange.reduce((sum, b) => sum + (a > b ? 1 : a === b ? 0.5 : 0), 0),
    0,
  );
  return wins / (known.length * strange.length);
}

/** Of each text three cosines. */
async function cosines(
  bench: Bench,
  texts: readonly string[],
  { seed, signal, onProgress }: MeasureOptions,
): Promise<Record<"text_picture" | "prior_picture" | "text_prior", number[]>> {
  const [tower, prior] = [await bench.cascade.stage("text"), await bench.cascade.stage("prior")];
  const { bank } = await bench.images();
  const said: Tensor[] = [];
  try {
    using drawn = await inChunks(texts.length, async (rows) => {
      const encoding = await tower.encode(rows.map((row) => texts[row] ?? ""), { signal });
      using _encoding = encoding;
      said.push(await encoding.embedding.reshape(encoding.embedding.shape));
      const made = await prior.sample(encoding, { seeds: rows.map(() => seed), signal });
      onProgress?.((rows.at(-1) ?? 0) + 1, texts.length);
      return made;
    }, BATCH);
    using text = await Tensor.cat(said, 0);
    const own = await greatest(text, drawn, (row) => row);
    return {
      text_picture: await greatest(text, bank),
      prior_picture: await greatest(drawn, bank),
      text_prior: own,
    };
  } finally {
    for (const part of said) part.dispose();
  }
}

/** The greatest product of each row with the rows of another matrix, or with one of them. */
async function greatest(rows: Tensor, others: Tensor, only?: (row: number) => number): Promise<number[]> {
  using products = await Tensor.matmul(rows, others);
  const [count = 0, width = 0] = products.shape;
  const values = await products.read();
  return Array.from({ length: count }, (_, row) => {
    if (only !== undefined) return values[row * width + only(row)] ?? 0;
    return values.subarray(row * width, (row + 1) * width).reduce((best, value) => Math.max(best, value), -1);
  });
}
