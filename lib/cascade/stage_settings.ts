/**
 * Reads how each stage is sampled from the fields of `model_index.json`; what is wrong is refused by the field's name.
 *
 * @module
 */
import { noiseSchedule, type NoiseScheduleConfig } from "../diffusion/noise_schedule.ts";
import { PREDICTIONS } from "../diffusion/prediction.ts";
import type { SamplerConfig } from "../diffusion/sampler.ts";
import type { TimestepOptions } from "../diffusion/timesteps.ts";
import type { JsonFields } from "./json_fields.ts";
import type {
  DecoderSettings,
  DiffusionSettings,
  FpsSettings,
  ImageSettings,
  InterpolationSettings,
  PriorSettings,
  SuperResolutionSettings,
  TextSettings,
  WordSettings,
} from "./model_index.ts";

/** The settings of C_x. */
export function readText(f: JsonFields): TextSettings {
  const settings = {
    folder: f.folder("folder"),
    tokenizer: f.folder("tokenizer"),
    context: f.whole("context", 2, 1024),
    ...f.has("words") ? { words: words(f.nested("words")) } : {},
  };
  f.end();
  return settings;
}

function words(f: JsonFields): WordSettings {
  const fillers = f.has("fillers") ? { fillers: f.folder("fillers") } : {};
  const settings = { file: f.folder("file"), ...fillers, threshold: f.number("threshold", 1e-6, 1) };
  f.end();
  return settings;
}

/** The settings of C_y. */
export function readImage(f: JsonFields): ImageSettings {
  const settings = { folder: f.folder("folder") };
  f.end();
  return settings;
}

/** The settings of P. */
export function readPrior(f: JsonFields): PriorSettings {
  const settings = { ...diffusion(f), candidates: f.whole("candidates", 1, 64, 1) };
  f.end();
  return settings;
}

/** The settings of D^t. */
export function readDecoder(f: JsonFields): DecoderSettings {
  const settings = {
    ...diffusion(f),
    frames: f.whole("frames", 1, 256),
    size: f.whole("size", 1, 4096),
    fps: f.number("fps", 1, 240),
    fps_range: fpsRange(f),
    common_noise: f.number("common_noise", 0, 1, 0),
    noise_seconds: f.number("noise_seconds", 0, 60, 0),
  };
  f.end();
  return settings;
}

/** The settings of upF. */
export function readInterpolation(f: JsonFields): InterpolationSettings {
  const settings = withResidual(f, { ...diffusion(f), fps_range: fpsRange(f) });
  const moving = f.flag("known_motion", false);
  if (moving && settings.residual_scale === undefined) f.refuse("known_motion", "needs residual_scale", moving);
  f.end();
  return { ...settings, ...moving ? { known_motion: true } : {} };
}

/** The settings of SR_l^t or SR_h. */
export function readSuperResolution(f: JsonFields): SuperResolutionSettings {
  const settings = withResidual(f, {
    ...diffusion(f),
    size: f.whole("size", 1, 4096),
    augmentation: f.number("augmentation", 0, 1, 0),
    chunk: f.whole("chunk", 0, 4096, 0),
  });
  f.end();
  return settings;
}

function withResidual<Settings extends DiffusionSettings>(
  f: JsonFields,
  settings: Settings,
): Settings & { readonly residual_scale?: number } {
  if (!f.has("residual_scale")) return settings;
  const scale = f.number("residual_scale", 1e-3, 1e3);
  if (settings.prediction !== "sample") f.refuse("residual_scale", 'needs "prediction": "sample"', scale);
  return { ...settings, residual_scale: scale };
}

function fpsRange(f: JsonFields): FpsSettings {
  const range = f.nested("fps_range");
  const least = range.number("least", 1, 240);
  const most = range.number("most", least, 240);
  range.end();
  return { least, most };
}

function diffusion(f: JsonFields): DiffusionSettings {
  const schedule = scheduleConfig(f.nested("schedule"));
  return {
    folder: f.folder("folder"),
    schedule,
    prediction: f.choice("prediction", PREDICTIONS),
    sampler: f.has("sampler") ? samplerConfig(f.nested("sampler")) : { type: "ddim" },
    times: times(f.nested("times", true), schedule),
    steps: f.whole("steps", 1, Math.min(1000, noiseSchedule(schedule).length ?? 1000)),
    guidance: f.number("guidance", 0, 50, 1),
  };
}

function scheduleConfig(f: JsonFields): NoiseScheduleConfig {
  const type = f.choice("type", ["cosine", "linear", "discrete"]);
  let config: NoiseScheduleConfig;
  switch (type) {
    case "cosine":
      config = { type, shift: f.number("shift", 0.01, 100, 1) };
      break;
    case "linear": {
      const beta_min = f.number("beta_min", 0, 1000, 0.1);
      config = { type, beta_min, beta_max: f.number("beta_max", beta_min, 1000, 20) };
      break;
    }
    default: {
      const beta_start = f.number("beta_start", 1e-9, 0.999, 0.0001);
      config = {
        type,
        beta_schedule: f.choice("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"]),
        num_train_timesteps: f.whole("num_train_timesteps", 1, 100_000, 1000),
        beta_start,
        beta_end: f.number("beta_end", beta_start, 0.999, 0.02),
      };
    }
  }
  f.end();
  return config;
}

function samplerConfig(f: JsonFields): SamplerConfig {
  const type = f.choice("type", ["ddim", "ddpm", "dpmsolver++"]);
  let config: SamplerConfig;
  switch (type) {
    case "ddim":
      config = { type, eta: f.number("eta", 0, 1, 0), rederive_noise: f.flag("rederive_noise", true) };
      break;
    case "ddpm":
      config = { type, variance: f.choice("variance", ["fixed_small", "fixed_large"], "fixed_small") };
      break;
    default: {
      const stochastic = f.flag("stochastic", false);
      config = {
        type,
        stochastic,
        order: f.whole("order", 1, stochastic ? 2 : 3, 2),
        solver: f.choice("solver", ["midpoint", "heun"], "midpoint"),
        lower_order_final: f.flag("lower_order_final", true),
        euler_at_final: f.flag("euler_at_final", false),
      };
    }
  }
  f.end();
  return config;
}

function times(f: JsonFields, schedule: NoiseScheduleConfig): Omit<TimestepOptions, "steps"> {
  const settings: Omit<TimestepOptions, "steps"> = schedule.type !== "discrete"
    ? { start: f.number("start", 1e-3, 1, 0.995) }
    : {
      spacing: f.wholeList("spacing") ?? f.choice("spacing", ["leading", "linspace", "trailing"], "leading"),
      offset: f.whole("offset", 0, 1000, 0),
      previous: f.choice("previous", ["next", "stride"], "next"),
      final: f.choice("final", ["clean", "first"], "clean"),
    };
  f.end();
  return settings;
}
