/**
 * A whole cascade of tiny networks with random weights, for tests: it runs in moments and makes nothing but patterns.
 *
 * @module
 */
import { Network } from "../../ffi/network.ts";
import { Tokenizer } from "../../ffi/tokenizer.ts";
import { WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";

/** The sizes of a tiny model. */
export interface TinySizes {
  /** Side of the decoder's pictures, and the side of a patch that its network takes as one pixel. */
  readonly decoder: readonly [size: number, patch: number];
  /** The same of the first super-resolution. */
  readonly low: readonly [size: number, patch: number];
  /** The same of the second. */
  readonly high: readonly [size: number, patch: number];
}

/** Pictures of 8, 16 and 48 pixels. */
export const SMALL: TinySizes = { decoder: [8, 2], low: [16, 4], high: [48, 8] };

/** Pictures of the sizes that the command line knows, of very large patches. */
export const REAL: TinySizes = { decoder: [64, 16], low: [256, 32], high: [768, 32] };

const EMBEDDING = 8;
const CONTEXT = 8;

const UNET = {
  _class_name: "UNetPseudo3DModel",
  in_channels: 3,
  block_out_channels: [8],
  attention: [false],
  attention_head_dim: 8,
  norm_num_groups: 4,
  time_embedding_dim: 16,
} as const;

/**
 * Writes a tiny model.
 *
 * @param folder Where to; it is made.
 * @param sizes How large its pictures are.
 */
export async function writeTinyModel(folder: string, sizes: TinySizes = SMALL): Promise<void> {
  await Deno.mkdir(`${folder}/tokenizer`, { recursive: true });
  const texts = ["a butterfly", "a red fox in the snow", "two birds", "the sun rises over the sea"];
  const path = `${folder}/tokenizer/tokenizer.json`;
  using _tokenizer = await Tokenizer.train(texts, { vocabulary: 300, path });
  const video = { ...UNET, temporal: true, fps_conditioning: true, image_embedding_dim: EMBEDDING, context_tokens: 1 };
  const decoder = { ...video, patch_size: sizes.decoder[1], attention: [true] };
  const low = { ...UNET, in_channels: 6, patch_size: sizes.low[1], temporal: true, augmentation_conditioning: true };
  const high = { ...UNET, in_channels: 6, patch_size: sizes.high[1], augmentation_conditioning: true };
  const configs = {
    clip_text: {
      _class_name: "CLIPTextModelWithProjection",
      vocab_size: 300,
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      max_position_embeddings: CONTEXT,
      projection_dim: EMBEDDING,
    },
    prior: {
      _class_name: "PriorTransformer",
      num_attention_heads: 2,
      attention_head_dim: 4,
      num_layers: 1,
      embedding_dim: EMBEDDING,
      num_embeddings: CONTEXT,
      causal: false,
    },
    decoder,
    interpolation: { ...decoder, in_channels: 7 },
    sr_low: low,
    sr_high: high,
    clip_image: {
      _class_name: "KinoraImageEncoder",
      sample_size: 8,
      in_channels: 3,
      patch_size: 4,
      block_out_channels: [8],
      projection_dim: EMBEDDING,
      norm_num_groups: 4,
    },
  };
  let seed = 1;
  for (const [name, config] of Object.entries(configs)) {
    using network = await Network.create(config, { seed: seed++ });
    await network.save(`${folder}/${name}`, { dtype: "f32" });
    await disturb(`${folder}/${name}/${WEIGHTS_FILE}`, seed);
  }
  await Deno.writeTextFile(`${folder}/model_index.json`, JSON.stringify(index(sizes), undefined, 2));
}

/** Makes a tiny model in a temporary folder for as long as `test` runs. */
export async function withTinyModel(test: (folder: string) => Promise<void>, sizes: TinySizes = SMALL): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await writeTinyModel(`${folder}/model`, sizes);
    await test(`${folder}/model`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function index(sizes: TinySizes): unknown {
  const shared = { schedule: { type: "cosine", shift: 2 }, prediction: "v_prediction", steps: 3 };
  const fps_range = { least: 1, most: 30 };
  const enlarging = { schedule: { type: "cosine" }, prediction: "sample", residual_scale: 0.5, steps: 2 };
  return {
    _class_name: "MakeAVideoCascade",
    name: "tiny",
    stages: {
      text: { folder: "clip_text", tokenizer: "tokenizer", context: CONTEXT },
      image: { folder: "clip_image" },
      prior: {
        folder: "prior",
        schedule: { type: "cosine" },
        prediction: "sample",
        times: { start: 0.99 },
        steps: 2,
        guidance: 2,
      },
      decoder: { ...shared, folder: "decoder", guidance: 1.5, frames: 16, size: sizes.decoder[0], fps: 8, fps_range },
      interpolation: { ...shared, folder: "interpolation", steps: 2, fps_range },
      "sr-low": { ...enlarging, folder: "sr_low", size: sizes.low[0], augmentation: 0.05 },
      "sr-high": { ...enlarging, folder: "sr_high", size: sizes.high[0], augmentation: 0.02, chunk: 5 },
    },
  };
}

/** Fills the weights that start at zero with small numbers, so that every input of a network matters. */
async function disturb(path: string, seed: number): Promise<void> {
  const bytes = await Deno.readFile(path);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  let state = seed;
  for (const [name, entry] of Object.entries<{ dtype: string; data_offsets: [number, number] }>(header)) {
    if (name === "__metadata__" || entry.dtype !== "F32") continue;
    const [from, to] = entry.data_offsets;
    const values = new Float32Array(bytes.slice(8 + length + from, 8 + length + to).buffer);
    if (values.some((value) => value !== 0)) continue;
    for (let i = 0; i < values.length; i++) {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      values[i] = state / 2 ** 31 * 0.1;
    }
    bytes.set(new Uint8Array(values.buffer), 8 + length + from);
  }
  await Deno.writeFile(path, bytes);
}
