import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Trainer } from "../../ffi/trainer.ts";
import { TINY_UNET } from "./tiny_unet.ts";

await libraryInfo();

const CONFIG = { ...TINY_UNET, temporal: true };

/** The tensors of a saved network by name, as bytes in base 64. */
async function tensors(network: Network): Promise<Record<string, string>> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await network.save(folder, { dtype: "f32" });
    const bytes = await Deno.readFile(`${folder}/diffusion_pytorch_model.safetensors`);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    delete header["__metadata__"];
    return Object.fromEntries(
      Object.entries<{ data_offsets: [number, number] }>(header).map((
        [name, { data_offsets: [from, to] }],
      ) => [name, bytes.subarray(8 + length + from, 8 + length + to).toBase64()]),
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("only the named weights are trained, as they are when all are", async () => {
  using sample = await Tensor.noise({ shape: [2, 3, 4, 4, 3], seeds: [1, 2], stream: 0 });
  using target = await Tensor.noise({ shape: [2, 3, 4, 4, 3], seeds: [3, 4], stream: 0 });
  const after = async (steps: number, trained?: readonly string[]): Promise<Record<string, string>[]> => {
    using network = await Network.create(CONFIG, { seed: 1, trainable: true, trained });
    const before = await tensors(network);
    using trainer = await Trainer.create([network], { workers: 1, ema: true });
    const inputs = { sample, timestep: [300, 700] };
    for (let step = 0; step < steps; step++) {
      await trainer.step({
        objectives: [{ type: "regression", network: 0, inputs, output: "sample", target }],
        optimizer: { learningRate: 0.01 },
        emaDecay: 0.5,
      });
    }
    using averaged = await trainer.ema(0);
    return [before, await tensors(network), await tensors(averaged)];
  };
  const names = ["conv_out", "mid_block.resnets.0"];
  const named = (name: string): boolean => names.some((part) => name.includes(part));
  // The last layer starts as zero, so that others have a gradient from the second step on.
  const [all, some] = [await after(1), await after(1, names)];
  for (const name of Object.keys(all[0] ?? {}).filter(named)) {
    assertEquals(some.map((tensors) => tensors[name]), all.map((tensors) => tensors[name]), name);
  }
  const [allLater, someLater] = [await after(4), await after(4, names)];
  for (const name of Object.keys(all[0] ?? {})) {
    const [before, now, average] = someLater.map((tensors) => tensors[name]);
    if (name.endsWith("weight") && !name.includes("norm")) assertNotEquals(allLater[1]?.[name], before, name);
    if (!named(name)) assertEquals([now, average], [before, before], name);
    else if (name.endsWith("weight")) assertNotEquals([now, average], [before, before], name);
  }
});

Deno.test("a network without a weight to train is refused", async () => {
  using network = await Network.create(CONFIG, { seed: 1, trainable: true, trained: ["nothing"] });
  const error = await assertRejects(() => Trainer.create([network]), KinoraError, "network 0 is not trainable");
  assertEquals(error.code, "refused");
});
