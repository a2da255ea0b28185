/**
 * The options that the verbs which make videos have in common.
 *
 * @module
 */
import type { Cascade } from "../cascade/cascade.ts";
import { FITS } from "../cascade/given_frames.ts";
import { SAMPLER_TYPES } from "../cascade/plan_parts.ts";
import type { SamplerName } from "../cascade/run_plan.ts";
import { loadCascade } from "../load_cascade.ts";
import type { Options, OptionValues } from "./options.ts";

/** Where a video goes, and how large and fast it is. */
export const VIDEO_OPTIONS = {
  out: {
    type: "text",
    value: "FILE",
    help: "where to write: .gif, .png, .webp, .mp4, .y4m, .sheet.png, or folder/ for PNG; default the input's name",
  },
  seed: {
    type: "whole",
    value: "N",
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    help: "another seed, another video; default 0",
  },
  size: { type: "choice", choices: [64, 256, 512, 768], help: "width and height in pixels; default 256" },
} as const satisfies Options;

/** How noise becomes frames. */
export const SAMPLING_OPTIONS = {
  steps: { type: "whole", value: "N", least: 1, most: 1000, help: "steps of decoder and interpolation" },
  sampler: {
    type: "choice",
    choices: Object.keys(SAMPLER_TYPES) as SamplerName[],
    help: "how decoder and interpolation are sampled; default what the model says",
  },
  guidance: {
    type: "number",
    value: "X",
    least: 0,
    most: 50,
    help: "how closely the embedding is followed, 1 is plain",
  },
  rescale: {
    type: "number",
    value: "X",
    least: 0,
    most: 1,
    help: "how far strong guidance's contrast is brought back; default 0",
  },
  threshold: {
    type: "number",
    value: "X",
    least: 0.5,
    most: 1,
    help: "dynamic threshold: the quantile scaled to the end of the range; default frames are cut there",
  },
  "common-noise": {
    type: "number",
    value: "X",
    least: 0,
    most: 1,
    help: "the share of noise that all frames have in common; default what the decoder was trained with, else 0",
  },
  "noise-seconds": {
    type: "number",
    value: "X",
    least: 0,
    most: 60,
    help:
      "seconds over which the rest of the decoder's noise changes: more is slower; default what it was trained with",
  },
} as const satisfies Options;

/** Which model, and what is printed. */
export const MODEL_OPTIONS = {
  model: { type: "text", value: "DIR", help: "folder of another model" },
  device: {
    type: "choice",
    choices: ["cpu", "cuda"],
    help: "what computes: cuda is the first NVIDIA GPU; default cpu",
  },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** How given pictures become square. */
export const FIT_OPTION = {
  type: "choice",
  choices: FITS,
  help: "what is not square is cut (cover) or gets white beside it (contain); default cover",
} as const;

/** Results at the aspect of what was given. */
export const PLACE_BACK_OPTION = {
  type: "flag",
  help: "write the video at the size and aspect of what was given, on its first frame",
} as const;

/** The frame rate where it is the given video's unless asked otherwise. */
export const FPS_OPTION = { type: "number", value: "N", least: 1, most: 30 } as const;

/** `commonNoise` of `common-noise`. */
type LibraryName<Name> = Name extends `${infer First}-${infer Rest}` ? `${First}${Capitalize<LibraryName<Rest>>}`
  : Name;

/** The values of options by the library's names; those that were not given are absent. */
export type LibraryOptions<Values> = {
  readonly [Name in keyof Values as LibraryName<Name & string>]?: Exclude<Values[Name], undefined>;
};

/** Options that only concern the command line. */
const OWN = ["out", "model", "device", "json", "prompts", "grid", "by", "place-back"];

/**
 * What options ask of the library, by the library's names: those that were not given, and those that only concern the
 * command line, are left out.
 *
 * @param values The values of the options.
 */
export function libraryOptions<Values extends object>(values: Values): LibraryOptions<Values> {
  const camel = (name: string): string => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  const kept = Object.entries(values).filter(([name, value]) =>
    value !== undefined && value !== false && !OWN.includes(name)
  );
  return Object.fromEntries(kept.map(([name, value]) => [camel(name), value])) as LibraryOptions<Values>;
}

/**
 * Opens the model that the options name.
 *
 * @throws {KinoraError} `not-found` or `bad-file` when it is not there or not a cascade, `unsupported` when there is no
 * such device.
 */
export function openCascade(values: OptionValues<typeof MODEL_OPTIONS>): Promise<Cascade> {
  const { model, device } = values;
  return loadCascade({ ...model === undefined ? {} : { model }, ...device === undefined ? {} : { device } });
}
