import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { parseModelIndex, readModelIndex, stageSettings } from "../../lib/cascade/model_index.ts";

const folder = new URL("../../models/default", import.meta.url).pathname;
const file = await Deno.readTextFile(`${folder}/model_index.json`);

// deno-lint-ignore no-explicit-any
type Json = any;

/** The default model's file with a change. */
function changed(change: (json: Json) => void): Json {
  const json = JSON.parse(file);
  change(json);
  return json;
}

Deno.test("the default model's index has every stage of Eq. 1", async () => {
  const { stages } = await readModelIndex(folder);
  assertEquals(Object.keys(stages), ["text", "image", "prior", "decoder", "interpolation", "sr-low", "sr-high"]);
  assertEquals([stages.decoder?.size, stages["sr-low"]?.size, stages["sr-high"]?.size], [64, 256, 768]);
});

Deno.test("what is left out has a default", () => {
  const index = parseModelIndex(
    changed((json) => {
      delete json.stages.decoder.sampler;
      delete json.stages.decoder.times;
      delete json.stages.decoder.guidance;
      delete json.stages.decoder.common_noise;
      delete json.stages["sr-high"].chunk;
    }),
    "m",
  );
  const decoder = stageSettings(index, "decoder");
  assertEquals([decoder.sampler, decoder.times, decoder.guidance], [{ type: "ddim" }, { start: 0.995 }, 1]);
  assertEquals(decoder.common_noise, 0);
  assertEquals(stageSettings(index, "sr-high").chunk, 0);
});

Deno.test("discrete schedules are read with their spacing", () => {
  const index = parseModelIndex(
    changed((json) => {
      json.stages.decoder.schedule = { type: "discrete", beta_schedule: "squaredcos_cap_v2" };
      json.stages.decoder.sampler = { type: "ddpm", variance: "fixed_large" };
      json.stages.decoder.times = { spacing: [10, 6], final: "first" };
    }),
    "m",
  );
  const { times, sampler } = stageSettings(index, "decoder");
  assertEquals(times, { spacing: [10, 6], offset: 0, previous: "next", final: "first" });
  assertEquals(sampler, { type: "ddpm", variance: "fixed_large" });
  const solver = changed((json) => json.stages.decoder.sampler = { type: "dpmsolver++", order: 3, solver: "heun" });
  assertEquals(stageSettings(parseModelIndex(solver, "m"), "decoder").sampler, {
    type: "dpmsolver++",
    stochastic: false,
    order: 3,
    solver: "heun",
    lower_order_final: true,
    euler_at_final: false,
  });
});

Deno.test("a wrong field is refused by name", () => {
  const cases: [(json: Json) => void, string][] = [
    [(json) => json._class_name = "UnCLIPPipeline", "holds a UnCLIPPipeline, not a cascade"],
    [(json) => delete json._class_name, "holds something else, not a cascade"],
    [(json) => json.extra = 1, 'unknown field "extra"'],
    [(json) => json.stages.sr = {}, 'stages has an unknown field "sr"'],
    [(json) => json.stages.prior.speed = 2, 'stages.prior has an unknown field "speed"'],
    [(json) => json.stages.prior.schedule.shape = 2, 'schedule has an unknown field "shape"'],
    [(json) => delete json.stages.decoder.folder, "stages.decoder.folder is missing"],
    [(json) => json.stages.decoder.folder = "../elsewhere", "must be a folder below the model's own"],
    [(json) => json.stages.decoder.folder = "/etc", "must be a folder below the model's own"],
    [(json) => json.stages.decoder.steps = 0, "stages.decoder.steps must be a whole number from 1 to 1000, not 0"],
    [(json) => json.stages.decoder.steps = "16", 'not "16"'],
    [(json) => json.stages.decoder.prediction = "x0", "stages.decoder.prediction must be"],
    [(json) => json.stages.decoder.schedule.type = "karras", "schedule.type must be"],
    [(json) => json.stages.decoder.common_noise = 1.5, "decoder.common_noise must be a number from 0 to 1, not 1.5"],
    [(json) => json.stages.interpolation.common_noise = 0.5, 'interpolation has an unknown field "common_noise"'],
    [(json) => json.stages.decoder.fps_range.most = 2, "fps_range.most must be a number from 4"],
    [(json) => json.stages["sr-low"].prediction = "epsilon", 'residual_scale needs "prediction": "sample"'],
    [(json) => json.stages.interpolation.prediction = "epsilon", 'residual_scale needs "prediction": "sample"'],
    [(json) => json.stages.interpolation.known_motion = 1, "interpolation.known_motion must be"],
    [(json) => delete json.stages.interpolation.residual_scale, "known_motion needs residual_scale"],
    [(json) => json.stages["sr-low"].size = 64, "sizes must grow"],
    [(json) => json.stages = [], "stages must be an object"],
  ];
  for (const [change, message] of cases) {
    const error = assertThrows(() => parseModelIndex(changed(change), "m"), KinoraError, message);
    assertEquals(error.code, "bad-file");
  }
  for (const json of [null, 3, "text", []]) {
    assertThrows(() => parseModelIndex(json, "m"), KinoraError, "must be an object");
  }
});

Deno.test("a folder without an index, and an index that is not JSON, are refused", async () => {
  const there = await Deno.makeTempDir();
  try {
    const missing = await assertRejects(() => readModelIndex(there), KinoraError, "has no model_index.json");
    assertEquals(missing.code, "not-found");
    await Deno.writeTextFile(`${there}/model_index.json`, file.slice(0, 100));
    const broken = await assertRejects(() => readModelIndex(there), KinoraError, "is not JSON");
    assertEquals(broken.code, "bad-file");
    await assertRejects(() => readModelIndex(`${there}/model_index.json`), KinoraError, "has no model_index.json");
  } finally {
    await Deno.remove(there, { recursive: true });
  }
});
