/**
 * How D^t is sampled: guidance, sampler and steps, and noise that frames have in common.
 *
 * @module
 */
import { Tensor } from "../../../ffi/tensor.ts";
import type { Cascade } from "../../cascade/cascade.ts";
import { stageSettings } from "../../cascade/model_index.ts";
import { SAMPLER_TYPES } from "../../cascade/plan_parts.ts";
import type { SamplerName } from "../../cascade/run_plan.ts";
import type { SamplerConfig } from "../../diffusion/sampler.ts";
import type { AblationArm, AblationGroup, AblationSettings, AblationWork, ArmOptions, Measured } from "./ablation.ts";
import { clipFigures, firstClip, numbers } from "./clip_figures.ts";

/** What is asked for: names that training captions have, of things that move in the data and of things that do not. */
export const ABLATION_PROMPTS: readonly string[] = [
  "a rocket",
  "a butterfly",
  "a beating heart",
  "a dog",
  "the sun",
  "a ghost",
  "a snowman",
  "a bell",
];

const PROTOCOL =
  "Prompts in words, embedded by text encoder and prior, one seed each; the decoder's clips are measured. " +
  "agreement: mean cosine of the frames' image embeddings to the one asked for. motion: mean absolute difference of " +
  "neighbouring frames at 8 x 8 pixels. acceleration: the same of second differences over motion, 1.73 for white noise. " +
  "border: the difference in the outermost two of 32 pixels.";

const STAGES = ["text", "image", "prior", "decoder"] as const;

/** How strongly the condition leads. */
export const guidance: AblationGroup = {
  name: "guidance",
  question: "Classifier-free guidance of the decoder",
  protocol: PROTOCOL,
  stages: STAGES,
  needsData: false,
  arms: (cascade, options) =>
    [1, 1.5, 2, 3, 5, 8].map((guidance) => arm(`${guidance}`, { guidance }, cascade, options)),
};

/** Samplers by their numbers of steps. */
const SAMPLER_STEPS: Readonly<Record<SamplerName, readonly number[]>> = {
  ddim: [2, 4, 8, 16, 32],
  "dpm-solver++": [4, 8, 16],
  ddpm: [8, 16, 32],
};

/** Which sampler, and how many steps. */
export const sampler: AblationGroup = {
  name: "sampler",
  question: "Sampler and steps of the decoder",
  protocol: PROTOCOL,
  stages: STAGES,
  needsData: false,
  arms: (cascade, options) =>
    Object.entries(SAMPLER_STEPS).flatMap(([sampler, counts]) =>
      counts.map((steps) => arm(`${sampler} ${steps}`, { sampler, steps }, cascade, options))
    ),
};

/** Noise that frames have in common when sampling only. */
export const commonNoise: AblationGroup = {
  name: "common-noise",
  question: "Share of the noise that all frames of the decoder have in common, in sampling",
  protocol: PROTOCOL,
  stages: STAGES,
  needsData: false,
  arms(cascade, options): AblationArm[] {
    const { common_noise: trained } = stageSettings(cascade.index, "decoder");
    return [0, 0.1, 0.2, 0.3, 0.5, 0.8, 1].map((common_noise) =>
      arm(`${common_noise}`, { common_noise }, cascade, options, { "trained with": trained })
    );
  },
};

/** Noise that changes smoothly when sampling only. */
export const noiseSeconds: AblationGroup = {
  name: "noise-seconds",
  question: "Seconds over which the rest of the decoder's noise changes, in sampling",
  protocol: PROTOCOL,
  stages: STAGES,
  needsData: false,
  arms(cascade, options): AblationArm[] {
    const { noise_seconds: trained } = stageSettings(cascade.index, "decoder");
    return [0, 0.1, 0.2, 0.3, 0.5, 1].map((noise_seconds) =>
      arm(`${noise_seconds}`, { noise_seconds }, cascade, options, { "trained with": trained })
    );
  },
};

function arm(
  name: string,
  varied: AblationSettings,
  { index }: Cascade,
  { samples }: ArmOptions,
  more: AblationSettings = {},
): AblationArm {
  const prompts = ABLATION_PROMPTS.slice(0, samples);
  const { steps, guidance, sampler, common_noise, noise_seconds, frames, fps } = stageSettings(index, "decoder");
  const prior = stageSettings(index, "prior");
  const all = { steps, guidance, sampler: sampler.type, common_noise, noise_seconds, frames, fps, ...varied };
  const settings = Object.entries(all).filter(([name]) => !(name in varied));
  return {
    name,
    varied,
    settings: {
      ...Object.fromEntries(settings),
      prior_steps: prior.steps,
      prior_guidance: prior.guidance,
      prompts: prompts.join(", "),
      ...more,
    },
    seeds: numbers(1, prompts.length),
    measure: (work) => measure(work, all, prompts),
  };
}

async function measure(work: AblationWork, settings: AblationSettings, prompts: readonly string[]): Promise<Measured> {
  const { cascade, signal, onProgress } = work;
  const decoder = await cascade.stage("decoder");
  const sampler = typeof settings["sampler"] === "string" && settings["sampler"] in SAMPLER_TYPES
    ? { type: SAMPLER_TYPES[settings["sampler"] as SamplerName] } as SamplerConfig
    : undefined;
  const steps = Number(settings["steps"]);
  using stack = new DisposableStack();
  const [clips, embeddings]: [Tensor[], Tensor[]] = [[], []];
  for (const [index, prompt] of prompts.entries()) {
    const seed = index + 1;
    const embedding = stack.use(await cascade.embed(prompt, { seed, signal }));
    const run = decoder.stream(embedding, {
      seeds: [seed],
      steps,
      guidance: Number(settings["guidance"]),
      sampler: sampler?.type === decoder.settings.sampler.type ? undefined : sampler,
      commonNoise: Number(settings["common_noise"]),
      noiseSeconds: Number(settings["noise_seconds"]),
      signal,
    });
    let result = await run.next();
    while (!result.done) {
      onProgress(index * steps + result.value.step, prompts.length * steps);
      result = await run.next();
    }
    embeddings.push(embedding);
    clips.push(stack.use(result.value));
  }
  using all = await Tensor.cat(clips, 0);
  using wanted = await Tensor.cat(embeddings, 0);
  return { figures: { ...await clipFigures(cascade, all, wanted) }, frames: await firstClip(all) };
}
