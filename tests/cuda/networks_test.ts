// Whole networks on a GPU beside the same on the CPU, through everything: this package, the C library, candle, the driver.
//
// Without a GPU they are skipped. `deno task cuda:build` runs them on a device that is the processor, `deno task test --gpu`
// on a GPU.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo, whyNoGpu } from "../../ffi/library.ts";
import { Network, type NetworkConfig, type NetworkInputs } from "../../ffi/network.ts";
import { loadTensors, Tensor } from "../../ffi/tensor.ts";
import { IMAGE, noise, saved, UNET } from "./networks.ts";

const info = await libraryInfo();
const ignore = info.gpu === null;
// deno-lint-ignore no-console
if (ignore) console.error(`note: networks are not run on a GPU: ${whyNoGpu(info)}`);

const TEXT: NetworkConfig = {
  _class_name: "CLIPTextModelWithProjection",
  vocab_size: 11,
  hidden_size: 48,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  max_position_embeddings: 6,
  projection_dim: 10,
  eos_token_id: 3,
};
const PRIOR: NetworkConfig = {
  _class_name: "PriorTransformer",
  num_attention_heads: 3,
  attention_head_dim: 16,
  num_layers: 2,
  embedding_dim: 6,
  num_embeddings: 5,
  encoder_hid_dim: 7,
};

async function outputs(
  folder: string,
  inputs: NetworkInputs,
  options: { readonly device: "cpu" | "cuda"; readonly precision: "f32" | "bf16" },
): Promise<Record<string, Float32Array>> {
  using network = await Network.load(folder, options);
  assertEquals(network.device, options.device);
  const made: Record<string, Float32Array> = {};
  for (const [name, output] of Object.entries(await network.forward(inputs))) {
    made[name] = await output.read();
    output.dispose();
  }
  return made;
}

/** Runs a network on both devices; what they give differs by no more than f32 or bf16 explains. */
async function alike(config: NetworkConfig, inputs: NetworkInputs): Promise<void> {
  await saved(config, async (folder) => {
    for (const [precision, tolerance] of [["f32", 2e-4], ["bf16", 2e-2]] as const) {
      const cpu = await outputs(folder, inputs, { device: "cpu", precision });
      const cuda = await outputs(folder, inputs, { device: "cuda", precision });
      assertEquals(Object.keys(cuda), Object.keys(cpu));
      for (const [name, expected] of Object.entries(cpu)) {
        const got = cuda[name];
        assert(got !== undefined && got.length === expected.length);
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        assert(largest > 0, `${name} says nothing`);
        const error = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (got[i] ?? NaN))), 0);
        assert(error <= tolerance * largest, `${name} in ${precision}: off by ${error} of ${largest}`);
      }
    }
  });
}

Deno.test({
  name: "a video U-Net gives on the GPU what it gives on the CPU",
  ignore,
  fn: async () => {
    using sample = await noise([2, 3, 8, 8, 3], 3);
    using image_embedding = await noise([2, 6], 5);
    await alike(UNET, {
      sample,
      image_embedding,
      timestep: [10, 900],
      drop: [0, 1],
      fps: [4, 24],
      augmentation: [0.1, 0.5],
    });
  },
});

Deno.test({
  name: "the text tower, the image tower and the prior give on the GPU what they give on the CPU",
  ignore,
  fn: async () => {
    using tokens = await Tensor.create([2, 4], [5, 6, 3, 0, 7, 8, 9, 3]);
    await alike(TEXT, { tokens });
    using image = await noise([2, 8, 8, 3], 7);
    await alike(IMAGE, { image });
    using sample = await noise([2, 6], 8);
    using text_embedding = await noise([2, 6], 9);
    using text_states = await noise([2, 5, 7], 10);
    using text_mask = await Tensor.create([2, 5], [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]);
    await alike(PRIOR, { sample, text_embedding, text_states, text_mask, timestep: [10, 900], drop: [0, 1] });
  },
});

Deno.test({
  name: "a network on the GPU is saved as it is",
  ignore,
  fn: async () => {
    await saved(IMAGE, async (folder) => {
      using network = await Network.load(folder, { device: "cuda" });
      await network.save(`${folder}/again`, { dtype: "f32" });
      const file = "diffusion_pytorch_model.safetensors";
      using before = await Network.load(folder);
      using after = await Network.load(`${folder}/again`);
      assertEquals(after.parameters, before.parameters);
      const [{ tensors: one }, { tensors: other }] = [
        await loadTensors(`${folder}/${file}`),
        await loadTensors(`${folder}/again/${file}`),
      ];
      for (const [name, tensor] of Object.entries(one)) {
        const twin = other[name];
        assert(twin !== undefined);
        assertEquals(await twin.read(), await tensor.read());
        tensor.dispose();
        twin.dispose();
      }
    });
  },
});

Deno.test({
  name: "without a GPU the device is refused before anything is read",
  ignore: !ignore,
  fn: async () => {
    const refused = () => Network.load("/nowhere", { device: "cuda" });
    const error = await assertRejects(refused, KinoraError, 'device cannot be "cuda"');
    assertEquals(error.code, "unsupported");
  },
});
