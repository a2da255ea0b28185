/**
 * Short trainings of D^t that differ in one thing: how its temporal layers start, which there are, the curriculum of frame
 * rates, and the noise that frames have in common.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { KinoraError } from "../../../ffi/errors.ts";
import { Network, type Precision } from "../../../ffi/network.ts";
import type { Tensor } from "../../../ffi/tensor.ts";
import { Decoder } from "../../cascade/decoder.ts";
import { CONFIG_FILE, WEIGHTS_FILE } from "../../cascade/model_files.ts";
import { CASCADE_CLASS, type DecoderSettings, stageSettings } from "../../cascade/model_index.ts";
import { frameNoise } from "../../diffusion/frame_noise.ts";
import type { Clip } from "../../data/dataset_index.ts";
import { clipRows } from "../../training/clip_sampling.ts";
import { drawTimes, noisyBatch } from "../../training/diffusion_batch.ts";
import { motionOf, rmsDifference } from "../../training/measures.ts";
import { ModelFolder } from "../../training/model_folder.ts";
import { Draws } from "../../training/random.ts";
import { type NetworkRecipe, parseRecipe } from "../../training/recipe.ts";
import { runStage } from "../../training/run_stage.ts";
import { evaluationSeeds, type StageContext, type StageTraining } from "../../training/stage_training.ts";
import { spread } from "../../training/training_data.ts";
import type { AblationArm, AblationGroup, AblationSettings, AblationWork, ArmOptions, Measured } from "./ablation.ts";
import { clipFigures, firstClip, numbers } from "./clip_figures.ts";
import { type TemporalStart, writeStartNetwork } from "./start_network.ts";

/** The seed of every arm: of new weights, batches and noise. */
const SEED = 0;

/** Noise levels that the loss of each clip is measured at. */
const LEVELS = 4;

/** What an arm may do differently. */
interface Variation {
  /** How temporal layers start. */
  readonly start: TemporalStart;
  /** Which temporal layers there are. */
  readonly layers: "both" | "convolution" | "attention" | "none";
  /** Whether frame rates go from high to low, or are even all the time. */
  readonly curriculum: boolean;
  /** The share of noise that frames have in common, in training as in sampling. */
  readonly common_noise: number;
  /** Seconds over which the rest changes, in training as in sampling. */
  readonly noise_seconds: number;
}

const PLAIN: Variation = { start: "identity", layers: "both", curriculum: true, common_noise: 0, noise_seconds: 0 };

const ARMS: Readonly<Record<string, Partial<Variation>>> = {
  "as in the paper": {},
  "random start": { start: "random" },
  "convolution only": { layers: "convolution" },
  "attention only": { layers: "attention" },
  "no temporal layers": { layers: "none" },
  "even frame rates": { curriculum: false },
  "common noise 0.5": { common_noise: 0.5 },
  "noise over 0.3 s": { noise_seconds: 0.3 },
};

/** Short trainings of the decoder's temporal layers. */
export const temporalTraining: AblationGroup = {
  name: "temporal-training",
  question: "Short trainings of D^t: initialisation, temporal layers, fps curriculum, noise of frames",
  protocol:
    "The model's decoder loses its temporal layers and its frame rate, grows new ones and is trained on clips for a " +
    "few steps, by the recipe's stage decoder-video without pictures and without clipping of gradients; all arms see the " +
    "same clips and noise. Measured with averaged weights on clips kept from training, each asked for with the embedding of " +
    `its first frame. loss: mean square error of the prediction at ${LEVELS} fixed times and fixed noise of a clip; of ` +
    "another share of common noise it is another task's. motion, acceleration, border: of sampled clips, beside them those " +
    "of the real ones. quick_ratio: motion at the greatest trained frame rate over that at the usual one.",
  stages: ["image", "decoder"],
  needsData: true,
  arms(cascade, options): AblationArm[] {
    const { steps, guidance, frames, fps } = stageSettings(cascade.index, "decoder");
    const sampling = { sampling_steps: steps, guidance, frames, fps };
    return Object.entries(ARMS).map(([name, variation]) => arm(name, { ...PLAIN, ...variation }, sampling, options));
  },
};

