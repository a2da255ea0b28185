import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { loadTensors, saveTensors, Tensor } from "../../ffi/tensor.ts";

await libraryInfo();

function range(count: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, (_, index) => index);
}

async function refused(work: () => Promise<unknown>, message: string): Promise<void> {
  assertEquals((await assertRejects(work, KinoraError, message)).code, "refused");
}

Deno.test("numbers go in and come out, small and large", async () => {
  for (const shape of [[1], [2, 3], [2, 3, 4, 5, 1, 2], [1 << 10, 1 << 10]]) {
    const values = range(shape.reduce((a, b) => a * b));
    using tensor = await Tensor.create(shape, values);
    assertEquals(tensor.shape, shape);
    assertEquals(await tensor.read(), values);
    const into = new Float32Array(values.length);
    assertEquals(await tensor.read(into) === into, true);
    assertEquals(into, values);
  }
  using special = await Tensor.create([4], [NaN, Infinity, -0, 1e-45]);
  const read = await special.read();
  assert(Number.isNaN(read[0]) && read[1] === Infinity && Object.is(read[2], -0) && read[3] === Math.fround(1e-45));
  const part = range(10).subarray(3, 7);
  using middle = await Tensor.create([4], part);
  assertEquals([...await middle.read()], [3, 4, 5, 6]);
});

Deno.test("shapes that do not fit are refused by name", async () => {
  await refused(() => Tensor.create([2, 3], range(5)), "needs 24 bytes");
  await refused(() => Tensor.create([], range(1)), "1 to 6 axes");
  await refused(() => Tensor.create([1, 1, 1, 1, 1, 1, 1], range(1)), "1 to 6 axes");
  for (const length of [0, -1, 1.5, NaN, 2 ** 32]) {
    await refused(() => Tensor.create([length], range(1)), `whole numbers of at least 1, not ${length}`);
  }
  using tensor = await Tensor.create([2, 3], range(6));
  for (const length of [0, 5, 7]) {
    const error = await assertRejects(() => tensor.read(new Float32Array(length)), KinoraError);
    assertEquals(error.code, "refused");
  }
  await refused(() => tensor.gather(2, [0]), "axis");
  await refused(() => tensor.gather(0, [2]), "indices");
  await refused(() => tensor.reshape([4]), "shape");
  await refused(() => Tensor.combine([]), "terms");
});

Deno.test("operations do what their documentation says", async () => {
  using a = await Tensor.create([2, 3], range(6));
  using b = await Tensor.create([2, 3], [1, 1, 1, 2, 2, 2]);
  const read = async (made: Promise<Tensor>): Promise<number[]> => {
    using tensor = await made;
    return [...await tensor.read()];
  };
  assertEquals(
    await read(Tensor.combine([{ tensor: a, scale: 2 }, { tensor: b, scale: [1, -1] }], { offset: 0.5 })),
    [1.5, 3.5, 5.5, 4.5, 6.5, 8.5],
  );
  assertEquals(await read(Tensor.combine([{ tensor: a, scale: 1 }], { clamp: [1, 3] })), [1, 1, 2, 3, 3, 3]);
  assertEquals(await read(Tensor.cat([a, b], 1)), [0, 1, 2, 1, 1, 1, 3, 4, 5, 2, 2, 2]);
  assertEquals(await read(a.gather(1, [2, 0, 2])), [2, 0, 2, 5, 3, 5]);
  assertEquals(await read(Tensor.matmul(a, b)), [3, 6, 12, 24]);
  const unit = await read(b.normalize());
  for (const value of unit) assertAlmostEquals(value, 1 / Math.sqrt(3), 1e-6);
  const { min, max, mean, rms, finite } = await a.stats();
  assertEquals([min, max, mean, finite], [0, 5, 2.5, true]);
  assertAlmostEquals(rms, Math.sqrt(55 / 6), 1e-9);
  using nothing = await Tensor.create([1], [NaN]);
  const none = await nothing.stats();
  assert(!none.finite && Number.isNaN(none.min));
});

