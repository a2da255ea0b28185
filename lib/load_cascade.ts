/**
 * Opening a cascade: the embedded one, or one in a folder.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../ffi/errors.ts";
import { Cascade } from "./cascade/cascade.ts";
import type { CascadeOptions } from "./cascade/cascade_options.ts";

/** How a cascade is found and loaded. */
export interface LoadCascadeOptions extends CascadeOptions {
  /** The model's folder; by default the one that comes with this package, `models/default`. */
  readonly model?: string | URL;
}

/**
 * Opens a cascade.
 *
 * @example Make a video
 * ```ts ignore
 * import { loadCascade } from "@kinora/kinora";
 *
 * using cascade = await loadCascade();
 * using video = await cascade.generate("a butterfly", { seed: 1 });
 * await video.save("a-butterfly.gif");
 * ```
 *
 * @param options Which, and how.
 * @throws {KinoraError} `not-found` when there is no model, `bad-file` when it is not a cascade, `library-not-found` when
 * the native library is not built.
 */
export async function loadCascade(options: LoadCascadeOptions = {}): Promise<Cascade> {
  const { model = new URL("../models/default", import.meta.url), ...rest } = options;
  if (typeof model === "string") return await Cascade.load(model.replace(/(?<=.)\/+$/, ""), rest);
  if (model.protocol !== "file:") {
    throw new KinoraError("not-found", `A model is loaded from a folder on disk, not from ${model.href}: give "model"`);
  }
  return await Cascade.load(fileURLToPath(model).replace(/(?<=.)\/+$/, ""), rest);
}
