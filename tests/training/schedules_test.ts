import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { curriculumFps } from "../../lib/training/fps_curriculum.ts";
import { emaDecay, learningRate } from "../../lib/training/learning_rate.ts";
import { progressOf } from "../../lib/training/run_stage.ts";

Deno.test("learningRate() warms up by steps, holds, and falls to the floor by progress", () => {
  const shape = { rate: 2, warmupSteps: 4, hold: 0.5, floor: 0.1 };
  const at = (progress: number, step: number): number => learningRate(shape, { progress, step });
  assertEquals([0, 1, 2, 3, 4].map((step) => at(0, step)), [0.5, 1, 1.5, 2, 2]);
  assertEquals(at(0.5, 100), 2);
  assertAlmostEquals(at(0.75, 100), 1);
  assertAlmostEquals(at(1, 100), 0.2);
  // Early in the fall: a cosine, written another way.
  assertAlmostEquals(at(0.6, 100), 2 * Math.cos(Math.PI * 0.2 / 2) ** 2);
  assertEquals(learningRate({ ...shape, warmupSteps: 0, hold: 1 }, { progress: 1, step: 0 }), 2);
});

Deno.test("emaDecay() grows from short to its greatest", () => {
  assertAlmostEquals(emaDecay(0.999, 0), 0.1);
  assert(emaDecay(0.999, 100) < 0.93);
  assertEquals(emaDecay(0.999, 1e6), 0.999);
});

Deno.test("curriculumFps() follows the beta distribution it is named after", () => {
  const range = { least: 4, most: 24 };
  const curriculum = { start: 4, end: 0.25 };
  const at = (progress: number, uniform: number): number => curriculumFps(range, curriculum, { progress, uniform });
  const uniforms = Array.from({ length: 2000 }, (_, index) => (index + 0.5) / 2000);
  // Shares on the logarithmic scale; Beta(a, b) has the mean a / (a + b).
  const mean = (progress: number): number =>
    uniforms.map((uniform) => Math.log(at(progress, uniform) / 4) / Math.log(6)).reduce((a, b) => a + b) / 2000;
  assertAlmostEquals(mean(0), 4 / 5, 1e-3); // Beta(4, 1)
  assertAlmostEquals(mean(0.5), 1 / 2, 1e-3); // Beta(1, 1)
  assertAlmostEquals(mean(1), 1 / 5, 1e-3); // Beta(1, 4)
  for (const progress of [0, 0.3, 1]) {
    assertAlmostEquals(at(progress, 0), 4);
    assert(at(progress, 0.999999) <= 24 + 1e-9);
  }
});

Deno.test("progressOf() is the spent share of minutes or steps", () => {
  assertEquals(progressOf({ minutes: 2 }, { step: 9, seconds: 30 }), 0.25);
  assertEquals(progressOf({ steps: 10 }, { step: 9, seconds: 30 }), 0.9);
  assertEquals(progressOf({ steps: 10 }, { step: 11, seconds: 0 }), 1);
});
