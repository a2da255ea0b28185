import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { type DatasetIndex, readIndex, sealIndex } from "../../lib/data/dataset_index.ts";

const CONTENT: Omit<DatasetIndex, "format" | "hash"> = {
  name: "tiny",
  sources: [{ package: "pictures", version: "1.0.0", licence: "MIT", integrity: "sha512-0" }],
  stores: { stills256: [1, 256, 256, 3] },
  concepts: [{
    name: "dot",
    label: "dot",
    tags: [],
    keywords: ["spot"],
    group: "Shapes",
    code: "1",
    still: 0,
    clip: null,
  }],
  clips: [],
};

Deno.test("sealIndex() hashes all that an index says, and nothing else", async () => {
  const index = await sealIndex(CONTENT);
  assertEquals(index.format, "kinora-dataset-1");
  // SHA-256 of the JSON, so that another program can check it.
  const digest = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(CONTENT))),
  );
  assertEquals(index.hash, digest.toHex());
  const { name, clips, ...rest } = CONTENT;
  assertEquals((await sealIndex({ clips, ...rest, name })).hash, index.hash);
  for (const change of [{ name: "other" }, { sources: [] }, { stores: {} }, { concepts: [] }]) {
    assertNotEquals((await sealIndex({ ...CONTENT, ...change })).hash, index.hash);
  }
});

Deno.test("readIndex() gives what was sealed and refuses the rest", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-index-" });
  try {
    const code = async (message: string): Promise<string> =>
      (await assertRejects(() => readIndex(folder), KinoraError, message)).code;
    const write = (text: string): Promise<void> => Deno.writeTextFile(`${folder}/index.json`, text);
    assertEquals(await code("index.json"), "not-found");
    const index = await sealIndex(CONTENT);
    await write(JSON.stringify(index, undefined, 2));
    assertEquals(await readIndex(`${folder}/`), index);
    for (const text of ["", "null", "[]", "{}", JSON.stringify({ ...index, format: "kinora-dataset-2" })]) {
      await write(text);
      assertEquals(await code("index.json"), "bad-file", text);
    }
    await write(JSON.stringify({ ...index, name: "other" }));
    assertEquals(await code("damaged"), "bad-file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
