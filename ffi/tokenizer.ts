/**
 * From texts to the numbers that a text encoder reads.
 *
 * @module
 */
import { handleOf, NativeObject } from "./handle.ts";
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import { Tensor } from "./tensor.ts";

/** How a tokenizer is trained. */
export interface TrainTokenizerOptions extends JobOptions {
  /** The most tokens it may know. */
  readonly vocabulary: number;
  /** The file it is written to, `tokenizer.json`. */
  readonly path: string;
}

/** What {@linkcode Tokenizer.encode} makes of texts. */
export interface EncodedTexts {
  /** The tokens' numbers (B, L), padded; whoever asked disposes it. */
  readonly ids: Tensor;
  /** For each text the words that the tokenizer does not know. */
  readonly unknown: readonly (readonly string[])[];
  /** For each text whether its end did not fit. */
  readonly truncated: readonly boolean[];
}

interface TokenizerReply {
  readonly tokenizer: number;
  readonly vocabulary: number;
}

/** A tokenizer in native memory. */
export class Tokenizer extends NativeObject {
  /** Number of tokens it knows. */
  readonly vocabulary: number;

  private constructor(reply: TokenizerReply) {
    super("tokenizer", reply.tokenizer);
    this.vocabulary = reply.vocabulary;
  }

  /**
   * Makes a tokenizer for texts, and writes it.
   *
   * @param texts What it is to be good at.
   * @param options Its size, and the file.
   * @throws {KinoraError} `refused` when the size is not accepted, `permission` or `io` when it cannot be written.
   */
  static async train(texts: readonly string[], options: TrainTokenizerOptions): Promise<Tokenizer> {
    const { vocabulary, path, ...rest } = options;
    checkMayWrite(path);
    return new Tokenizer(await runJob<TokenizerReply>({ verb: "tokenizer.train", texts, vocabulary, path }, rest));
  }

  /**
   * Loads a tokenizer.
   *
   * @param path The file, `tokenizer.json`.
   * @throws {KinoraError} `not-found`, `bad-file` or `permission`.
   */
  static async load(path: string): Promise<Tokenizer> {
    checkMayRead(path);
    return new Tokenizer(await runJob<TokenizerReply>({ verb: "tokenizer.load", path }));
  }

  /**
   * Turns texts into tokens' numbers.
   *
   * @param texts The texts.
   * @param length Tokens of a text, with those for its start and end; shorter texts are padded.
   */
  async encode(texts: readonly string[], length: number): Promise<EncodedTexts> {
    const { ids, unknown, truncated } = await runJob<
      { readonly ids: number; readonly unknown: string[][]; readonly truncated: boolean[] }
    >({ verb: "tokenizer.encode", tokenizer: handleOf(this), texts, length }, {}, [this]);
    return { ids: new Tensor(ids), unknown, truncated };
  }
}

/**
 * What is done to a text before CLIP's tokenizer cuts it into tokens. Of the 200 difficult texts in
 * `tests/parity/fixtures/bpe`, 143 get other tokens in the one than in the other.
 *
 * - `hf`: as `CLIPTokenizer` of transformers: NFC, lower case; `&amp;` stays three signs, `<|endoftext|>` is the end token.
 * - `openai`: as OpenAI's `SimpleTokenizer`, which CLIP was trained with: text is repaired (misread encodings, curly
 *   quotes, widths) and references of HTML are replaced first.
 */
export type ClipReading = "hf" | "openai";

/** How texts become tokens of CLIP. */
export interface ClipTokensOptions extends JobOptions {
  /** What is done to the texts first; default `"openai"`. */
  readonly reading?: ClipReading | undefined;
  /** Tokens of a text, with those for its start and end; 2 to 1,024, default 77. */
  readonly length?: number | undefined;
}

/** What {@linkcode clipTokens} makes of texts. */
export interface ClipTokens {
  /** The tokens' numbers (B, L), padded with 0; whoever asked disposes it. */
  readonly ids: Tensor;
  /** For each text how many of its numbers are not padding. */
  readonly lengths: readonly number[];
  /** For each text whether its end did not fit; the end token is always there. */
  readonly truncated: readonly boolean[];
}

/**
 * Turns texts into tokens of CLIP: its vocabulary of 49,408 tokens is part of the native library.
 *
 * @param texts The texts.
 * @param options Reading and length.
 * @throws {KinoraError} `refused` without texts, or for a length out of range.
 */
export async function clipTokens(texts: readonly string[], options: ClipTokensOptions = {}): Promise<ClipTokens> {
  const { reading = "openai", length = 77, ...rest } = options;
  const { ids, lengths, truncated } = await runJob<
    { readonly ids: number; readonly lengths: number[]; readonly truncated: boolean[] }
  >({ verb: "tokenizer.clip", texts, reading, length }, rest);
  return { ids: new Tensor(ids), lengths, truncated };
}
