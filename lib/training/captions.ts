/**
 * Captions for the concepts of a data set: its names and search words, set in the words that people put around them.
 *
 * @module
 */
import { wordsOf } from "../cascade/known_words.ts";
import type { Concept } from "../data/dataset_index.ts";
import type { Draws } from "./random.ts";

/** A caption and the concepts it fits. */
export interface Caption {
  /** The text. */
  readonly text: string;
  /** Indices of concepts, at least one. */
  readonly concepts: readonly number[];
}

/** Sentences for contrastive training, which stay close to the names. */
const TEMPLATES = [
  "{}",
  "{}",
  "{}",
  "a {}",
  "the {}",
  "an image of {}",
  "a {} moving",
  "{} emoji",
  "an animated {}",
  "a cute {}",
  "one {}",
  "picture of a {}",
  "{} on a white background",
];

/** A sentence that no training caption has, for measures. */
export const UNSEEN_TEMPLATE = "my favourite {}, please";

/** What people write before the thing itself; "favourite" is left to {@linkcode UNSEEN_TEMPLATE}. */
const BEFORE =
  ("a|the|one|my|your|some|an image of|picture of a|photo of|video of|a video of a|animation of|an animated|" +
    "a moving|drawing of a|clip of|look at|show me a|please draw|generate a|make a|cute|little|big|happy|funny|small|" +
    "beautiful|cool|old|new|great|nice|tiny|huge|crazy|spooky|fast|slow|flying|sleeping|running|dancing|jumping|glowing|" +
    "shiny").split("|");

/** What people write after it. */
const AFTER = ("emoji|icon|in motion|moving|please|on a white background|slowly|fast|at night|in the sky|in the sea|" +
  "in the forest|on a table|with friends|today|video|animation|waving|spinning|flying|running|launch|dancing|in autumn|" +
  "in summer").split("|");

/**
 * Frequent words of English that name nothing in the data: prompts are full of them. Those of the measured sentences
 * (`SENTENCES` in lib/evaluation/prompts.ts) are not among them.
 */
const COMMON =
  ("and or but so if then than of to in on at by for from with without about into over under between after " +
    "before while during through near around this that these those it its he she they them his her their you " +
    "me him who what which when where why how is are was were be been being has have had do does did will " +
    "would can should may might must go goes going come comes coming get gets getting give gives given take " +
    "takes taken put puts made making there very too just only also even still yet now never always often " +
    "sometimes more most much many few less least all any both each every other another such same own whole " +
    "like as because until bit lot kind thing things someone something anything need needs needed try tries " +
    "find finds keep keeps think know say says tell tells show shows showing look looks looking make makes " +
    "use uses using full scene style colour color pretty simple simply really maybe create draw render depict " +
    "imagine featuring containing called named everything everyone nobody somewhere everywhere asked seem seems feel " +
    "become becomes leave leaves hold holds holding bring brings begin begins help helps play plays playing move moves " +
    "live lives happen happens sit sits sitting stand stands standing meet include includes continue set changes follow " +
    "follows stop stops grow grows open opens walk walks walking remember appear appears stay stays fall falls falling " +
    "reach high large long short young important different early late able bad good best better enough quite rather " +
    "almost already soon ago back down off away out up once twice first second last next perfect lovely amazing " +
    "awesome wonderful majestic gorgeous adorable elegant epic dramatic detailed highly realistic colourful colorful " +
    "vivid bright dark minimal minimalist modern classic vintage cartoon quality hd rendering close wide view " +
    "foreground artistic digital illustration painting sketch watercolor photorealistic cinematic lighting soft sharp " +
    "concept masterpiece ultra hyper 3d 2d clean white simple single alone centered behind above below inside outside " +
    "across along against toward towards among within except day night morning evening today tomorrow moment ride " +
    "rides riding jump jumps swim swims swimming flies sing sings singing eat eats eating smile smiles smiling laugh " +
    "laughs laughing hop hops bounce bounces bouncing turn turns turning shake shakes shaking spin spins swing swings " +
    "swinging float floats floating drift drifts blink blinks blinking wave waves nod nods rise rises rising gently " +
    "quickly softly happily sadly gracefully wildly calmly suddenly").split(" ");

