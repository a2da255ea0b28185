/**
 * The interpolation on real clips: frames between known ones are hidden, and made again.
 *
 * @module
 */
import type { Tensor } from "../../ffi/tensor.ts";
import type { Interpolation } from "../cascade/interpolation.ts";
import { blendedFrames } from "../cascade/known_frames.ts";
import { WINDOW } from "../cascade/windows.ts";
import type { Clip } from "../data/dataset_index.ts";
import { clipRows } from "./clip_sampling.ts";
import { psnr } from "./measures.ts";
import type { TrainingData } from "./training_data.ts";

/** Distance of known frames unless asked otherwise: that of 76 frames made of 16. */
export const HIDDEN_SKIP = 5;

/** What is hidden, and how it is made again. */
export interface HiddenFrameOptions {
  /** The clips. */
  readonly clips: readonly Clip[];
  /** The pictures' embeddings of all concepts (N, E). */
  readonly bank: Tensor;
  /** One seed for each clip. */
  readonly seeds: readonly number[];
  /** Frames a second at which the clips are read. */
  readonly fps: number;
  /**
   * Distance of known frames, 2 to 15.
   *
   * @default {5}
   */
  readonly skip?: number | undefined;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
}

/** Clips whose hidden frames were made again, each (B, F, H, W, 3): 16 frames, or fewer so that the last one is known. */
export class HiddenFrames implements Disposable {
  /** The real frames. */
  readonly truth: Tensor;
  /** What the network made; known frames are as they were. */
  readonly made: Tensor;
  /** Mixtures of the known frames beside each. */
  readonly blend: Tensor;
  readonly #hidden: readonly number[];

  private constructor(
    parts: { readonly truth: Tensor; readonly made: Tensor; readonly blend: Tensor },
    hidden: readonly number[],
  ) {
    this.truth = parts.truth;
    this.made = parts.made;
    this.blend = parts.blend;
    this.#hidden = hidden;
  }

  /**
   * Hides all but every fifth of 16 frames, or what `skip` says, and makes them again.
   *
   * @param stage The interpolation.
   * @param data The data set.
   * @param options Which clips, and how.
   */
  static async make(stage: Interpolation, data: TrainingData, options: HiddenFrameOptions): Promise<HiddenFrames> {
    const { clips, bank, seeds, fps, skip = HIDDEN_SKIP, signal } = options;
    const frames = WINDOW - (WINDOW - 1) % skip;
    const places = Array.from({ length: frames }, (_, frame) => frame);
    using stack = new DisposableStack();
    const rows = clips.map((clip) => clipRows(clip, { frames, fps, first: 0 }));
    const truth = stack.use(await data.sequences("clips64", rows));
    const shown = places.filter((frame) => frame % skip === 0);
    using given = await truth.gather(1, shown);
    using embeddings = await bank.gather(0, clips.map(({ concept }) => concept));
    const made = stack.use(
      await stage.sample(given, embeddings, { seeds, skip, fps: fps / skip, signal }),
    );
    const known = shown.map((frame) => ({ position: frame, source: "key" as const, frame }));
    const blend = await blendedFrames(truth, { known });
    const result = new HiddenFrames({ truth, made, blend }, places.filter((frame) => frame % skip !== 0));
    stack.move();
    return result;
  }

  /** Peak signal-to-noise ratio of the hidden frames, all together, in decibels: of the network and of the blend. */
  async psnr(): Promise<{ readonly made: number; readonly blend: number }> {
    using right = await this.truth.gather(1, this.#hidden);
    const of = async (clips: Tensor): Promise<number> => {
      using some = await clips.gather(1, this.#hidden);
      return await psnr(some, right);
    };
    return { made: await of(this.made), blend: await of(this.blend) };
  }

  /** Frees the frames. */
  [Symbol.dispose](): void {
    for (const clips of [this.truth, this.made, this.blend]) clips.dispose();
  }
}
