import { assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { numbersOf, plainTensor, readSafetensors, writeSafetensors } from "../../lib/parity/safetensors.ts";

/** Writes a file from a header and data, and reads it. */
async function read(
  header: unknown,
  data: Uint8Array | number = 0,
  length?: bigint,
): ReturnType<typeof readSafetensors> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const start = new Uint8Array(8);
  new DataView(start.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  const path = await Deno.makeTempFile();
  try {
    const body = typeof data === "number" ? new Uint8Array(data) : data;
    await Deno.writeFile(path, Uint8Array.from([...start, ...json, ...body]));
    return await readSafetensors(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("what is written is read again, to the last bit and in its own type", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const tensors = new Map([
      ["f64", plainTensor([2], Float64Array.of(Math.PI, -1e-300))],
      ["f32", plainTensor([1, 3], Float32Array.of(1.5, -0, NaN))],
      ["i64", plainTensor([2], BigInt64Array.of(-1n, 2n ** 60n + 1n))],
      ["bytes", plainTensor([3, 1], Uint8Array.of(0, 128, 255))],
      ["i32/ü", plainTensor([1], Int32Array.of(-7))],
      ["one", plainTensor([], Float64Array.of(0.1))],
      ["none", plainTensor([0, 4], new Float32Array())],
    ]);
    await writeSafetensors(`${folder}/a`, tensors, { format: "x" });
    const again = await readSafetensors(`${folder}/a`);
    assertEquals([...again.tensors.keys()].sort(), [...tensors.keys()].sort());
    for (const [name, tensor] of tensors) assertEquals(again.tensors.get(name), tensor, name);
    assertEquals([...again.metadata], [["format", "x"]]);
    await writeSafetensors(`${folder}/b`, new Map([...tensors].reverse()), { format: "x" });
    assertEquals(await Deno.readFile(`${folder}/a`), await Deno.readFile(`${folder}/b`));
    const files = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
    assertEquals(files, ["a", "b"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("half-precision numbers are widened", async () => {
  const header = {
    h: { dtype: "F16", shape: [2], data_offsets: [0, 4] },
    b: { dtype: "BF16", shape: [2], data_offsets: [4, 8] },
    t: { dtype: "BOOL", shape: [2], data_offsets: [8, 10] },
  };
  const { tensors } = await read(header, Uint8Array.of(0, 0x3c, 1, 0, 0x80, 0x3f, 0xc0, 0xbf, 0, 1));
  const numbers = (name: string): number[] => [...numbersOf(tensors.get(name) ?? plainTensor([0], new Float64Array()))];
  assertEquals([numbers("h"), numbers("b"), numbers("t")], [[1, 2 ** -24], [1, -1.5], [0, 1]]);
});

Deno.test("damaged files are refused, whatever their headers claim", async () => {
  const entry = (shape: unknown, data_offsets: unknown, dtype: unknown = "F32"): unknown => ({
    dtype,
    shape,
    data_offsets,
  });
  const cases: [header: unknown, data: number, why: string, length?: bigint][] = [
    ["{}", 0, "its header would have 18446744073709551615 of 2 bytes", 2n ** 64n - 1n],
    ["{}", 0, "its header would have 3 of 2 bytes", 3n],
    ["{}", 0, "its header would have 0 of", 0n],
    ["[]", 0, "not a JSON object"],
    ["{1}", 0, "not JSON"],
    [" {}", 0, "not a JSON object"],
    ["{}", 4, "take 0 bytes, but 4 are there"],
    [{ a: entry([1], [0, 4]) }, 0, "take 4 bytes, but 0 are there"],
    [{ a: entry([1], [0, 4]) }, 3, "take 4 bytes, but 3 are there"],
    [{ a: entry([1], [4, 8]) }, 8, "begins at byte 4, not at 0"],
    [{ a: entry([1], [0, 4]), b: entry([1], [0, 4]) }, 4, "begins at byte 0, not at 4"],
    [{ a: entry([2], [0, 4]) }, 4, "has 4 bytes, which is not what [2] of F32 takes"],
    [{ a: entry([2 ** 40, 2 ** 40], [0, 4]) }, 4, "which is not what"],
    [{ a: entry([-1], [0, 4]) }, 4, "has no shape of whole numbers"],
    [{ a: entry([1.5], [0, 6]) }, 6, "has no shape of whole numbers"],
    [{ a: entry("1", [0, 4]) }, 4, "has no shape of whole numbers"],
    [{ a: entry([1], [4, 0]) }, 4, "has -4 bytes"],
    [{ a: entry([1], [0]) }, 4, "has no offsets"],
    [{ a: entry([1], [0, "4"]) }, 4, "has no offsets"],
    [{ a: entry([1], [0, 4], "F99") }, 4, "is of the type"],
    [{ a: entry([1], [0, 4], 4) }, 4, "is of the type"],
    [{ a: entry([1], [0, 4], "constructor") }, 4, "is of the type"],
    [{ a: null }, 0, "has no description"],
    [{ __metadata__: { a: 1 } }, 0, "is not a text"],
    [{ __metadata__: [] }, 0, "is not an object"],
  ];
  for (const [header, data, why, length] of cases) {
    const error = await assertRejects(() => read(header, data, length), KinoraError, why);
    assertEquals(error.code, "bad-file");
  }
  assertEquals((await assertRejects(() => readSafetensors("/nowhere"), KinoraError)).code, "not-found");
  assertEquals((await assertRejects(() => readSafetensors("/"), KinoraError)).code, "bad-file");
});