const SYLLABLES = "ba be da do fi ga gu ka ki lo lu ma mi na no pa pi ra ri sa so ta ti va vo wa za zu".split(" ");

/** How often a filler is a word that means nothing: what people write is full of words no caption has. */
const MADE_UP = 0.12;

/** How often a filler is one of {@linkcode COMMON}. */
const COMMON_SHARE = 0.4;

/** How often a filler around a name is a word of another thing: "watch the cat" is not about a watch. */
const STRAY_SHARE = 0.2;

/** What people write behind or between words. */
const MARKS = [",", "!", ".", "?"];
/** Whatever training captions put around names and search words. */
export const FILLERS: readonly string[] = [
  ...new Set([...TEMPLATES.map((template) => template.replace("{}", "").trim()), ...BEFORE, ...AFTER, ...COMMON]),
].filter((filler) => filler !== "");

/** Of this many search words of a concept one is kept from training, for measures. */
const HELD_OUT = 12;

/** The words of one concept. */
interface Words {
  readonly names: readonly string[];
  readonly keywords: readonly string[];
  readonly heldOut: readonly string[];
}

/** The captions of a data set. */
export class Captions {
  /** The name of each concept, in lower case. */
  readonly names: readonly string[];
  readonly #words: readonly Words[];
  readonly #owners = new Map<string, Set<number>>();
  readonly #allOwners = new Map<string, Set<number>>();
  readonly #strays: readonly string[];

