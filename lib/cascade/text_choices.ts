/**
 * What else than one prompt the prior can be given: a prompt to lead away from, and another one to mix with or to go to.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Tensor } from "../../ffi/tensor.ts";
import { slerp } from "./image_tower.ts";
import type { TextEncoding } from "./text.ts";
import { checkPrompt } from "./text.ts";

/** Prompts beside the first. */
export interface TextRequest {
  /** What is not to be seen: the prior, and with guidance the decoder, are led away from it. */
  readonly negative?: string;
  /** Another prompt, whose image embedding is mixed with the first one's on the arc between them. */
  readonly to?: string;
  /**
   * How much of `to` there is, 0 to 1; not together with `travel`.
   *
   * @default {0.5}
   */
  readonly mix?: number;
  /**
   * Whether the video goes from the prompt to `to`: from frame to frame a little more of it.
   *
   * @default {false}
   */
  readonly travel?: boolean;
}

/** Checked prompts. */
export interface Texts {
  /** The prompt. */
  readonly prompt: string;
  /** The prompt to lead away from. */
  readonly negative?: string | undefined;
  /** The prompt to mix with. */
  readonly to?: string | undefined;
  /** How much of `to` there is. */
  readonly mix: number;
  /** Whether the embedding changes over time. */
  readonly travel: boolean;
}

/**
 * Checks prompts.
 *
 * @param prompt The prompt.
 * @param request The others.
 * @throws {KinoraError} `refused` when one is not accepted, or two options do not go together.
 */
export function checkTexts(prompt: string, request: TextRequest): Texts {
  const { negative, to, mix, travel = false } = request;
  if (to === undefined && (mix !== undefined || travel)) {
    throw new KinoraError("refused", `${travel ? "travel" : "mix"} needs another prompt as "to"`);
  }
  if (mix !== undefined && !(mix >= 0 && mix <= 1)) {
    throw new KinoraError("refused", `mix must be a number from 0 to 1, not ${mix}`);
  }
  if (mix !== undefined && travel) throw new KinoraError("refused", "mix and travel do not go together");
  return {
    prompt: checkPrompt(prompt),
    ...negative === undefined ? {} : { negative: checkPrompt(negative) },
    ...to === undefined ? {} : { to: checkPrompt(to) },
    mix: mix ?? 0.5,
    travel,
  };
}

/** The texts that the prior is given, row by row, and for each the row that it is led away from. */
export function priorTexts(
  texts: Texts,
): { readonly rows: readonly string[]; readonly away: readonly number[] | undefined } {
  const wanted = [texts.prompt, ...texts.to === undefined ? [] : [texts.to]];
  if (texts.negative === undefined) return { rows: wanted, away: undefined };
  // What is not wanted gets an embedding too, for the decoder, and is led away from the prompt.
  return { rows: [...wanted, texts.negative], away: [...wanted.map(() => wanted.length), 0] };
}

/** Rows of a batch of texts; freed by whoever asked. */
export async function textRows(text: TextEncoding, rows: readonly number[]): Promise<TextEncoding> {
  const embedding = await text.embedding.gather(0, rows);
  const states = await text.states.gather(0, rows);
  const mask = await text.mask.gather(0, rows);
  return {
    embedding,
    states,
    mask,
    [Symbol.dispose](): void {
      for (const tensor of [embedding, states, mask]) tensor.dispose();
    },
  };
}

/** What the prior made of the rows of {@linkcode priorTexts}. It frees its tensors when it is disposed. */
export class PriorEmbeddings implements Disposable {
  /** The embedding to lead away from (1, E), where there is one. */
  readonly negative: Tensor | undefined;
  readonly #from: Tensor;
  readonly #to: Tensor | undefined;
  readonly #mix: number;

  private constructor(from: Tensor, to: Tensor | undefined, negative: Tensor | undefined, mix: number) {
    this.#from = from;
    this.#to = to;
    this.negative = negative;
    this.#mix = mix;
  }

  /**
   * @param made The embeddings, row by row.
   * @param texts What they were made of.
   */
  static async of(made: Tensor, texts: Texts): Promise<PriorEmbeddings> {
    const to = texts.to === undefined ? undefined : await made.gather(0, [1]);
    const negative = texts.negative === undefined ? undefined : await made.gather(0, [to === undefined ? 1 : 2]);
    return new PriorEmbeddings(await made.gather(0, [0]), to, negative, texts.mix);
  }

  /** The embedding (1, E) of a time of the video, 0 to 1, where it changes. */
  at(place: number): Promise<Tensor> {
    return this.#to === undefined ? this.#from.reshape(this.#from.shape) : slerp(this.#from, this.#to, place);
  }

  /** The embedding (1, E) of a video whose embedding does not change. */
  mixed(): Promise<Tensor> {
    return this.at(this.#mix);
  }

  /** Frees the embeddings. */
  [Symbol.dispose](): void {
    for (const tensor of [this.#from, this.#to, this.negative]) tensor?.dispose();
  }
}
