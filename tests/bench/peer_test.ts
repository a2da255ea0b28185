// PyTorch's side, where its packages are: what a run on a GPU asks it for besides, on the CPU.
import { assert, assertEquals } from "@std/assert";
import type { KinoraError } from "../../ffi/errors.ts";
import { layerCase, operations, SPACE_TIME_UNET } from "../../bench/cases.ts";
import { peerSide } from "../../bench/measure.ts";
import { findPython } from "../../bench/python.ts";

const missing = await findPython().then(() => undefined, (error: KinoraError) => error.message.split("\n")[0]);
// deno-lint-ignore no-console
if (missing !== undefined) console.error(`note: PyTorch's side of the bench is not run: ${missing}`);

const SIDE = { threads: 1, cores: undefined };

Deno.test({
  name: "PyTorch takes a case to the device, gives results and times of each form, and counts the operations",
  ignore: missing !== undefined,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
    try {
      await using python = peerSide(SIDE);
      const { gpu } = await python.ask<{ readonly gpu: string | null }>({ do: "hello" });
      assert(gpu === null || gpu.length > 0);
      const network = { ...SPACE_TIME_UNET, dim: 8, dim_mult: [1, 2], resnet_block_depths: [1, 1] };
      const small = { ...network, temporal_compression: [false, true], self_attns: [false, true] };
      const linear = layerCase("linear", [64, 4]);
      const conv = layerCase("temporal_conv", [64, 4]);
      const cases = [linear, conv, { ...linear, layer: "unet", config: { network: small, frames: 2, size: 8 } }];
      for (const { layer, config, peers } of cases) {
        const file = `${folder}/${layer}.safetensors`;
        await python.ask({ do: "write", case: { layer, config }, file });
        const forms = layer === "unet" ? ["eager"] : peers;
        for (const pass of ["forward", "train"] as const) {
          for (const peer of forms) {
            const wanted = { layer, config, pass, dtype: "f32", device: "cpu", peer };
            await python.ask({ do: "load", case: wanted, file });
            await python.ask({ do: "results", peer, file: `${folder}/results.safetensors` });
            assert((await Deno.stat(`${folder}/results.safetensors`)).size > 100);
            const { ms } = await python.ask<{ readonly ms: number[] }>(
              { do: "time", peer, seconds: 0, least: 2, warm: true },
            );
            assertEquals(ms.length, 2);
            const counted = await python.ask<{ readonly operations: number }>({ do: "operations", peer });
            const known = operations({ name: "", layer, config, peers }, pass);
            if (known === undefined) assert(counted.operations > 1e6);
            else assertEquals(counted.operations, known);
          }
        }
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "PyTorch measures what the device reaches",
  ignore: missing !== undefined,
  fn: async () => {
    await using python = peerSide(SIDE);
    const found = await python.ask<Record<string, number>>({ do: "peak", device: "cpu", seconds: 0 });
    assertEquals(Object.keys(found), ["f32", "bf16", "memory"]);
    assert(Object.values(found).every((rate) => rate > 0));
  },
});
