/**
 * Several samples of one prompt, of which the one that looks most like it is kept: the CLIP pair judges, as unCLIP's prior
 * chooses among its candidates (Ramesh et al. 2022, 2.2).
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor } from "../../ffi/tensor.ts";
import type { Cascade } from "./cascade.ts";
import { CascadeRun, type RunInput } from "./cascade_run.ts";
import type { CascadePreview } from "./previews.ts";
import type { RunPlan } from "./run_plan.ts";

/** The most samples. */
export const MOST_SAMPLES = 64;

/**
 * Runs prior and decoder with one seed after the other, then the other stages with the best. Until then previews are of all
 * samples in turn, and their results are kept back.
 *
 * @param cascade The cascade.
 * @param plan Which stages run.
 * @param input What the first sample starts from; the others have the next seeds.
 * @param samples How many, at least 1.
 */
export async function* rankedStages(
  cascade: Cascade,
  plan: RunPlan,
  input: RunInput,
  samples: number,
): AsyncGenerator<CascadePreview, void, void> {
  const [tower, image] = [await cascade.stage("text"), await cascade.stage("image")];
  const { texts, seed, signal } = input;
  if (texts === undefined) throw new KinoraError("refused", "samples are ranked by a prompt, and there is none");
  using text = await tower.encode([texts.prompt], { signal });
  const first = plan.stages.slice(0, 2);
  const scores: number[] = [];
  let best: CascadeRun | undefined;
  // The last preview of each of these stages, which is shown again as that of the chosen sample.
  let prior: CascadePreview | undefined;
  try {
    for (let sample = 0; sample < samples; sample++) {
      const run = new CascadeRun(cascade, plan, { ...input, seed: seed + sample });
      let kept: CascadePreview | undefined;
      try {
        for await (const preview of run.stages(first)) {
          const { step, total } = preview;
          if (!preview.done) yield { ...preview, step: sample * total + step, total: samples * total };
          else if (preview.stage === "prior") kept = { ...preview, step: samples * total, total: samples * total };
          else preview.video.dispose();
        }
        using pictures = await run.frames.reshape(run.frames.shape.slice(1));
        using embeddings = await image.encode(pictures, { signal });
        using cosines = await Tensor.matmul(text.embedding, embeddings);
        scores.push((await cosines.stats()).mean);
      } catch (error) {
        free(kept);
        run[Symbol.dispose]();
        throw error;
      }
      if (best === undefined || scores.every((score) => score <= (scores[sample] ?? 0))) {
        best?.[Symbol.dispose]();
        free(prior);
        [best, prior] = [run, kept];
      } else {
        free(kept);
        run[Symbol.dispose]();
      }
    }
    if (best === undefined || prior === undefined) throw new KinoraError("failed", "There were no samples");
    best.ranking = { firstSeed: seed, scores };
    const shown = prior;
    prior = undefined;
    yield shown;
    const total = samples * (plan.steps.decoder ?? 0);
    yield { stage: "decoder", step: total, total, done: true, video: await best.result("decoder") };
    yield* best.stages(plan.stages.slice(first.length));
  } finally {
    free(prior);
    best?.[Symbol.dispose]();
  }
}

function free(preview: CascadePreview | undefined): void {
  if (preview?.stage === "prior") preview.embedding?.dispose();
}
