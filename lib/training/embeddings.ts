/**
 * The CLIP pair as other stages use it: pictures and texts to embeddings.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { TextTower } from "../cascade/text.ts";
import { noisyEmbeddings } from "./augmentation.ts";
import type { Draws } from "./random.ts";
import type { StageContext } from "./stage_training.ts";
import type { TrainingData } from "./training_data.ts";

/** Pictures or texts that are encoded at once. */
const CHUNK = 256;

/** The image tower, and the embeddings of all stills. */
export class ImageEmbeddings implements Disposable {
  /** The embeddings of the stills (N, E), unit length, in row order. */
  readonly bank: Tensor;
  readonly #network: Network;
  readonly #precision: StageContext["precision"];

  private constructor(network: Network, bank: Tensor, precision: StageContext["precision"]) {
    this.#network = network;
    this.bank = bank;
    this.#precision = precision;
  }

  /**
   * Loads the model's image tower and encodes all stills.
   *
   * @throws {KinoraError} `not-found` when the model has no image tower yet.
   */
  static async load(
    { data, model, precision }: Pick<StageContext, "data" | "precision"> & {
      readonly model: Pick<StageContext["model"], "networkFolder">;
    },
  ): Promise<ImageEmbeddings> {
    const network = await Network.load(model.networkFolder("image"));
    try {
      return new ImageEmbeddings(network, await stillBank(network, data, precision), precision);
    } catch (error) {
      network.dispose();
      throw error;
    }
  }

  /** The embeddings (B, E) of pictures (B, H, W, 3) of the image tower's size. */
  encode(pictures: Tensor): Promise<Tensor> {
    return encodePictures(this.#network, pictures, this.#precision);
  }

  /**
   * Embeddings to condition a decoder on: of each sample's still, or of a picture of its own, a little noisy.
   *
   * @param concepts The concept of each sample.
   * @param own Pictures that take the place of stills, with the sample they belong to.
   * @param noise The greatest length of the noise.
   * @param draws Where randomness comes from.
   */
  async conditions(
    concepts: readonly number[],
    own: { readonly pictures: Tensor; readonly samples: readonly number[] } | undefined,
    noise: number,
    draws: Draws,
  ): Promise<Tensor> {
    using stills = await this.bank.gather(0, concepts);
    if (own === undefined) return await noisyEmbeddings(stills, noise, draws);
    using encoded = await this.encode(own.pictures);
    using both = await Tensor.cat([stills, encoded], 0);
    const rows = concepts.map((_, sample) => {
      const at = own.samples.indexOf(sample);
      return at < 0 ? sample : concepts.length + at;
    });
    using chosen = await both.gather(0, rows);
    return await noisyEmbeddings(chosen, noise, draws);
  }

  /** Frees the network and the bank. */
  [Symbol.dispose](): void {
    this.bank.dispose();
    this.#network.dispose();
  }
}

/**
 * The embeddings of all stills by an image tower.
 *
 * @param network The image tower.
 * @param data The data set.
 * @param precision The arithmetic.
 */
export async function stillBank(
  network: Network,
  data: TrainingData,
  precision: StageContext["precision"],
): Promise<Tensor> {
  return await inChunks(data.concepts.length, async (rows) => {
    using pictures = await data.rows("stills64", rows);
    return await encodePictures(network, pictures, precision);
  });
}

async function encodePictures(
  network: Network,
  pictures: Tensor,
  precision: StageContext["precision"],
): Promise<Tensor> {
  const { embedding } = await network.forward({ image: pictures }, { precision });
  if (embedding === undefined) throw new KinoraError("failed", "The image tower gave no embedding");
  return embedding;
}

/** The embeddings of any number of texts, (B, E). */
export async function encodeTexts(tower: TextTower, texts: readonly string[]): Promise<Tensor> {
  return await inChunks(texts.length, async (rows) => {
    const encoding = await tower.encode(rows.map((row) => texts[row] ?? ""));
    encoding.states.dispose();
    encoding.mask.dispose();
    return encoding.embedding;
  });
}

/** Makes rows a few at a time, and puts them together. */
export async function inChunks(
  count: number,
  make: (rows: readonly number[]) => Promise<Tensor>,
  chunk = CHUNK,
): Promise<Tensor> {
  const parts: Tensor[] = [];
  try {
    for (let first = 0; first < count; first += chunk) {
      const length = Math.min(chunk, count - first);
      parts.push(await make(Array.from({ length }, (_, index) => first + index)));
    }
    return await Tensor.cat(parts, 0);
  } finally {
    for (const part of parts) part.dispose();
  }
}
