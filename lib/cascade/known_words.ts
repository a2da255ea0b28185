/**
 * Which words of a prompt a model has seen: text that no training caption had steers it nowhere in particular, and what comes
 * out is a guess.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

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

  /**
   * Makes a list of words.
   *
   * @param words The words, as {@linkcode wordsOf} gives them.
   */
  constructor(words: Iterable<string>) {
    this.#words = new Set(words);
  }

  /**
   * Reads a list of words, one a line.
   *
   * @param path The file.
   * @throws {KinoraError} `not-found` when it cannot be read, `bad-file` when there is no word in it.
   */
  static async load(path: string): Promise<KnownWords> {
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (cause) {
      throw new KinoraError("not-found", `Cannot read the words "${path}": ${(cause as Error).message}`, { cause });
    }
    const words = text.split("\n").filter((line) => line !== "");
    if (words.length === 0) throw new KinoraError("bad-file", `There is no word in "${path}"`);
    return new KnownWords(words);
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
    const words = all.filter((word) =>
      !this.#words.has(word) && !(word.endsWith("s") && this.#words.has(word.slice(0, -1)))
    );
    const letters = (words: readonly string[]): number => words.reduce((sum, word) => sum + [...word].length, 0);
    return { words, share: letters(words) / Math.max(1, letters(all)) };
  }
}

/**
 * The words of a text: runs of letters and digits, in lower case.
 *
 * @param text Any text.
 */
export function wordsOf(text: string): string[] {
  return text.normalize("NFKC").toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
}
