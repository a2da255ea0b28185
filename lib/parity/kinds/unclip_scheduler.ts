/**
 * `diffusers.UnCLIPScheduler`: the steps of unCLIP's prior, decoder and super-resolution, on recorded outputs of a network.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { JsonFields } from "../../cascade/json_fields.ts";
import { schedulerRun } from "../../diffusion/scheduler_config.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";
import { PlainRun } from "./plain_run.ts";

/**
 * Runs the scheduler.
 *
 * @param fixture The fixture; its outputs have the channels as their third axis, after steps and batch, and twice as many
 * where the variance is learned.
 */
export function answer(fixture: Fixture): Answers {
  const run = schedulerRun("UnCLIPScheduler", fixture.config, { steps: stepsOf(fixture) });
  const start = fixtureInput(fixture, "sample");
  const outputs = fixtureInput(fixture, "model_outputs");
  const count = run.steps.length;
  const [batch = 0, channels = 0, ...rest] = start.shape;
  const learned = run.sampler.type === "ddpm" && run.sampler.variance === "learned_range";
  const wanted = [count, batch, learned ? 2 * channels : channels, ...rest];
  if (String(outputs.shape) !== String(wanted)) {
    throw new KinoraError(
      "bad-file",
      `"${fixture.path}" has an in/model_outputs of the shape [${outputs.shape.join(", ")}], not [${
        wanted.join(", ")
      }]`,
    );
  }
  const plain = new PlainRun(fixture, run, start);
  const values = numbersOf(outputs);
  // Numbers of one sample, and of what the network gives for it.
  const size = plain.sample.length / batch;
  const given = learned ? 2 * size : size;
  for (let step = 0; step < count; step++) {
    const part = (half: number): Float64Array =>
      Float64Array.from(
        { length: batch * size },
        (_, at) => values[(step * batch + Math.floor(at / size)) * given + half * size + at % size] ?? NaN,
      );
    plain.step(part(0), learned ? part(1) : undefined);
  }
  return new Map([
    ["out/samples", plainTensor([count, ...start.shape], plain.samples)],
    ["out/pred_x0", plainTensor([count, ...start.shape], plain.cleans)],
    ...plain.schedule(),
  ]);
}

function stepsOf(fixture: Fixture): number {
  try {
    const f = new JsonFields(fixture.call, "call");
    const steps = f.whole("num_inference_steps", 2, 1000);
    f.end();
    return steps;
  } catch (cause) {
    throw new KinoraError("unsupported", (cause as Error).message, { cause });
  }
}
