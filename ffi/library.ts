/**
 * Finding, opening and asking the native library.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { downloadLibrary } from "./download.ts";
import { KinoraError } from "./errors.ts";
import { ABI_VERSION, symbols } from "./symbols.ts";
import type { Precision } from "./network.ts";
import { callSync } from "./job.ts";

/** The opened library. */
export interface Library {
  /** Its file. */
  readonly path: string;
  /** The library for NVIDIA's GPUs where it was not taken, and why. */
  readonly passedOver?: PassedOver | undefined;
  /** Its functions. */
  readonly symbols: Deno.DynamicLibrary<typeof symbols>["symbols"];
}

/** A library that was not taken. */
export interface PassedOver {
  /** Its file. */
  readonly path: string;
  /** Why, in words. */
  readonly reason: string;
}

/** A GPU that networks can run on. */
export interface Gpu {
  /** What its driver calls it. */
  readonly name: string;
  /** Its compute capability, for example `[9, 0]`. */
  readonly capability: readonly [number, number];
  /** Bytes of its memory. */
  readonly memory: number;
  /**
   * NVIDIA's cuDNN, which convolutions over pixels in f32 go through, and its version; where they do not and Kinora's kernels
   * do them, as they do those in bf16, why, in words.
   */
  readonly cudnn: { readonly version: string } | { readonly unused: string };
}

/** What the native library is, and what this machine can do. */
export interface LibraryInfo {
  /** The file of the library. */
  readonly path: string;
  /** Its version, as of this package. */
  readonly version: string;
  /** The version of its C interface. */
  readonly abi: number;
  /** The instruction set that was chosen for this machine, for example `"avx512"`. */
  readonly isa: string;
  /** The arithmetics it has. */
  readonly precisions: readonly Precision[];
  /** Whether `bf16` is faster than `f32` on this machine. */
  readonly fastBf16: boolean;
  /** Threads it computes on. */
  readonly threads: number;
  /** Whether it was built for NVIDIA's GPUs. */
  readonly cuda: boolean;
  /** The GPU that `device: "cuda"` means; null where there is none. */
  readonly gpu: Gpu | null;
  /** Why there is none, in words. */
  readonly noGpu?: string;
  /** The library for NVIDIA's GPUs where there is one that was not taken. */
  readonly passedOver?: PassedOver;
  /** Native objects that are alive, by kind, for example `{ tensor: 3 }`. */
  readonly handles: Readonly<Record<string, number>>;
  /** Bytes of the tensors that are alive. */
  readonly tensorBytes: number;
}

let loaded: Library | undefined;
let loading: Promise<Library> | undefined;

/**
 * The library, opened on first use. It is never closed: a call that runs would lose its code.
 *
 * @throws {KinoraError} `library-not-found`, `abi-mismatch` or `permission`.
 */
export function library(): Promise<Library> {
  if (loaded !== undefined) return Promise.resolve(loaded);
  return loading ??= open().then((library) => loaded = library).finally(() => loading = undefined);
}

/** The library if it is open already, as it is for whoever holds a handle. */
export function openLibrary(): Library {
  if (loaded === undefined) throw new KinoraError("failed", "The native library is not open yet");
  return loaded;
}

/**
 * Says what the native library is, and what this machine can do; opens the library if need be.
 *
 * The library is the file that the environment variable `KINORA_LIBRARY` names, if it may be read; else the one that
 * `deno task build` made; for a package that is not on disk, the published one. Where `deno task build --features cuda` made
 * a library for NVIDIA's GPUs, which does all that the other does, that one is tried first; if it does not open, the other
 * is taken.
 *
 * @throws {KinoraError} `library-not-found` when there is none, `abi-mismatch` when it is of another version,
 * `permission` when it may not be opened.
 */
export async function libraryInfo(): Promise<LibraryInfo> {
  const { path, passedOver } = await library();
  const { fast_bf16: fastBf16, tensor_bytes: tensorBytes, no_gpu: noGpu, ...rest } = callSync<
    Omit<LibraryInfo, "path" | "fastBf16" | "tensorBytes" | "noGpu" | "passedOver"> & {
      readonly fast_bf16: boolean;
      readonly tensor_bytes: number;
      readonly no_gpu: string | null;
    }
  >({ verb: "info" });
  return {
    path,
    ...rest,
    fastBf16,
    tensorBytes,
    ...noGpu === null ? {} : { noGpu },
    ...passedOver === undefined ? {} : { passedOver },
  };
}

