// deno-lint-ignore-file no-console
/**
 * What `deno task test --gpu` runs: the launches of `native/cuda`, every operation and whole networks on a GPU against the
 * CPU, and the launches once more under compute-sanitizer where that is at hand.
 *
 * Skips, with the reason, where there is no GPU.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { NATIVE } from "./build.ts";
import { buildForGpus, type Counts, CUDNN, deviceTests } from "./cuda_build.ts";
import { installLibraryToolkit, type Toolkit, unsupported } from "./cuda_toolkit.ts";

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

/** Compiles the kernels to what every GPU from 8.0 on takes; its driver makes code of it. */
async function compileModules(folder: string, toolkit: Toolkit): Promise<void> {
  for await (const { name } of Deno.readDir(FOLDER)) {
    if (!name.endsWith(".cu")) continue;
    const args = ["-std=c++17", "-O3", "-ptx", "-arch=compute_80", name, "-o", `${folder}/${name}.ptx`];
    const nvcc = new Deno.Command("nvcc", { args, cwd: FOLDER, env: { ...toolkit.env }, stdin: "null" });
    if (!(await nvcc.spawn().status).success) throw new Error(`nvcc does not compile ${name}`);
  }
}

/** Runs the tests of launches, under a tool of compute-sanitizer if one is named. */
async function launches(modules: string, tool?: string): Promise<Counts> {
  const env: Record<string, string> = { KINORA_CUDA_DRIVER: DRIVER, KINORA_CUDA_MODULES: modules };
  if (tool !== undefined) {
    // The tests look kernels up in one module after the other: that one has them not is no error.
    const options = tool === "memcheck" ? " --report-api-errors no" : "";
    env["CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"] =
      `compute-sanitizer --tool ${tool} --error-exitcode 9${options}`;
  }
  const args = ["test", "--release", "--package", "kinora-cuda", "--test", "launches", "--", "--ignored"];
  const { success, stdout } = await new Deno.Command("cargo", { args, env, cwd: NATIVE, stderr: "inherit" }).output();
  const out = new TextDecoder().decode(stdout);
  console.log(out);
  const [, passed, failed] = /(\d+) passed; (\d+) failed/.exec(out) ?? [];
  const bad = Number(failed ?? 0);
  return { passed: Number(passed ?? 0), failed: bad === 0 && !success ? 1 : bad };
}

/** Whether a library opens. */
function opens(library: string): boolean {
  try {
    Deno.dlopen(library, {}).close();
    return true;
  } catch {
    return false;
  }
}

/** Whether a program can be run. */
async function runs(program: string): Promise<boolean> {
  return await new Deno.Command(program, { args: ["--version"], stdout: "null", stderr: "null" }).output()
    .then(({ success }) => success, () => false);
}

/**
 * Runs all on a GPU.
 *
 * @returns What passed and failed; nothing where there is no GPU, which is said.
 */
export async function testOnGpu(): Promise<Counts | undefined> {
  const why = noGpu();
  if (why !== undefined) {
    console.error(`cuda: skipped, ${why}`);
    return undefined;
  }
  const toolkit = await installLibraryToolkit();
  const modules = await Deno.makeTempDir({ prefix: "kinora-cuda-" });
  try {
    await compileModules(modules, toolkit);
    const all = [await launches(modules)];
    if (await runs("compute-sanitizer")) {
      for (const tool of ["memcheck", "racecheck"]) all.push(await launches(modules, tool));
    } else {
      console.error("note: compute-sanitizer is not on the path: memory and races are not checked on the GPU");
    }
    if (!opens(CUDNN)) {
      console.error(`note: ${CUDNN} does not open: convolutions are tested with Kinora's kernels only`);
    }
    if (await buildForGpus([], toolkit) !== 0) all.push({ passed: 0, failed: 1 });
    else all.push(await deviceTests(toolkit));
    return all.reduce((sum, { passed, failed }) => ({ passed: sum.passed + passed, failed: sum.failed + failed }));
  } finally {
    await Deno.remove(modules, { recursive: true });
  }
}
