import { assertEquals, assertNotEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

const MAIN = fileURLToPath(new URL("../../lib/cli/main.ts", import.meta.url));

/** The bytes that a process with a number of threads makes through every stage of Eq. 1. */
async function made(model: string, name: string, threads: number, seed: number): Promise<Uint8Array> {
  const out = `${model}/../${name}.png`;
  const options = [
    "--frames",
    "31",
    "--until",
    "sr-high",
    "--steps",
    "2",
    "--seed",
    `${seed}`,
    "--out",
    out,
    "--model",
    model,
  ];
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", MAIN, "generate", "two birds", ...options],
    env: { RAYON_NUM_THREADS: `${threads}` },
    stdout: "null",
    stderr: "piped",
  }).output();
  assertEquals(success, true, new TextDecoder().decode(stderr));
  return await Deno.readFile(out);
}

Deno.test("the same seed gives the same bytes with any number of threads", () =>
  withTinyModel(async (model) => {
    const one = await made(model, "one", 1, 5);
    const three = await made(model, "three", 3, 5);
    assertEquals(one.length, three.length);
    assertEquals(one, three);
    assertNotEquals(await made(model, "other", 2, 6), one);
  }));
