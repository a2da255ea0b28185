/**
 * `model_index.json`: which stages a model has, in which folders, and how each is to be sampled.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { NoiseScheduleConfig } from "../diffusion/noise_schedule.ts";
import type { Prediction } from "../diffusion/prediction.ts";
import type { SamplerConfig } from "../diffusion/sampler.ts";
import type { TimestepOptions } from "../diffusion/timesteps.ts";
import { JsonFields } from "./json_fields.ts";
import { type StageName, STAGES } from "./stage.ts";
import {
  readDecoder,
  readImage,
  readInterpolation,
  readPrior,
  readSuperResolution,
  readText,
} from "./stage_settings.ts";

/** The `_class_name` of a cascade. */
export const CASCADE_CLASS = "MakeAVideoCascade";

/** How a stage is sampled. */
export interface DiffusionSettings {
  /** The folder of the network, below the model's own. */
  readonly folder: string;
  /** The noise schedule the network was trained with. */
  readonly schedule: NoiseScheduleConfig;
  /** What the network predicts. */
  readonly prediction: Prediction;
  /** The sampler. */
  readonly sampler: SamplerConfig;
  /** Which times a run visits. */
  readonly times: Omit<TimestepOptions, "steps">;
  /** Number of steps unless asked otherwise, 1 to 1,000. */
  readonly steps: number;
  /** Classifier-free guidance unless asked otherwise, 0 to 50; 1 is none, and runs the network once a step, not twice. */
  readonly guidance: number;
}

/** The text encoder and its tokenizer. */
export interface TextSettings {
  /** The folder of the network. */
  readonly folder: string;
  /** The folder that holds `tokenizer.json`. */
  readonly tokenizer: string;
  /** Tokens of a text, 2 to 1,024; longer texts are cut, shorter ones padded. */
  readonly context: number;
  /** The words the model has seen, where it says so. */
  readonly words?: WordSettings;
}

/** The words of training captions, and when a prompt has too few of them. */
export interface WordSettings {
  /** The file with a word a line, below the model's folder. */
  readonly file: string;
  /** The file with those among them that name nothing to be seen; with it, unknown words are left out of prompts. */
  readonly fillers?: string;
  /** From this share of letters in unknown words on, more than 0 to 1, a prompt is warned of. */
  readonly threshold: number;
}

/** The image encoder; no stage of Eq. 1 needs it, training and image-to-video do. */
export interface ImageSettings {
  /** The folder of the network. */
  readonly folder: string;
}

/** P. */
export interface PriorSettings extends DiffusionSettings {
  /** Embeddings that are drawn for a text, of which the closest to the text's own is kept, 1 to 64. */
  readonly candidates: number;
}

/** What networks that are told the frame rate accept. */
export interface FpsSettings {
  /** The least rate they were trained on; a lower one is given as this. */
  readonly least: number;
  /** The greatest rate they were trained on; a higher one is given as this. */
  readonly most: number;
}

/** D^t. */
export interface DecoderSettings extends DiffusionSettings {
  /** Frames it makes, 1 to 256. */
  readonly frames: number;
  /** Side of its pictures in pixels. */
  readonly size: number;
  /** Frame rate unless asked otherwise. */
  readonly fps: number;
  /** The rates it was trained on. */
  readonly fps_range: FpsSettings;
  /**
   * The share of the noise's variance that all frames have in common, 0 to 1: clips are trained with it, and sampled with
   * it unless asked otherwise.
   *
   * @default {0}
   */
  readonly common_noise: number;
  /**
   * Seconds over which the rest of the noise changes, 0 to 60: the correlation of frames `t` seconds apart is
   * `exp(-(t / noise_seconds)² / 2)`. At 0 it is independent in every frame. Clips are trained with it, and sampled with it
   * unless asked otherwise.
   *
   * @default {0}
   */
  readonly noise_seconds: number;
}

/** upF. */
export interface InterpolationSettings extends DiffusionSettings {
  /** The rates it was trained on. */
  readonly fps_range: FpsSettings;
  /**
   * With a prediction of `sample` and a number here, the network sees a linear blend of the known frames where the paper
   * has zeros, and gives the difference to it, divided by this number; otherwise it gives the frames.
   */
  readonly residual_scale?: number;
  /**
   * With `residual_scale`: whether masked frames between two known ones start from a blend along the motion
   * (`Tensor.between`), the network further sees the difference of those two, divided by its root mean square over the window,
   * and gives what is missing in units of that instead. What hardly moves is then hardly changed.
   *
   * @default {false}
   */
  readonly known_motion?: boolean;
}

