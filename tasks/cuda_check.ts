// deno-lint-ignore-file no-console
/**
 * Checks the CUDA kernels without a GPU; the last line is `N passed, N failed`.
 *
 * - `ptxas` compiles each file for several architectures, and no kernel may exceed its registers, shared memory, stack and
 *   spills in `native/kernels/cuda/limits.json`, nor may there be a warning. `--update-limits` writes what was found.
 * - The same source, compiled by g++ through `check/host_shim.h`, is compared with references in f64 under AddressSanitizer
 *   and UBSan, and under ThreadSanitizer.
 * - Faults are planted, among them each barrier, wait, shuffle and matrix product left out in turn: a fault that nothing
 *   notices fails the check.
 *
 * - The Rust crate `native/cuda` launches them through a libcuda that runs kernels on this machine's processor, and their
 *   results are compared with the CPU's operations.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { NATIVE } from "./build.ts";
import { installToolkit, type Toolkit, unsupported } from "./cuda_toolkit.ts";

const FOLDER: string = fileURLToPath(new URL("../native/kernels/cuda", import.meta.url));
const LIMITS = `${FOLDER}/limits.json`;
const CACHE: string = fileURLToPath(new URL("../native/target/cuda", import.meta.url));
const ARCHITECTURES: readonly string[] = ["sm_80", "sm_90", "sm_100"];
const NVCC: readonly string[] = ["-std=c++17", "-O3", "-Xptxas", "-v,-warn-spills", "-cubin"];

/** What a kernel uses: registers a thread; bytes of static shared memory, stack and spills. */
export interface Usage {
  registers: number;
  shared: number;
  stack: number;
  spills: number;
}

/** The most that kernels may use. */
export interface Limits {
  default: Usage;
  kernels: Record<string, Partial<Usage>>;
}

let passed = 0;
let failed = 0;

function result(ok: boolean, name: string): void {
  if (ok) passed++;
  else failed++;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
}

/** Runs a command; gives its exit code and all that it wrote. */
async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = FOLDER,
): Promise<{ code: number; out: string }> {
  const command = new Deno.Command(program, { args: [...args], cwd, env: { ...env }, stdin: "null" });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** The kernels of a log of ptxas. */
export function usages(log: string): Map<string, Usage> {
  const found = new Map<string, Usage>();
  for (const part of log.split("Compiling entry function ").slice(1)) {
    const number = (pattern: RegExp): number => Number(pattern.exec(part)?.[1] ?? 0);
    const name = /^'([^']+)'/.exec(part)?.[1];
    if (name === undefined) continue;
    found.set(name, {
      registers: number(/Used (\d+) registers/),
      shared: number(/(\d+) bytes smem/),
      stack: number(/(\d+) bytes stack frame/),
      spills: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
    });
  }
  return found;
}

/** What is wrong with a compilation: warnings, and kernels over their limits. */
export function complaints(log: string, limits: Limits): string[] {
  const wrong = log.split("\n").filter((line) => /\bwarning\b/.test(line)).map((line) => line.trim());
  for (const [name, usage] of usages(log)) {
    if (!(name in limits.kernels)) wrong.push(`${name} is not in limits.json`);
    const most = { ...limits.default, ...limits.kernels[name] };
    for (const key of Object.keys(usage) as (keyof Usage)[]) {
      if (usage[key] > most[key]) wrong.push(`${name}: ${key} ${usage[key]}, at most ${most[key]}`);
    }
  }
  return wrong;
}

/** The names of files in the kernels' folder or in one of its folders. */
async function files(extension: string, folder = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(`${FOLDER}/${folder}`)) if (name.endsWith(extension)) names.push(name);
  return names.sort();
}

