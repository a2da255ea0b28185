import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { layerKinds, type LayerRun, runLayer } from "../../ffi/layer.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";

await libraryInfo();

/** Runs a test with a linear convolution of one pixel, y = 2 x + 1, and sees that nothing is left behind. */
async function withDoubling(test: (run: LayerRun & { readonly x: Tensor }) => Promise<void>): Promise<void> {
  const before = (await libraryInfo()).handles;
  {
    using weight = await Tensor.create([1, 1, 1, 1], [2]);
    using bias = await Tensor.create([1], [1]);
    using x = await Tensor.create([1, 1, 1, 1, 3], [1, 2, -3]);
    const state = { "spatial_conv.weight": weight, "spatial_conv.bias": bias };
    await test({ kind: "lucidrains.PseudoConv3d", config: { dim: 1, kernel_size: 1 }, state, inputs: { x }, x });
  }
  assertEquals((await libraryInfo()).handles, before);
}

async function numbers(tensors: Record<string, Tensor>): Promise<Record<string, number[]>> {
  const read: Record<string, number[]> = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    read[name] = [...await tensor.read()];
    tensor.dispose();
  }
  return read;
}

Deno.test("a layer is run by its names, forward and back", () =>
  withDoubling(async (run) => {
    assertEquals(await numbers(await runLayer(run)), { "out/y": [3, 5, -5] });
    const gradients = ["in/x", "state/spatial_conv.weight", "state/spatial_conv.bias"];
    const call = { enable_time: false };
    const all = { ...run, call, positional: ["x"], gradients, cotangent: run.x };
    assertEquals(await numbers(await runLayer(all)), {
      "out/y": [3, 5, -5],
      "grad/in/x": [2, 4, -6],
      "grad/state/spatial_conv.weight": [14],
      "grad/state/spatial_conv.bias": [0],
    });
  }));

Deno.test("a layer without inputs is called with sizes", async () => {
  using one = await Tensor.create([1, 1], [1]);
  using zero = await Tensor.create([1], [0]);
  const net = { "net.0.0": one, "net.1.0": one, "net.2": one };
  const state = Object.fromEntries(
    Object.entries(net).flatMap(([name, weight]) => [[`${name}.weight`, weight], [`${name}.bias`, zero]]),
  );
  const config = { dim: 1, heads: 1 };
  const { "out/y": y, ...rest } = await runLayer({
    kind: "lucidrains.ContinuousPositionBias",
    config,
    state,
    ints: [3],
  });
  assertEquals(rest, {});
  assertEquals(y?.shape, [1, 3, 3]);
  const [same, before] = await y?.read() ?? [];
  assertEquals(same, 0);
  assert(before !== undefined && before < 0, "one place less is -1 before two SiLUs");
  y?.dispose();
});

Deno.test("what is not known is unsupported, what does not fit refused", () =>
  withDoubling(async (run) => {
    const code = async (change: Partial<LayerRun>): Promise<string> => {
      const error = await assertRejects(() => runLayer({ ...run, ...change }), KinoraError);
      return `${error.code}: ${error.message}`;
    };
    assertEquals(await code({ kind: "diffusers.Nothing" }), 'unsupported: kind "diffusers.Nothing" is not known');
    assert((await code({ config: { dim: 0 } })).startsWith("unsupported: config: dim must be 1 to"));
    assert((await code({ call: { enable: true } })).startsWith("unsupported"));
    assert((await code({ ints: [1] })).startsWith("unsupported"));
    assert((await code({ config: { dim: 2, kernel_size: 1 } })).startsWith("refused"));
    assert((await code({ inputs: {} })).startsWith("refused: the input x is missing"));
    assert((await code({ positional: ["y"] })).startsWith("refused: positional"));
    assert((await code({ gradients: ["in/y"], cotangent: run.x })).startsWith("refused: gradients"));
    assert((await code({ gradients: ["in/x"] })).startsWith("refused: cotangent"));
    using short = await Tensor.create([1], [1]);
    assert((await code({ gradients: ["in/x"], cotangent: short })).startsWith("refused: cotangent"));
    await assertRejects(() => runLayer({ ...run, signal: AbortSignal.abort(new Error("no")) }), Error, "no");
  }));

Deno.test("kinds are listed", async () => {
  const kinds = await layerKinds();
  assert(kinds.includes("lucidrains.SpaceTimeUnet") && kinds.length === new Set(kinds).size);
});