/** SR_l^t or SR_h. */
export interface SuperResolutionSettings extends DiffusionSettings {
  /** Side of the pictures that come out, in pixels. */
  readonly size: number;
  /** Noise added to the small picture before it is enlarged, 0 to 1. */
  readonly augmentation: number;
  /**
   * With a prediction of `sample` and a number here, the network gives the difference to the enlarged picture, divided by
   * this number; otherwise it gives the picture.
   */
  readonly residual_scale?: number;
  /** Frames that are run at once; 0 for all, which temporal layers need. */
  readonly chunk: number;
}

/** The stages of a model; any may be missing. */
export interface ModelStages {
  /** C_x. */
  readonly text?: TextSettings;
  /** C_y. */
  readonly image?: ImageSettings;
  /** P. */
  readonly prior?: PriorSettings;
  /** D^t. */
  readonly decoder?: DecoderSettings;
  /** upF. */
  readonly interpolation?: InterpolationSettings;
  /** SR_l^t. */
  readonly "sr-low"?: SuperResolutionSettings;
  /** SR_h. */
  readonly "sr-high"?: SuperResolutionSettings;
}

/** `model_index.json`, checked. */
export interface ModelIndex {
  /** The folder it was read from. */
  readonly folder: string;
  /** The model's name. */
  readonly name: string;
  /** Its stages. */
  readonly stages: ModelStages;
}

/**
 * Reads and checks `model_index.json`.
 *
 * @param folder The model's folder.
 * @throws {KinoraError} `not-found` when there is none, `bad-file` when it is not one of this kit's or a field is wrong.
 */
export async function readModelIndex(folder: string): Promise<ModelIndex> {
  const path = `${folder.replace(/\/+$/, "")}/model_index.json`;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
      throw new KinoraError("not-found", `There is no model in "${folder}": it has no model_index.json`, { cause });
    }
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new KinoraError("bad-file", `"${path}" is not JSON: ${(cause as Error).message}`, { cause });
  }
  return parseModelIndex(json, folder);
}

/**
 * Checks the contents of `model_index.json`.
 *
 * @param json The parsed file.
 * @param folder The model's folder.
 * @throws {KinoraError} `bad-file` when it is not one of this kit's, or a field is wrong.
 */
export function parseModelIndex(json: unknown, folder: string): ModelIndex {
  const file = new JsonFields(json, `${folder}/model_index.json`);
  const found = (json as Record<string, unknown>)["_class_name"];
  if (found !== CASCADE_CLASS) {
    throw new KinoraError(
      "bad-file",
      `"${folder}" holds ${
        typeof found === "string" ? `a ${found}` : "something else"
      }, not a cascade: model_index.json must have "_class_name": "${CASCADE_CLASS}"`,
    );
  }
  const name = file.text("name", "unnamed");
  const stages = file.nested("stages");
  const has = <T>(stage: string, read: (fields: JsonFields) => T): Record<string, T> =>
    stages.has(stage) ? { [stage]: read(stages.nested(stage)) } : {};
  const index: ModelIndex = {
    folder,
    name,
    stages: {
      ...has("text", readText),
      ...has("image", readImage),
      ...has("prior", readPrior),
      ...has("decoder", readDecoder),
      ...has("interpolation", readInterpolation),
      ...has("sr-low", readSuperResolution),
      ...has("sr-high", readSuperResolution),
    } as ModelStages,
  };
  stages.end();
  file.end();
  const sizes = [index.stages.decoder, index.stages["sr-low"], index.stages["sr-high"]].map((stage) => stage?.size)
    .filter((size) => size !== undefined);
  if (sizes.some((size, at) => size <= (sizes[at - 1] ?? 0))) {
    throw new KinoraError("bad-file", `${folder}/model_index.json: sizes must grow from stage to stage, not ${sizes}`);
  }
  return index;
}

/**
 * The settings of a stage.
 *
 * @throws {KinoraError} `not-found` when the model has no such stage; the message says which it has.
 */
export function stageSettings<Name extends keyof ModelStages>(
  index: ModelIndex,
  name: Name,
): NonNullable<ModelStages[Name]> {
  const settings = index.stages[name];
  if (settings === undefined) {
    const there = ["text", ...STAGES].filter((stage) => index.stages[stage as StageName] !== undefined);
    throw new KinoraError(
      "not-found",
      `The model in "${index.folder}" has no stage ${name}; it has ${there.join(", ") || "none"}`,
    );
  }
  return settings;
}
