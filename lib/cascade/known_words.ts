/**
 * Which words of a prompt a model has seen: text that no training caption had steers it nowhere in particular, and what comes
 * out is a guess.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { WordSettings } from "./model_index.ts";

/** What is strange in a prompt. */
export interface UnknownWords {
  /** The words that no training caption had, in the order of the prompt. */
  readonly words: readonly string[];
  /** Their letters over those of all words, 0 to 1. */
  readonly share: number;
}

/** The words that the captions of a model's training had. */
export class KnownWords {
  readonly #words: ReadonlySet<string>;
  readonly #fillers: ReadonlySet<string> | undefined;

  /**
   * Makes a list of words.
   *
   * @param words The words, as {@linkcode wordsOf} gives them.
   * @param fillers Those among them that name nothing to be seen.
   */
  constructor(words: Iterable<string>, fillers?: Iterable<string>) {
    this.#words = new Set(words);
    this.#fillers = fillers && new Set(fillers);
  }

  /**
   * Reads the lists of words of a model, one a line.
   *
   * @param folder The model's folder.
   * @param files The files below it.
   * @throws {KinoraError} `not-found` when one cannot be read, `bad-file` when there is no word in it.
   */
  static async load(folder: string, files: Pick<WordSettings, "file" | "fillers">): Promise<KnownWords> {
    const { file, fillers } = files;
    return new KnownWords(
      await readWords(`${folder}/${file}`),
      fillers === undefined ? undefined : await readWords(`${folder}/${fillers}`),
    );
  }

  /** Number of words. */
  get size(): number {
    return this.#words.size;
  }

  /**
   * The words of a text that are not in the list; a plural with `s` of one that is, is.
   *
   * @param text Any text.
   */
  unknown(text: string): UnknownWords {
    const all = wordsOf(text);
    const words = all.filter((word) => !this.#has(word));
    const letters = (words: readonly string[]): number => words.reduce((sum, word) => sum + [...word].length, 0);
    return { words, share: letters(words) / Math.max(1, letters(all)) };
  }

  /**
   * What a model that has learnt these words is to read: the text without the unknown ones, which would only disturb. Where
   * no known word is left that names a thing, the text as it is: an unknown word may be a known one that is misspelt. So is
   * any text where it is not known which words are fillers.
   *
   * @param text Any text.
   */
  understood(text: string): string {
    const fillers = this.#fillers;
    if (fillers === undefined) return text;
    const kept = text.split(/\s+/u).filter((part) => {
      const words = wordsOf(part);
      return words.length === 0 || words.some((word) => this.#has(word));
    });
    const read = kept.join(" ");
    return wordsOf(read).some((word) => this.#has(word) && !fillers.has(word)) ? read : text;
  }

  #has(word: string): boolean {
    return this.#words.has(word) || word.endsWith("s") && this.#words.has(word.slice(0, -1));
  }
}

async function readWords(path: string): Promise<string[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new KinoraError("not-found", `Cannot read the words "${path}": ${(cause as Error).message}`, { cause });
  }
  const words = text.split("\n").filter((line) => line !== "");
  if (words.length === 0) throw new KinoraError("bad-file", `There is no word in "${path}"`);
  return words;
}

/**
 * The words of a text: runs of letters and digits, in lower case.
 *
 * @param text Any text.
 */
export function wordsOf(text: string): string[] {
  return text.normalize("NFKC").toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
}
