/**
 * The class of each stage, and how it is loaded.
 *
 * @module
 */
import { Decoder } from "./decoder.ts";
import { ImageTower } from "./image_tower.ts";
import { Interpolation } from "./interpolation.ts";
import { type ModelIndex, stageSettings } from "./model_index.ts";
import type { StageLoadOptions } from "./network_stage.ts";
import { Prior } from "./prior.ts";
import { SuperResolution } from "./super_resolution.ts";
import { TextTower } from "./text.ts";

/** The class of each stage. */
export interface StageClasses {
  /** C_x. */
  readonly text: TextTower;
  /** C_y. */
  readonly image: ImageTower;
  /** P. */
  readonly prior: Prior;
  /** D^t. */
  readonly decoder: Decoder;
  /** upF. */
  readonly interpolation: Interpolation;
  /** SR_l^t. */
  readonly "sr-low": SuperResolution;
  /** SR_h. */
  readonly "sr-high": SuperResolution;
}

/**
 * Loads a stage.
 *
 * @param index The model.
 * @param name Which.
 * @param options The arithmetic, and what computes.
 * @throws {KinoraError} `not-found` when the model does not have it, `bad-file` when its files are damaged.
 */
export function loadStage(
  index: ModelIndex,
  name: keyof StageClasses,
  options: StageLoadOptions,
): Promise<Disposable> {
  const { folder } = index;
  switch (name) {
    case "text":
      return TextTower.load(folder, stageSettings(index, name), options);
    case "image":
      return ImageTower.load(folder, stageSettings(index, name), options);
    case "prior":
      return Prior.load(folder, stageSettings(index, name), options);
    case "decoder":
      return Decoder.load(folder, stageSettings(index, name), options);
    case "interpolation":
      return Interpolation.load(folder, stageSettings(index, name), options);
    default:
      return SuperResolution.load(name, folder, stageSettings(index, name), options);
  }
}