/** Why there is no GPU to compute on, with what to do about it. */
export function whyNoGpu({ cuda, noGpu, passedOver }: LibraryInfo): string {
  if (passedOver !== undefined) return `${passedOver.path} was not taken: ${passedOver.reason}`;
  if (!cuda) return 'the native library was built without it: run "deno task build --features cuda"';
  return noGpu ?? "there is no GPU";
}

/** The name of the library's file on this system. */
export function libraryFileName(os: typeof Deno.build.os = Deno.build.os): string {
  switch (os) {
    case "windows":
      return "kinora.dll";
    case "darwin":
      return "libkinora.dylib";
    default:
      return "libkinora.so";
  }
}

/** The name of the file of the library for NVIDIA's GPUs, which is built on Linux only. */
export const CUDA_LIBRARY_FILE = "libkinora_cuda.so";

async function open(): Promise<Library> {
  const given = environment("KINORA_LIBRARY");
  // A bare name would be looked for in the system's folders.
  if (given) {
    return openAt(/[/\\]/.test(given) ? given : `./${given}`, `the environment variable KINORA_LIBRARY names it`);
  }
  const here = new URL(`../native/target/release/${libraryFileName()}`, import.meta.url);
  if (here.protocol !== "file:") {
    return openAt(await downloadLibrary(libraryFileName()), "it was fetched from the release");
  }
  const path = fileURLToPath(here);
  const forGpus = openForGpus(fileURLToPath(new URL(CUDA_LIBRARY_FILE, here)), path);
  if (forGpus !== undefined && "symbols" in forGpus) return forGpus;
  const hint = 'run "deno task build" in the folder of the package (it needs Rust, https://rustup.rs)';
  return { ...openAt(path, hint), passedOver: forGpus };
}

/**
 * The library for NVIDIA's GPUs, or why it is not taken; nothing where it is not there or may not be opened. It needs
 * NVIDIA's own libraries to open.
 *
 * @param path Where it would be.
 * @param plain The library for the CPU.
 */
function openForGpus(path: string, plain: string): Library | PassedOver | undefined {
  if (Deno.build.os !== "linux") return undefined;
  if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") return undefined;
  const [built, plainBuilt] = [modified(path), modified(plain)];
  if (built === "missing") return undefined;
  if (typeof built === "number" && typeof plainBuilt === "number" && built < plainBuilt) {
    return { path, reason: 'it is older than the library for the CPU: run "deno task build --features cuda" again' };
  }
  try {
    return openAt(path, "it needs NVIDIA's libraries");
  } catch (error) {
    if (!(error instanceof KinoraError)) throw error;
    // Without leave to read, a file that is not there looks like one that does not open.
    return built === "unknown"
      ? undefined
      : { path, reason: error.message.replace(`Cannot open the native library ${path}: `, "it does not open: ") };
  }
}

/** When a file was written. */
function modified(path: string): number | "missing" | "unknown" {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return "unknown";
  try {
    return Deno.statSync(path).mtime?.getTime() ?? "unknown";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "missing";
    throw error;
  }
}

/** Reads a variable if that is allowed already; reading one without permission would ask the user. */
function environment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

function openAt(path: string, hint: string): Library {
  if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") {
    throw new KinoraError(
      "permission",
      `The native library ${path} may not be opened: run Deno with --allow-ffi=${path}`,
    );
  }
  let opened: Deno.DynamicLibrary<typeof symbols>;
  try {
    opened = Deno.dlopen(path, symbols);
  } catch (cause) {
    // What Deno says of a library that opens but has not the functions.
    if ((cause as Error).message.startsWith("Failed to register symbol")) {
      throw mismatch(path, "another interface", cause);
    }
    const why = (cause as Error).message.replace(/^(Could not open library: )+/, "").replaceAll(/\s*\n\s*/g, " ");
    throw new KinoraError("library-not-found", `Cannot open the native library ${path}: ${hint} (${why})`, { cause });
  }
  const abi = opened.symbols.kinora_abi_version();
  if (abi !== ABI_VERSION) throw mismatch(path, `interface ${abi}`);
  return { path, symbols: opened.symbols };
}

function mismatch(path: string, found: string, cause?: unknown): KinoraError {
  return new KinoraError(
    "abi-mismatch",
    `The native library ${path} has ${found}, this package needs interface ${ABI_VERSION}: run "deno task build" again`,
    { cause },
  );
}
