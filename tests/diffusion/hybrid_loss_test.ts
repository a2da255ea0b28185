import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { hybridLoss, type HybridLossOptions } from "../../lib/diffusion/hybrid_loss.ts";
import { noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";

const schedule = noiseSchedule({ type: "discrete", beta_schedule: "squaredcos_cap_v2", num_train_timesteps: 50 });
const TIMESTEPS = [0, 1, 17, 49];
const SIZE = 6;

/** A batch whose numbers are a fixed mixture; the clean samples have both edges. */
function batch(prediction: "epsilon" | "sample"): HybridLossOptions & { readonly output: Float64Array } {
  const wave = (index: number, phase: number): number => Math.sin(12.9898 * (index + 1) + phase);
  const count = TIMESTEPS.length * SIZE;
  const clean = Float64Array.from({ length: count }, (_, i) => i % 3 === 0 ? -1 : i % 5 === 0 ? 1 : wave(i, 1));
  const noise = Float64Array.from({ length: count }, (_, i) => 1.3 * wave(i, 2));
  const noisy = clean.map((value, i) => {
    const { alpha, sigma } = schedule.level(TIMESTEPS[Math.floor(i / SIZE)] ?? 0);
    return alpha * value + sigma * (noise[i] ?? 0);
  });
  const target = prediction === "epsilon" ? noise : clean;
  const output = Float64Array.from({ length: 2 * count }, (_, i) => {
    const [row, at] = [Math.floor(i / SIZE / 2), i % (2 * SIZE)];
    return at < SIZE ? (target[row * SIZE + at] ?? 0) + 0.02 * wave(i, 3) : 0.8 * wave(i, 4);
  });
  return { schedule, prediction, timesteps: TIMESTEPS, clean, noise, noisy, output };
}

Deno.test("hybridLoss() has the gradient that finite differences show, the bound's only through the variance", () => {
  for (const prediction of ["epsilon", "sample"] as const) {
    const options = batch(prediction);
    const { gradient } = hybridLoss(options);
    options.output.forEach((value, index) => {
      const ofMean = index % (2 * SIZE) < SIZE;
      const at = (shift: number): number => {
        const output = options.output.slice();
        output[index] = value + shift;
        const { loss, squared } = hybridLoss({ ...options, output });
        return ofMean ? squared.reduce((sum, value) => sum + value, 0) / TIMESTEPS.length : loss;
      };
      const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
      assertAlmostEquals(gradient[index] ?? NaN, slope, 1e-7 * Math.max(1, Math.abs(slope)), `${prediction} ${index}`);
    });
  }
});

Deno.test("hybridLoss() has a bound of 0 bits where the network gives the posterior itself", () => {
  const options = batch("epsilon");
  const output = options.output.map((_, index) => {
    const [row, at] = [Math.floor(index / SIZE / 2), index % (2 * SIZE)];
    return at < SIZE ? options.noise[row * SIZE + at] ?? 0 : -1;
  });
  const { squared, bound, loss } = hybridLoss({ ...options, output });
  assertEquals([...squared], [0, 0, 0, 0]);
  for (const bits of bound.subarray(1)) assertAlmostEquals(bits, 0, 1e-12);
  // At the first timestep there is always some doubt about the grey value.
  assert((bound[0] ?? 0) > 0);
  assertAlmostEquals(loss, (bound[0] ?? 0) / 4, 1e-12);
});

Deno.test("hybridLoss() refuses what does not fit", () => {
  const options = batch("sample");
  assertThrows(() => hybridLoss({ ...options, noise: [1] }), KinoraError, "noise must hold 24 numbers, not 1");
  assertThrows(() => hybridLoss({ ...options, output: [1] }), KinoraError, "output must hold 48 numbers");
  assertThrows(() => hybridLoss({ ...options, timesteps: [0, 1, 2, 50] }), KinoraError, "timestep must be");
  assertThrows(() => hybridLoss({ ...options, timesteps: [] }), KinoraError, "clean must hold");
  const continuous = noiseSchedule({ type: "cosine" });
  assertThrows(() => hybridLoss({ ...options, schedule: continuous }), KinoraError, "schedule must be discrete");
});
