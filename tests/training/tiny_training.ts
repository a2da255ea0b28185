/**
 * A made-up data set and recipe that train in moments, for tests.
 *
 * @module
 */
import { saveTensors, Tensor } from "../../ffi/tensor.ts";
import { type Clip, type Concept, sealIndex } from "../../lib/data/dataset_index.ts";
import { Draws } from "../../lib/training/random.ts";

const NAMES = "red fox,blue bird,green snake,sun,moon,star,tree,house,boat,car,train,plane,cake,apple,pear,ball".split(
  ",",
);

/** Side of the small and of the large pictures. */
const [SMALL, LARGE] = [8, 32];

/** Frames of a clip, and of it in the large store. */
const [FRAMES, LARGE_FRAMES] = [12, 6];

/** The concepts of the tiny data set. */
export const CONCEPTS: readonly Concept[] = NAMES.map((name, index) => ({
  name,
  label: index % 3 === 0 ? `a ${name}` : name,
  tags: ["thing", index % 2 === 0 ? "even" : "odd", `number ${index}`, `${name} word`],
  keywords: index < 8 ? ["nature", "outside"] : ["made", "by hand"],
  group: "Things",
  code: `${index}`,
  still: index,
  clip: index % 4 === 0 ? index / 4 : null,
}));

/** The clips of the tiny data set. */
export const CLIPS: readonly Clip[] = CONCEPTS.filter(({ clip }) => clip !== null).map((concept, index) => ({
  concept: concept.still,
  start: index * FRAMES,
  length: FRAMES,
  delayMs: 42,
  large: {
    start: index * LARGE_FRAMES,
    frames: Array.from({ length: LARGE_FRAMES }, (_, frame) => frame * FRAMES / LARGE_FRAMES),
  },
}));

/**
 * Writes the data set: blobs of colour on white, which move in the clips.
 *
 * @param folder Where to; it is made.
 */
export async function writeTinyData(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const stills = CONCEPTS.map(({ still }) => ({ still, phase: 0 }));
  const clips = CLIPS.flatMap(({ concept }) =>
    Array.from({ length: FRAMES }, (_, frame) => ({ still: concept, phase: frame / FRAMES }))
  );
  const large = CLIPS.flatMap(({ concept, large }) =>
    (large?.frames ?? []).map((frame) => ({ still: concept, phase: frame / FRAMES }))
  );
  const stores = {
    stills64: await store(stills, SMALL),
    stills256: await store(stills, LARGE),
    clips64: await store(clips, SMALL),
    clips256: await store(large, LARGE),
  };
  for (const [name, tensor] of Object.entries(stores)) {
    await saveTensors({ [name]: tensor }, `${folder}/${name}.safetensors`);
  }
  const shapes = Object.fromEntries(Object.entries(stores).map(([name, { shape }]) => [name, shape]));
  for (const tensor of Object.values(stores)) tensor.dispose();
  const index = await sealIndex({ name: "tiny", sources: [], stores: shapes, concepts: CONCEPTS, clips: CLIPS });
  await Deno.writeTextFile(`${folder}/index.json`, JSON.stringify(index));
}

async function store(pictures: readonly { still: number; phase: number }[], side: number): Promise<Tensor> {
  const values = new Float32Array(pictures.length * side * side * 3);
  let at = 0;
  for (const { still, phase } of pictures) {
    const draws = new Draws(still, 0, 0);
    const [x, y, radius] = [draws.between(0.3, 0.7), draws.between(0.3, 0.7), draws.between(0.15, 0.35)];
    const colour = [draws.between(-1, 1), draws.between(-1, 1), draws.between(-1, 1)];
    const [left, top] = [x + 0.15 * Math.sin(2 * Math.PI * phase), y];
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const inside = Math.hypot((column + 0.5) / side - left, (row + 0.5) / side - top) < radius;
        for (const value of colour) values[at++] = inside ? value : 1;
      }
    }
  }
  return await Tensor.create([pictures.length, side, side, 3], values);
}

const UNET = {
  _class_name: "UNetPseudo3DModel",
  block_out_channels: [8],
  attention_head_dim: 8,
  norm_num_groups: 4,
  time_embedding_dim: 16,
};