function arm(name: string, variation: Variation, sampling: AblationSettings, options: ArmOptions): AblationArm {
  const { trainingSteps: steps, batch, samples } = options;
  const recipe = shortStage(variation, options);
  return {
    name,
    varied: { ...variation },
    settings: {
      steps,
      batch,
      clips: samples,
      ...sampling,
      learning_rate: recipe.stage.training.learningRate.rate,
      recipe: recipe.hash,
    },
    seeds: [SEED],
    async measure(work): Promise<Measured> {
      const { cascade, data, folder, signal } = work;
      const model = await startModel(work, variation);
      await runStage({ ...recipe.stage, start: unmeasured }, {
        data,
        model,
        run: folder,
        seed: SEED,
        precision: cascade.precision,
        signal,
        onProgress: ({ step }) => work.onProgress(step, steps + 1),
      });
      signal?.throwIfAborted();
      using trained = await Network.load(model.networkFolder("decoder"));
      const measured = await measure(work, trained, model.settings("decoder"), samples);
      work.onProgress(steps + 1, steps + 1);
      return measured;

      /** The stage's training without its own measures. */
      async function unmeasured(context: StageContext): Promise<StageTraining> {
        const training = await recipe.stage.start(context);
        return {
          networks: training.networks,
          batch: (request) => training.batch(request),
          evaluate: () => Promise.resolve({}),
          [Symbol.dispose]: () => training[Symbol.dispose](),
        };
      }
    },
  };
}

/** The recipe's stage for a few steps, varied, and the beginning of its SHA-256. */
function shortStage(
  variation: Variation,
  { trainingSteps, batch, recipe }: ArmOptions,
): { readonly stage: NetworkRecipe; readonly hash: string } {
  if (recipe === undefined) throw new KinoraError("refused", "Short trainings follow a recipe: give one");
  const stages = Array.isArray(recipe["stages"]) ? recipe["stages"] as readonly Record<string, unknown>[] : [];
  const found = stages.find(({ stage }) => stage === "decoder-video");
  if (found === undefined) throw new KinoraError("refused", "The recipe has no stage decoder-video to train");
  const { minutes: _, ...own } = found;
  const still = STILL_LAYERS[variation.layers].map((names_with) => ({ names_with, scale: 0 }));
  const stage = {
    ...own,
    steps: trainingSteps,
    batch,
    pictures: 0,
    // Layers that do not learn would count in the gradient's length.
    clip: 1e6,
    warmup_steps: Math.min(Number(own["warmup_steps"] ?? 100), Math.ceil(trainingSteps / 5)),
    evaluation_minutes: 1_000_000,
    rates: [...(own["rates"] ?? []) as readonly unknown[], ...still],
    ...variation.curriculum ? {} : { fps_curriculum: { start: 1, end: 1 } },
  };
  const [parsed] = parseRecipe({ ...recipe, stages: [stage] }, "recipe").stages;
  if (parsed?.stage !== "decoder-video") throw new KinoraError("refused", "The recipe has no stage decoder-video");
  return { stage: parsed, hash: createHash("sha256").update(JSON.stringify(stage)).digest("hex").slice(0, 12) };
}

/** Weights that do not learn: a temporal layer that stays the identity it starts as is the same as none. */
const STILL_LAYERS: Readonly<Record<Variation["layers"], readonly string[]>> = {
  both: [],
  convolution: [".temporal."],
  attention: [".temporal_conv."],
  none: [".temporal.", ".temporal_conv."],
};

