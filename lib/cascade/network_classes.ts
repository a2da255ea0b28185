/**
 * The kind of network each stage has.
 *
 * @module
 */
import type { ModelStages } from "./model_index.ts";

/** The `_class_name` in the `config.json` of each stage's network. */
export const NETWORK_CLASSES: Readonly<Record<keyof ModelStages, string>> = {
  text: "CLIPTextModelWithProjection",
  image: "KinoraImageEncoder",
  prior: "PriorTransformer",
  decoder: "UNetPseudo3DModel",
  interpolation: "UNetPseudo3DModel",
  "sr-low": "UNetPseudo3DModel",
  "sr-high": "UNetPseudo3DModel",
};
