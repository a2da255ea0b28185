import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { downloadLibrary } from "../../ffi/download.ts";
import { KinoraError } from "../../ffi/errors.ts";
import { CUDA_LIBRARY_FILE, libraryFileName, libraryInfo } from "../../ffi/library.ts";
import { VERSION } from "../../lib/version.ts";

const { path: LIBRARY } = await libraryInfo();
const MOD = new URL("../../mod.ts", import.meta.url).href;

interface Result {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/** Runs a module as a script with exactly these flags; a permission that is missing is not asked for. */
async function script(
  code: string,
  flags: readonly string[],
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Result> {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, code);
    const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
    const { code: status, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", "--no-lock", `--config=${config}`, ...flags, file],
      env: { NO_COLOR: "1", ...options.env },
      ...options.cwd === undefined ? {} : { cwd: options.cwd },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
    return { code: status, out: text(stdout), error: text(stderr) };
  } finally {
    await Deno.remove(file);
  }
}

/** A script that prints the code and message of what goes wrong in `code`. */
function caught(code: string): string {
  return `import * as kinora from "${MOD}";
try { ${code}; console.log("done"); } catch (error) { console.log(error.code, error.message); }`;
}

Deno.test("libraryInfo() says what the library is", async () => {
  const info = await libraryInfo();
  assertEquals([info.version, info.abi], [VERSION, 1]);
  const names = [libraryFileName(), CUDA_LIBRARY_FILE];
  assert(names.some((name) => info.path.endsWith(name)) || Deno.env.get("KINORA_LIBRARY") === info.path);
  assertEquals(info.gpu === null, info.noGpu !== undefined);
  assert(info.threads >= 1 && info.isa !== "" && typeof info.fastBf16 === "boolean" && info.tensorBytes >= 0);
  assertEquals(info.precisions, ["f32", "bf16", "bf16x3"]);
});

Deno.test("a script needs --allow-ffi of the library and nothing else", async () => {
  const code =
    "using t = await kinora.Tensor.noise({ shape: [1, 4], seeds: [1] }); console.log((await t.read()).length)";
  assertEquals((await script(caught(code), [`--allow-ffi=${LIBRARY}`])).out, "4\ndone\n");
  const without = await script(caught(code), []);
  assertStringIncludes(without.out, `permission The native library ${LIBRARY} may not be opened`);
  assertStringIncludes(without.out, `--allow-ffi=${LIBRARY}`);
});

Deno.test("native code reads and writes only what Deno may", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const ffi = `--allow-ffi=${LIBRARY}`;
    const file = `${folder}/a.safetensors`;
    const save = caught(
      `using t = await kinora.Tensor.noise({ shape: [1, 4], seeds: [1] });
      await kinora.saveTensors({ t }, ${JSON.stringify(file)})`,
    );
    const load = caught(`await kinora.loadTensors(${JSON.stringify(file)})`);
    const elsewhere = [`--allow-write=${folder}/b`, `--allow-read=${folder}/b`];
    assertStringIncludes((await script(save, [ffi, ...elsewhere])).out, `permission "${file}" may not be written`);
    await assertRejects(() => Deno.stat(file), Deno.errors.NotFound);
    assertEquals((await script(save, [ffi, `--allow-write=${file}`])).out, "done\n");
    assertStringIncludes((await script(load, [ffi, ...elsewhere])).out, `permission "${file}" may not be read`);
    assertEquals((await script(load, [ffi, `--allow-read=${file}`])).out, "done\n");
    const verbs = [
      `kinora.Network.load("${folder}")`,
      `kinora.Tokenizer.load("${folder}/t")`,
      `kinora.Tokenizer.train(["a"], { vocabulary: 300, path: "${folder}/t" })`,
      `kinora.decodeMedia("${folder}/t.png")`,
      `kinora.Store.open("${folder}/t")`,
      `kinora.frameCounts(["${folder}/t"])`,
    ];
    const code = verbs.map((verb) => `await ${verb}.catch((error) => console.log(error.code))`).join(";\n");
    assertEquals((await script(caught(code), [ffi])).out, `${"permission\n".repeat(verbs.length)}done\n`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a library that is missing, damaged or foreign is an error that says what to do", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const flags = [`--allow-ffi=${folder}`, "--allow-env=KINORA_LIBRARY"];
    const info = caught("await kinora.libraryInfo()");
    const at = async (path: string): Promise<string> =>
      (await script(info, flags, { env: { KINORA_LIBRARY: path } })).out;
    const missing = await at(`${folder}/${libraryFileName()}`);
    assert(missing.startsWith(`library-not-found Cannot open the native library ${folder}`), missing);
    await Deno.writeTextFile(`${folder}/text.so`, "not a library");
    assert((await at(`${folder}/text.so`)).startsWith("library-not-found"));
    if (Deno.build.os === "linux") {
      // Any library will do that has not the symbols.
      const foreign = "/lib/x86_64-linux-gnu/libm.so.6";
      if (await Deno.stat(foreign).then(() => true, () => false)) {
        await Deno.copyFile(foreign, `${folder}/foreign.so`);
        const out = await at(`${folder}/foreign.so`);
        assert(out.startsWith("abi-mismatch") && out.includes('run "deno task build" again'), out);
      }
    }
    // A copy of the package without a library: the exact command.
    await Deno.mkdir(`${folder}/kinora/native`, { recursive: true });
    for (const part of ["ffi", "lib"]) {
      await copyFolder(new URL(`../../${part}`, import.meta.url), `${folder}/kinora/${part}`);
    }
    for (const file of ["mod.ts", "deno.json"]) {
      await Deno.copyFile(new URL(`../../${file}`, import.meta.url), `${folder}/kinora/${file}`);
    }
    const copy = info.replace(MOD, new URL(`file://${folder}/kinora/mod.ts`).href);
    const unbuilt = (await script(copy, [`--allow-ffi=${folder}`])).out;
    assertStringIncludes(unbuilt, "library-not-found");
    assertStringIncludes(unbuilt, 'run "deno task build"');
    assertStringIncludes(unbuilt, "https://rustup.rs");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test({
  name: "a library for GPUs that does not open, or is older, is passed over and never in the way",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const folder = await Deno.makeTempDir();
    try {
      const release = `${folder}/native/target/release`;
      await Deno.mkdir(release, { recursive: true });
      for (const part of ["ffi", "lib"]) {
        await copyFolder(new URL(`../../${part}`, import.meta.url), `${folder}/${part}`);
      }
      for (const file of ["mod.ts", "deno.json"]) {
        await Deno.copyFile(new URL(`../../${file}`, import.meta.url), `${folder}/${file}`);
      }
      await Deno.copyFile(LIBRARY, `${release}/${libraryFileName()}`);
      const code = `import { libraryInfo } from "${new URL(`file://${folder}/mod.ts`).href}";
const { path, passedOver } = await libraryInfo();
console.log(path.split("/").at(-1), passedOver?.path.split("/").at(-1), passedOver?.reason)`;
      const opened = async (...flags: string[]): Promise<string> => {
        const { out, error } = await script(code, flags);
        assertEquals(error, "");
        return out;
      };
      const all = [`--allow-ffi=${folder}`, `--allow-read=${folder}`];
      assertEquals(await opened(...all), `${libraryFileName()} undefined undefined\n`);
      const forGpus = `${release}/${CUDA_LIBRARY_FILE}`;
      await Deno.writeTextFile(forGpus, "not a library");
      const broken = await opened(...all);
      assert(broken.startsWith(`${libraryFileName()} ${CUDA_LIBRARY_FILE} it does not open: it needs NVIDIA`), broken);
      await Deno.utime(forGpus, 1, 1);
      assertStringIncludes(await opened(...all), "it is older than the library for the CPU");
      // Who may open only the one is not asked about the other.
      const one = `--allow-ffi=${release}/${libraryFileName()}`;
      assertEquals(await opened(one), `${libraryFileName()} undefined undefined\n`);
      // One that opens is taken.
      await Deno.copyFile(LIBRARY, forGpus);
      assertEquals(await opened(...all), `${CUDA_LIBRARY_FILE} undefined undefined\n`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

async function copyFolder(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    const source = new URL(`${from.href}/${name}`);
    if (isDirectory) await copyFolder(source, `${to}/${name}`);
    else await Deno.copyFile(source, `${to}/${name}`);
  }
}

Deno.test("where no library is published a download is refused, with what to do instead", async () => {
  const error = await assertRejects(() => downloadLibrary("libkinora.so"), KinoraError, "KINORA_LIBRARY");
  assertEquals(error.code, "library-not-found");
  const url = "http://127.0.0.1:9/release";
  const unreachable = await assertRejects(() => downloadLibrary("libkinora.so", url), KinoraError, "Cannot fetch");
  assertEquals(unreachable.code, "library-not-found");
});
