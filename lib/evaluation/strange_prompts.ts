/**
 * Prompts that a model of the data set cannot know, for measures of its warnings.
 *
 * @module
 */
import type { KnownWords } from "../cascade/known_words.ts";
import { Draws } from "../training/random.ts";
import { SENTENCES } from "./prompts.ts";

/** Words for things and ideas, few of which are among a thousand emoji; those that are known are left out. */
const OUTSIDE = ("democracy inflation algorithm thermodynamics carburetor stapler wheelbarrow colander flamethrower " +
  "hovercraft submarine catapult zeppelin excavator bulldozer trombone harmonica bagpipes oboe cello platypus armadillo " +
  "pangolin narwhal meerkat walrus aardvark lemur mongoose wolverine ferret chinchilla stingray seahorse barnacle piranha " +
  "sturgeon anteater tapir okapi ibex gazelle hyena jackal ostrich toucan pelican vulture cormorant albatross cathedral " +
  "skyscraper lighthouse windmill pyramid igloo viaduct aqueduct fjord geyser stalactite quicksand glacier lagoon " +
  "cauliflower asparagus artichoke rhubarb zucchini parsnip turnip lasagna ravioli goulash macaron tiramisu philosophy " +
  "metaphysics nostalgia bureaucracy inequality quantum electron molecule enzyme mitochondria chromosome scalpel toaster " +
  "blender refrigerator dishwasher vacuum wardrobe hammock chandelier typewriter gramophone transistor capacitor turbine " +
  "crankshaft gearbox dragonfly centipede tarantula gladiator pharaoh viking blacksmith librarian").split(" ");

/** Sentences of nothing but words that training puts around names, so that only the thing itself can be unknown. */
const KNOWN_SENTENCES = ["a {}", "a video of a {} in the forest", "show me a cute {} on a table"];

/** Texts of letters that mean nothing. */
const GIBBERISH = 64;

/** Kinds of prompts that a model cannot know. */
export const STRANGE_SETS = ["outside", "outside_sentences", "outside_fillers", "gibberish"] as const;

/** A kind of prompts that a model cannot know. */
export type StrangeSet = typeof STRANGE_SETS[number];

/**
 * Prompts that a model cannot know.
 *
 * @param known The words it has seen.
 * @returns By kind: words it has not seen alone, in sentences with other words it has not seen, in sentences of words it
 * has seen, and letters that mean nothing.
 */
export function strangePrompts(known: KnownWords): Readonly<Record<StrangeSet, readonly string[]>> {
  const outside = OUTSIDE.filter((word) => known.unknown(word).words.length > 0);
  const within = (sentences: readonly string[]): string[] =>
    outside.map((word, at) => (sentences[at % sentences.length] ?? "{}").replace("{}", word));
  const draws = new Draws(0, 0, 0);
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const gibberish = draws.each(
    GIBBERISH,
    () =>
      draws.each(1 + draws.below(3), () => draws.each(4 + draws.below(6), () => draws.pick(letters)).join("")).join(
        " ",
      ),
  );
  return {
    outside,
    outside_sentences: within(SENTENCES),
    outside_fillers: within(KNOWN_SENTENCES),
    gibberish,
  };
}
