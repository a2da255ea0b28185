import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { TINY_UNET as CONFIG } from "./tiny_unet.ts";

await libraryInfo();

/** A saved network whose output is not zero, and what it makes of noise. */
async function saved(folder: string, sample: Tensor): Promise<Float32Array> {
  using fresh = await Network.create(CONFIG, { seed: 1 });
  await fresh.save(folder, { dtype: "f32" });
  const path = `${folder}/diffusion_pytorch_model.safetensors`;
  const bytes = await Deno.readFile(path);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const [from, to] = header["conv_out.spatial_conv.weight"].data_offsets;
  new Float32Array(bytes.buffer.slice(8 + length + from, 8 + length + to)).forEach((_, index) => {
    new DataView(bytes.buffer).setFloat32(8 + length + from + 4 * index, Math.sin(index), true);
  });
  await Deno.writeFile(path, bytes);
  using network = await Network.load(folder);
  return await output(network, sample);
}

async function output(network: Network, sample: Tensor): Promise<Float32Array> {
  const { sample: made } = await network.forward({ sample, timestep: [500] });
  assert(made !== undefined);
  using tensor = made;
  return await tensor.read();
}

Deno.test("a grown network takes the weights there are; layers named fresh start anew", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    using sample = await Tensor.noise({ shape: [1, 3, 4, 4, 3], seeds: [1], stream: 1 });
    const before = await saved(folder, sample);
    assertNotEquals(before, new Float32Array(before.length));

    using grown = await Network.grow(folder, { ...CONFIG, temporal: true }, { seed: 2 });
    assertEquals(await output(grown, sample), before);

    using anew = await Network.grow(folder, { ...CONFIG, temporal: true }, { seed: 2, fresh: ["conv_out"] });
    assertEquals(await output(anew, sample), new Float32Array(before.length));

    const wrong = () => Network.grow(folder, CONFIG, { seed: 2, fresh: ["conv_o"] });
    const error = await assertRejects(wrong, KinoraError, 'fresh must name layers of the network, not "conv_o"');
    assertEquals(error.code, "refused");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
