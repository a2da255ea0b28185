// deno-lint-ignore-file no-console
/**
 * Builds the native library for NVIDIA's GPUs, and runs it on a device that is this machine's processor; the last line is
 * `N passed, N failed`.
 *
 * NVIDIA's compiler and libraries are fetched with pip where there is no CUDA 13. It takes some ten minutes of computing the
 * first time, most of them for kernels of candle's.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { CUDA_LIBRARY_FILE, libraryFileName } from "../ffi/library.ts";
import { build, NATIVE } from "./build.ts";
import { hostDriver } from "./cuda_check.ts";
import { findLibraryToolkit, installLibraryToolkit, type Toolkit, unsupported } from "./cuda_toolkit.ts";
import { offlineArguments } from "./offline.ts";

/** Cargo's folder for it: what is built without CUDA stays as it is. */
const TARGET = `${NATIVE}/target/with-cuda`;
/** What cargo builds with CUDA: always the same packages, so that what they share is built once. */
const PACKAGES: readonly string[] = [
  ...["kinora-abi", "kinora-bench", "kinora-kernels"].flatMap((name) => ["--package", name]),
  ...["--features", "cuda", "--target-dir", TARGET],
];
/** Where the library goes: beside the one for the CPU. */
export const CUDA_LIBRARY = `${NATIVE}/target/release/${CUDA_LIBRARY_FILE}`;
/** Kinora's side of the comparison with PyTorch on a GPU, which {@linkcode buildForGpus} builds as well. */
export const CUDA_BENCH = `${TARGET}/release/kinora-bench`;
/** The libraries of CUDA that it opens and the host's device stands in for. */
const OPENED: readonly string[] = ["libcuda.so.1", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"];
/** That of cuDNN, which it opens where it is there. */
export const CUDNN = "libcudnn.so.9";

/** What builds with a toolkit are given. */
export function cargoEnvironment({ home, env }: Toolkit): Record<string, string> {
  // So that the library finds NVIDIA's where they are not the system's, and candle is built without what is not used.
  return { ...env, KINORA_CUDA_LIBRARIES: `${home}/lib64`, NVCC: `${NATIVE}/candle_nvcc.sh` };
}

/**
 * Builds both libraries: that for the CPU, and that for GPUs.
 *
 * @param args Further arguments of `cargo build`.
 * @param toolkit What with; by default what is found.
 * @returns The exit code.
 */
export async function buildForGpus(args: readonly string[] = [], toolkit?: Toolkit): Promise<number> {
  const why = unsupported();
  if (why !== undefined) {
    console.error(`kinora: the library for NVIDIA's GPUs is built on Linux x86_64 only: ${why}`);
    return 1;
  }
  const found = toolkit ?? await findLibraryToolkit();
  if (found === undefined) {
    console.error(
      `kinora: The library for NVIDIA's GPUs is built with CUDA 13, which is not here. To fetch what is needed of it with
pip (1.2 GB, no root) and build:

    deno task cuda:build

Or with a CUDA 13 of your own:

    export CUDA_HOME=/usr/local/cuda-13.0
    deno task build --features cuda
`,
    );
    return 1;
  }
  const code = await build(args);
  if (code !== 0) return code;
  const cargo = new Deno.Command("cargo", {
    args: ["build", "--release", ...PACKAGES, ...args],
    cwd: NATIVE,
    env: cargoEnvironment(found),
    stdin: "null",
    stdout: "null",
  });
  const status = await cargo.spawn().status;
  if (!status.success) return status.code;
  const partial = `${CUDA_LIBRARY}.${Deno.pid}`;
  await Deno.copyFile(`${TARGET}/release/${libraryFileName()}`, partial);
  await Deno.rename(partial, CUDA_LIBRARY);
  return 0;
}

/** Where a program finds the libraries of CUDA: in `first`, if it is given, and in the toolkit. */
export function librariesEnvironment({ home }: Toolkit, first?: string): Record<string, string> {
  const folders = [first, `${home}/lib64`, Deno.env.get("LD_LIBRARY_PATH")];
  return { LD_LIBRARY_PATH: folders.filter((folder) => folder).join(":") };
}

/** What a runner of tests counted, by its lines of the form `N passed; N failed` or `N passed | N failed`. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** Runs tests and shows what they write. */
async function tests(command: Deno.Command): Promise<Counts> {
  const { success, stdout, stderr } = await command.output();
  const text = new TextDecoder();
  const out = text.decode(stdout) + text.decode(stderr);
  console.error(out);
  let [passed, failed] = [0, 0];
  // deno-lint-ignore no-control-regex
  for (const [, good, bad] of out.replaceAll(/\x1b\[[0-9;]*m/g, "").matchAll(/(\d+) passed.*?\b(\d+) failed/g)) {
    passed += Number(good);
    failed += Number(bad);
  }
  return { passed, failed: failed === 0 && (!success || passed === 0) ? 1 : failed };
}

/** Whose products of matrices and convolutions are run: what `KINORA_CUDA_PRODUCTS` may be. */
const PRODUCTS = ["nvidia", "own"] as const;

/** The tests of operations on the device that `env` leads to; `only` those of which the name has this in it. */
async function operationTests(
  toolkit: Toolkit,
  env: Readonly<Record<string, string>>,
  products: typeof PRODUCTS[number],
  only: readonly string[] = [],
): Promise<Counts> {
  return await tests(
    new Deno.Command("cargo", {
      args: [
        // One context, and the host's device is one.
        ...["test", "--release", ...PACKAGES, "--test", "cuda", "--", "--test-threads", "1", ...only],
      ],
      cwd: NATIVE,
      env: {
        ...cargoEnvironment(toolkit),
        ...env,
        ...librariesEnvironment(toolkit, env["LD_LIBRARY_PATH"]),
        KINORA_CUDA_PRODUCTS: products,
      },
      stdin: "null",
    }),
  );
}

/**
 * The tests of operations, with NVIDIA's products and convolutions and with our own, and of networks on the device that
 * `env` leads to.
 *
 * @param toolkit What they are built with.
 * @param env More of the environment: where libraries are found first, a fault to be planted.
 */
export async function deviceTests(toolkit: Toolkit, env: Readonly<Record<string, string>> = {}): Promise<Counts> {
  const all: Counts[] = [];
  for (const products of PRODUCTS) all.push(await operationTests(toolkit, env, products));
  const networks = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", ...await offlineArguments(), "tests/cuda"],
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { KINORA_LIBRARY: CUDA_LIBRARY, ...env, ...librariesEnvironment(toolkit, env["LD_LIBRARY_PATH"]) },
    stdin: "null",
  });
  all.push(await tests(networks));
  return all.reduce((sum, { passed, failed }) => ({ passed: sum.passed + passed, failed: sum.failed + failed }));
}

