// deno-lint-ignore-file no-console
/**
 * NVIDIA's compiler without a GPU and without root: from its Python wheels, in a folder of the user's cache.
 *
 * @module
 */

/**
 * The wheels that compile kernels; together 279 MB unpacked. 13.0 is the oldest line whose wheels hold `nvcc`, and what it
 * makes runs with the oldest driver (580).
 */
const WHEELS: readonly string[] = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
];

/** The wheels with what a library for GPUs is linked with besides; together with the others 1.2 GB unpacked. */
const LIBRARY_WHEELS: readonly string[] = [
  "nvidia-cuda-nvrtc==13.0.88",
  "nvidia-curand==10.4.0.35",
  "nvidia-cublas==13.0.2.14",
];

/** The newest CUDA that the bindings know; a newer one of the same line has all that they use. */
const NEWEST_MINOR = 4;

/** A toolkit. */
export interface Toolkit {
  /** Its folder, with `bin` and `include`. */
  readonly home: string;
  /** The environment that `nvcc` needs. */
  readonly env: Readonly<Record<string, string>>;
}

/** Why the kernels cannot be checked on this machine, if they cannot. */
export function unsupported(): string | undefined {
  const { os, arch } = Deno.build;
  if (os !== "linux" || arch !== "x86_64") return `the CUDA kernels are checked on Linux x86_64, not on ${os} ${arch}`;
  return undefined;
}

/** The folder of the wheels: `KINORA_CUDA_TOOLKIT`, or one in the user's cache; those with libraries have their own. */
function folder(libraries = false): string {
  const given = Deno.env.get("KINORA_CUDA_TOOLKIT");
  if (given) return libraries ? `${given}-libraries` : given;
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "."}/.cache`;
  return `${cache}/kinora/cuda-13.0.88${libraries ? "-libraries" : ""}`;
}

/** The toolkit of the wheels, if it is there. */
export async function findToolkit(): Promise<Toolkit | undefined> {
  for (const home of [folder(), folder(true)].map((folder) => `${folder}/nvidia/cu13`)) {
    if (await exists(`${home}/bin/nvcc`)) return { home, env: { PATH: path(home) } };
  }
  return undefined;
}

/**
 * A toolkit that a library for GPUs can be built and linked with: CUDA 13 where `CUDA_HOME` says, in `/usr/local/cuda`, or
 * from the wheels.
 */
export async function findLibraryToolkit(): Promise<Toolkit | undefined> {
  const wheels = `${folder(true)}/nvidia/cu13`;
  for (const home of [Deno.env.get("CUDA_HOME"), "/usr/local/cuda", wheels]) {
    if (!home || !await exists(`${home}/bin/nvcc`)) continue;
    const minor = await minorVersion(home);
    if (minor === undefined) continue;
    const env = {
      PATH: path(home),
      CUDA_HOME: home,
      CUDA_PATH: home,
      CUDA_ROOT: home,
      // What every GPU from 8.0 on takes, whichever this machine has.
      CUDA_COMPUTE_CAP: "80",
      CUDARC_CUDA_VERSION: `${13_000 + 10 * Math.min(minor, NEWEST_MINOR)}`,
    };
    return { home, env };
  }
  return undefined;
}

function path(home: string): string {
  return `${home}/bin:${home}/nvvm/bin:${Deno.env.get("PATH") ?? ""}`;
}

async function exists(file: string): Promise<boolean> {
  return await Deno.stat(file).then(() => true, () => false);
}

/** The minor version of a CUDA 13. */
async function minorVersion(home: string): Promise<number | undefined> {
  const nvcc = new Deno.Command(`${home}/bin/nvcc`, { args: ["--version"], env: { PATH: path(home) }, stdin: "null" });
  const out = await nvcc.output().then(({ stdout }) => new TextDecoder().decode(stdout), () => "");
  const [, minor] = /release 13\.(\d+)/.exec(out) ?? [];
  return minor === undefined ? undefined : Number(minor);
}

/** A toolkit that a library for GPUs can be built with; its wheels are fetched with pip where there is none. */
export async function installLibraryToolkit(): Promise<Toolkit> {
  const found = await findLibraryToolkit();
  if (found !== undefined) return found;
  const target = folder(true);
  console.error(`cuda: installing NVIDIA's compiler and libraries in ${target} (1.2 GB, this once)`);
  await installWheels(target, [...WHEELS, ...LIBRARY_WHEELS], completed);
  const installed = await findLibraryToolkit();
  if (installed === undefined) throw new Error(`the wheels hold no nvcc of CUDA 13 in ${target}/nvidia/cu13/bin`);
  return installed;
}

/** What the wheels lack to be linked with: the names that linkers look for, and a libcuda. */
async function completed(folder: string): Promise<void> {
  const home = `${folder}/nvidia/cu13`;
  await Deno.symlink("lib", `${home}/lib64`);
  for await (const { name } of Deno.readDir(`${home}/lib`)) {
    const [, short] = /^(lib[A-Za-z]+\.so)\.\d+$/.exec(name) ?? [];
    if (short !== undefined) await Deno.symlink(name, `${home}/lib/${short}`);
  }
  await Deno.mkdir(`${home}/lib/stubs`);
  // It has to define the functions: linkers leave out a library that nothing is found in, and the result would open nowhere.
  const header = await Deno.readTextFile(`${home}/include/cuda.h`);
  const names = new Set(header.match(/\bcu[A-Z][A-Za-z0-9]*(?:_v\d+)?\b/g) ?? []);
  const source = `${home}/lib/stubs/libcuda.c`;
  await Deno.writeTextFile(source, [...names].sort().map((name) => `int ${name}(void) { return 999; }\n`).join(""));
  const args = ["-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", `${home}/lib/stubs/libcuda.so`];
  const { success } = await new Deno.Command("gcc", { args, stdin: "null" }).spawn().status;
  if (!success) throw new Error("gcc could not make the stub of libcuda");
}

/** The toolkit; fetched with pip where it is missing. */
export async function installToolkit(): Promise<Toolkit> {
  const found = await findToolkit();
  if (found !== undefined) return found;
  const target = folder();
  console.error(`cuda: installing NVIDIA's compiler in ${target} (279 MB, this once)`);
  await installWheels(target, WHEELS);
  const installed = await findToolkit();
  if (installed === undefined) throw new Error(`the wheels hold no nvcc in ${target}/nvidia/cu13/bin`);
  return installed;
}

/** Unpacks wheels in a folder, which appears whole or not at all. */
async function installWheels(
  target: string,
  wheels: readonly string[],
  complete?: (folder: string) => Promise<void>,
): Promise<void> {
  const partial = `${target}.partial-${Deno.pid}`;
  await Deno.mkdir(partial, { recursive: true });
  try {
    const args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    const pip = new Deno.Command("python3", { args: [...args, "--target", partial, ...wheels], stdout: "null" });
    const { success } = await pip.spawn().status;
    if (!success) throw new Error("pip could not install them");
    await complete?.(partial);
    await Deno.rename(partial, target);
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound ? "python3 is missing" : (error as Error).message;
    throw new Error(`the CUDA toolkit's wheels (${wheels.join(" ")}) are not there: ${why}`, { cause: error });
  } finally {
    await Deno.remove(partial, { recursive: true }).catch(() => {});
  }
}
