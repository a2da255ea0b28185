import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { learnedDeviation } from "../../lib/diffusion/ddpm.ts";
import { CLEAN } from "../../lib/diffusion/noise_schedule.ts";
import { samplerSteps } from "../../lib/diffusion/sampler.ts";
import { SCHEDULER_CLASSES, type SchedulerClass, schedulerRun } from "../../lib/diffusion/scheduler_config.ts";

/** The visited timesteps. */
function visited(name: SchedulerClass, config: Record<string, unknown>, steps: number): number[] {
  return schedulerRun(name, config, { steps }).steps.map(({ timestep }) => timestep);
}

Deno.test("schedulers visit what their classes in diffusers visit", () => {
  assertEquals(visited("DDPMScheduler", {}, 4), [750, 500, 250, 0]);
  assertEquals(visited("DDIMScheduler", { steps_offset: 1, timestep_spacing: "leading" }, 4), [751, 501, 251, 1]);
  assertEquals(visited("UnCLIPScheduler", {}, 4), [999, 666, 333, 0]);
  assertEquals(visited("DPMSolverMultistepScheduler", {}, 4), [999, 749, 500, 250]);
  assertEquals(visited("DPMSolverMultistepScheduler", { timestep_spacing: "leading" }, 4), [800, 600, 400, 200]);
  const config = { beta_schedule: "squaredcos_cap_v2", lambda_min_clipped: -5.1, timestep_spacing: "trailing" };
  assertEquals(visited("DPMSolverMultistepScheduler", config, 4), [995, 745, 495, 245]);
});

Deno.test("schedulers have diffusers' defaults", () => {
  const run = schedulerRun("DDPMScheduler", { _class_name: "DDPMScheduler", trained_betas: null }, { steps: 10 });
  assertEquals([run.prediction, run.clip, run.threshold, run.steps.at(-1)?.to], ["epsilon", 1, undefined, CLEAN]);
  assertAlmostEquals((run.schedule.level(0).sigma) ** 2, 0.0001, 1e-16);
  const thresholding = schedulerRun("DDIMScheduler", { thresholding: true }, { steps: 10, eta: 0.5 });
  assertEquals([thresholding.clip, thresholding.threshold], [undefined, { ratio: 0.995, most: 1 }]);
  assertEquals(thresholding.sampler, { type: "ddim", eta: 0.5, rederive_noise: false });
});

Deno.test("unCLIP's learned variance goes from the posterior's to the step's own", () => {
  const { sampler, steps } = schedulerRun("UnCLIPScheduler", { variance_type: "learned_range" }, { steps: 5 });
  const factors = samplerSteps(sampler, steps);
  factors.forEach(({ variance, noise }, index) => {
    const { from, to } = steps[index] ?? { from: CLEAN, to: CLEAN };
    if (to === CLEAN) return assertEquals([variance, noise], [undefined, 0]);
    const beta = 1 - (from.alpha / to.alpha) ** 2;
    assertAlmostEquals(learnedDeviation(variance ?? { least: 0, most: 0 }, 1), Math.sqrt(beta), 1e-12);
    assertAlmostEquals(learnedDeviation(variance ?? { least: 0, most: 0 }, -1), noise, 1e-12);
  });
});

Deno.test("a wide last step of DDPM adds noise as diffusers does, unless it starts at timestep 0", () => {
  const last = (timestep_spacing: string): number => {
    const config = { variance_type: "fixed_large", timestep_spacing };
    const { sampler, steps } = schedulerRun("DDPMScheduler", config, { steps: 8 });
    return samplerSteps(sampler, steps).at(-1)?.noise ?? NaN;
  };
  assertEquals(last("leading"), 0);
  assertAlmostEquals(
    last("trailing"),
    schedulerRun("DDPMScheduler", {}, { steps: 1 }).schedule.level(124).sigma,
    1e-12,
  );
});

Deno.test("what is not known of a scheduler is unsupported, and named", () => {
  const cases: [SchedulerClass, Record<string, unknown>, string][] = [
    ["DDPMScheduler", { variance_type: "learned" }, "variance_type"],
    ["DDPMScheduler", { beta_schedule: "sigmoid" }, "beta_schedule"],
    ["DDPMScheduler", { rescale_betas_zero_snr: true }, "rescale_betas_zero_snr"],
    ["DDPMScheduler", { trained_betas: [0.1] }, "trained_betas"],
    ["DDPMScheduler", { beta_end: 7 }, "beta_end"],
    ["DDIMScheduler", { solver_order: 2 }, 'unknown field "solver_order"'],
    ["DPMSolverMultistepScheduler", { algorithm_type: "dpmsolver" }, "algorithm_type"],
    ["DPMSolverMultistepScheduler", { use_karras_sigmas: true }, "use_karras_sigmas"],
    ["UnCLIPScheduler", { prediction_type: "v_prediction" }, "prediction_type"],
    ["UnCLIPScheduler", { clip_sample: "yes" }, "clip_sample"],
  ];
  for (const [name, config, named] of cases) {
    const error = assertThrows(() => schedulerRun(name, config, { steps: 5 }), KinoraError, named);
    assertEquals(error.code, "unsupported");
  }
  for (const name of SCHEDULER_CLASSES) {
    for (const steps of [0, 1.5, 1001]) {
      assertThrows(() => schedulerRun(name, {}, { steps }), KinoraError, "steps");
    }
  }
});

Deno.test("trailing steps that do not come out even are refused where diffusers visits a timestep of -1", () => {
  const run = (scheduler: Parameters<typeof schedulerRun>[0], steps: number, num_train_timesteps = 1000) =>
    schedulerRun(scheduler, { num_train_timesteps, timestep_spacing: "trailing" }, { steps }).steps.map((
      { timestep },
    ) => timestep);
  // Counts of set_timesteps() of diffusers 0.42.1, and its last timestep.
  for (const [steps, timesteps, last] of [[7, 1000, 142], [999, 1000, 0], [87, 1000, 10], [61, 100, 1]] as const) {
    for (const scheduler of ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"] as const) {
      const visited = run(scheduler, steps, timesteps);
      assertEquals([visited.length, visited.at(-1)], [steps, last]);
    }
  }
  for (const scheduler of ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"] as const) {
    assertThrows(() => run(scheduler, 61), KinoraError, "visits a timestep of -1");
  }
});
