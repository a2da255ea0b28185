import { assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { checkNetworkFiles, checkSafetensors, fileSha256, WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";

/** A safetensors file with two tensors. */
function safetensors(): Uint8Array<ArrayBuffer> {
  const header = new TextEncoder().encode(JSON.stringify({
    __metadata__: { format: "pt" },
    a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
    b: { dtype: "F16", shape: [4], data_offsets: [24, 32] },
  }));
  const bytes = new Uint8Array(8 + header.length + 32);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  return bytes;
}

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a whole safetensors file is counted", () =>
  inFolder(async (folder) => {
    const whole = safetensors();
    await Deno.writeFile(`${folder}/w`, whole);
    assertEquals(await checkSafetensors(`${folder}/w`), { bytes: whole.length, parameters: 10 });
  }));

Deno.test("a safetensors file cut at any byte is refused", () =>
  inFolder(async (folder) => {
    const whole = safetensors();
    for (let length = 0; length < whole.length; length += 7) {
      await Deno.writeFile(`${folder}/w`, whole.subarray(0, length));
      const error = await assertRejects(() => checkSafetensors(`${folder}/w`), KinoraError);
      assertEquals(error.code, "bad-file", `cut at ${length}`);
    }
  }));

Deno.test("files that are something else are refused", () =>
  inFolder(async (folder) => {
    const foreign = [
      new TextEncoder().encode("<!doctype html><html>not found</html>".repeat(20)),
      new Uint8Array(1000),
      new Uint8Array([...safetensors(), 1, 2, 3]),
      new Uint8Array([9, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode("{not json")]),
    ];
    for (const bytes of foreign) {
      await Deno.writeFile(`${folder}/w`, bytes);
      const error = await assertRejects(() => checkSafetensors(`${folder}/w`), KinoraError, "not a safetensors file");
      assertEquals(error.code, "bad-file");
    }
    const missing = await assertRejects(() => checkSafetensors(`${folder}/none`), KinoraError, "is missing");
    assertEquals(missing.code, "not-found");
  }));

Deno.test("a network of another class is refused", () =>
  inFolder(async (folder) => {
    await Deno.writeFile(`${folder}/${WEIGHTS_FILE}`, safetensors());
    const check = (): Promise<unknown> => checkNetworkFiles(folder, ["PriorTransformer"]);
    await assertRejects(check, KinoraError, "config.json");
    await Deno.writeTextFile(`${folder}/config.json`, `{"_class_name": "UNet2DModel"}`);
    await assertRejects(check, KinoraError, "of a UNet2DModel, not of a PriorTransformer");
    await Deno.writeTextFile(`${folder}/config.json`, `[]`);
    await assertRejects(check, KinoraError, "of something else");
    await Deno.writeTextFile(`${folder}/config.json`, `{"_class_name": "PriorTransformer"}`);
    assertEquals((await checkNetworkFiles(folder, ["PriorTransformer"])).parameters, 10);
  }));

Deno.test("the SHA-256 of a file is the usual one", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/a`, "abc");
    assertEquals(
      await fileSha256(`${folder}/a`),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
  }));
