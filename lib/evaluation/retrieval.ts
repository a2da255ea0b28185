/**
 * Whether the whole chain from text shows what was asked for: of all pictures of the data set, is the wanted one the
 * nearest to a frame?
 *
 * @module
 */
import { Tensor } from "../../ffi/tensor.ts";
import { stageSettings } from "../cascade/model_index.ts";
import { PictureBank } from "../training/measures.ts";
import type { Figure, Protocol } from "./figure.ts";
import { type Bench, COMPARED_SIDE, figure, type MeasureOptions } from "./measure.ts";
import { PROMPT_SETS, promptSet, SENTENCES } from "./prompts.ts";

/**
 * Measures retrieval by pixels, of the first frame and of the mean over frames, from names, sentences and search words.
 *
 * @param bench The model and the data set.
 * @param options How.
 */
export async function measureRetrieval(bench: Bench, options: MeasureOptions): Promise<Figure[]> {
  const { data } = bench;
  const { seed, signal, onProgress } = options;
  const { fps } = stageSettings(bench.cascade.index, "decoder");
  const sets = PROMPT_SETS.map((set) => ({ set, prompts: promptSet(data, set, options.concepts) }));
  const total = sets.reduce((sum, { prompts }) => sum + prompts.length, 0);
  using bank = await candidates(bench);
  const stages = await bench.stages("text", "prior", ...bench.chainStages);
  const figures: Figure[] = [];
  let done = 0;
  for (const { set, prompts } of sets) {
    if (prompts.length === 0) continue;
    using stack = new DisposableStack();
    const [first, middle]: [Tensor[], Tensor[]] = [[], []];
    for (const { text } of prompts) {
      const clip = await bench.chain(text, { seed, fps, signal });
      first.push(stack.use(await frame(clip)));
      middle.push(stack.use(await meanFrame(clip)));
      onProgress?.(++done, total);
    }
    const right = prompts.map(({ concepts }) => concepts);
    for (const [which, frames] of [["first", first], ["mean", middle]] as const) {
      const protocol: Protocol = {
        what: `${which} frame of the whole chain against all pictures, root mean square distance of pixels`,
        count: prompts.length,
        seeds: `${seed} for every prompt`,
        stages,
        settings: {
          side: COMPARED_SIDE,
          filter: "area",
          candidates: data.concepts.length,
          fps,
          prompts: set,
          ...set === "sentences" ? { sentences: SENTENCES.join(" | ") } : {},
        },
      };
      using pictures = await Tensor.cat(frames, 0);
      const { r1, r5 } = await bank.recall(pictures, right);
      figures.push(figure(`retrieval.${set}.${which}.r1`, r1, "share", protocol));
      figures.push(figure(`retrieval.${set}.${which}.r5`, r5, "share", protocol));
    }
  }
  return figures;
}

async function candidates({ data }: Bench): Promise<PictureBank> {
  using stills = await data.rows("stills64", data.concepts.map(({ still }) => still));
  return await PictureBank.create(stills, COMPARED_SIDE);
}

/** The first frame of a clip (1, F, H, W, 3) as (1, H, W, 3). */
async function frame(clip: Tensor): Promise<Tensor> {
  using one = await clip.gather(1, [0]);
  return await one.reshape([1, ...clip.shape.slice(2)]);
}

/** The mean over frames of a clip (1, F, H, W, 3) as (1, H, W, 3). */
async function meanFrame(clip: Tensor): Promise<Tensor> {
  const [, frames = 0, ...picture] = clip.shape;
  using stack = new DisposableStack();
  const terms: { tensor: Tensor; scale: number }[] = [];
  for (let at = 0; at < frames; at++) {
    terms.push({ tensor: stack.use(await clip.gather(1, [at])), scale: 1 / frames });
  }
  using sum = await Tensor.combine(terms);
  return await sum.reshape([1, ...picture]);
}
