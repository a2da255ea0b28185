// deno-lint-ignore-file no-console
/**
 * Runs the launches of `native/cuda` on a GPU, against the CPU's operations; the last line is `N passed, N failed`.
 *
 * Skips, with the reason, where there is no GPU.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { NATIVE } from "./build.ts";
import { installToolkit, unsupported } from "./cuda_toolkit.ts";

const FOLDER: string = fileURLToPath(new URL("../native/kernels/cuda", import.meta.url));
const DRIVER = "libcuda.so.1";

/** Why nothing can run on a GPU here, if it cannot. */
export function noGpu(driver: string = DRIVER): string | undefined {
  const why = unsupported();
  if (why !== undefined) return why;
  let library;
  try {
    library = Deno.dlopen(driver, {
      cuInit: { parameters: ["u32"], result: "i32" },
      cuDeviceGetCount: { parameters: ["buffer"], result: "i32" },
    });
  } catch {
    return `there is no NVIDIA driver (${driver} does not open)`;
  }
  const status = library.symbols.cuInit(0);
  const count = new Int32Array(1);
  if (status !== 0 || library.symbols.cuDeviceGetCount(count) !== 0 || count[0] === 0) {
    return `NVIDIA's driver finds no GPU (cuInit says ${status})`;
  }
  return undefined;
}

async function main(): Promise<number> {
  const why = noGpu();
  if (why !== undefined) {
    console.error(`cuda: skipped, ${why}`);
    return 0;
  }
  const toolkit = await installToolkit();
  const modules = await Deno.makeTempDir({ prefix: "kinora-cuda-" });
  try {
    for await (const { name } of Deno.readDir(FOLDER)) {
      if (!name.endsWith(".cu")) continue;
      // What every GPU from 8.0 on takes; its driver makes code of it.
      const args = ["-std=c++17", "-O3", "-ptx", "-arch=compute_80", name, "-o", `${modules}/${name}.ptx`];
      const nvcc = new Deno.Command("nvcc", { args, cwd: FOLDER, env: { ...toolkit.env }, stdin: "null" });
      if (!(await nvcc.spawn().status).success) throw new Error(`nvcc does not compile ${name}`);
    }
    const args = ["test", "--release", "--package", "kinora-cuda", "--test", "launches", "--", "--ignored"];
    const env = { KINORA_CUDA_DRIVER: DRIVER, KINORA_CUDA_MODULES: modules };
    const { code, stdout } = await new Deno.Command("cargo", { args, env, cwd: NATIVE, stderr: "inherit" }).output();
    const out = new TextDecoder().decode(stdout);
    console.log(out);
    const [, passed, failed] = /(\d+) passed; (\d+) failed/.exec(out) ?? [];
    console.log(passed === undefined ? "0 passed, 1 failed" : `${passed} passed, ${failed} failed`);
    return code === 0 ? 0 : 1;
  } finally {
    await Deno.remove(modules, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main());
