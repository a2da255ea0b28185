/**
 * C_x of Eq. 1: from a prompt to its tokens, their states and one text embedding.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Network, Precision } from "../../ffi/network.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { Tokenizer } from "../../ffi/tokenizer.ts";
import { KnownWords } from "./known_words.ts";
import type { TextSettings } from "./model_index.ts";
import { loadNetwork, NetworkStage, type StageLoadOptions } from "./network_stage.ts";

/** The most characters of a prompt. */
export const MOST_CHARACTERS = 1000;

/** What the text encoder makes of a batch of texts. It frees its tensors when it is disposed. */
export interface TextEncoding extends Disposable {
  /** The texts' embeddings of unit length, (B, E). */
  readonly embedding: Tensor;
  /** The tokens' states, (B, L, D). */
  readonly states: Tensor;
  /** 1 for the tokens of a text, 0 for padding, (B, L). */
  readonly mask: Tensor;
}

/**
 * Checks a prompt.
 *
 * @param prompt The prompt.
 * @returns The prompt without white space at its ends.
 * @throws {KinoraError} `refused` when it is empty or longer than 1,000 characters.
 */
export function checkPrompt(prompt: string): string {
  const text = prompt.trim();
  if (text === "") throw new KinoraError("refused", "The prompt is empty: say in a few words what is to be seen");
  const characters = [...text].length;
  if (characters > MOST_CHARACTERS) {
    throw new KinoraError(
      "refused",
      `The prompt has ${characters} characters; at most ${MOST_CHARACTERS} are accepted`,
    );
  }
  return text;
}

/** The tokenizer and the text tower of the CLIP pair. */
export class TextTower extends NetworkStage<TextSettings> {
  readonly #tokenizer: Tokenizer;
  readonly #words: KnownWords | undefined;

  /**
   * Makes a text tower of a tokenizer and a network.
   *
   * @param tokenizer The tokenizer, which becomes the tower's.
   * @param network The text tower, which becomes the tower's.
   * @param settings Folders and context length.
   * @param precision The arithmetic.
   * @param words The words it knows, when others are to be left out.
   */
  constructor(
    tokenizer: Tokenizer,
    network: Network,
    settings: TextSettings,
    precision: Precision = "f32",
    words?: KnownWords,
  ) {
    super(network, settings, precision);
    this.#tokenizer = tokenizer;
    this.#words = words;
  }

  /**
   * Loads the text encoder of a model.
   *
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(model: string, settings: TextSettings, options: StageLoadOptions = {}): Promise<TextTower> {
    const network = await loadNetwork(model, settings, options);
    try {
      const words = settings.words && await KnownWords.load(model, settings.words);
      const tokenizer = await Tokenizer.load(`${model}/${settings.tokenizer}/tokenizer.json`);
      return new TextTower(tokenizer, network, settings, options.precision, words);
    } catch (error) {
      network.dispose();
      throw error;
    }
  }

  /** Frees the tokenizer and the network. */
  override dispose(): void {
    this.#tokenizer.dispose();
    super.dispose();
  }

  /**
   * Encodes texts, without the words that {@linkcode KnownWords.understood} leaves out.
   *
   * @param texts The texts; each is checked by {@linkcode checkPrompt}.
   * @param options `signal` stops the run.
   */
  async encode(
    texts: readonly string[],
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<TextEncoding> {
    const read = texts.map(checkPrompt).map((text) => this.#words?.understood(text) ?? text);
    using tokens = (await this.#tokenizer.encode(read, this.settings.context)).ids;
    const { embedding, states, mask } = await this.forward({ tokens }, options.signal);
    if (embedding === undefined || states === undefined || mask === undefined) {
      throw new KinoraError("failed", `The network of ${this.settings.folder} did not give embedding, states and mask`);
    }
    return {
      embedding,
      states,
      mask,
      [Symbol.dispose](): void {
        for (const tensor of [embedding, states, mask]) tensor.dispose();
      },
    };
  }
}
