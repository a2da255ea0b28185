// deno-lint-ignore-file no-console
/**
 * Builds the native library; arguments are passed on to cargo. `--features cuda` builds the one for NVIDIA's GPUs besides.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

const INSTALL = Deno.build.os === "windows"
  ? "winget install Rustlang.Rustup"
  : "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"$HOME/.cargo/env\"";

/** The folder of the Cargo workspace. */
export const NATIVE: string = fileURLToPath(new URL("../native", import.meta.url));

/** Whether cargo is on the path. */
export async function hasCargo(): Promise<boolean> {
  try {
    return (await new Deno.Command("cargo", { args: ["--version"], stdout: "null", stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Builds the native library. Cargo's progress goes to stderr, nothing to stdout.
 *
 * @param args Further arguments of `cargo build`.
 * @param note What is said before it begins.
 * @returns The exit code.
 */
export async function build(args: readonly string[] = [], note?: string): Promise<number> {
  if (!await hasCargo()) {
    console.error(`kinora: The native library is built with Rust, which is not here. To get it (https://rustup.rs):

    ${INSTALL}

Then run the command again.`);
    return 1;
  }
  if (note !== undefined) console.error(note);
  const cargo = new Deno.Command("cargo", {
    args: ["build", "--release", "--package", "kinora-abi", ...args],
    cwd: NATIVE,
    stdin: "null",
    stdout: "null",
  });
  return (await cargo.spawn().status).code;
}

/** Arguments without `--features cuda`, and whether it was among them. */
export function withoutCuda(args: readonly string[]): { readonly rest: readonly string[]; readonly cuda: boolean } {
  const at = args.indexOf("--features");
  if (at >= 0 && args[at + 1] === "cuda") return { rest: args.toSpliced(at, 2), cuda: true };
  return { rest: args.filter((arg) => arg !== "--features=cuda"), cuda: args.includes("--features=cuda") };
}

async function main(args: readonly string[]): Promise<number> {
  const { rest, cuda } = withoutCuda(args);
  if (!cuda) return await build(rest);
  const { buildForGpus } = await import("./cuda_build.ts");
  return await buildForGpus(rest);
}

// Not awaited here: cuda_build.ts waits for this module.
if (import.meta.main) main(Deno.args).then((code) => Deno.exit(code));
