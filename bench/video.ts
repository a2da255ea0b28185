/**
 * From text to video: what a user waits for.
 *
 * @module
 */
import type { Device } from "../ffi/network.ts";
import type { Cascade } from "../lib/cascade/cascade.ts";
import { loadCascade } from "../lib/load_cascade.ts";
import type { VideoRow } from "./report.ts";
import { median } from "./rounds.ts";

/** What is made. */
const PROMPT = "a butterfly";

/**
 * The time of `generate` by a model with its defaults, loading left out, after one run that is not counted.
 *
 * @param device What computes.
 * @param rounds How often.
 * @param model The model's folder; by default the default model.
 */
export async function timeOfVideo(device: Device, rounds: number, model?: string): Promise<VideoRow> {
  using cascade = await loadCascade({ device, ...model === undefined ? {} : { model } });
  await made(cascade, 0);
  const seconds: number[] = [];
  let [frames, size] = [0, 0];
  for (let round = 1; round <= rounds; round++) {
    const start = performance.now();
    [frames = 0, size = 0] = await made(cascade, round);
    seconds.push((performance.now() - start) / 1000);
  }
  return { dtype: cascade.precision, frames, size, seconds: median(seconds), rounds: seconds };
}

async function made(cascade: Cascade, seed: number): Promise<readonly number[]> {
  using video = await cascade.generate(PROMPT, { seed });
  return video.tensor.shape;
}
