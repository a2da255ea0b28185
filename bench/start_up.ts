// deno-lint-ignore-file no-console
/**
 * A process's first forward of a SpaceTimeUnet: imports, weights, forward. Arguments: configuration, weights, output.
 *
 * @module
 */
import { runLayer } from "../ffi/layer.ts";
import { loadTensors, saveTensors, type Tensor } from "../ffi/tensor.ts";

const [config, weights, out] = Deno.args as [string, string, string];
const { tensors } = await loadTensors(weights);
const under = (prefix: string): Record<string, Tensor> =>
  Object.fromEntries(
    Object.entries(tensors).filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [
      name.slice(prefix.length),
      tensor,
    ]),
  );
const { x, timestep } = under("in/") as { readonly x: Tensor; readonly timestep: Tensor };
const results = await runLayer({
  kind: "lucidrains.SpaceTimeUnet",
  config: JSON.parse(await Deno.readTextFile(config)),
  state: under("state/"),
  inputs: { x, timestep },
});
console.log("first forward done");
await saveTensors({ y: results["out/y"] as Tensor }, out);
