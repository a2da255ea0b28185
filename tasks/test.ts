// deno-lint-ignore-file no-console
/**
 * Builds the native library and runs all tests, of Rust and of Deno; the last line says how many passed and failed.
 *
 * With arguments only `deno test` is run, with them: `deno task test tests/cli --filter help`.
 *
 * With `--gpu` alone, what runs on an NVIDIA GPU is compared with the CPU, and nothing else is run; without a GPU it says why
 * it does not.
 *
 * The CUDA kernels are checked too where NVIDIA's compiler is there already (`deno task cuda:check` fetches it), and in any
 * case with `KINORA_REQUIRE_ALL`.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { build, NATIVE } from "./build.ts";
import { findToolkit, unsupported } from "./cuda_toolkit.ts";
import { offlineArguments } from "./offline.ts";

/** Tests that passed and failed. */
interface Counts {
  passed: number;
  failed: number;
}

/** Runs a command, shows what it writes, and gives each line to `read`. */
async function run(command: Deno.Command, read: (line: string) => void): Promise<boolean> {
  const child = command.spawn();
  const show = async (
    from: ReadableStream<Uint8Array<ArrayBuffer>>,
    to: typeof Deno.stdout | typeof Deno.stderr,
  ): Promise<void> => {
    const [shown, read_] = from.tee();
    const lines = read_.pipeThrough(new TextDecoderStream());
    let rest = "";
    await Promise.all([
      shown.pipeTo(to.writable, { preventClose: true }),
      (async () => {
        for await (const text of lines) {
          const parts = (rest + text).split("\n");
          rest = parts.pop() ?? "";
          for (const part of parts) read(part);
        }
        read(rest);
      })(),
    ]);
  };
  await Promise.all([show(child.stdout, Deno.stdout), show(child.stderr, Deno.stderr)]);
  return (await child.status).success;
}

/** Runs a test runner and adds up what its lines of the form `N passed … N failed` say. */
async function tests(program: string, args: readonly string[], cwd: string, counts: Counts): Promise<void> {
  const before = { ...counts };
  const command = new Deno.Command(program, { args: [...args], cwd, stdin: "null", stdout: "piped", stderr: "piped" });
  const success = await run(command, (line) => {
    // deno-lint-ignore no-control-regex
    const plain = line.replaceAll(/\x1b\[[0-9;]*m/g, "");
    const [, passed, failed] = /(\d+) passed.*?\b(\d+) failed/.exec(plain) ?? [];
    counts.passed += Number(passed ?? 0);
    counts.failed += Number(failed ?? 0);
  });
  // It may also have failed without a failed test: code that is not compiled, or a crash.
  if (!success && counts.failed === before.failed) counts.failed++;
  if (success && counts.passed === before.passed) {
    console.error(`${program} ${args.join(" ")}: no test was run`);
    counts.failed++;
  }
}

const counts: Counts = { passed: 0, failed: 0 };
if (Deno.args.length === 1 && Deno.args[0] === "--gpu") {
  const { testOnGpu } = await import("./cuda_gpu.ts");
  const found = await testOnGpu();
  if (found === undefined) Deno.exit(0);
  Object.assign(counts, found);
} else if (await build() !== 0) {
  counts.failed++;
} else {
  const root = fileURLToPath(new URL("..", import.meta.url));
  if (Deno.args.length === 0) {
    await tests("cargo", ["test", "--release", "--workspace", "--no-fail-fast", "--quiet"], NATIVE, counts);
  }
  const deno = ["test", "-A", "--v8-flags=--expose-gc", ...await offlineArguments(), ...Deno.args];
  await tests(Deno.execPath(), deno, root, counts);
  if (Deno.args.length === 0) {
    const why = unsupported() ??
      (Deno.env.has("KINORA_REQUIRE_ALL") || await findToolkit() !== undefined
        ? undefined
        : "NVIDIA's compiler is not there: deno task cuda:check fetches it");
    if (why === undefined) await tests(Deno.execPath(), ["run", "-A", "tasks/cuda_check.ts"], root, counts);
    else console.error(`note: the CUDA kernels are not checked, ${why}`);
  }
}
console.log(`${counts.passed} passed, ${counts.failed} failed`);
Deno.exit(counts.failed === 0 ? 0 : 1);