async function sha256(texts: readonly string[]): Promise<string> {
  const bytes = new TextEncoder().encode(texts.join("\0"));
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A file in the cache, made where there is none yet for these inputs. What older inputs made under the name is removed.
 *
 * @param name The name; a hash follows it.
 * @param inputs All that the result depends on.
 * @param make Makes the file at the given path, or says what went wrong.
 * @returns The path, or what went wrong.
 */
async function cached(
  name: string,
  inputs: readonly string[],
  make: (path: string) => Promise<string | undefined>,
): Promise<{ path: string } | { problem: string }> {
  await Deno.mkdir(CACHE, { recursive: true });
  const path = `${CACHE}/${name}-${await sha256(inputs)}`;
  if (await Deno.stat(path).then(() => true, () => false)) return { path };
  const problem = await make(`${path}.${Deno.pid}`);
  if (problem !== undefined) return { problem };
  for await (const file of Deno.readDir(CACHE)) {
    if (file.name.startsWith(`${name}-`) && `${CACHE}/${file.name}` !== `${path}.${Deno.pid}`) {
      await Deno.remove(`${CACHE}/${file.name}`);
    }
  }
  await Deno.rename(`${path}.${Deno.pid}`, path);
  return { path };
}

/** What ptxas says of a file, or why it is not compiled. */
async function compile(
  toolkit: Toolkit,
  file: string,
  architecture: string,
): Promise<{ log: string } | { problem: string }> {
  const names = [file, ...await files(".cuh")];
  const sources = await Promise.all(names.map((name) => Deno.readTextFile(`${FOLDER}/${name}`)));
  const inputs = [toolkit.home, architecture, ...NVCC, ...sources];
  const made = await cached(`ptxas-${file}-${architecture}`, inputs, async (path) => {
    const cubin = await Deno.makeTempFile({ suffix: ".cubin" });
    try {
      const { code, out } = await run("nvcc", [...NVCC, `-arch=${architecture}`, file, "-o", cubin], toolkit.env);
      if (code !== 0) return out;
      await Deno.writeTextFile(path, out);
      return undefined;
    } finally {
      await Deno.remove(cubin);
    }
  });
  return "path" in made ? { log: await Deno.readTextFile(made.path) } : made;
}

/** The ptxas gate. */
async function gate(toolkit: Toolkit, update: boolean): Promise<void> {
  const limits: Limits = JSON.parse(await Deno.readTextFile(LIMITS));
  const seen: Record<string, Partial<Usage>> = {};
  for (const file of await files(".cu")) {
    for (const architecture of ARCHITECTURES) {
      const compiled = await compile(toolkit, file, architecture);
      const log = "log" in compiled ? compiled.log : "";
      for (const [name, { registers, shared }] of usages(log)) {
        const most = seen[name] ??= { registers: 0, shared: 0 };
        most.registers = Math.max(most.registers ?? 0, registers);
        most.shared = Math.max(most.shared ?? 0, shared);
      }
      if (update) continue;
      const wrong = "problem" in compiled ? [compiled.problem] : complaints(log, limits);
      result(wrong.length === 0, [`ptxas ${file} ${architecture}`, ...wrong].join("\n       "));
    }
  }
  if (update) {
    const kernels = Object.fromEntries(Object.entries(seen).sort(([one], [other]) => one < other ? -1 : 1));
    await Deno.writeTextFile(LIMITS, `${JSON.stringify({ default: limits.default, kernels }, null, 2)}\n`);
    return;
  }
  const gone = Object.keys(limits.kernels).filter((name) => !(name in seen));
  result(
    gone.length === 0,
    `limits.json names kernels that exist${gone.length === 0 ? "" : `, not ${gone.join(", ")}`}`,
  );
}

/** Runs the tests of the kernels in one of their ways, and takes over their counts. */
async function kernels(name: string, program: string, args: readonly string[], seed = "1"): Promise<void> {
  const { code, out } = await run(program, args, { SHIM_SEED: seed });
  const lines = out.trimEnd().split("\n");
  const [, good, bad] = /^(\d+) passed, (\d+) failed$/.exec(lines.at(-1) ?? "") ?? [];
  console.log([`---- ${name}`, ...good === undefined ? lines : lines.slice(0, -1)].join("\n"));
  if (good === undefined || (code !== 0) !== (Number(bad) > 0)) return result(false, `${name} ended with code ${code}`);
  passed += Number(good);
  failed += Number(bad);
}

/** Kernels compiled by g++ for this machine's processor. */
async function hostProgram(
  toolkit: Toolkit,
  source: string,
  name: string,
  flags: readonly string[],
  generated = "",
): Promise<string | undefined> {
  const all = ["-std=c++17", "-DKINORA_HOST_SHIM", "-isystem", `${toolkit.home}/include`, "-Wall", "-Werror"];
  all.push("-Wno-unknown-pragmas", "-g1", "-O1", "-ffp-contract=off", ...flags);
  const names = [
    ...await files(".cu"),
    ...await files(".cuh"),
    ...(await files(".h", "check")).map((file) => `check/${file}`),
  ];
  const texts = await Promise.all([source, ...names].map((file) => Deno.readTextFile(`${FOLDER}/${file}`)));
  const made = await cached(name, [...all, generated, ...texts], async (path) => {
    const { code, out } = await run("g++", [...all, source, "-o", path]);
    return code === 0 ? undefined : out;
  });
  if ("path" in made) return made.path;
  result(false, `${name}: ${made.problem}`);
  return undefined;
}

/** The kernels on this machine's processor. */
async function host(toolkit: Toolkit): Promise<void> {
  const source = "check/kernels_test.cpp";
  const bounds = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
  const address = await hostProgram(toolkit, source, "address", bounds);
  const thread = await hostProgram(toolkit, source, "thread", ["-fsanitize=thread"]);
  if (address === undefined || thread === undefined) return;
  for (const seed of ["1", "2"]) await kernels(`numbers and bounds, seed ${seed}`, address, [], seed);
  await kernels("races, seed 3", thread, [], "3");
  await kernels("the shim, under AddressSanitizer", address, ["shim"]);
  await kernels("the shim, under ThreadSanitizer", thread, ["shim"]);
  await kernels("a result that is changed", address, ["every", "result"]);
  await kernels("16 bytes less of shared memory", address, ["every", "shared"]);
  const sites = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(sites, (await run(address, ["sites"])).out);
    await kernels("what a kernel cannot do without", thread, ["faults", sites]);
  } finally {
    await Deno.remove(sites);
  }
}

