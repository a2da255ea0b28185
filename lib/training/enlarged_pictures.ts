/**
 * A super-resolution on real pictures: they are made small, and large again.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import { enlargedFrames, type SuperResolution } from "../cascade/super_resolution.ts";
import { psnr } from "./measures.ts";

/** How pictures are made small and large again. */
export interface EnlargedPictureOptions {
  /** How many times smaller; the side of the pictures is a multiple of it. */
  readonly factor: number;
  /** One seed for each clip. */
  readonly seeds: readonly number[];
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** Pictures or clips that were made small and large again, each (B, F, H, W, 3). */
export class EnlargedPictures implements Disposable {
  /** The pictures by box averages. */
  readonly small: Tensor;
  /** What the network made of them. */
  readonly made: Tensor;
  /** What a bicubic filter makes of them. */
  readonly bicubic: Tensor;
  readonly #truth: Tensor;

  private constructor(
    truth: Tensor,
    parts: { readonly small: Tensor; readonly made: Tensor; readonly bicubic: Tensor },
  ) {
    this.#truth = truth;
    this.small = parts.small;
    this.made = parts.made;
    this.bicubic = parts.bicubic;
  }

  /**
   * Makes pictures small, and large again.
   *
   * @param stage The super-resolution; its settings have the pictures' size.
   * @param truth Pictures (B, F, H, H, 3) in [-1, 1], which stay the caller's and must be there as long as the result.
   * @param options How.
   */
  static async make(
    stage: SuperResolution,
    truth: Tensor,
    options: EnlargedPictureOptions,
  ): Promise<EnlargedPictures> {
    const { factor, seeds, signal } = options;
    const side = (truth.shape[2] ?? 0) / factor;
    using stack = new DisposableStack();
    const small = stack.use(await truth.resize({ height: side, width: side, filter: "area" }));
    const made = stack.use(await stage.sample(small, { seeds, signal }));
    const plain = { size: stage.settings.size, level: 0, seeds, stream: 0 };
    const result = new EnlargedPictures(truth, { small, made, bicubic: await enlargedFrames(small, plain) });
    stack.move();
    return result;
  }

  /** Peak signal-to-noise ratio of all pictures together in decibels: of the network and of the bicubic filter. */
  async psnr(): Promise<{ readonly made: number; readonly bicubic: number }> {
    return { made: await psnr(this.made, this.#truth), bicubic: await psnr(this.bicubic, this.#truth) };
  }

  /** {@linkcode psnr} of each clip alone. */
  async psnrOfEach(): Promise<{ readonly made: number; readonly bicubic: number }[]> {
    const decibels: { made: number; bicubic: number }[] = [];
    for (let index = 0; index < (this.#truth.shape[0] ?? 0); index++) {
      using truth = await this.#truth.gather(0, [index]);
      using made = await this.made.gather(0, [index]);
      using bicubic = await this.bicubic.gather(0, [index]);
      decibels.push({ made: await psnr(made, truth), bicubic: await psnr(bicubic, truth) });
    }
    return decibels;
  }

  /** Frees the pictures. */
  [Symbol.dispose](): void {
    for (const pictures of [this.small, this.made, this.bicubic]) pictures.dispose();
  }
}
