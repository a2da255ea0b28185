// Kinora's side of the comparison with PyTorch on a GPU: what it gives there and on the CPU. See networks_test.ts.
import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { saveTensors, Tensor } from "../../ffi/tensor.ts";
import { LAYER_KINDS, layerCase, type Pass } from "../../bench/cases.ts";
import { Side } from "../../bench/side.ts";
import { numbersOf, readSafetensors } from "../../lib/parity/safetensors.ts";
import { CUDA_BENCH } from "../../tasks/cuda_build.ts";
import { noise } from "./networks.ts";

const ignore = (await libraryInfo()).gpu === null;

/** Works with Kinora's side and a folder for its files. */
async function withSide(work: (side: Side, folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await using side = new Side("Kinora", CUDA_BENCH, [], { threads: 1, cores: undefined });
    await work(side, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** How far a case's results on the GPU are from those on the CPU; its runs end. */
async function error(
  side: Side,
  wanted: { readonly layer: string; readonly config: unknown; readonly pass: Pass; readonly dtype: "f32" | "bf16" },
  file: string,
): Promise<number> {
  const results = `${file}.results`;
  await side.ask({ do: "load", wanted: { ...wanted, device: "cpu" }, file });
  await side.ask({ do: "results", file: results });
  await side.ask({ do: "load", wanted: { ...wanted, device: "cuda" }, file });
  const { error } = await side.ask<{ readonly error: number }>({ do: "compare", with: results });
  const { ms } = await side.time({ seconds: 0, least: 2, warm: true });
  assertEquals(ms.length, 2);
  assert(ms.every((time) => time > 0));
  return error;
}

Deno.test({
  name: "the layers of the bench give on the GPU what they give on the CPU",
  ignore,
  fn: () =>
    withSide(async (side, folder) => {
      const { gpu } = await side.ask<{ readonly gpu: { readonly name: string } | null }>({ do: "hello" });
      assertEquals(gpu?.name, (await libraryInfo()).gpu?.name);
      const [channels, size, frames] = [64, 4, 3];
      for (const layer of LAYER_KINDS) {
        const kernels: Readonly<Record<string, number[]>> = {
          conv3x3: [channels, channels, 3, 3],
          temporal_conv: [channels, channels, 3],
          conv1x1: [channels, channels],
          linear: [channels, channels],
          norm: [channels],
        };
        const wide = layer.endsWith("attention") ? 3 * channels : channels;
        const shapes: Record<string, number[]> = {
          "in/x": [size, size, frames, wide],
          "in/g": [size, size, frames, channels],
        };
        const kernel = kernels[layer];
        if (kernel !== undefined) Object.assign(shapes, { "state/weight": kernel, "state/bias": [channels] });
        if (layer === "norm") shapes["in/scale_shift"] = [1, 2 * channels];
        const tensors: Record<string, Tensor> = {};
        for (const [at, [name, shape]] of Object.entries(shapes).entries()) {
          using values = await noise([1, shape.reduce((count, side) => count * side)], at);
          tensors[name] = await Tensor.create(shape, await values.read());
        }
        const file = `${folder}/${layer}.safetensors`;
        await saveTensors(tensors, file);
        for (const tensor of Object.values(tensors)) tensor.dispose();
        const config = { ...layerCase(layer, [channels, size]).config, frames };
        for (const [pass, dtype, most] of [["train", "f32", 1e-5], ["forward", "bf16", 1e-2]] as const) {
          const apart = await error(side, { layer, config, pass, dtype }, file);
          assert(apart < most, `${layer} ${pass} ${dtype}: ${apart}`);
        }
      }
    }),
});

Deno.test({
  name: "a SpaceTimeUnet gives on the GPU what it gives on the CPU, and its training step runs there",
  ignore,
  fn: () =>
    withSide(async (side, folder) => {
      const recorded = new URL("../parity/fixtures/lucidrains/unet_video.safetensors", import.meta.url);
      const { tensors, metadata } = await readSafetensors(fileURLToPath(recorded));
      const { config } = JSON.parse(metadata.get("manifest") ?? "{}");
      const file = `${folder}/unet.safetensors`;
      const kept: Record<string, Tensor> = {};
      for (const [name, tensor] of tensors) {
        // The gradient that was recorded with is as good a target as any.
        const as = name === "in/cot" ? "in/target" : name;
        if (/^(in|state)\//.test(name)) kept[as] = await Tensor.create(tensor.shape, [...numbersOf(tensor)]);
      }
      await saveTensors(kept, file);
      for (const tensor of Object.values(kept)) tensor.dispose();
      for (
        const [pass, dtype, most] of [["forward", "f32", 1e-4], ["train", "f32", 1e-3], [
          "forward",
          "bf16",
          3e-2,
        ]] as const
      ) {
        const apart = await error(side, { layer: "unet", config: { network: config }, pass, dtype }, file);
        assert(apart < most, `${pass} ${dtype}: ${apart}`);
      }
    }),
});
