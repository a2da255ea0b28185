import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { ddimStep } from "../../lib/diffusion/ddim.ts";
import { ddpmStep } from "../../lib/diffusion/ddpm.ts";
import { guidanceFactors } from "../../lib/diffusion/guidance.ts";
import { CLEAN, type NoiseLevel, noiseSchedule, type NoiseScheduleConfig } from "../../lib/diffusion/noise_schedule.ts";
import { convertPrediction, type Prediction, PREDICTIONS, predictionTarget } from "../../lib/diffusion/prediction.ts";
import { type SamplerConfig, samplerStep } from "../../lib/diffusion/sampler.ts";
import { type TimestepOptions, transitions } from "../../lib/diffusion/timesteps.ts";

const schedule = noiseSchedule({ type: "cosine" });
const LEVELS: [NoiseLevel, NoiseLevel][] = [[0.995, 0.9], [0.9, 0.45], [0.5, 0.49], [0.3, 0.01]]
  .map(([from = 0, to = 0]) => [schedule.level(from), schedule.level(to)]);

Deno.test("predictions convert into each other without loss", () => {
  const level = schedule.level(0.37);
  const [clean, noise] = [0.3, -1.2];
  const sample = level.alpha * clean + level.sigma * noise;
  const values: Record<Prediction, number> = {
    epsilon: noise,
    sample: clean,
    v_prediction: level.alpha * noise - level.sigma * clean,
  };
  for (const from of PREDICTIONS) {
    const target = predictionTarget(from, level);
    assertAlmostEquals(target.clean * clean + target.noise * noise, values[from], 1e-14);
    for (const to of PREDICTIONS) {
      const pair = convertPrediction(from, to, level);
      assertAlmostEquals(pair.sample * sample + pair.prediction * values[from], values[to], 1e-13, `${from} to ${to}`);
    }
  }
});

Deno.test("guidance is the plain output at 1, the unconditional at 0, and goes beyond above", () => {
  assertEquals(guidanceFactors(1), { conditional: 1, unconditional: 0 });
  assertEquals(guidanceFactors(0), { conditional: 0, unconditional: 1 });
  const { conditional, unconditional } = guidanceFactors(2.5);
  // unconditional + scale * (conditional - unconditional)
  assertAlmostEquals(conditional * 3 + unconditional * 1, 1 + 2.5 * (3 - 1), 1e-14);
});

Deno.test("a step with the true clean sample lands on the true noisy sample in mean, with the right variance", () => {
  const samplers: SamplerConfig[] = [
    { type: "ddim" },
    { type: "ddim", eta: 0.5 },
    { type: "ddim", eta: 1, rederive_noise: false },
    { type: "ddpm" },
  ];
  for (const config of samplers) {
    for (const [from, to] of LEVELS) {
      const factors = samplerStep(config, from, to);
      // x = alpha x0 + sigma e: the part of x0, and the variance of the rest, must be those of the lower level.
      const clean = factors.sample * from.alpha + factors.clean + factors.raw;
      const variance = (factors.sample * from.sigma) ** 2 + factors.noise ** 2;
      assertAlmostEquals(clean, to.alpha, 1e-12, JSON.stringify(config));
      assertAlmostEquals(variance, to.sigma ** 2, 1e-12, JSON.stringify(config));
    }
  }
});

Deno.test("DDIM at eta 1 is DDPM", () => {
  for (const [from, to] of LEVELS) {
    const [ddim, ddpm] = [ddimStep(from, to, 1, true), ddpmStep(from, to, "fixed_small")];
    for (const name of ["sample", "clean", "noise"] as const) assertAlmostEquals(ddim[name], ddpm[name], 1e-12, name);
  }
});

Deno.test("DDPM's posterior agrees with Bayes' rule for two Gaussians", () => {
  for (const [from, to] of LEVELS) {
    // z_to ~ N(to.alpha x0, to.sigma²) seen through z_from = r z_to + N(0, from.sigma² - r² to.sigma²).
    const r = from.alpha / to.alpha;
    const precision = 1 / to.sigma ** 2 + r * r / (from.sigma ** 2 - (r * to.sigma) ** 2);
    const factors = ddpmStep(from, to, "fixed_small");
    assertAlmostEquals(factors.noise ** 2, 1 / precision, 1e-12);
    assertAlmostEquals(factors.sample, r / (from.sigma ** 2 - (r * to.sigma) ** 2) / precision, 1e-10);
    assertAlmostEquals(factors.clean, to.alpha / to.sigma ** 2 / precision, 1e-10);
    const wide = ddpmStep(from, to, "fixed_large");
    assertAlmostEquals(wide.noise ** 2, 1 - r * r, 1e-12);
    assert(wide.noise >= factors.noise);
  }
});

Deno.test("the step to no noise ends on the clean sample", () => {
  const from = schedule.level(0.2);
  const configs: SamplerConfig[] = [
    { type: "ddim" },
    { type: "ddim", eta: 1 },
    { type: "ddpm" },
    { type: "ddpm", variance: "fixed_large" },
  ];
  for (const config of configs) {
    const { clean, ...rest } = samplerStep(config, from, CLEAN);
    assertAlmostEquals(clean, 1, 1e-14);
    assertEquals(rest, { sample: 0, raw: 0, noise: 0 });
  }
});

