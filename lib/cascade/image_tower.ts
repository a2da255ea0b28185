/**
 * C_y: from pictures to CLIP image embeddings, which take the place of the prior's where a picture or a video is given.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { ImageSettings } from "./model_index.ts";
import { loadNetwork, NetworkStage, type StageLoadOptions } from "./network_stage.ts";

/** Pictures that are encoded at once. */
const CHUNK = 64;

/** The image tower of the CLIP pair. */
export class ImageTower extends NetworkStage<ImageSettings> {
  /**
   * Loads the image tower of a model.
   *
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(model: string, settings: ImageSettings, options: StageLoadOptions = {}): Promise<ImageTower> {
    return new ImageTower(await loadNetwork(model, settings, options), settings, options.precision);
  }

  /** Height and width of the pictures it sees; others are resized. */
  get size(): number {
    return Number(this.config["sample_size"]);
  }

  /**
   * Encodes pictures.
   *
   * @param pictures Pictures (N, H, W, 3) in [-1, 1], square.
   * @param options `signal` stops the run.
   * @returns Image embeddings of unit length, (N, E).
   */
  async encode(pictures: Tensor, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<Tensor> {
    const [count = 0, height, width] = pictures.shape;
    if (pictures.shape.length !== 4 || height !== width) {
      throw new KinoraError("refused", `the image tower takes square pictures [N, H, W, 3], not [${pictures.shape}]`);
    }
    const parts: Tensor[] = [];
    try {
      for (let first = 0; first < count; first += CHUNK) {
        options.signal?.throwIfAborted();
        const length = Math.min(CHUNK, count - first);
        using some = await pictures.gather(0, Array.from({ length }, (_, index) => first + index));
        using image = await this.#resized(some);
        const { embedding } = await this.forward({ image }, options.signal);
        if (embedding === undefined) throw new KinoraError("failed", "The image tower gave no embedding");
        parts.push(embedding);
      }
      return await Tensor.cat(parts, 0);
    } finally {
      for (const part of parts) part.dispose();
    }
  }

  #resized(pictures: Tensor): Promise<Tensor> {
    const { size } = this;
    if (pictures.shape[1] === size) return pictures.reshape(pictures.shape);
    return pictures.resize({ height: size, width: size, filter: (pictures.shape[1] ?? 0) > size ? "area" : "bicubic" });
  }
}

/**
 * The mean of embeddings, brought back to unit length.
 *
 * @param embeddings Embeddings (N, E).
 * @param rows Which of them; by default all.
 * @returns One embedding (1, E).
 * @throws {KinoraError} `failed` when they cancel out.
 */
export async function meanEmbedding(embeddings: Tensor, rows?: readonly number[]): Promise<Tensor> {
  const [count = 0, width = 0] = embeddings.shape;
  const values = await embeddings.read();
  const chosen = rows ?? Array.from({ length: count }, (_, row) => row);
  const sum = new Float64Array(width);
  for (const row of chosen) {
    for (let index = 0; index < width; index++) sum[index] = (sum[index] ?? 0) + (values[row * width + index] ?? 0);
  }
  const length = Math.hypot(...sum);
  if (!(length > 0)) throw new KinoraError("failed", "The pictures' embeddings cancel out");
  return await Tensor.create([1, width], Float32Array.from(sum, (value) => value / length));
}

/**
 * An embedding on the arc between two (spherical interpolation, as unCLIP mixes pictures; Ramesh et al. 2022, 3.2).
 *
 * @param from The one, (1, E) of unit length.
 * @param to The other.
 * @param mix 0 is `from`, 1 is `to`.
 * @returns An embedding (1, E) of unit length.
 * @throws {KinoraError} `refused` when `mix` is not from 0 to 1, or the two are opposite.
 */
export async function slerp(from: Tensor, to: Tensor, mix: number): Promise<Tensor> {
  if (!(mix >= 0 && mix <= 1)) throw new KinoraError("refused", `mix must be a number from 0 to 1, not ${mix}`);
  if (mix === 0 || mix === 1) return await (mix === 0 ? from : to).reshape(from.shape);
  const [a, b] = await Promise.all([from.read(), to.read()]);
  const angle = Math.acos(Math.min(1, Math.max(-1, a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0))));
  if (angle > Math.PI - 1e-4) throw new KinoraError("refused", "the two embeddings are opposite: no arc joins them");
  // Of nearly equal embeddings the arc is the line.
  const [one, other] = angle < 1e-4
    ? [1 - mix, mix]
    : [Math.sin((1 - mix) * angle) / Math.sin(angle), Math.sin(mix * angle) / Math.sin(angle)];
  using mixed = await Tensor.combine([{ tensor: from, scale: one }, { tensor: to, scale: other }]);
  return await mixed.normalize(1);
}
