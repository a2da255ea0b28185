import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import {
  CLEAN,
  logSnr,
  type NoiseSchedule,
  noiseSchedule,
  type NoiseScheduleConfig,
  resolutionShift,
} from "../../lib/diffusion/noise_schedule.ts";

const CONTINUOUS: NoiseScheduleConfig[] = [
  { type: "cosine" },
  { type: "cosine", shift: 2 },
  { type: "cosine", shift: 8 },
  { type: "linear" },
  { type: "linear", beta_min: 0.01, beta_max: 8 },
];

/** The product of (1 - beta), the plain way. */
function productOf(betas: number[]): number[] {
  let product = 1;
  return betas.map((beta) => product *= 1 - beta);
}

function assertLevels(schedule: NoiseSchedule, products: number[]): void {
  products.forEach((product, step) => {
    const { alpha, sigma } = schedule.level(step);
    assertAlmostEquals(alpha, Math.sqrt(product), 1e-12);
    assertAlmostEquals(sigma, Math.sqrt(1 - product), 1e-9);
  });
}

Deno.test("every schedule keeps the variance at 1 and loses signal with time", () => {
  for (const config of CONTINUOUS) {
    const schedule = noiseSchedule(config);
    let before = Infinity;
    for (let step = 1; step <= 200; step++) {
      const level = schedule.level(step / 200);
      assertAlmostEquals(level.alpha ** 2 + level.sigma ** 2, 1, 1e-14);
      assert(logSnr(level) < before, `${JSON.stringify(config)} at ${step}`);
      before = logSnr(level);
    }
    assertEquals(schedule.level(0), CLEAN);
    assertEquals(schedule.timestep(0.25), 250);
    assertEquals(schedule.length, undefined);
  }
});

Deno.test("cosine follows its closed form", () => {
  const schedule = noiseSchedule({ type: "cosine" });
  for (const time of [0.1, 0.25, 0.5, 0.9, 0.995]) {
    assertAlmostEquals(schedule.level(time).alpha, Math.cos(time * Math.PI / 2), 1e-15);
    assertAlmostEquals(schedule.level(time).sigma, Math.sin(time * Math.PI / 2), 1e-15);
  }
});

Deno.test("a shift moves the log signal-to-noise ratio by twice its log at every time", () => {
  const plain = noiseSchedule({ type: "cosine" });
  for (const size of [32, 64, 256, 768]) {
    const shift = resolutionShift(size);
    assertEquals(shift, size / 32);
    const shifted = noiseSchedule({ type: "cosine", shift });
    for (const time of [0.01, 0.2, 0.5, 0.8, 0.99]) {
      assertAlmostEquals(logSnr(shifted.level(time)), logSnr(plain.level(time)) - 2 * Math.log(shift), 1e-9);
    }
  }
});

Deno.test("linear follows the integral of beta", () => {
  const schedule = noiseSchedule({ type: "linear", beta_min: 0.1, beta_max: 20 });
  for (const time of [0.001, 0.3, 0.7, 1]) {
    // The integral of beta by the midpoint rule, which is exact for a straight line.
    let integral = 0;
    for (let part = 0; part < 1000; part++) integral += (0.1 + 19.9 * time * (part + 0.5) / 1000) * time / 1000;
    assertAlmostEquals(schedule.level(time).alpha, Math.exp(-integral / 2), 1e-10);
  }
});

Deno.test("discrete tables are the products of 1 - beta", () => {
  const count = 1000;
  const steps = Array.from({ length: count }, (_, step) => step);
  const linear = steps.map((step) => 1e-4 + (0.02 - 1e-4) * step / (count - 1));
  assertLevels(noiseSchedule({ type: "discrete", beta_schedule: "linear" }), productOf(linear));
  const scaled = steps.map((step) => (Math.sqrt(0.00085) + (Math.sqrt(0.012) - Math.sqrt(0.00085)) * step / 999) ** 2);
  assertLevels(
    noiseSchedule({ type: "discrete", beta_schedule: "scaled_linear", beta_start: 0.00085, beta_end: 0.012 }),
    productOf(scaled),
  );
  const bar = (t: number): number => Math.cos((t + 0.008) / 1.008 * Math.PI / 2) ** 2;
  const cosine = noiseSchedule({ type: "discrete", beta_schedule: "squaredcos_cap_v2" });
  assertLevels(
    cosine,
    productOf(steps.map((step) => Math.min(0.999, 1 - bar((step + 1) / count) / bar(step / count)))),
  );
  // Up to where beta is capped the table is improved DDPM's closed form (eq. 17).
  for (const step of [0, 100, 500, 900]) {
    assertAlmostEquals(cosine.level(step).alpha ** 2, bar((step + 1) / count) / bar(0), 1e-12);
  }
});

Deno.test("schedules refuse what they cannot do", () => {
  const configs: [NoiseScheduleConfig, string][] = [
    [{ type: "cosine", shift: 0 }, "schedule.shift must be from 0.01 to 100"],
    [{ type: "linear", beta_min: 3, beta_max: 2 }, "schedule.beta_max must be from 3"],
    [{ type: "discrete", beta_schedule: "linear", num_train_timesteps: 1.5 }, "whole number"],
    [{ type: "discrete", beta_schedule: "linear", beta_start: 0.5, beta_end: 0.1 }, "schedule.beta_end"],
    [{ type: "discrete", beta_schedule: "sigmoid" as "linear" }, '"linear", "scaled_linear"'],
    [{ type: "karras" as "cosine" }, 'schedule.type must be "cosine"'],
  ];
  for (const [config, message] of configs) assertThrows(() => noiseSchedule(config), KinoraError, message);
  assertThrows(() => noiseSchedule({ type: "cosine" }).level(1.01), KinoraError, "time must be from 0 to 1");
  const discrete = noiseSchedule({ type: "discrete", beta_schedule: "linear", num_train_timesteps: 10 });
  for (const time of [-1, 10, 2.5, NaN]) assertThrows(() => discrete.level(time), KinoraError, "from 0 to 9");
});