  /**
   * Reads the concepts' words.
   *
   * @param concepts The concepts, in row order.
   */
  constructor(concepts: readonly Concept[]) {
    this.#words = concepts.map(conceptWords);
    this.names = this.#words.map(({ names }) => names[0] ?? "");
    const add = (owners: Map<string, Set<number>>, word: string, concept: number): void => {
      const there = owners.get(word);
      if (there === undefined) owners.set(word, new Set([concept]));
      else there.add(concept);
    };
    for (const [concept, { names, keywords, heldOut }] of this.#words.entries()) {
      for (const word of [...names, ...keywords]) add(this.#owners, word, concept);
      for (const word of [...names, ...keywords, ...heldOut]) add(this.#allOwners, word, concept);
    }
    const names = new Set(this.#words.flatMap(({ names }) => names));
    const words = this.#words.flatMap(({ names, keywords }) => [...names, ...keywords]).flatMap((text) =>
      text.split(" ")
    );
    this.#strays = [...new Set(words)].filter((word) => !names.has(word) && word !== "");
  }

  /** Everything a tokenizer is trained on; names count more than search words, and those more than fillers. */
  corpus(): string[] {
    return [
      ...this.#words.flatMap(({ names, keywords, heldOut }) => [...names, ...names, ...names, ...keywords, ...heldOut]),
      ...TEMPLATES.map((template) => template.replace("{}", "")),
      UNSEEN_TEMPLATE.replace("{}", ""),
      ...BEFORE,
      ...AFTER,
    ].map((text) => text.trim()).filter((text) => text !== "");
  }

  /**
   * A caption close to the name, for contrastive training.
   *
   * @param concept Which concept.
   * @param draws Where randomness comes from.
   */
  plain(concept: number, draws: Draws): string {
    const { names, keywords } = this.#of(concept);
    const name = draws.pick(names);
    const kind = draws.next();
    if (kind < 0.5 || keywords.length === 0) return draws.pick(TEMPLATES).replace("{}", name);
    if (kind < 0.62) return draws.several(keywords, 1 + draws.below(3)).join(" ");
    if (kind < 0.75) return draws.pick(keywords);
    if (kind < 0.9) return `${name}${draws.pick([", ", " ", " with "])}${draws.pick(keywords)}`;
    return `${draws.pick(keywords)} ${name}`;
  }

  /**
   * A caption as people write prompts: names or search words among fillers, with words missing, plurals, and now and then
   * a word that means nothing. Search words that several concepts share fit all of them.
   *
   * @param concept Which concept it must fit.
   * @param draws Where randomness comes from.
   */
  free(concept: number, draws: Draws): Caption {
    const { names, keywords } = this.#of(concept);
    const name = draws.pick(names);
    const kind = draws.next();
    if (kind < 0.5 || keywords.length === 0) {
      return { text: surrounded(name, draws, this.#strays), concepts: [concept] };
    }
    if (kind < 0.7) {
      const word = draws.pick(keywords);
      return { text: surrounded(word, draws), concepts: this.#sharing([word], concept) };
    }
    if (kind < 0.85) {
      const words = draws.several(keywords, 2);
      return { text: surrounded(words.join(" "), draws), concepts: this.#sharing(words, concept) };
    }
    const word = draws.pick(keywords);
    const text = draws.chance(0.5) ? `${name} ${word}` : `${word} ${name}`;
    return { text: surrounded(text, draws), concepts: [concept] };
  }

  /** Every word that a training caption can have, sorted: of names, search words and fillers, not those kept from training. */
  words(): string[] {
    const texts = [...this.#words.flatMap(({ names, keywords }) => [...names, ...keywords]), ...FILLERS];
    return [...new Set(texts.flatMap(wordsOf))].sort();
  }

  /** Those of {@linkcode Captions.words} that fillers have and that are no whole name, sorted: they name nothing to be seen. */
  fillers(): string[] {
    const named = new Set(this.#words.flatMap(({ names }) => names));
    return [...new Set(FILLERS.flatMap(wordsOf))].filter((word) => !named.has(word)).sort();
  }

  /** The search words kept from training, each with all concepts that have it. */
  heldOut(): Caption[] {
    const words = new Set(this.#words.flatMap(({ heldOut }) => heldOut));
    return [...words].map((text) => ({ text, concepts: [...this.#allOwners.get(text) ?? []] }));
  }

  #of(concept: number): Words {
    const words = this.#words[concept];
    if (words === undefined) throw new RangeError(`There is no concept ${concept}`);
    return words;
  }

  /** The concepts that have all of some words, and the one that they were taken from. */
  #sharing(words: readonly string[], concept: number): number[] {
    const [first, ...others] = words.map((word) => this.#owners.get(word) ?? new Set<number>());
    const shared = [...first ?? []].filter((owner) => others.every((owners) => owners.has(owner)));
    return shared.includes(concept) ? shared : [concept, ...shared];
  }
}

function conceptWords(concept: Concept, index: number): Words {
  const name = concept.name.toLowerCase();
  const label = concept.label.toLowerCase();
  const all = [
    ...new Set([...concept.tags, ...concept.keywords].map((word) => word.toLowerCase().replaceAll("_", " "))),
  ]
    .filter((word) => word !== name && word !== label && word !== "");
  // With few words none can be spared.
  const held = all.length < 4 ? -1 : index % HELD_OUT;
  return {
    names: label === name ? [name] : [name, label],
    keywords: all.filter((_, at) => held < 0 || at % HELD_OUT !== held),
    heldOut: all.filter((_, at) => held >= 0 && at % HELD_OUT === held),
  };
}

/**
 * Puts fillers around words, and damages them a little.
 *
 * @param text The words.
 * @param draws Where randomness comes from.
 * @param strays Words of other things, some of which may be among the fillers.
 */
function surrounded(text: string, draws: Draws, strays: readonly string[] = []): string {
  const words = text.split(" ");
  if (words.length > 2 && draws.chance(0.2)) words.splice(draws.below(words.length), 1);
  let result = words.join(" ");
  if (draws.chance(0.1) && !result.endsWith("s")) result += "s";
  for (let count = draws.pick([0, 1, 1, 2, 3]); count > 0; count--) {
    result = `${filler(BEFORE, draws, strays)} ${result}`;
  }
  if (draws.chance(0.15)) result += draws.pick(MARKS);
  for (let count = draws.pick([0, 0, 0, 1, 1, 2]); count > 0; count--) result += ` ${filler(AFTER, draws, strays)}`;
  return result;
}

function filler(usual: readonly string[], draws: Draws, strays: readonly string[]): string {
  if (strays.length > 0 && draws.chance(STRAY_SHARE)) return draws.pick(strays);
  const kind = draws.next();
  if (kind < MADE_UP) return madeUpWord(draws);
  return draws.pick(kind < MADE_UP + COMMON_SHARE ? COMMON : usual);
}

/** A word never seen must not decide what is shown. */
function madeUpWord(draws: Draws): string {
  return draws.each(2 + draws.below(3), () => draws.pick(SYLLABLES)).join("");
}
