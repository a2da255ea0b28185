/**
 * The decoder that short trainings start from: the model's own without its temporal layers.
 *
 * @module
 */
import { loadTensors, saveTensors, Tensor } from "../../../ffi/tensor.ts";
import { CONFIG_FILE, WEIGHTS_FILE } from "../../cascade/model_files.ts";
import { writeTextWhole } from "../../video.ts";

/** How the temporal layers that are put back start. */
export type TemporalStart = "identity" | "random";

/** Texts in the names of weights that an image network does not have. */
const OF_VIDEO = [".temporal", "fps_embedding"];

/** Weights that start as the identity, so that a layer at first changes nothing; the others start at random anyway. */
const IDENTITIES = [/\.temporal_conv\.weight$/, /\.temporal\.to_out\.weight$/];

/** How a network is taken apart. */
export interface StartOptions {
  /**
   * `identity` leaves out all temporal weights, so that growing the network makes them anew as identities; `random` draws
   * those that would be the identity, uniform within ±1/sqrt(fan in) as PyTorch draws any convolution's.
   */
  readonly start: TemporalStart;
  /** Decides the random weights, 0 to 2^53 - 1. */
  readonly seed: number;
}

/**
 * Writes a video network as an image network: without temporal layers and frame rate.
 *
 * @param from The folder of the video network.
 * @param to The folder of the image network, which is made.
 * @param options How its temporal layers are to start when it grows some again.
 */
export async function writeStartNetwork(from: string, to: string, options: StartOptions): Promise<void> {
  const config = JSON.parse(await Deno.readTextFile(`${from}/${CONFIG_FILE}`));
  const { tensors } = await loadTensors(`${from}/${WEIGHTS_FILE}`);
  const kept: Record<string, Tensor> = {};
  using held = new DisposableStack();
  for (const tensor of Object.values(tensors)) held.use(tensor);
  for (const [index, [name, tensor]] of Object.entries(tensors).sort().entries()) {
    if (!OF_VIDEO.some((text) => name.includes(text))) kept[name] = tensor;
    else if (options.start === "random" && IDENTITIES.some((pattern) => pattern.test(name))) {
      kept[name] = held.use(await randomWeights(tensor.shape, options.seed, index));
    }
  }
  await Deno.mkdir(to, { recursive: true });
  await saveTensors(kept, `${to}/${WEIGHTS_FILE}`, { metadata: { format: "pt" } });
  const image = { ...config, temporal: false, fps_conditioning: false };
  await writeTextWhole(`${to}/${CONFIG_FILE}`, `${JSON.stringify(image, undefined, 2)}\n`);
}

/** Weights (out, in, ...) as PyTorch draws them, with the spread of uniform numbers within ±1/sqrt(fan in). */
async function randomWeights(shape: readonly number[], seed: number, stream: number): Promise<Tensor> {
  const fanIn = shape.slice(1).reduce((product, length) => product * length, 1);
  using noise = await Tensor.noise({ shape: [1, ...shape], seeds: [seed], stream });
  using scaled = await Tensor.combine([{ tensor: noise, scale: 1 / Math.sqrt(3 * fanIn) }]);
  return await scaled.reshape(shape);
}
