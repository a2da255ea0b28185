/**
 * `loss.hybrid`: the hybrid loss of improved DDPM, with its gradient.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { JsonFields } from "../../cascade/json_fields.ts";
import { hybridLoss } from "../../diffusion/hybrid_loss.ts";
import { type NoiseSchedule, noiseSchedule } from "../../diffusion/noise_schedule.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";

/**
 * Computes loss, its parts and its gradient.
 *
 * @param fixture The fixture.
 */
export function answer(fixture: Fixture): Answers {
  const { schedule, prediction } = settings(fixture.config);
  const input = (name: string): Float64Array => numbersOf(fixtureInput(fixture, name));
  const output = fixtureInput(fixture, "model_output");
  const [batch = 0, channels = 0, ...rest] = fixtureInput(fixture, "x_start").shape;
  const timesteps = [...input("t")];
  if (String(output.shape) !== String([batch, 2 * channels, ...rest]) || timesteps.length !== batch) {
    throw new KinoraError(
      "bad-file",
      `"${fixture.path}" has inputs that do not fit: in/model_output must have twice the channels of in/x_start, and ` +
        "in/t one timestep a sample",
    );
  }
  const { loss, squared, bound, gradient } = hybridLoss({
    schedule,
    prediction,
    timesteps,
    clean: input("x_start"),
    noise: input("noise"),
    noisy: input("x_t"),
    output: numbersOf(output),
  });
  return new Map([
    ["out/loss", plainTensor([], Float64Array.of(loss))],
    ["out/mse", plainTensor([batch], new Float64Array(squared))],
    ["out/vb", plainTensor([batch], new Float64Array(bound))],
    ["grad/in/model_output", plainTensor(output.shape, new Float64Array(gradient))],
  ]);
}

function settings(
  config: Readonly<Record<string, unknown>>,
): { readonly schedule: NoiseSchedule; readonly prediction: "epsilon" | "sample" } {
  try {
    const f = new JsonFields(config, "config");
    const length = f.whole("num_timesteps", 2, 100_000);
    // Improved DDPM's linear betas are for 1,000 timesteps, and grow as there are fewer.
    const schedule = noiseSchedule({
      type: "discrete",
      num_train_timesteps: length,
      ...f.choice("beta_schedule", ["cosine", "linear"]) === "cosine"
        ? { beta_schedule: "squaredcos_cap_v2" }
        : { beta_schedule: "linear", beta_start: 0.1 / length, beta_end: 20 / length },
    });
    const prediction = f.choice("prediction_type", ["epsilon", "sample"]);
    f.end();
    return { schedule, prediction };
  } catch (cause) {
    throw new KinoraError("unsupported", (cause as Error).message, { cause });
  }
}
