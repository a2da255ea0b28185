/**
 * Parts of plans that all runs have in common: how stages are sampled, how many frames come out, how large they are.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { SamplerConfig } from "../diffusion/sampler.ts";
import { type DiffusionSettings, type ModelIndex, stageSettings } from "./model_index.ts";
import type { SamplingChoices } from "./network_stage.ts";
import type { RunPlan, RunRequest, SamplerName, SamplingRequest } from "./run_plan.ts";
import type { StageName } from "./stage.ts";
import { WINDOW } from "./windows.ts";

/** Every {@linkcode SamplerName}, with the `type` in a model's files. */
export const SAMPLER_TYPES: Readonly<Record<SamplerName, SamplerConfig["type"]>> = {
  ddim: "ddim",
  ddpm: "ddpm",
  "dpm-solver++": "dpmsolver++",
};

/**
 * The parts of a plan that say how its stages are sampled.
 *
 * @param index The model.
 * @param request What is asked for.
 * @returns A function of the stages that run.
 * @throws {KinoraError} `refused` when a number is not accepted; the function `not-found` when the model lacks a stage.
 */
export function samplingPlan(
  index: ModelIndex,
  request: SamplingRequest,
): (stages: readonly StageName[]) => Pick<RunPlan, "steps" | "guidance" | "choices"> {
  const steps = optionalWhole("steps", request.steps, 1, 1000);
  const guidance = optionalNumber("guidance", request.guidance, 0, 50);
  const rescale = optionalNumber("rescale", request.rescale, 0, 1);
  const threshold = optionalNumber("threshold", request.threshold, 0.5, 1);
  const commonNoise = optionalNumber("commonNoise", request.commonNoise, 0, 1);
  const noiseSeconds = optionalNumber("noiseSeconds", request.noiseSeconds, 0, 60);
  const { sampler } = request;
  if (sampler !== undefined && !Object.hasOwn(SAMPLER_TYPES, sampler)) {
    throw new KinoraError(
      "refused",
      `sampler must be ${Object.keys(SAMPLER_TYPES).map((name) => `"${name}"`).join(" or ")}, not "${sampler}"`,
    );
  }
  const settings = (name: StageName): DiffusionSettings => stageSettings(index, name);
  const choices = (name: StageName): SamplingChoices => {
    const own = settings(name).sampler;
    const type = sampler === undefined ? undefined : SAMPLER_TYPES[sampler];
    const chosen = {
      sampler: type === undefined || type === own.type ? undefined : { type } as SamplerConfig,
      rescale,
      threshold,
      commonNoise,
      ...name === "decoder" ? trainedNoise(index, { commonNoise, noiseSeconds }) : {},
    };
    return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
  };
  return (stages) => {
    if (noiseSeconds !== undefined && !stages.includes("decoder")) {
      throw new KinoraError("refused", "noiseSeconds is for the decoder's noise, and no decoder runs here");
    }
    const frames: readonly StageName[] = stages.filter((name) => name === "decoder" || name === "interpolation");
    const each = <T>(names: readonly StageName[], value: (name: StageName) => T): Partial<Record<StageName, T>> =>
      Object.fromEntries(names.map((name) => [name, value(name)]));
    return {
      steps: each(stages, (name) => (frames.includes(name) ? steps : undefined) ?? settings(name).steps),
      guidance: each(stages, (name) => (name === frames[0] ? guidance : undefined) ?? settings(name).guidance),
      choices: each(frames, choices),
    };
  };
}

/** What the decoder's frames have of their noise in common, and how fast the rest changes: as asked for, or as trained. */
function trainedNoise(
  index: ModelIndex,
  asked: Pick<SamplingChoices, "commonNoise" | "noiseSeconds">,
): Pick<SamplingChoices, "commonNoise" | "noiseSeconds"> {
  const { common_noise: share, noise_seconds: seconds } = stageSettings(index, "decoder");
  return {
    commonNoise: asked.commonNoise ?? (share === 0 ? undefined : share),
    noiseSeconds: asked.noiseSeconds ?? (seconds === 0 ? undefined : seconds),
  };
}

