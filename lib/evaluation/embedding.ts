/**
 * How near the prior comes to the embedding of the picture that a text means.
 *
 * @module
 */
import { encodeTexts, inChunks } from "../training/embeddings.ts";
import { meanCosine, recall } from "../training/measures.ts";
import type { Figure, Protocol } from "./figure.ts";
import { type Bench, figure, type MeasureOptions, seedsFrom, seedsText } from "./measure.ts";
import { promptSet } from "./prompts.ts";

/** Texts that are encoded at once. */
const BATCH = 32;

/**
 * Measures the cosine of the prior's embeddings to those of the right pictures, how often the right one is the nearest of
 * all, and beside them the cosine of the text's own embedding, from names and from sentences.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measurePrior(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { cascade, data } = bench;
  const { seed, signal, onProgress } = options;
  const [tower, prior] = [await cascade.stage("text"), await cascade.stage("prior")];
  const { bank } = await bench.images();
  const figures: Figure[] = [];
  const sets = ["names", "sentences"] as const;
  for (const [index, set] of sets.entries()) {
    const prompts = promptSet(data, set, options.concepts);
    const texts = prompts.map(({ text }) => text);
    using said = await encodeTexts(tower, texts);
    using drawn = await inChunks(texts.length, async (rows) => {
      using encoding = await tower.encode(rows.map((row) => texts[row] ?? ""), { signal });
      const made = await prior.sample(encoding, { seeds: seedsFrom(seed + (rows[0] ?? 0), rows.length), signal });
      onProgress?.(index * texts.length + (rows.at(-1) ?? 0) + 1, sets.length * texts.length);
      return made;
    }, BATCH);
    using truth = await bank.gather(0, prompts.map(({ concepts }) => concepts[0] ?? 0));
    const { r1, r5 } = await recall(drawn, bank, prompts.map(({ concepts }) => concepts));
    const protocol: Protocol = {
      what: "the prior's embedding of a text against the embedding of its picture",
      count: texts.length,
      seeds: seedsText(seed, texts.length),
      stages: await bench.stages("text", "image", "prior"),
      settings: { prompts: set, candidates: data.concepts.length },
    };
    figures.push(
      figure(`prior.${set}.cosine`, await meanCosine(drawn, truth), "cosine", protocol),
      figure(`prior.${set}.r1`, r1, "share", protocol),
      figure(`prior.${set}.r5`, r5, "share", protocol),
      figure(`prior.${set}.text_cosine`, await meanCosine(said, truth), "cosine", {
        ...protocol,
        what: "the text's own embedding against the embedding of its picture",
        seeds: "none",
        stages: await bench.stages("text", "image"),
      }),
    );
  }
  return figures;
}