const ENLARGING = { ...UNET, in_channels: 6, attention: [false], augmentation_conditioning: true };

/**
 * A recipe for all stages, as it stands in a file.
 *
 * @param steps Steps of each stage.
 */
export function tinyRecipe(steps: number): Record<string, unknown> & { stages: Record<string, unknown>[] } {
  const shared = { steps, batch: 4, learning_rate: 0.003, warmup_steps: 2, log_steps: 1 };
  const diffusion = { schedule: { type: "cosine", shift: 2 }, prediction: "v_prediction", steps: 2 };
  const enlarging = { schedule: { type: "cosine" }, prediction: "sample", residual_scale: 0.5, steps: 2 };
  const fps_range = { least: 4, most: 24 };
  const video = { embedding_noise: 0.4, own_embedding: 0.5, fps_curriculum: { start: 4, end: 1 } };
  return {
    model: {
      _class_name: "MakeAVideoCascade",
      name: "tiny",
      stages: {
        text: { folder: "clip_text", tokenizer: "tokenizer", context: 8 },
        image: { folder: "clip_image" },
        prior: { folder: "prior", schedule: { type: "cosine" }, prediction: "sample", steps: 2, guidance: 2 },
        decoder: { folder: "decoder", ...diffusion, guidance: 1.5, frames: 16, size: SMALL, fps: 8, fps_range },
        interpolation: { ...enlarging, folder: "interpolation", fps_range },
        "sr-low": { folder: "sr_low", ...enlarging, size: LARGE, augmentation: 0.05 },
        "sr-high": { folder: "sr_high", ...enlarging, size: 3 * LARGE, augmentation: 0.02, chunk: 4 },
      },
    },
    stages: [
      { stage: "tokenizer", vocabulary: 300 },
      {
        stage: "text-pair",
        ...shared,
        batch: 12,
        temperature: { start: 10, end: 20 },
        frame_pairs: { batch: 3, every: 2, weight: 0.25 },
        text: {
          _class_name: "CLIPTextModelWithProjection",
          vocab_size: 300,
          hidden_size: 8,
          intermediate_size: 16,
          num_hidden_layers: 1,
          num_attention_heads: 2,
          max_position_embeddings: 8,
          projection_dim: 8,
        },
        image: {
          _class_name: "KinoraImageEncoder",
          sample_size: SMALL,
          in_channels: 3,
          patch_size: 2,
          block_out_channels: [8],
          projection_dim: 8,
        },
      },
      { stage: "text-tuning", ...shared, batch: 16, learning_rate: 0.01, temperature: { start: 10, end: 10 } },
      {
        stage: "prior",
        ...shared,
        network: {
          _class_name: "PriorTransformer",
          num_attention_heads: 2,
          attention_head_dim: 4,
          num_layers: 1,
          embedding_dim: 8,
          num_embeddings: 8,
          causal: false,
        },
      },
      {
        stage: "decoder-image",
        ...shared,
        batch: [4, 6],
        optimizer: "muon",
        network: {
          ...UNET,
          in_channels: 3,
          patch_size: 2,
          attention: [true],
          image_embedding_dim: 8,
          context_tokens: 1,
        },
      },
      {
        stage: "decoder-video",
        ...shared,
        batch: 2,
        rates: [{ names_with: ".", scale: 0.3 }, { names_with: ".temporal", scale: 1 }],
        pictures: 0.4,
        ...video,
        network: { temporal: true, fps_conditioning: true },
      },
      { stage: "interpolation", ...shared, batch: 2, ...video, network: { in_channels: 7 } },
      {
        stage: "sr-low-image",
        ...shared,
        crop: 16,
        factor: 4,
        augmentation: 0.2,
        network: { ...ENLARGING, patch_size: 4 },
      },
      {
        stage: "sr-low",
        ...shared,
        batch: 2,
        crop: 16,
        factor: 4,
        augmentation: 0.2,
        clip_frames: 3,
        network: { temporal: true },
      },
      {
        stage: "sr-high",
        ...shared,
        crop: 24,
        factor: 3,
        augmentation: 0.05,
        network: { ...ENLARGING, patch_size: 8 },
      },
    ],
  };
}