/**
 * The number of frames, and the skip that makes them of key frames.
 *
 * @param keyFrames Key frames.
 * @param request The frames that are asked for.
 * @throws {KinoraError} `refused` when no skip makes them.
 */
export function frameCount(
  keyFrames: number,
  request: Pick<RunRequest, "frames" | "until" | "loop">,
): { frames: number; skip: number } {
  const most = WINDOW - 1;
  // A loop has frames between its last and its first one too.
  const open = request.loop === true ? 0 : 1;
  const longest = (skip: number): number => (keyFrames - open) * skip + open;
  const frames = request.frames ?? (request.until === "interpolation" ? longest(Math.min(5, most)) : keyFrames);
  const skip = (frames - open) / (keyFrames - open);
  const few = Number.isInteger(frames) && frames >= 1 && frames <= keyFrames;
  if (!few && !(Number.isInteger(skip) && skip <= most)) {
    const longer = Array.from({ length: most - 1 }, (_, at) => longest(at + 2));
    throw new KinoraError(
      "refused",
      `frames must be 1 to ${keyFrames}, or with interpolation ${longer.join(", ")}, not ${frames}`,
    );
  }
  if (few && request.until === "interpolation") {
    throw new KinoraError(
      "refused",
      `until "interpolation" needs more than ${keyFrames} frames, for example ${longest(5)}, not ${frames}`,
    );
  }
  if (!few && request.until === "decoder") {
    throw new KinoraError("refused", `until "decoder" gives at most ${keyFrames} frames, not ${frames}`);
  }
  return { frames, skip: few ? 1 : skip };
}

/**
 * The size, and the stages that enlarge to it.
 *
 * @param index The model.
 * @param smallest Side of what is enlarged, in pixels.
 * @param request The size that is asked for.
 * @throws {KinoraError} `refused` when no stage makes it.
 */
export function pictureSize(
  index: ModelIndex,
  smallest: number,
  request: Pick<RunRequest, "size" | "until">,
): { stages: StageName[]; madeSize: number; size: number } {
  const low = index.stages["sr-low"]?.size;
  const high = index.stages["sr-high"]?.size;
  const shown = high === undefined ? undefined : Math.round(high * 2 / 3);
  let stages: StageName[];
  if (request.until === "decoder" || request.until === "interpolation") stages = [];
  else if (request.until === "sr-low") stages = ["sr-low"];
  else if (request.until === "sr-high") stages = ["sr-low", "sr-high"];
  else if (request.size === undefined || request.size === low) stages = ["sr-low"];
  else if (request.size === high || request.size === shown) stages = ["sr-low", "sr-high"];
  else stages = [];
  const last = stages.at(-1);
  const madeSize = last === undefined ? smallest : stageSettings(index, last as "sr-low" | "sr-high").size;
  const size = request.size ?? madeSize;
  if (size !== madeSize && !(last === "sr-high" && size === shown)) {
    if (request.until !== undefined) {
      throw new KinoraError(
        "refused",
        `until "${request.until}" makes ${madeSize} pixels${last === "sr-high" ? ` (or ${shown})` : ""}, not ${size}`,
      );
    }
    const sizes = [...new Set([smallest, low, shown, high])].filter((size) => size !== undefined);
    throw new KinoraError("refused", `size must be one of ${sizes.join(", ")}, not ${size}`);
  }
  return { stages, madeSize, size };
}

/** A number, checked if it is there. */
export function optionalNumber(
  name: string,
  value: number | undefined,
  least: number,
  most: number,
): number | undefined {
  if (value !== undefined && !(value >= least && value <= most)) {
    throw new KinoraError("refused", `${name} must be a number from ${least} to ${most}, not ${value}`);
  }
  return value;
}

/** A whole number, checked if it is there. */
export function optionalWhole(
  name: string,
  value: number | undefined,
  least: number,
  most: number,
): number | undefined {
  if (value !== undefined && !(Number.isInteger(value) && value >= least && value <= most)) {
    throw new KinoraError("refused", `${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
  return value;
}
