// deno-lint-ignore-file no-console
/**
 * Compiles the kernels for aarch64 and runs their tests under qemu, on every path that ARM has; the last line is
 * `N passed, N failed`. That tells whether results are right, and nothing of speed.
 *
 * Tools that are missing are fetched with apt-get, as `arm_toolchain.ts` says, or named.
 *
 * @module
 */
import { installToolchain, TARGET, type Toolchain, unsupported } from "./arm_toolchain.ts";
import { hasCargo, NATIVE } from "./build.ts";

/** A run of the tests. */
interface Run {
  /** The processor, as qemu names it. */
  readonly cpu: string;
  /** The path that is forced, for what does not take all in turn. */
  readonly isa: string;
  /** What the tests say besides. */
  readonly says?: string;
}

const RUNS: readonly Run[] = [
  { cpu: "max", isa: "neon-bf16" },
  { cpu: "max", isa: "neon" },
  // Without instructions for bf16: one of them would end the process.
  { cpu: "cortex-a72", isa: "neon", says: "not tested: this machine has no neon-bf16" },
];

/** Tests that passed and failed, by the lines of Rust's test runner. */
export function counts(out: string): { passed: number; failed: number } {
  const sum = { passed: 0, failed: 0 };
  for (const [, passed, failed] of out.matchAll(/^test result: .*?(\d+) passed; (\d+) failed/gm)) {
    sum.passed += Number(passed);
    sum.failed += Number(failed);
  }
  return sum;
}

/** Runs the tests once; gives their counts. */
async function test(toolchain: Toolchain, { cpu, isa, says }: Run): Promise<{ passed: number; failed: number }> {
  console.error(`arm: ${isa} on ${cpu}`);
  const args = ["test", "--release", "--package", "kinora-kernels", "--tests", "--no-fail-fast", "--target", TARGET];
  // Their own folder: with another compiler cargo would build what others share anew each time.
  args.push("--target-dir", `${NATIVE}/target/for-arm`);
  const env = { ...toolchain(cpu), RUSTFLAGS: "-D warnings", KINORA_ISA: isa };
  // That one starts itself once more, which an emulator does not; the path is forced here instead.
  const cargo = new Deno.Command("cargo", {
    args: [...args, "--", "--exact", "--skip", "every_path"],
    cwd: NATIVE,
    env,
    stdin: "null",
  });
  const { success, stdout, stderr } = await cargo.output();
  const [out, log] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
  const sum = counts(out);
  if (!success && sum.failed === 0 || sum.passed === 0 || !log.includes(says ?? "")) sum.failed++;
  if (sum.failed > 0) console.error(`${out}${log}`);
  console.log(`${sum.failed === 0 ? "ok  " : "FAIL"} ${isa} on ${cpu}: ${sum.passed} tests passed`);
  return sum;
}

/** Checks everything and prints the counts; gives the exit code. */
async function check(): Promise<number> {
  const why = unsupported();
  if (why !== undefined) {
    console.error(`arm: skipped, ${why}`);
    return 0;
  }
  let [passed, failed] = [0, 0];
  try {
    if (!await hasCargo()) throw new Error("Rust is missing: deno task build says how to get it");
    const toolchain = await installToolchain();
    for (const run of RUNS) {
      const sum = await test(toolchain, run);
      passed += sum.passed;
      failed += sum.failed;
    }
  } catch (error) {
    console.error(`arm: ${(error as Error).message}`);
    failed++;
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await check());
