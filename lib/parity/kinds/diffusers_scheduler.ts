/**
 * `diffusers.DDPMScheduler`, `diffusers.DDIMScheduler`, `diffusers.DPMSolverMultistepScheduler`: whole runs in f64, on a
 * model whose answer is known in closed form.
 *
 * The model `toy.gaussian` stands for data that are independent Gaussians of mean mu and spread s: given a noisy sample
 * the exact clean one is `mu + alpha s² / (alpha² s² + sigma²) (x - alpha mu)`.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { JsonFields } from "../../cascade/json_fields.ts";
import { guidanceFactors, rescaleFactor } from "../../diffusion/guidance.ts";
import type { NoiseLevel } from "../../diffusion/noise_schedule.ts";
import { convertPrediction } from "../../diffusion/prediction.ts";
import { type SchedulerClass, schedulerRun } from "../../diffusion/scheduler_config.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";
import { PlainRun } from "./plain_run.ts";

/**
 * Runs the scheduler.
 *
 * @param fixture The fixture.
 */
export function answer(fixture: Fixture): Answers {
  const model = fixture.manifest["model"];
  if (model !== "toy.gaussian") {
    throw new KinoraError("unsupported", `The model ${JSON.stringify(model) ?? "without a name"} is not known here`);
  }
  const { steps, eta, guidance, rescale } = callOf(fixture);
  const run = schedulerRun(fixture.kind.slice("diffusers.".length) as SchedulerClass, fixture.config, { steps, eta });
  const start = fixtureInput(fixture, "sample");
  const input = (name: string): Float64Array => {
    const tensor = fixtureInput(fixture, name);
    if (String(tensor.shape) !== String(start.shape)) {
      throw new KinoraError("bad-file", `"${fixture.path}" has an in/${name} that is not of the shape of in/sample`);
    }
    return numbersOf(tensor);
  };
  const [conditional, unconditional, spread] = [input("mu_cond"), input("mu_uncond"), input("s")];
  const plain = new PlainRun(fixture, run, start);
  const factors = guidanceFactors(guidance);
  const size = plain.sample.length / (start.shape[0] ?? 1);
  for (const { from } of run.steps) {
    const predicted = (means: Float64Array): Float64Array => gaussian(plain.sample, means, spread, from);
    const pair = convertPrediction("sample", run.prediction, from);
    const converted = predicted(conditional).map((clean, at) =>
      pair.sample * (plain.sample[at] ?? NaN) + pair.prediction * clean
    );
    let output = converted;
    if (guidance !== 1) {
      const without = predicted(unconditional);
      output = converted.map((value, at) =>
        factors.conditional * value +
        factors.unconditional * (pair.sample * (plain.sample[at] ?? NaN) + pair.prediction * (without[at] ?? NaN))
      );
      for (let at = 0; rescale > 0 && at < output.length; at += size) {
        const row = output.subarray(at, at + size);
        const factor = rescaleFactor(converted.subarray(at, at + size), row, rescale);
        row.forEach((value, index) => row[index] = factor * value);
      }
    }
    plain.step(output);
  }
  return new Map([
    ["out/samples", plainTensor([run.steps.length, ...start.shape], plain.samples)],
    ...plain.schedule(),
  ]);
}

function callOf(
  fixture: Fixture,
): { readonly steps: number; readonly eta: number; readonly guidance: number; readonly rescale: number } {
  try {
    const f = new JsonFields(fixture.call, "call");
    const call = {
      steps: f.whole("num_inference_steps", 1, 1000),
      eta: f.number("eta", 0, 1, 0),
      guidance: f.number("guidance", -1e6, 1e6, 1),
      rescale: f.number("guidance_rescale", 0, 1, 0),
    };
    f.end();
    return call;
  } catch (cause) {
    throw new KinoraError("unsupported", (cause as Error).message, { cause });
  }
}

function gaussian(x: Float64Array, means: Float64Array, spread: Float64Array, level: NoiseLevel): Float64Array {
  const { alpha, sigma } = level;
  return x.map((value, at) => {
    const [mu, s] = [means[at] ?? NaN, spread[at] ?? NaN];
    return mu + alpha * s * s / ((alpha * s) ** 2 + sigma * sigma) * (value - alpha * mu);
  });
}
