import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { ddimStep } from "../../lib/diffusion/ddim.ts";
import { ddpmStep } from "../../lib/diffusion/ddpm.ts";
import { dpmSolverStep, dpmSolverSteps } from "../../lib/diffusion/dpm_solver.ts";
import { CLEAN, logSnr, type NoiseLevel, noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";
import { samplerStep } from "../../lib/diffusion/sampler.ts";
import { transitions } from "../../lib/diffusion/timesteps.ts";

const schedule = noiseSchedule({ type: "cosine" });
const MIDPOINT = { solver: "midpoint", stochastic: false } as const;
const HEUN = { solver: "heun", stochastic: false } as const;

/** Half the log signal-to-noise ratio, over which the solver integrates. */
function half(level: NoiseLevel): number {
  return logSnr(level) / 2;
}

/** What the equation's exact solution adds to the noisy sample, by Simpson's rule over `clean` as a function of time. */
function exact(from: NoiseLevel, to: NoiseLevel, clean: (time: number) => number): number {
  const [start, end, pieces] = [half(from), half(to), 2000];
  const width = (end - start) / pieces;
  let sum = 0;
  for (let index = 0; index <= pieces; index++) {
    const time = start + index * width;
    sum += Math.exp(time) * clean(time) * (index === 0 || index === pieces ? 1 : index % 2 === 0 ? 2 : 4);
  }
  return to.sigma * sum * width / 3;
}

Deno.test("a step of order n is exact where the clean sample is a polynomial of degree n - 1 in half the log SNR", () => {
  // Of the second derivative the third order takes half, as the authors' own code does.
  const levels = [0.5, 0.62, 0.7].map((time) => schedule.level(time));
  const to = schedule.level(0.41);
  const polynomials = [() => 0.7, (t: number) => 0.7 - 0.4 * t, (t: number) => 0.7 - 0.4 * t + 0.9 * t * t];
  polynomials.forEach((clean, degree) => {
    const used = levels.slice(0, degree + 1);
    const factors = dpmSolverStep(used, to, HEUN);
    assertEquals(factors.history?.length ?? 0, degree);
    const got = [factors.clean, ...factors.history ?? []].reduce(
      (sum, factor, back) => sum + factor * clean(half(used[back] ?? CLEAN)),
      0,
    );
    const from = used[0] ?? CLEAN;
    const halved = degree === 2 ? exact(from, to, (t) => 0.9 * (t - half(from)) ** 2) / 2 : 0;
    assertAlmostEquals(got, exact(from, to, clean) - halved, 1e-11, `degree ${degree}`);
    assertAlmostEquals(factors.sample, to.sigma / from.sigma, 1e-15);
  });
});

Deno.test("midpoint and heun differ by less than a step, and agree where the clean sample stays the same", () => {
  const levels = [0.5, 0.52].map((time) => schedule.level(time));
  const [midpoint, heun] = [MIDPOINT, HEUN].map((form) => dpmSolverStep(levels, schedule.level(0.48), form));
  assert(midpoint !== undefined && heun !== undefined);
  const sum = ({ clean, history = [] }: typeof heun): number => clean + (history[0] ?? 0);
  assertAlmostEquals(sum(midpoint), sum(heun), 1e-14);
  assertAlmostEquals(midpoint.clean, heun.clean, 1e-3);
  assert(midpoint.clean !== heun.clean);
});

Deno.test("of order 1 it is DDIM, and with noise DDPM", () => {
  for (const [a, b] of [[0.9, 0.7], [0.4, 0.39], [0.2, 0.01]] as const) {
    const [from, to] = [schedule.level(a), schedule.level(b)];
    const [plain, ddim] = [dpmSolverStep([from], to, MIDPOINT), ddimStep(from, to, 0, true)];
    const [noisy, ddpm] = [
      dpmSolverStep([from], to, { solver: "midpoint", stochastic: true }),
      ddpmStep(from, to, "fixed_small"),
    ];
    for (const name of ["sample", "clean", "noise"] as const) {
      assertAlmostEquals(plain[name], ddim[name], 1e-12, name);
      assertAlmostEquals(noisy[name], ddpm[name], 1e-12, name);
    }
    assertEquals(samplerStep({ type: "dpmsolver++" }, from, to), plain);
  }
});

Deno.test("a run begins with the orders it has the samples for, and ends on the clean sample", () => {
  const orders = (config: Parameters<typeof dpmSolverSteps>[0], steps: number): number[] =>
    dpmSolverSteps(config, transitions(schedule, { steps })).map(({ history }) => 1 + (history?.length ?? 0));
  const base = { type: "dpmsolver++" } as const;
  assertEquals(orders({ ...base, order: 3 }, 6), [1, 2, 3, 3, 2, 1]);
  assertEquals(orders({ ...base, order: 3, lower_order_final: false }, 6), [1, 2, 3, 3, 3, 1]);
  assertEquals(orders({ ...base, order: 3 }, 16).slice(-3), [3, 3, 1]);
  assertEquals(orders(base, 3), [1, 2, 1]);
  assertEquals(orders(base, 1), [1]);
  assertEquals(dpmSolverSteps(base, transitions(schedule, { steps: 4 })).at(-1), {
    sample: 0,
    clean: 1,
    raw: 0,
    noise: 0,
  });
  // Where the run ends on some noise, nothing forces the last step to first order.
  const discrete = noiseSchedule({ type: "discrete", beta_schedule: "linear" });
  const run = transitions(discrete, { steps: 16, spacing: "trailing", final: "first" });
  const last = (euler_at_final: boolean): number | undefined =>
    dpmSolverSteps({ ...base, euler_at_final }, run).at(-1)?.history?.length;
  assertEquals([last(false), last(true)], [1, undefined]);
});

Deno.test("DPM-Solver++ refuses orders and forms that it has not", () => {
  const run = transitions(schedule, { steps: 4 });
  for (const config of [{ order: 0 }, { order: 4 }, { order: 1.5 }, { order: 3, stochastic: true }]) {
    assertThrows(() => dpmSolverSteps({ type: "dpmsolver++", ...config }, run), KinoraError, "sampler.order must be");
  }
  const solver = "euler" as "heun";
  assertThrows(() => dpmSolverSteps({ type: "dpmsolver++", solver }, run), KinoraError, "sampler.solver must be");
});
