/**
 * A run of a scheduler over plain numbers in f64: what {@linkcode sampling} does with tensors.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { learnedDeviation } from "../../diffusion/ddpm.ts";
import { applyThreshold } from "../../diffusion/dynamic_threshold.ts";
import { convertPrediction } from "../../diffusion/prediction.ts";
import { samplerSteps, type StepFactors } from "../../diffusion/sampler.ts";
import type { SchedulerRun } from "../../diffusion/scheduler_config.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import { numbersOf, type PlainTensor, plainTensor } from "../safetensors.ts";

/** The most numbers that are held in memory, of all steps together. */
const MOST_NUMBERS = 2 ** 27;

/** A run that is under way. */
export class PlainRun {
  /** The sample after each step that is done, one after the other. */
  readonly samples: Float64Array<ArrayBuffer>;
  /** The constrained clean sample of each step that is done, one after the other. */
  readonly cleans: Float64Array<ArrayBuffer>;
  /** The sample as it is now. */
  sample: Float64Array;
  readonly #run: SchedulerRun;
  readonly #factors: readonly StepFactors[];
  readonly #noise: Float64Array;
  readonly #batch: number;
  readonly #path: string;
  #done = 0;

  /**
   * Begins a run.
   *
   * @param fixture The fixture; its `in/noise` has a row for each step that adds noise.
   * @param run The scheduler.
   * @param start The noise to start from, with the batch as the first axis.
   * @throws {KinoraError} `bad-file` when rows of noise are missing, `unsupported` when the run is too large.
   */
  constructor(fixture: Fixture, run: SchedulerRun, start: PlainTensor) {
    const noise = fixtureInput(fixture, "noise");
    this.#run = run;
    this.#path = fixture.path;
    this.#factors = samplerSteps(run.sampler, run.steps);
    this.sample = numbersOf(start);
    const size = this.sample.length;
    this.#batch = start.shape[0] ?? 0;
    if (size === 0 || this.#batch === 0) {
      throw new KinoraError("bad-file", `"${fixture.path}" has an in/sample without numbers`);
    }
    const rows = this.#factors.findLastIndex(adds) + 1;
    if (String(noise.shape.slice(1)) !== String(start.shape) || (noise.shape[0] ?? 0) < rows) {
      throw new KinoraError(
        "bad-file",
        `"${fixture.path}" has an in/noise of the shape [${noise.shape.join(", ")}]: ${rows} steps need one row each`,
      );
    }
    if (run.steps.length * size > MOST_NUMBERS) {
      throw new KinoraError(
        "unsupported",
        `${run.steps.length} steps of ${size} numbers are more than the ${MOST_NUMBERS} that are held at once`,
      );
    }
    this.#noise = numbersOf(noise);
    this.samples = new Float64Array(run.steps.length * size);
    this.cleans = new Float64Array(run.steps.length * size);
  }

  /**
   * Does the next step.
   *
   * @param output What the network gives for the sample.
   * @param variance What it says of the variance, where the sampler reads that.
   */
  step(output: Float64Array, variance?: Float64Array): void {
    const { steps, prediction, clip, threshold } = this.#run;
    const [transition, factors] = [steps[this.#done], this.#factors[this.#done]];
    if (transition === undefined || factors === undefined) throw new RangeError("The run is at its end");
    const x = this.sample;
    const size = x.length;
    const pair = convertPrediction(prediction, "sample", transition.from);
    const raw = x.map((value, at) =>
      (pair.sample === 0 ? 0 : pair.sample * value) + pair.prediction * (output[at] ?? NaN)
    );
    const clean = clip === undefined ? raw.slice() : raw.map((value) => Math.min(clip, Math.max(-clip, value)));
    if (threshold !== undefined) {
      const length = size / this.#batch;
      for (let at = 0; at < size; at += length) applyThreshold(clean.subarray(at, at + length), threshold);
    }
    const learned = factors.variance;
    if (learned !== undefined && variance === undefined) {
      throw new KinoraError("bad-file", `"${this.#path}" has outputs without the variance that the scheduler reads`);
    }
    const next = new Float64Array(size);
    for (let at = 0; at < size; at++) {
      let value = factors.sample * (x[at] ?? NaN) + factors.clean * (clean[at] ?? NaN);
      if (factors.raw !== 0) value += factors.raw * (raw[at] ?? NaN);
      factors.history?.forEach((factor, back) =>
        value += factor * (this.cleans[(this.#done - 1 - back) * size + at] ?? NaN)
      );
      if (adds(factors)) {
        const deviation = learned === undefined ? factors.noise : learnedDeviation(learned, variance?.[at] ?? NaN);
        value += deviation * (this.#noise[this.#done * size + at] ?? NaN);
      }
      next[at] = value;
    }
    this.cleans.set(clean, this.#done * size);
    this.samples.set(next, this.#done * size);
    this.sample = next;
    this.#done++;
  }

  /** What a fixture wants to know of the steps: `out/timesteps`, and `out/alphas_cumprod` there. */
  schedule(): [name: string, tensor: PlainTensor][] {
    const { steps } = this.#run;
    const count = steps.length;
    return [
      ["out/timesteps", plainTensor([count], BigInt64Array.from(steps, ({ timestep }) => BigInt(timestep)))],
      ["out/alphas_cumprod", plainTensor([count], Float64Array.from(steps, ({ from }) => from.alpha ** 2))],
    ];
  }
}

function adds(factors: StepFactors): boolean {
  return factors.noise !== 0 || factors.variance !== undefined;
}
