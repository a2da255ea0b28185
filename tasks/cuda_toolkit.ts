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

/** The folder of the wheels: `KINORA_CUDA_TOOLKIT`, or one in the user's cache. */
function folder(): string {
  const given = Deno.env.get("KINORA_CUDA_TOOLKIT");
  if (given) return given;
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "."}/.cache`;
  return `${cache}/kinora/cuda-13.0.88`;
}

/** The toolkit, if it is there. */
export async function findToolkit(): Promise<Toolkit | undefined> {
  const home = `${folder()}/nvidia/cu13`;
  const there = await Deno.stat(`${home}/bin/nvcc`).then(() => true, () => false);
  if (!there) return undefined;
  return { home, env: { PATH: `${home}/bin:${home}/nvvm/bin:${Deno.env.get("PATH") ?? ""}` } };
}

/** The toolkit; fetched with pip where it is missing. */
export async function installToolkit(): Promise<Toolkit> {
  const found = await findToolkit();
  if (found !== undefined) return found;
  const target = folder();
  const partial = `${target}.partial-${Deno.pid}`;
  console.error(`cuda: installing NVIDIA's compiler in ${target} (279 MB, this once)`);
  await Deno.mkdir(partial, { recursive: true });
  try {
    const args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    const pip = new Deno.Command("python3", { args: [...args, "--target", partial, ...WHEELS], stdout: "null" });
    const { success } = await pip.spawn().status;
    if (!success) throw new Error("pip could not install them");
    await Deno.rename(partial, target);
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound ? "python3 is missing" : (error as Error).message;
    throw new Error(`the CUDA toolkit's wheels (${WHEELS.join(" ")}) are not there: ${why}`, { cause: error });
  } finally {
    await Deno.remove(partial, { recursive: true }).catch(() => {});
  }
  const installed = await findToolkit();
  if (installed === undefined) throw new Error(`the wheels hold no nvcc in ${target}/nvidia/cu13/bin`);
  return installed;
}
