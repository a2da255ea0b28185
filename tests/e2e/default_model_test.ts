import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { STAGES } from "../../lib/cascade/stage.ts";
import { loadCascade } from "../../lib/load_cascade.ts";

await libraryInfo();

/** The mean absolute difference of two tensors of one shape. */
async function difference(a: Tensor, b: Tensor): Promise<number> {
  using between = await Tensor.combine([{ tensor: a, scale: 1 }, { tensor: b, scale: -1 }]);
  const values = await between.read();
  return values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
}

Deno.test("the embedded model has every stage of Eq. 1", async () => {
  using cascade = await loadCascade();
  for (const name of ["text", "image", ...STAGES] as const) assert(name in cascade.index.stages, name);
});

Deno.test("the embedded model makes 16 frames that move, and another prompt gives something else", async () => {
  using cascade = await loadCascade();
  using butterfly = await cascade.generate("a butterfly", { seed: 1 });
  assertEquals([butterfly.frames, butterfly.height, butterfly.width, butterfly.fps], [16, 256, 256, 8]);
  using first = await butterfly.tensor.gather(0, [0]);
  using middle = await butterfly.tensor.gather(0, [8]);
  assert(await difference(first, middle) > 1e-3, "the video is still");
  using pumpkin = await cascade.generate("jack-o-lantern", { seed: 1, frames: 1 });
  assert(await difference(first, pumpkin.tensor) > 0.05, "the prompt does not matter");
});

Deno.test("what the embedded prior makes of a text is closest to that text", async () => {
  using cascade = await loadCascade();
  const [tower, prior] = [await cascade.stage("text"), await cascade.stage("prior")];
  using text = await tower.encode(["a butterfly", "pizza", "a rocket"]);
  using drawn = await prior.sample(text, { seeds: [1, 2, 3] });
  using products = await Tensor.matmul(text.embedding, drawn);
  const cosines = await products.read();
  for (const row of [0, 1, 2]) {
    for (const other of [0, 1, 2]) {
      if (other !== row) assert((cosines[3 * row + row] ?? 0) > (cosines[3 * row + other] ?? 0), `${row} ${other}`);
    }
  }
});

Deno.test("the embedded model is at most 80 MB of f16", async () => {
  const folder = fileURLToPath(new URL("../../models/default", import.meta.url));
  let bytes = 0;
  for await (const entry of Deno.readDir(folder)) {
    if (!entry.isDirectory || entry.name === "training") continue;
    for await (const file of Deno.readDir(`${folder}/${entry.name}`)) {
      bytes += (await Deno.stat(`${folder}/${entry.name}/${file.name}`)).size;
    }
  }
  assert(bytes > 1e7 && bytes <= 80e6, `${bytes} bytes`);
});
