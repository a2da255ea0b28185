/**
 * DPM-Solver++ (Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models"), the
 * multistep form: it integrates the clean sample over half the log signal-to-noise ratio, and takes its derivatives there
 * from the steps before.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { logSnr, type NoiseLevel } from "./noise_schedule.ts";
import type { StepFactors } from "./sampler.ts";
import type { Transition } from "./timesteps.ts";

/** Runs shorter than this end with steps of lower order, where that is asked for; the number is diffusers'. */
const FEW_STEPS = 15;

/** DPM-Solver++. */
export interface DpmSolverConfig {
  /** Says which sampler this is. */
  readonly type: "dpmsolver++";
  /**
   * How many clean samples a step combines, 1 to 3: order 1 is DDIM.
   *
   * @default {2}
   */
  readonly order?: number;
  /**
   * The form of the second order; the third has but one.
   *
   * @default {"midpoint"}
   */
  readonly solver?: "midpoint" | "heun";
  /**
   * Whether the stochastic equation is solved, which adds noise at every step; order 1 or 2.
   *
   * @default {false}
   */
  readonly stochastic?: boolean;
  /**
   * Whether the last step of a run of less than 15 is of order 1, and the one before of order 2 at most. A last step to
   * no noise at all is of order 1 in any case.
   *
   * @default {true}
   */
  readonly lower_order_final?: boolean;
  /**
   * Whether the last step is of order 1 in runs of any length.
   *
   * @default {false}
   */
  readonly euler_at_final?: boolean;
}

/**
 * The factors of all steps of a run.
 *
 * @param config Order and form.
 * @param steps The steps; noise grows less with each.
 * @throws {KinoraError} `refused` for another order or form.
 */
export function dpmSolverSteps(config: DpmSolverConfig, steps: readonly Transition[]): StepFactors[] {
  const { order = 2, solver = "midpoint", stochastic = false } = config;
  const { lower_order_final = true, euler_at_final = false } = config;
  const most = stochastic ? 2 : 3;
  if (!Number.isInteger(order) || order < 1 || order > most) {
    throw new KinoraError(
      "refused",
      `sampler.order must be a whole number from 1 to ${most}${stochastic ? " with stochastic" : ""}, not ${order}`,
    );
  }
  if (solver !== "midpoint" && solver !== "heun") {
    throw new KinoraError("refused", `sampler.solver must be "midpoint" or "heun", not ${JSON.stringify(solver)}`);
  }
  const lower = lower_order_final && steps.length < FEW_STEPS;
  return steps.map(({ to }, index) => {
    const left = steps.length - 1 - index;
    const first = left === 0 && (lower || euler_at_final || to.sigma === 0);
    const used = Math.min(order, index + 1, first ? 1 : left === 1 && lower ? 2 : 3);
    const levels = steps.slice(index + 1 - used, index + 1).map(({ from }) => from).reverse();
    return dpmSolverStep(levels, to, { solver, stochastic });
  });
}

/**
 * The factors of one step; its order is the number of levels.
 *
 * @param levels The noise levels of the noisy sample and, latest first, of those before it whose clean samples are used.
 * @param to The noise level wanted.
 * @param form Which form, and whether noise is added.
 */
export function dpmSolverStep(
  levels: readonly NoiseLevel[],
  to: NoiseLevel,
  form: { readonly solver: "midpoint" | "heun"; readonly stochastic: boolean },
): StepFactors {
  const from = levels[0] ?? to;
  const [time = 0, ...before] = levels.map((level) => logSnr(level) / 2);
  const h = logSnr(to) / 2 - time;
  if (h === 0 || Number.isNaN(h)) return { sample: 1, clean: 0, raw: 0, noise: 0 };
  const k = form.stochastic ? 2 * h : h;
  // 1 - e^-k, which is 1 for a step to no noise.
  const move = -Math.expm1(-k);
  const plain = {
    sample: to.sigma / from.sigma * (form.stochastic ? Math.exp(-h) : 1),
    clean: to.alpha * move,
    raw: 0,
    noise: form.stochastic ? to.sigma * Math.sqrt(move) : 0,
  };
  const [one, two] = before;
  if (one === undefined) return plain;
  const r0 = (time - one) / h;
  const heun = to.alpha * (1 - move / k);
  if (two === undefined) {
    const first = (form.solver === "heun" ? heun : to.alpha * move / 2) / r0;
    return { ...plain, clean: plain.clean + first, history: [-first] };
  }
  const r1 = (one - two) / h;
  // Half of what the second derivative would give: so in the authors' code and in diffusers, which are followed here.
  const second = to.alpha * (0.5 - (k - move) / (k * k));
  // The derivatives are combined of the differences of the last two clean samples and of the two before.
  const late = (heun * (1 + r0 / (r0 + r1)) + second / (r0 + r1)) / r0;
  const early = -(heun * r0 + second) / (r0 + r1) / r1;
  return { ...plain, clean: plain.clean + late, history: [early - late, -early] };
}
