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
  /** Its functions. */
  readonly symbols: Deno.DynamicLibrary<typeof symbols>["symbols"];
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
 * `deno task build` made; for a package that is not on disk, the published one.
 *
 * @throws {KinoraError} `library-not-found` when there is none, `abi-mismatch` when it is of another version,
 * `permission` when it may not be opened.
 */
export async function libraryInfo(): Promise<LibraryInfo> {
  const { path } = await library();
  const { fast_bf16: fastBf16, tensor_bytes: tensorBytes, ...rest } = callSync<
    Omit<LibraryInfo, "path" | "fastBf16" | "tensorBytes"> & {
      readonly fast_bf16: boolean;
      readonly tensor_bytes: number;
    }
  >({ verb: "info" });
  return { path, ...rest, fastBf16, tensorBytes };
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

async function open(): Promise<Library> {
  const given = environment("KINORA_LIBRARY");
  // A bare name would be looked for in the system's folders.
  if (given) {
    return openAt(/[/\\]/.test(given) ? given : `./${given}`, `the environment variable KINORA_LIBRARY names it`);
  }
  const here = new URL(`../native/target/release/${libraryFileName()}`, import.meta.url);
  return here.protocol === "file:"
    ? openAt(
      fileURLToPath(here),
      'run "deno task build" in the folder of the package (it needs Rust, https://rustup.rs)',
    )
    : openAt(await downloadLibrary(libraryFileName()), "it was fetched from the release");
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
