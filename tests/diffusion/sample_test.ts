import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { guided, repeatBatch, rescaleFactor } from "../../lib/diffusion/guidance.ts";
import { type NoiseLevel, noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";
import { convertPrediction, PREDICTIONS } from "../../lib/diffusion/prediction.ts";
import { finish, sampling, type SamplingOptions } from "../../lib/diffusion/sample.ts";
import type { SamplerConfig } from "../../lib/diffusion/sampler.ts";
import { transitions } from "../../lib/diffusion/timesteps.ts";

await libraryInfo();

const SHAPE = [2, 3, 4, 4, 3];
const [MEAN, SPREAD] = [0.25, 0.2];
const schedule = noiseSchedule({ type: "cosine", shift: 2 });

/** Native tensors that are alive. */
async function live(): Promise<number> {
  return (await libraryInfo()).handles["tensor"] ?? 0;
}

/** The exact clean sample for data that are independent Gaussians. */
async function gaussian(sample: Tensor, level: NoiseLevel): Promise<Tensor> {
  const gain = level.alpha * SPREAD ** 2 / ((level.alpha * SPREAD) ** 2 + level.sigma ** 2);
  return await Tensor.combine([{ tensor: sample, scale: gain }], { offset: MEAN * (1 - gain * level.alpha) });
}

/** A run on Gaussian data; what it starts from is the caller's to free. */
async function gaussianRun(steps: number, sampler: SamplerConfig, rest: Partial<SamplingOptions> = {}): Promise<
  SamplingOptions
> {
  const run = transitions(schedule, { steps });
  const levels = new Map(run.map(({ timestep, from }) => [timestep, from]));
  return {
    steps: run,
    sampler,
    prediction: "sample",
    start: await Tensor.noise({ shape: SHAPE, seeds: [1, 2], stream: 0 }),
    denoise: (sample, timestep) => gaussian(sample, levels.get(timestep) ?? { alpha: 1, sigma: 0 }),
    noise: (step) => Tensor.noise({ shape: SHAPE, seeds: [1, 2], stream: step }),
    ...rest,
  };
}

Deno.test("sampling() turns noise into the distribution the denoiser knows, with every sampler", async () => {
  const before = await live();
  const samplers: SamplerConfig[] = [
    { type: "ddim" },
    { type: "ddim", eta: 1 },
    { type: "ddpm" },
    { type: "dpmsolver++", order: 3 },
    { type: "dpmsolver++", stochastic: true },
  ];
  for (const sampler of samplers) {
    const shape = [2, 8, 16, 16, 3];
    using start = await Tensor.noise({ shape, seeds: [1, 2], stream: 0 });
    const noise = (step: number): Promise<Tensor> => Tensor.noise({ shape, seeds: [1, 2], stream: step });
    const own = await gaussianRun(200, sampler, { noise });
    own.start.dispose();
    using samples = await finish(sampling({ ...own, start }));
    const values = await samples.read();
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    assertAlmostEquals(mean, MEAN, 0.01, JSON.stringify(sampler));
    assertAlmostEquals(spread, SPREAD, 0.02, JSON.stringify(sampler));
  }
  assertEquals(await live(), before);
});

Deno.test("sampling() gives the same with every prediction", async () => {
  const results: Float32Array[] = [];
  for (const prediction of PREDICTIONS) {
    const run = await gaussianRun(6, { type: "ddim" });
    using start = run.start;
    const levels = new Map(run.steps.map(({ timestep, from }) => [timestep, from]));
    using result = await finish(sampling({
      ...run,
      start,
      prediction,
      denoise: async (sample, timestep) => {
        using clean = await run.denoise(sample, timestep);
        const pair = convertPrediction("sample", prediction, levels.get(timestep) ?? { alpha: 1, sigma: 0 });
        if (prediction === "sample") return await Tensor.combine([{ tensor: clean, scale: 1 }]);
        return await Tensor.combine([
          { tensor: sample, scale: pair.sample },
          { tensor: clean, scale: pair.prediction },
        ]);
      },
    }));
    results.push(await result.read());
  }
  const [first, ...others] = results;
  for (const other of others) other.forEach((value, i) => assertAlmostEquals(value, first?.[i] ?? NaN, 1e-4));
});

Deno.test("sampling() clamps the clean sample, then lets the caller constrain it", async () => {
  const before = await live();
  let seen = 0;
  const run = await gaussianRun(4, { type: "ddim" }, {
    denoise: (sample) => Tensor.combine([{ tensor: sample, scale: 10 }]),
    clamp: [-0.5, 0.5],
    constrain: async (clean) => {
      assert((await clean.read()).every((value) => Math.abs(value) <= 0.5));
      seen++;
      return await Tensor.combine([{ tensor: clean, scale: 2 }]);
    },
  });
  using start = run.start;
  using result = await finish(sampling({ ...run, start }));
  assertEquals(seen, 4);
  assertAlmostEquals(Math.max(...await result.read()), 1, 1e-6);
  result.dispose();
  start.dispose();
  assertEquals(await live(), before);
});

Deno.test("sampling() reports every step and frees everything when it is left, stopped or fails", async () => {
  const before = await live();
  const run = await gaussianRun(5, { type: "ddpm" });
  using start = run.start;
  const steps: number[] = [];
  for await (const { step, total, clean } of sampling({ ...run, start })) {
    assertEquals([total, clean.shape], [5, SHAPE]);
    steps.push(step);
    if (step === 3) break;
  }
  assertEquals(steps, [1, 2, 3]);

  const controller = new AbortController();
  const stopped = sampling({ ...run, start, signal: controller.signal });
  await assertRejects(
    () => finish(stopped, ({ step }) => step === 2 && controller.abort(new Error("enough"))),
    Error,
    "enough",
  );

  const failing = sampling({ ...run, start, noise: () => Promise.reject(new Error("no noise")) });
  await assertRejects(() => finish(failing), Error, "no noise");
  const thrown = sampling({ ...run, start });
  const throwing = (): never => {
    throw new Error("callback");
  };
  await assertRejects(() => finish(thrown, throwing), Error, "callback");
  start.dispose();
  assertEquals(await live(), before);
});

Deno.test("rescaling brings the spread of a guided output back", () => {
  const [plain, strong] = [[1, -1, 2, 0], [3, -3, 7, -1]];
  const spread = (values: readonly number[]): number => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  };
  assertEquals(rescaleFactor(plain, strong, 0), 1);
  assertAlmostEquals(rescaleFactor(plain, strong, 1) * spread(strong), spread(plain), 1e-12);
  assertAlmostEquals(rescaleFactor(plain, strong, 0.5) * spread(strong), (spread(plain) + spread(strong)) / 2, 1e-12);
});

