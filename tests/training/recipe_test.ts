import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { parseRecipe, readRecipe } from "../../lib/training/recipe.ts";
import { TRAINED_STAGES } from "../../lib/training/stage_training.ts";
import { tinyRecipe } from "./tiny_training.ts";

Deno.test("the recipe of the embedded cascade is accepted and has all stages in order", async () => {
  const recipe = await readRecipe(fileURLToPath(new URL("../../recipes/default.json", import.meta.url)));
  assertEquals(recipe.name, "default");
  assertEquals(recipe.stages.map(({ stage }) => stage), [...TRAINED_STAGES]);
});

Deno.test("the embedded cascade is sampled as its recipe trains it", async () => {
  const read = async (path: string): Promise<Record<string, Record<string, unknown>>> =>
    JSON.parse(await Deno.readTextFile(new URL(`../../${path}`, import.meta.url)));
  const recipe = (await read("recipes/default.json"))["model"]?.["stages"] as Record<string, Record<string, unknown>>;
  const model = (await read("models/default/model_index.json"))["stages"] as Record<string, Record<string, unknown>>;
  for (const [stage, settings] of Object.entries(model)) {
    for (
      const field of [
        "schedule",
        "prediction",
        "residual_scale",
        "fps_range",
        "common_noise",
        "noise_seconds",
        "context",
        "size",
      ]
    ) {
      assertEquals(settings[field], recipe[stage]?.[field], `${stage}.${field}`);
    }
  }
});

Deno.test("a stage's settings are read, and have defaults", () => {
  const recipe = parseRecipe(tinyRecipe(7), "folder/tiny.json");
  assertEquals(recipe.name, "tiny");
  const [tokenizer, pair, , , image, video] = recipe.stages;
  assertEquals(tokenizer, { stage: "tokenizer", vocabulary: 300 });
  assert(pair?.stage === "text-pair" && image?.stage === "decoder-image" && video?.stage === "decoder-video");
  assertEquals(pair.training, {
    batch: [12],
    learningRate: { rate: 0.003, warmupSteps: 2, hold: 0, floor: 0.02 },
    betas: [0.9, 0.98],
    weightDecay: 0.01,
    muon: undefined,
    clip: 1,
    emaDecay: 0.999,
    rates: [],
    trained: undefined,
    budget: { steps: 7 },
    logSteps: 1,
    evaluationMinutes: 4,
  });
  assertEquals(image.training.batch, [4, 6]);
  assertEquals(image.training.muon, { momentum: 0.95, except: ["embedding", "conv_in", "conv_out"] });
  assertEquals(video.training.rates, [{ namesWith: ".", scale: 0.3 }, { namesWith: ".temporal", scale: 1 }]);
});

Deno.test("what is wrong in a recipe is named", async () => {
  const changed = (stage: number, change: Record<string, unknown>): unknown => {
    const recipe = tinyRecipe(1);
    Object.assign(recipe.stages[stage] ?? {}, change);
    return recipe;
  };
  const wrong: [unknown, string][] = [
    [{ stages: [] }, "r.json.model is missing"],
    [{ ...tinyRecipe(1), stages: [] }, "r.json.stages must have at least one stage"],
    [{ ...tinyRecipe(1), more: 1 }, 'r.json has an unknown field "more"'],
    [{ ...tinyRecipe(1), stages: 3 }, "r.json.stages must be a list of objects, not 3"],
    [changed(0, { stage: "tokeniser" }), 'r.json.stages[0].stage must be "tokenizer" or'],
    [changed(4, { optimizer: "sgd" }), 'r.json.stages[4].optimizer must be "adamw" or "muon", not "sgd"'],
    [changed(0, { vocabulary: 3 }), "r.json.stages[0].vocabulary must be a whole number from 128 to 65536, not 3"],
    [changed(1, { learning_rat: 1 }), 'r.json.stages[1] has an unknown field "learning_rat"'],
    [changed(1, { text: undefined }), "r.json.stages[1].text is missing"],
    [changed(1, { minutes: 3 }), "r.json.stages[1].minutes is missing: it or steps must be there, not both"],
    [changed(1, { batch: 0 }), "r.json.stages[1].batch must be a whole number from 1 to 65536, not 0"],
    [changed(5, { rates: [{ names_with: "x" }] }), "r.json.stages[5].rates[0].scale is missing"],
    [changed(6, { skips: [1, 2] }), "r.json.stages[6].skips must be from 2 to 15, not [1,2]"],
    [changed(7, { crop: 18 }), "r.json.stages[7].crop must be a multiple of factor (4), not 18"],
    [changed(7, { stage: "sr-low", clip_frames: 3 }), "must have each stage once; sr-low is there twice"],
  ];
  for (const [json, message] of wrong) {
    const error = assertThrows(() => parseRecipe(json, "r.json"), KinoraError);
    assert(error instanceof KinoraError && error.code === "bad-file");
    assert(error.message.includes(message), `${error.message} is not ${message}`);
  }
  await assertRejects(() => readRecipe("no/such.json"), KinoraError, 'There is no recipe "no/such.json"');
});
