import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import { readModelIndex } from "../../lib/cascade/model_index.ts";
import { noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";
import { ModelFolder } from "../../lib/training/model_folder.ts";
import { Draws } from "../../lib/training/random.ts";
import { parseRecipe } from "../../lib/training/recipe.ts";
import { TRAINED_STAGES, type TrainedStage } from "../../lib/training/stage_training.ts";
import { TrainingData } from "../../lib/training/training_data.ts";
import { trainRecipe, type TrainRecipeOptions } from "../../lib/training/train_recipe.ts";
import { tinyRecipe, writeTinyData } from "./tiny_training.ts";

await libraryInfo();

/** Trains the tiny recipe in `folder`, which has the data set. */
async function train(
  folder: string,
  name: string,
  steps: number,
  options: Partial<TrainRecipeOptions> = {},
): ReturnType<typeof trainRecipe> {
  return await trainRecipe(parseRecipe(tinyRecipe(steps), "tiny.json"), {
    data: `${folder}/data`,
    model: `${folder}/${name}/model`,
    run: `${folder}/${name}/run`,
    precision: "f32",
    workers: 2,
    ...options,
  });
}

async function withData(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await writeTinyData(`${folder}/data`);
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function logLines(folder: string, stage: TrainedStage): Promise<Record<string, number>[]> {
  const text = await Deno.readTextFile(`${folder}/run/${stage}/log.jsonl`);
  return text.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("all stages of a recipe make a model that generates", () =>
  withData(async (folder) => {
    const reports = await train(folder, "all", 2);
    assertEquals(reports.map(({ stage }) => stage), [...TRAINED_STAGES]);
    for (const { stage, steps, finished, measures } of reports) {
      assert(finished, stage);
      assertEquals(steps, stage === "tokenizer" ? 1 : 2);
      assert(Object.keys(measures).length > 0, stage);
      for (const [name, value] of Object.entries(measures)) assert(Number.isFinite(value), `${stage} ${name}`);
    }
    const index = await readModelIndex(`${folder}/all/model`);
    assertEquals(Object.keys(index.stages).length, 7);
    const sheets = [...TRAINED_STAGES].filter((stage) => /decoder|interpolation|sr/.test(stage));
    for (const stage of sheets) assert((await Deno.stat(`${folder}/all/run/${stage}/sheet.png`)).size > 100, stage);
    const lines = await logLines(`${folder}/all`, "sr-high");
    assertEquals(lines.map(({ step }) => step), [1, 2, 2]);
    assert((lines[1]?.["samples_per_second"] ?? 0) > 0);
    using cascade = await Cascade.load(`${folder}/all/model`, { precision: "f32" });
    using video = await cascade.generate("a red fox", { seed: 1, frames: 31, size: 96 });
    assertEquals(video.tensor.shape, [31, 96, 96, 3]);

    // What is done is left as it is; with a larger budget it goes on.
    const before = await Deno.readFile(`${folder}/all/run/sr-high/checkpoint.safetensors`);
    const [again] = await train(folder, "all", 2, { stages: ["sr-high"] });
    assertEquals(again?.steps, 2);
    assertEquals(await Deno.readFile(`${folder}/all/run/sr-high/checkpoint.safetensors`), before);
    const [more] = await train(folder, "all", 3, { stages: ["sr-high"] });
    assertEquals(more?.steps, 3);
    // From the model's weights: steps are counted anew.
    const [onwards] = await train(folder, "all", 1, { stages: ["sr-high"], start: "continue" });
    assertEquals(onwards?.steps, 1);
  }));

Deno.test("a run that is interrupted and resumed gives the weights of one that was not", () =>
  withData(async (folder) => {
    const stages: TrainedStage[] = ["tokenizer", "text-pair", "decoder-image"];
    await train(folder, "whole", 4, { stages });
    await train(folder, "parts", 4, { stages: ["tokenizer", "text-pair"] });
    const controller = new AbortController();
    const stop = new KinoraError("cancelled", "interrupted");
    await assertRejects(
      () =>
        train(folder, "parts", 4, {
          stages: ["decoder-image"],
          signal: controller.signal,
          onProgress: ({ step }) => step === 2 && controller.abort(stop),
        }),
      KinoraError,
      "interrupted",
    );
    const weights = (name: string): Promise<Uint8Array> =>
      Deno.readFile(`${folder}/${name}/model/decoder/${WEIGHTS_FILE}`);
    const whole = await weights("whole");
    assertNotEquals(await weights("parts"), whole);
    const [report] = await train(folder, "parts", 4, { stages: ["decoder-image"] });
    assertEquals(report?.steps, 4);
    assertEquals(await weights("parts"), whole);
    const steps = (await logLines(`${folder}/parts`, "decoder-image")).map(({ step }) => step);
    assertEquals(steps, [1, 2, 3, 4, 4]);
    // Another seed is another run.
    await train(folder, "parts", 4, { stages: ["decoder-image"], start: "restart", seed: 5 });
    assertNotEquals(await weights("parts"), whole);
  }));

Deno.test("a run that writes a checkpoint after its last step ends as any other", () =>
  withData(async (folder) => {
    await train(folder, "slow", 1, { stages: ["tokenizer"] });
    const now = performance.now;
    // Every look at the clock takes five minutes, so that there is a checkpoint after each step.
    let ticks = 0;
    performance.now = () => 300_000 * ticks++;
    try {
      const [report] = await train(folder, "slow", 2, { stages: ["text-pair"] });
      assert(report?.finished && Object.keys(report.measures).length > 0);
    } finally {
      performance.now = now;
    }
    assert((await Deno.stat(`${folder}/slow/model/clip_text/${WEIGHTS_FILE}`)).size > 0);
  }));

Deno.test("losses fall", () =>
  withData(async (folder) => {
    await train(folder, "long", 60, { stages: ["tokenizer", "text-pair", "text-tuning", "prior", "decoder-image"] });
    for (const stage of ["text-pair", "text-tuning", "prior", "decoder-image"] as const) {
      const losses = (await logLines(`${folder}/long`, stage)).flatMap(({ loss }) => loss ?? []);
      const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
      const [first, last] = [mean(losses.slice(0, 10)), mean(losses.slice(-10))];
      assert(last < 0.95 * first, `${stage}: ${first} to ${last}`);
    }
  }));

Deno.test("clips are trained with the decoder's noise", () =>
  withData(async (folder) => {
    await train(folder, "noise", 1, { stages: ["tokenizer", "text-pair", "decoder-image"] });
    using data = await TrainingData.open(`${folder}/data`);
    for (const [share, seconds] of [[0, 0], [0.5, 0], [1, 0], [0.3, 0.1]] as const) {
      const json = tinyRecipe(1);
      const { decoder } = (json["model"] as { stages: Record<string, Record<string, unknown>> }).stages;
      Object.assign(decoder ?? {}, { common_noise: share, noise_seconds: seconds });
      const { model: index, stages } = parseRecipe(json, "tiny.json");
      const video = stages.find(({ stage }) => stage === "decoder-video");
      assert(video !== undefined && video.stage !== "tokenizer");
      // The model's own index, written without a share, gives way to the recipe's.
      const model = await ModelFolder.open(`${folder}/noise/model`, index, ["decoder"]);
      using training = await video.start({
        data,
        model,
        seed: 0,
        precision: "f32",
        network: (part) => Network.load(model.networkFolder(part), { trainable: true }),
      });
      using held = new DisposableStack();
      const levels = noiseSchedule(model.settings("decoder").schedule);
      const [correlations, expected]: [number[], number[]] = [[], []];
      for (let step = 0; correlations.length < 8; step++) {
        const [objective] = await training.batch({
          samples: 2,
          step,
          progress: 0,
          draws: new Draws(0, 0, step),
          keep: (tensor) => held.use(tensor),
        });
        if (objective?.type !== "regression") throw new Error("no regression");
        // Batches of pictures have one frame.
        const { sample, timestep, fps } = objective.inputs as { sample: Tensor; timestep: number[]; fps: number[] };
        if (sample.shape[1] === 1) continue;
        const at = timestep.map((time) => levels.level(time / 1000));
        // Of a noisy sample and its v, the noise.
        using noise = await Tensor.combine([
          { tensor: sample, scale: at.map(({ sigma }) => sigma) },
          { tensor: objective.target, scale: at.map(({ alpha }) => alpha) },
        ]);
        const [values, size] = [await noise.read(), 8 * 8 * 3];
        const products = Array.from({ length: size }, (_, place) => (values[place] ?? 0) * (values[size + place] ?? 0));
        correlations.push(products.reduce((sum, value) => sum + value, 0) / size);
        const alike = seconds === 0 ? 0 : Math.exp(-((1 / (fps[0] ?? NaN) / seconds) ** 2) / 2);
        expected.push(share + (1 - share) * alike);
      }
      const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
      assert(Math.abs(mean(correlations) - mean(expected)) < 0.12, `${correlations} in place of ${expected}`);
      assert(seconds === 0 || mean(expected) > share + 0.1);
    }
  }));

Deno.test("what is missing is said before anything is trained", () =>
  withData(async (folder) => {
    const refused = async (options: Partial<TrainRecipeOptions>, message: string): Promise<void> => {
      await assertRejects(() => train(folder, "none", 1, options), KinoraError, message);
    };
    await refused({ data: `${folder}/nothing` }, "There is no data set");
    await refused({ stages: ["decoder-video"] }, "starts from decoder-image, which must be trained first");
    await refused({ stages: ["text-pair"] }, "tokenizer.json");
    const recipe = parseRecipe({ ...tinyRecipe(1), stages: tinyRecipe(1).stages.slice(0, 2) }, "two.json");
    const options = { data: `${folder}/data`, model: `${folder}/m`, run: `${folder}/r`, stages: ["prior"] as const };
    await assertRejects(
      () => trainRecipe(recipe, options),
      KinoraError,
      "has no stage prior; it has tokenizer, text-pair",
    );
  }));
