import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import {
  gain,
  meanOf,
  measureSamplers,
  type SamplerResult,
  SAMPLERS,
  samplersPage,
  verdicts,
} from "../../bench/quality/samplers.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { Bench } from "../../lib/evaluation/measure.ts";
import { TrainingData } from "../../lib/training/training_data.ts";
import { withTrainedModel } from "../evaluation/trained_model.ts";

await libraryInfo();

function result(sampler: string, steps: number, distances: readonly number[]): SamplerResult {
  return { sampler, steps, distances, cosines: distances.map(() => 0.5), seconds: 0.25 };
}

Deno.test("a mean has its standard error", () => {
  const { mean, error } = meanOf([1, 2, 3, 4]);
  assertEquals(mean, 2.5);
  assertAlmostEquals(error, Math.sqrt(5 / 3) / 2);
  assertEquals(meanOf([7]), { mean: 7, error: 0 });
});

Deno.test("samplers are held against the first one picture by picture, and noise counts for nothing", () => {
  const first = [result("DDIM", 8, [0.1, 0.2, 0.3]), result("DDIM", 16, [0.1, 0.2, 0.3])];
  // Nearer in every picture by about as much, though the pictures differ more than that among themselves.
  const nearer = [result("A", 8, [0.09, 0.188, 0.29]), result("A", 16, [0.11, 0.212, 0.31])];
  const noise = [result("B", 8, [0.05, 0.25, 0.3]), result("B", 16, [0.15, 0.15, 0.3])];
  const all = [...first, ...nearer, ...noise];
  assertEquals(gain(all, all[0] as SamplerResult), undefined);
  assertAlmostEquals(gain(all, nearer[0] as SamplerResult)?.mean ?? 0, 0.032 / 3);
  assertEquals(verdicts(all), [
    "A is nearer than DDIM at 8 steps and farther at 16.",
    "B is no different from DDIM beyond noise.",
  ]);
  const page = samplersPage(all, { concepts: 3, facts: { model: "m" } });
  for (const part of ["embeddings of 3 stills", "- B is no different", "+0.0107 ± 0.0007", "−0.0107", "- model: m"]) {
    assertStringIncludes(page, part);
  }
});

Deno.test("every sampler draws the same pictures from the same noise", () =>
  withTrainedModel(async (model, folder) => {
    using cascade = await Cascade.load(model, { precision: "f32" });
    using data = await TrainingData.open(folder);
    using bench = new Bench(cascade, data);
    const rows: string[] = [];
    const options = { concepts: 3, seed: 5, steps: [1, 3] };
    const results = await measureSamplers(bench, options, (done, total) => rows.push(`${done}/${total}`));
    const names = Object.keys(SAMPLERS);
    assertEquals(rows.at(-1), `${2 * names.length}/${2 * names.length}`);
    assertEquals(results.map(({ sampler, steps }) => `${sampler} ${steps}`), [
      ...names.map((name) => `${name} 1`),
      ...names.map((name) => `${name} 3`),
    ]);
    for (const { distances, cosines, seconds } of results) {
      assertEquals([distances.length, cosines.length], [3, 3]);
      assert(
        seconds > 0 && distances.every((value) => value > 0) && cosines.every((value) => Math.abs(value) <= 1.001),
      );
    }
    const [ddim, , second] = results;
    // In one step the second order has nothing to look back at: it is DDIM.
    second?.distances.forEach((value, at) => assertAlmostEquals(value, ddim?.distances[at] ?? 0, 1e-5));
    assert(new Set(results.slice(names.length).map(({ distances }) => distances[0])).size > 2);
  }));