/**
 * A libcuda whose device is this machine's processor.
 *
 * @returns Its file, or nothing where it does not compile, which is counted as a failure.
 */
export async function hostDriver(toolkit: Toolkit): Promise<string | undefined> {
  const { kernels }: Limits = JSON.parse(await Deno.readTextFile(LIMITS));
  const list = Object.keys(kernels).map((name) => `KERNEL(${name})\n`).join("");
  await Deno.mkdir(`${CACHE}/names`, { recursive: true });
  await Deno.writeTextFile(`${CACHE}/names/kernel_names.h`, list);
  const flags = ["-shared", "-fPIC", `-I${CACHE}/names`];
  return await hostProgram(toolkit, "check/host_libcuda.cpp", "libcuda", flags, list);
}

/** The Rust launches, on a libcuda whose device is this machine's processor. */
async function launches(toolkit: Toolkit): Promise<void> {
  const driver = await hostDriver(toolkit);
  if (driver === undefined) return;
  const test = async (env: Readonly<Record<string, string>>): Promise<{ good: number; bad: number; out: string }> => {
    const args = ["test", "--release", "--package", "kinora-cuda", "--test", "launches", "--", "--ignored"];
    const { out } = await run("cargo", args, { ...env, KINORA_CUDA_DRIVER: driver }, NATIVE);
    const [, good, bad] = /(\d+) passed; (\d+) failed/.exec(out) ?? [];
    return { good: Number(good ?? 0), bad: Number(bad ?? 0), out };
  };
  const whole = await test({});
  passed += whole.good;
  failed += whole.bad;
  console.log(`---- the launches: ${whole.good} passed, ${whole.bad} did not`);
  if (whole.good === 0 || whole.bad > 0) return result(false, whole.out);
  const faulty = await test({ KINORA_CUDA_FAULT: "grid" });
  result(faulty.good === 0 && faulty.bad === whole.good, "each of them notices a grid without its last block");
}

/**
 * Checks everything and prints the counts.
 *
 * @param update Write `limits.json` instead.
 * @returns The exit code.
 */
async function check(update: boolean): Promise<number> {
  const why = unsupported();
  if (why !== undefined) {
    console.error(`cuda: skipped, ${why}`);
    return 0;
  }
  try {
    const toolkit = await installToolkit();
    await gate(toolkit, update);
    if (update) return 0;
    await host(toolkit);
    await launches(toolkit);
  } catch (error) {
    result(false, (error as Error).message);
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await check(Deno.args.includes("--update-limits")));