Deno.test("samplers refuse what they do not know", () => {
  const from = schedule.level(0.2);
  assertThrows(() => samplerStep({ type: "ddim", eta: 1.5 }, from, CLEAN), KinoraError, "eta must be from 0 to 1");
  assertThrows(() => samplerStep({ type: "heun" as "ddim" }, from, CLEAN), KinoraError, 'must be "ddim" or "ddpm"');
  const variance = "learned" as "fixed_small";
  assertThrows(() => samplerStep({ type: "ddpm", variance }, from, CLEAN), KinoraError, '"fixed_small"');
});

/** A recorded run of another implementation on a model whose answer is known in closed form. */
interface Recorded {
  readonly config: {
    readonly beta_schedule: "linear" | "squaredcos_cap_v2";
    readonly beta_start?: number;
    readonly beta_end?: number;
    readonly prediction_type: Prediction;
    readonly clip_sample: boolean;
    readonly set_alpha_to_one?: boolean;
    readonly steps_offset?: number;
    readonly timestep_spacing: "leading" | "linspace" | "trailing";
    readonly variance_type?: "fixed_small" | "fixed_large";
  };
  readonly call: { readonly num_inference_steps: number; readonly guidance?: number; readonly eta?: number };
  readonly tolerance: Readonly<Record<string, number>>;
  readonly tensors: Readonly<Record<string, Float64Array>>;
}

async function readRecorded(name: string): Promise<Recorded> {
  const bytes = await Deno.readFile(new URL(`../parity/fixtures/samplers/${name}.safetensors`, import.meta.url));
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const tensors: Record<string, Float64Array> = {};
  for (const [name, entry] of Object.entries<{ dtype: string; data_offsets: [number, number] }>(header)) {
    if (name === "__metadata__") continue;
    const data = bytes.slice(8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1]).buffer;
    tensors[name] = entry.dtype === "F32"
      ? Float64Array.from(new Float32Array(data))
      : Float64Array.from(new BigInt64Array(data), Number);
  }
  return { ...JSON.parse(header.__metadata__.manifest), tensors };
}

/** The same run with this kit's factors. */
function rerun(
  { config, call, tensors }: Recorded,
  sampler: SamplerConfig,
): { samples: number[]; timesteps: number[] } {
  const { beta_schedule, beta_start = 0.0001, beta_end = 0.02 } = config;
  const schedule: NoiseScheduleConfig = { type: "discrete", beta_schedule, beta_start, beta_end };
  const options: TimestepOptions = {
    steps: call.num_inference_steps,
    spacing: config.timestep_spacing,
    offset: config.steps_offset ?? 0,
    previous: sampler.type === "ddim" ? "stride" : "next",
    final: config.set_alpha_to_one === false ? "first" : "clean",
  };
  const tensor = (name: string): Float64Array => tensors[name] ?? new Float64Array();
  const spread = tensor("in/s");
  let x = [...tensor("in/sample")];
  const [samples, timesteps]: [number[], number[]] = [[], []];
  transitions(noiseSchedule(schedule), options).forEach(({ timestep, from, to }, step) => {
    // The exact clean sample of a Gaussian with mean mu and spread s, in the prediction that is asked for.
    const predicted = (name: string): number[] =>
      x.map((value, i) => {
        const [mu, s] = [tensor(name)[i] ?? 0, spread[i] ?? 0];
        const gain = from.alpha * s * s / ((from.alpha * s) ** 2 + from.sigma ** 2);
        const pair = convertPrediction("sample", config.prediction_type, from);
        return pair.sample * value + pair.prediction * (mu + gain * (value - from.alpha * mu));
      });
    const { conditional, unconditional } = guidanceFactors(call.guidance ?? 1);
    const [withText, without] = [predicted("in/mu_cond"), predicted("in/mu_uncond")];
    const pair = convertPrediction(config.prediction_type, "sample", from);
    const factors = samplerStep(sampler, from, to);
    const noise = tensor("in/noise").subarray(step * x.length);
    x = x.map((value, i) => {
      const output = conditional * (withText[i] ?? 0) + unconditional * (without[i] ?? 0);
      const raw = pair.sample * value + pair.prediction * output;
      const clean = config.clip_sample ? Math.min(1, Math.max(-1, raw)) : raw;
      return factors.sample * value + factors.clean * clean + factors.raw * raw + factors.noise * (noise[i] ?? 0);
    });
    samples.push(...x);
    timesteps.push(timestep);
  });
  return { samples, timesteps };
}

for (
  const name of [
    "ddim_eps_cosine_cfg_eta",
    "ddim_v_linear_noalpha1",
    "ddim_x0_cosine_clip",
    "ddpm_v_cosine_cfg",
    "ddpm_x0_large_linspace",
  ]
) {
  Deno.test(`a recorded run of diffusers is met: ${name}`, async () => {
    const recorded = await readRecorded(name);
    const sampler: SamplerConfig = name.startsWith("ddim")
      ? { type: "ddim", eta: recorded.call.eta ?? 0, rederive_noise: false }
      : { type: "ddpm", variance: recorded.config.variance_type ?? "fixed_small" };
    const { samples, timesteps } = rerun(recorded, sampler);
    assertEquals(timesteps, [...recorded.tensors["out/timesteps"] ?? []]);
    const wanted = recorded.tensors["out/samples"] ?? new Float64Array();
    assertEquals(samples.length, wanted.length);
    const tolerance = recorded.tolerance["out/samples"] ?? 0;
    samples.forEach((value, index) => assertAlmostEquals(value, wanted[index] ?? NaN, tolerance, `number ${index}`));
  });
}
