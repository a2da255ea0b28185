/**
 * Small networks, and their folders, for the tests of GPUs.
 *
 * @module
 */
import { Network, type NetworkConfig } from "../../ffi/network.ts";
import { loadTensors, saveTensors, Tensor } from "../../ffi/tensor.ts";

/** A video U-Net with every kind of layer. */
export const UNET: NetworkConfig = {
  _class_name: "UNetPseudo3DModel",
  in_channels: 3,
  patch_size: 2,
  block_out_channels: [16, 48],
  layers_per_block: 1,
  attention: [false, true],
  mid_attention: true,
  attention_head_dim: 16,
  feed_forward_mult: 1,
  norm_num_groups: 4,
  time_embedding_dim: 48,
  image_embedding_dim: 6,
  context_tokens: 2,
  augmentation_conditioning: true,
  spatial_position_bias: true,
  temporal: true,
  fps_conditioning: true,
  learned_variance: true,
};
/** A picture tower. */
export const IMAGE: NetworkConfig = {
  _class_name: "KinoraImageEncoder",
  sample_size: 8,
  in_channels: 3,
  patch_size: 2,
  block_out_channels: [16, 48],
  projection_dim: 10,
  norm_num_groups: 4,
};

/** Normal noise; its seeds begin with `seed`. */
export function noise(shape: readonly number[], seed: number): Promise<Tensor> {
  const [batch = 1] = shape;
  return Tensor.noise({ shape, seeds: Array.from({ length: batch }, (_, i) => seed + i) });
}

/** Calls `work` with a folder of a network none of whose weights is 0, as those of new layers are. */
export async function saved(config: NetworkConfig, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    using fresh = await Network.create(config, { seed: 1 });
    await fresh.save(folder, { dtype: "f32" });
    const path = `${folder}/diffusion_pytorch_model.safetensors`;
    const { tensors } = await loadTensors(path);
    const moved: Record<string, Tensor> = {};
    for (const [at, [name, tensor]] of Object.entries(tensors).entries()) {
      const values = (await tensor.read()).map((value, i) => value + 0.1 * Math.sin(1 + at + i * 1.7));
      moved[name] = await Tensor.create(tensor.shape, values);
    }
    await saveTensors(moved, path);
    for (const tensor of [...Object.values(tensors), ...Object.values(moved)]) tensor.dispose();
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