/** The model that is trained, in the arm's folder: the image tower, and the decoder to start from. */
async function startModel(
  { cascade, folder }: AblationWork,
  { start, common_noise, noise_seconds }: Variation,
): Promise<ModelFolder> {
  const image = stageSettings(cascade.index, "image");
  const decoder = stageSettings(cascade.index, "decoder");
  const model = `${folder}/model`;
  await Deno.mkdir(`${model}/${image.folder}`, { recursive: true });
  for (const file of [CONFIG_FILE, WEIGHTS_FILE]) {
    await Deno.copyFile(`${cascade.index.folder}/${image.folder}/${file}`, `${model}/${image.folder}/${file}`);
  }
  const from = `${cascade.index.folder}/${decoder.folder}`;
  await writeStartNetwork(from, `${folder}/decoder-image/decoder`, { start, seed: SEED });
  const stages = { image, decoder: { ...decoder, common_noise, noise_seconds } };
  return await ModelFolder.open(model, { _class_name: CASCADE_CLASS, name: cascade.index.name, stages }, ["decoder"]);
}

async function measure(
  work: AblationWork,
  network: Network,
  settings: DecoderSettings,
  samples: number,
): Promise<Measured> {
  const { cascade, data, signal } = work;
  // The stage would free the network, so it is not disposed.
  const decoder = new Decoder(network, settings, cascade.precision);
  const clips = spread(data.unseenClips, samples);
  const { fps, fps_range, frames: length } = settings;
  const rows = clips.map((clip: Clip) => clipRows(clip, { frames: length, fps, first: 0 }));
  using truth = await data.sequences("clips64", rows);
  using first = await truth.gather(1, [0]);
  using pictures = await first.reshape([clips.length, ...truth.shape.slice(2)]);
  using embeddings = await (await cascade.stage("image")).encode(pictures, { signal });
  const loss = await validationLoss(network, { settings, truth, embeddings, precision: cascade.precision, signal });
  const options = { seeds: evaluationSeeds(clips.length), frames: length, signal };
  using drawn = await decoder.sample(embeddings, options);
  using quick = await decoder.sample(embeddings, { ...options, fps: fps_range.most });
  const [made, real, fast] = [
    await clipFigures(cascade, drawn, embeddings),
    await motionOf(truth),
    await motionOf(quick),
  ];
  return {
    figures: {
      loss,
      ...made,
      motion_real: real.motion,
      acceleration_real: real.acceleration,
      border_real: real.border,
      quick_ratio: made.motion === 0 ? 1 : fast.motion / made.motion,
    },
    frames: await firstClip(drawn),
  };
}

/** The mean square error of the network's prediction, at fixed times and noise. */
async function validationLoss(
  network: Network,
  given: {
    readonly settings: DecoderSettings;
    readonly truth: Tensor;
    readonly embeddings: Tensor;
    readonly precision: Precision;
    readonly signal: AbortSignal | undefined;
  },
): Promise<number> {
  const { settings, truth, embeddings, precision, signal } = given;
  let sum = 0;
  const clips = truth.shape[0] ?? 0;
  for (let clip = 0; clip < clips; clip++) {
    const same = new Array<number>(LEVELS).fill(clip);
    using clean = await truth.gather(0, same);
    using condition = await embeddings.gather(0, same);
    const draws = new Draws(SEED, 0, clip);
    using noise = await frameNoise({
      shape: clean.shape,
      seeds: numbers(clip * LEVELS, LEVELS),
      stream: 0,
      common: settings.common_noise,
      smooth: { seconds: settings.noise_seconds, fps: settings.fps },
    });
    const { noisy, target, timesteps } = await noisyBatch(
      clean,
      noise,
      drawTimes(settings, LEVELS, draws),
      settings.prediction,
    );
    using sample = noisy;
    using wanted = target;
    const inputs = {
      sample,
      timestep: timesteps,
      image_embedding: condition,
      drop: new Array<number>(LEVELS).fill(0),
      ...network.config["fps_conditioning"] === true ? { fps: new Array<number>(LEVELS).fill(settings.fps) } : {},
    };
    const { sample: output } = await network.forward(inputs, { precision, ...signal === undefined ? {} : { signal } });
    if (output === undefined) throw new KinoraError("failed", "The decoder gave no sample");
    using made = output;
    const error = await rmsDifference(made, wanted);
    sum += error * error / clips;
  }
  return sum;
}
