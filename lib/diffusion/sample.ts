/**
 * Runs a sampler over tensors: from noise to a clean sample, step by step.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor, type TensorTerm } from "../../ffi/tensor.ts";
import { convertPrediction, type Prediction } from "./prediction.ts";
import { type SamplerConfig, samplerSteps, type StepFactors } from "./sampler.ts";
import type { Transition } from "./timesteps.ts";

/** What a run needs. */
export interface SamplingOptions {
  /** The steps, from {@linkcode transitions}. */
  readonly steps: readonly Transition[];
  /** The sampler. */
  readonly sampler: SamplerConfig;
  /** What `denoise` gives. */
  readonly prediction: Prediction;
  /** The noise to start from; it stays the caller's. */
  readonly start: Tensor;
  /**
   * Runs the network.
   *
   * @param sample The noisy sample; it stays the driver's.
   * @param timestep The number that the network embeds.
   * @returns The prediction, which becomes the driver's.
   */
  denoise(sample: Tensor, timestep: number): Promise<Tensor>;
  /**
   * Unit noise for a step; asked for only where the sampler adds some.
   *
   * @param step The number of the step, from 1.
   * @returns Noise of the sample's shape (its frame axis may be 1), which becomes the driver's.
   */
  noise(step: number): Promise<Tensor>;
  /** The range the clean sample is clamped to at every step; by default it is not. */
  readonly clamp?: readonly [number, number];
  /**
   * Another constraint on the clean sample at every step, after `clamp`.
   *
   * @param clean The clean sample; it stays the driver's.
   * @returns The constrained one, which becomes the driver's.
   */
  constrain?(clean: Tensor): Promise<Tensor>;
  /** Stops the run between two steps; its reason is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** A step that is done. */
export interface SamplingStep {
  /** Its number, from 1. */
  readonly step: number;
  /** Steps in all. */
  readonly total: number;
  /** The number that the network embedded. */
  readonly timestep: number;
  /** The clean sample as it looks now; it is disposed when the next step is asked for. */
  readonly clean: Tensor;
}

/**
 * Runs a sampler and yields after each step. Everything it made is freed when it ends, is left early, or throws.
 *
 * @param options The run.
 * @returns The clean sample, as the generator's return value.
 */
export async function* sampling(options: SamplingOptions): AsyncGenerator<SamplingStep, Tensor, void> {
  const { steps, sampler, prediction, signal } = options;
  let current: Tensor | undefined;
  const run = samplerSteps(sampler, steps);
  if (run.some(({ variance }) => variance !== undefined)) {
    throw new KinoraError("refused", 'sampler.variance "learned_range" needs a network whose variance is read');
  }
  // Clean samples of the steps before, latest first, as far back as the sampler looks.
  const remembered = Math.max(0, ...run.map(({ history }) => history?.length ?? 0));
  const past: Tensor[] = [];
  try {
    for (const [index, { timestep, from }] of steps.entries()) {
      signal?.throwIfAborted();
      const sample: Tensor = current ?? options.start;
      using output = await options.denoise(sample, timestep);
      const pair = convertPrediction(prediction, "sample", from);
      const terms = [{ tensor: sample, scale: pair.sample }, { tensor: output, scale: pair.prediction }];
      const factors = run[index] as StepFactors;
      // Before the constraint, where the sampler needs it; otherwise clamped at once, to spare a copy.
      const clamp = options.clamp;
      using raw = factors.raw === 0 ? undefined : await combined(terms);
      using clamped = raw === undefined
        ? await combined(terms, clamp)
        : await combined([{ tensor: raw, scale: 1 }], clamp);
      using constrained = await options.constrain?.(clamped);
      const clean = constrained ?? clamped;
      using noise = factors.noise === 0 ? undefined : await options.noise(index + 1);
      const next = await combined([
        { tensor: sample, scale: factors.sample },
        { tensor: clean, scale: factors.clean },
        ...raw === undefined ? [] : [{ tensor: raw, scale: factors.raw }],
        ...past.flatMap((tensor, back) => {
          const scale = factors.history?.[back] ?? 0;
          return scale === 0 ? [] : [{ tensor, scale }];
        }),
        ...noise === undefined ? [] : [{ tensor: noise, scale: factors.noise }],
      ]);
      current?.dispose();
      current = next;
      // A second hold on it, which outlives this step.
      if (remembered > 0) past.unshift(await clean.reshape(clean.shape));
      while (past.length > remembered) past.pop()?.dispose();
      yield { step: index + 1, total: steps.length, timestep, clean };
    }
    if (current === undefined) throw new RangeError("A run needs at least one step");
    const result = current;
    current = undefined;
    return result;
  } finally {
    current?.dispose();
    for (const tensor of past) tensor.dispose();
  }
}

/**
 * Runs a generator to its end.
 *
 * @param steps What runs, for example {@linkcode sampling}.
 * @param onStep Called after each step with what it yields.
 * @returns What the generator returns.
 */
export async function finish<Step, Result>(
  steps: AsyncGenerator<Step, Result, void>,
  onStep?: (step: Step) => void,
): Promise<Result> {
  try {
    for (;;) {
      const { done, value } = await steps.next();
      if (done) return value;
      onStep?.(value);
    }
  } finally {
    // Ends the generator where onStep threw, so that it frees what it holds.
    await steps.return(undefined as Result);
  }
}

/** The sum of the terms that count. */
function combined(terms: readonly TensorTerm[], clamp?: readonly [number, number]): Promise<Tensor> {
  return Tensor.combine(terms.filter(({ scale }) => scale !== 0), clamp === undefined ? {} : { clamp });
}