Deno.test("pictures are cut and resized", async () => {
  using picture = await Tensor.create([1, 4, 4, 1], range(16));
  using part = await picture.crop({ top: 1, left: 2, height: 2, width: 2 });
  assertEquals([...await part.read()], [6, 7, 10, 11]);
  using small = await picture.resize({ height: 2, width: 2, filter: "area" });
  assertEquals([...await small.read()], [2.5, 4.5, 10.5, 12.5]);
  using moved = await picture.affine([[1, 0, 0.5, 0, 1, 0]], { fill: -1 });
  assertEquals([...await moved.read()].slice(0, 4), [1, 2, 3, -1]);
});

Deno.test("frames between two lie on the way of what moves", async () => {
  // A bright column that goes from the third to the fifth place of nine.
  const at = (place: number): Float32Array => range(81).map((index) => Number(index % 9 === place));
  using from = await Tensor.create([1, 9, 9, 1], at(2));
  using to = await Tensor.create([1, 9, 9, 1], at(4));
  using middle = await from.between(to, { shares: [0.5], reach: 2 });
  const row = (await middle.read()).slice(36, 45);
  // A plain blend has the column half as bright, twice.
  assert((row[3] ?? 0) > 0.5 && (row[2] ?? 1) < 0.25 && (row[4] ?? 1) < 0.25, `${row}`);
  using start = await from.between(to, { shares: [0], reach: 2 });
  for (const [index, value] of (await start.read()).entries()) assertAlmostEquals(value, at(2)[index] ?? NaN, 1e-6);
  const few = await assertRejects(
    () => from.between(to, { shares: [0, 1], reach: 2 }),
    KinoraError,
    "each of 1 frames",
  );
  assertEquals(few.code, "refused");
  using other = await Tensor.create([1, 3, 27, 1], at(0));
  await assertRejects(() => from.between(other, { shares: [0], reach: 2 }), KinoraError, "the shape of from");
  await assertRejects(() => from.between(to, { shares: [2], reach: 2 }), KinoraError, "shares");
  await assertRejects(() => from.between(to, { shares: [0], reach: 17 }), KinoraError, "reach");
});

Deno.test("noise is a function of seed, stream and frame", async () => {
  const noise = async (seeds: number[], frames?: number[], stream = 0): Promise<Float32Array> => {
    using tensor = await Tensor.noise({ shape: [seeds.length, frames?.length ?? 2, 8, 8, 3], seeds, frames, stream });
    return await tensor.read();
  };
  const two = await noise([5, 6]);
  const half = two.length / 2;
  assertEquals(await noise([6]), two.subarray(half));
  assertEquals(await noise([5], [1]), two.subarray(half / 2, half));
  const other = await noise([5, 6], undefined, 1);
  assert(two.every((value, index) => value !== other[index]));
});

Deno.test("tensors are saved and loaded with their words", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/t.safetensors`;
    using a = await Tensor.create([2, 3], range(6));
    using b = await Tensor.create([1], [7]);
    const steps: number[] = [];
    await saveTensors({ a, b }, path, {
      metadata: { prompt: "a butterfly" },
      onProgress: ({ step, total }) => steps.push(step / total),
    });
    assertEquals(steps.at(-1), 1);
    const { tensors, metadata } = await loadTensors(path);
    assertEquals({ ...metadata }, { prompt: "a butterfly" });
    assertEquals(Object.keys(tensors), ["a", "b"]);
    assertEquals(await tensors["a"]?.read(), range(6));
    for (const tensor of Object.values(tensors)) tensor.dispose();
    const left = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
    assertEquals(left, ["t.safetensors"]);
    const missing = await assertRejects(() => loadTensors(`${folder}/none`), KinoraError);
    assertEquals(missing.code, "not-found");
    await Deno.truncate(path, 40);
    assertEquals((await assertRejects(() => loadTensors(path), KinoraError)).code, "bad-file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