Deno.test("guided() runs the batch twice only where both outputs count", async () => {
  const before = await live();
  using sample = await Tensor.create([2, 3], new Float32Array([1, 2, 3, 4, 5, 6]));
  const drops: (readonly number[])[] = [];
  const run = async (given: Tensor, drop: readonly number[]): Promise<Tensor> => {
    drops.push(drop);
    // The condition adds 1.
    using one = await Tensor.create(given.shape, new Float32Array(given.shape.reduce((a, b) => a * b)).fill(1));
    return await Tensor.combine([
      { tensor: given, scale: 1 },
      { tensor: one, scale: drop.map((dropped) => 1 - dropped) },
    ]);
  };
  for (const scale of [0, 1, 3.5]) {
    using result = await guided(sample, scale, run);
    assertEquals([...await result.read()], [1, 2, 3, 4, 5, 6].map((value) => value + scale));
  }
  assertEquals(drops, [[1, 1], [0, 0], [0, 0, 1, 1]]);
  // Rescaled all the way, each sample has the spread of what the condition alone gives: here guidance only shifts it.
  using rescaled = await guided(sample, 3.5, run, { rescale: 1 });
  assertEquals([...await rescaled.read()], [4.5, 5.5, 6.5, 7.5, 8.5, 9.5]);
  rescaled.dispose();
  using three = await repeatBatch(sample, 3);
  assertEquals(three.shape, [6, 3]);
  three.dispose();
  sample.dispose();
  assertEquals(await live(), before);
});
