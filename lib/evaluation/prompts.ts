/**
 * What is asked for in evaluations.
 *
 * @module
 */
import { UNSEEN_TEMPLATE } from "../training/captions.ts";
import { spread, type TrainingData } from "../training/training_data.ts";

/** Ways to ask. */
export const PROMPT_SETS = ["names", "sentences", "keywords"] as const;

/** A way to ask. */
export type PromptSet = typeof PROMPT_SETS[number];

/**
 * Sentences around a name of which training captions have none: each has words that training puts around nothing.
 * They are taken in turn.
 */
export const SENTENCES: readonly string[] = [
  UNSEEN_TEMPLATE,
  "could we see {} again",
  "i want {} right here",
  "let us watch {} together",
];

/** A prompt, and the concepts that are right. */
export interface Prompt {
  /** The text. */
  readonly text: string;
  /** Indices of concepts, at least one. */
  readonly concepts: readonly number[];
}

/**
 * Prompts of a data set, evenly spread over it.
 *
 * @param data The data set.
 * @param set `names` are the plain names, `sentences` the same names in {@linkcode SENTENCES}, `keywords` search words that
 * were kept from training, for which every concept that has the word is right.
 * @param count How many at most.
 */
export function promptSet(data: TrainingData, set: PromptSet, count: number): Prompt[] {
  if (set === "keywords") return spread(data.captions.heldOut(), count);
  return spread([...data.concepts.keys()], count).map((concept, index) => {
    const name = data.captions.names[concept] ?? "";
    const sentence = set === "names" ? "{}" : SENTENCES[index % SENTENCES.length] ?? "{}";
    return { text: sentence.replace("{}", name), concepts: [concept] };
  });
}
