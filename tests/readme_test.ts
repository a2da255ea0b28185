import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../ffi/library.ts";
import { withTinyModel } from "./cascade/tiny_model.ts";

const { path: LIBRARY } = await libraryInfo();

const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
const config = fileURLToPath(new URL("../deno.json", import.meta.url));

/** The code blocks of the README in TypeScript. */
const blocks = Array.from(readme.matchAll(/^```ts\n(.*?)^```/gms), ([, code = ""]) => code);

/** Runs a script with exactly these permissions; none is asked for. */
async function run(code: string, folder: string, permissions: readonly string[]): Promise<string> {
  const script = `${folder}/script.ts`;
  await Deno.writeTextFile(script, code);
  const { success, stderr, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--no-lock", `--config=${config}`, ...permissions, script],
    cwd: folder,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  assert(success, text(stderr));
  return text(stdout);
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

Deno.test("the script of the README makes a video by the package's name, with the permissions it says", () =>
  withTinyModel(async (model) => {
    const [first = ""] = blocks;
    assertStringIncludes(first, 'import { loadCascade } from "@kinora/kinora";');
    assert(first.trim().split("\n").filter((line) => line !== "").length <= 5);
    const folder = `${model}/../work`;
    await Deno.mkdir(folder);
    const code = first.replace("loadCascade()", `loadCascade({ model: ${JSON.stringify(model)} })`);
    await run(code, folder, ["--allow-ffi", "--allow-read", "--allow-write"]);
    assertEquals(await names(folder), ["a-butterfly.gif", "a-butterfly.gif.json", "script.ts"]);
    const gif = await Deno.readFile(`${folder}/a-butterfly.gif`);
    assertEquals(new TextDecoder().decode(gif.subarray(0, 6)), "GIF89a");
    const manifest = JSON.parse(await Deno.readTextFile(`${folder}/a-butterfly.gif.json`));
    assertEquals([manifest.prompt, manifest.frames], ["a butterfly", 16]);

    // The library and the names of the files are enough, and give the same bytes.
    for (const name of ["a-butterfly.gif", "a-butterfly.gif.json"]) await Deno.remove(`${folder}/${name}`);
    const files = `--allow-write=a-butterfly.gif,a-butterfly.gif.json`;
    await run(code, folder, [`--allow-ffi=${LIBRARY}`, `--allow-read=${model}`, files]);
    assertEquals(await Deno.readFile(`${folder}/a-butterfly.gif`), gif);
    assertEquals(JSON.parse(await Deno.readTextFile(`${folder}/a-butterfly.gif.json`)), manifest);
    assertEquals(await names(folder), ["a-butterfly.gif", "a-butterfly.gif.json", "script.ts"]);
  }));

Deno.test("the stream of the README shows every stage", () =>
  withTinyModel(async (model) => {
    const [, second = ""] = blocks;
    assertStringIncludes(second, "cascade.stream(");
    const folder = `${model}/../work`;
    await Deno.mkdir(folder);
    const open = `import { loadCascade } from "@kinora/kinora";
using cascade = await loadCascade({ model: ${JSON.stringify(model)} });
`;
    // The tiny model's largest pictures have 48 pixels.
    await run(open + second.replace("size: 768", "size: 48"), folder, ["--allow-ffi", "--allow-read", "--allow-write"]);
    const stages = ["decoder", "interpolation", "sr-high", "sr-low"];
    const files = stages.flatMap((stage) => [`${stage}.gif`, `${stage}.gif.json`]);
    assertEquals(await names(folder), [...files, "script.ts"].sort());
  }));
