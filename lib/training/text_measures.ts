/**
 * How well texts find their pictures.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import type { TextTower } from "../cascade/text.ts";
import { type Captions, UNSEEN_TEMPLATE } from "./captions.ts";
import { encodeTexts } from "./embeddings.ts";
import { type Measures, recall } from "./measures.ts";

/**
 * The shares of texts whose concept is the nearest of all (`_r1`) or among the five nearest (`_r5`): plain names, names
 * in a sentence no training caption has, naive plurals, and search words kept from training (any concept that has one).
 *
 * @param tower The text tower.
 * @param bank The embeddings of all stills.
 * @param captions The data set's captions.
 */
export async function textMeasures(tower: TextTower, bank: Tensor, captions: Captions): Promise<Measures> {
  const { names } = captions;
  const own = names.map((_, concept) => [concept]);
  const heldOut = captions.heldOut();
  const sets: [string, readonly string[], readonly (readonly number[])[]][] = [
    ["name", names, own],
    ["unseen", names.map((name) => UNSEEN_TEMPLATE.replace("{}", name)), own],
    ["plural", names.map((name) => name.endsWith("s") ? name : `${name}s`), own],
    ["keyword", heldOut.map(({ text }) => text), heldOut.map(({ concepts }) => concepts)],
  ];
  const measures: Record<string, number> = {};
  for (const [set, texts, right] of sets) {
    if (texts.length === 0) continue;
    using queries = await encodeTexts(tower, texts);
    const { r1, r5 } = await recall(queries, bank, right);
    measures[`${set}_r1`] = r1;
    measures[`${set}_r5`] = r5;
  }
  return measures;
}
