/**
 * P of Eq. 1: from the text's embedding and tokens to a CLIP image embedding. The only stage that sees text.
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { guidanceRuns, guided, repeatBatch } from "../diffusion/guidance.ts";
import { finish, sampling, type SamplingStep } from "../diffusion/sample.ts";
import type { PriorSettings } from "./model_index.ts";
import {
  checkSeeds,
  each,
  finite,
  loadNetwork,
  NetworkStage,
  type StageLoadOptions,
  type StageOptions,
  stageSteps,
} from "./network_stage.ts";
import { noiseStream } from "./stage.ts";
import type { TextEncoding } from "./text.ts";

/** What the prior can be asked. */
export interface PriorOptions extends StageOptions {
  /** Embeddings drawn for each text, of which the closest to the text's own is kept; by default what the settings say. */
  readonly candidates?: number | undefined;
  /** Texts, B of them, to lead away from, in place of no text at all; without guidance they do nothing. */
  readonly negative?: TextEncoding | undefined;
}

/**
 * The prior. Inside, embeddings have the length sqrt(E), so that their coordinates have unit variance as the noise has;
 * after each step the clean embedding is brought back to that length.
 */
export class Prior extends NetworkStage<PriorSettings> {
  /**
   * Loads the prior of a model.
   *
   * @param model The model's folder.
   * @param settings The stage's settings, from `model_index.json`.
   * @param options How.
   */
  static async load(model: string, settings: PriorSettings, options: StageLoadOptions = {}): Promise<Prior> {
    return new Prior(await loadNetwork(model, settings, options), settings, options.precision);
  }

  /**
   * Samples image embeddings step by step.
   *
   * @param text The texts, B of them.
   * @param options Seeds and numbers.
   * @returns Image embeddings of unit length, (B, E).
   */
  async *stream(text: TextEncoding, options: PriorOptions): AsyncGenerator<SamplingStep, Tensor, void> {
    const { signal } = options;
    const [batch = 0, width = 0] = text.embedding.shape;
    checkSeeds(options.seeds, batch);
    const steps = stageSteps(this.settings, options.steps);
    const guidance = options.guidance ?? this.settings.guidance;
    const candidates = options.candidates ?? this.settings.candidates;
    const away = guidanceRuns(guidance) === 1 ? undefined : options.negative;
    const inputs = (name: "embedding" | "states" | "mask"): Promise<Tensor> => {
      const [given, other] = [text[name], away?.[name]];
      const all = new Array<Tensor>(candidates).fill(given);
      if (other === undefined) return repeatBatch(given, candidates * guidanceRuns(guidance));
      return Tensor.cat([...all, ...all.map(() => other)], 0);
    };
    using embedding = await inputs("embedding");
    using states = await inputs("states");
    using mask = await inputs("mask");
    const noise = (step: number): Promise<Tensor> =>
      candidateNoise([batch, width], options.seeds, noiseStream("prior", step), candidates);
    using start = await noise(0);
    using drawn = yield* sampling({
      steps,
      sampler: this.settings.sampler,
      prediction: this.settings.prediction,
      start,
      denoise: (sample, timestep) =>
        guided(sample, guidance, (sample, drop) =>
          this.predict(
            {
              sample,
              timestep: each(drop.length, timestep),
              text_embedding: embedding,
              text_states: states,
              text_mask: mask,
              drop: away === undefined ? drop : each(drop.length, 0),
            },
            width,
            signal,
          )),
      noise,
      constrain: (clean) => clean.normalize(Math.sqrt(width)),
      signal,
    });
    using chosen = candidates === 1 ? undefined : await drawn.gather(0, await closest(drawn, text.embedding));
    return await finite(await (chosen ?? drawn).normalize(1), "prior");
  }

  /**
   * Samples image embeddings.
   *
   * @param text The texts, B of them.
   * @param options Seeds and numbers.
   * @returns Image embeddings of unit length, (B, E).
   */
  sample(text: TextEncoding, options: PriorOptions): Promise<Tensor> {
    return finish(this.stream(text, options));
  }
}

/** Noise for all candidates, one after the other; candidate k of a seed is the same however many there are. */
async function candidateNoise(
  shape: readonly [number, number],
  seeds: readonly number[],
  stream: number,
  candidates: number,
): Promise<Tensor> {
  if (candidates === 1) return Tensor.noise({ shape, seeds, stream });
  const parts: Tensor[] = [];
  try {
    for (let candidate = 0; candidate < candidates; candidate++) {
      parts.push(await Tensor.noise({ shape, seeds, stream, frames: [candidate] }));
    }
    return await Tensor.cat(parts, 0);
  } finally {
    for (const part of parts) part.dispose();
  }
}

/** For each text the row of the candidate whose cosine to the text's embedding is largest. */
async function closest(drawn: Tensor, text: Tensor): Promise<number[]> {
  using unit = await drawn.normalize(1);
  using products = await Tensor.matmul(text, unit);
  const [batch = 0, rows = 0] = products.shape;
  const cosines = await products.read();
  return Array.from({ length: batch }, (_, sample) => {
    let best = sample;
    for (let row = sample; row < rows; row += batch) {
      if ((cosines[sample * rows + row] ?? 0) > (cosines[sample * rows + best] ?? 0)) best = row;
    }
    return best;
  });
}