/** Whether `doctor` says something of the device that `env` leads to. */
async function says(what: string, folder: string, { home }: Toolkit, env?: Record<string, string>): Promise<boolean> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", fileURLToPath(new URL("kinora.ts", import.meta.url)), "doctor", "--json"],
    env: { KINORA_LIBRARY: CUDA_LIBRARY, LD_LIBRARY_PATH: `${folder}:${home}/lib64`, ...env },
    stdin: "null",
    stderr: "null",
  }).output();
  const said = new TextDecoder().decode(stdout);
  const good = said.includes(what);
  if (!good) console.error(`doctor does not say "${what}": ${said}`);
  return good;
}

/** Whether the tests of some operations notice a fault in what NVIDIA's libraries do. */
async function notices(toolkit: Toolkit, folder: string, fault: string, only: string): Promise<boolean> {
  const env = { LD_LIBRARY_PATH: folder, KINORA_CUDA_FAULT: fault };
  const { passed, failed } = await operationTests(toolkit, env, "nvidia", ["--exact", only]);
  const noticed = failed === 1 && passed === 0;
  console.error(`fault "${fault}": ${noticed ? "noticed" : "NOT NOTICED"} by ${only}`);
  return noticed;
}

/** Both on the host's device, and once more with a fault that each must notice. */
async function onTheHost(toolkit: Toolkit): Promise<Counts> {
  const driver = await hostDriver(toolkit);
  if (driver === undefined) return { passed: 0, failed: 1 };
  const folder = await Deno.makeTempDir({ prefix: "kinora-cuda-" });
  try {
    for (const name of OPENED) await Deno.symlink(driver, `${folder}/${name}`);
    // Found before any other, and none that opens.
    await Deno.writeTextFile(`${folder}/${CUDNN}`, "");
    const more = [
      await says("compute capability 7.0, and 8.0 is needed", folder, toolkit, { KINORA_CUDA_CAPABILITY: "7" }),
      await says(`${CUDNN} does not open`, folder, toolkit),
    ];
    await Deno.remove(`${folder}/${CUDNN}`);
    await Deno.symlink(driver, `${folder}/${CUDNN}`);
    more.push(await says("cuDNN 9.28.1", folder, toolkit));
    const whole = await deviceTests(toolkit, { LD_LIBRARY_PATH: folder });
    const env = { LD_LIBRARY_PATH: folder };
    const faulty = await deviceTests(toolkit, { ...env, KINORA_CUDA_FAULT: "grid" });
    // What is refused (of operations with each of the products, and of trainers), and what is only saved, has no grid.
    const noticed = faulty.failed >= whole.passed - 4;
    console.error(`a grid without its last block: ${faulty.failed} of ${whole.passed} notice`);
    more.push(
      noticed,
      await notices(toolkit, folder, "products", "linear_layers"),
      await notices(toolkit, folder, "dilation forward", "convolutions_over_pixels"),
      await notices(toolkit, folder, "dilation to input", "convolutions_over_pixels"),
      await notices(toolkit, folder, "dilation to weight", "convolutions_over_pixels"),
    );
    return {
      passed: whole.passed + more.filter((good) => good).length,
      failed: whole.failed + more.filter((good) => !good).length,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function main(): Promise<number> {
  const why = unsupported();
  if (why !== undefined) {
    console.error(`cuda: skipped, ${why}`);
    return 0;
  }
  const toolkit = await installLibraryToolkit();
  const code = await buildForGpus(Deno.args, toolkit);
  const { passed, failed } = code === 0 ? await onTheHost(toolkit) : { passed: 0, failed: 1 };
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
