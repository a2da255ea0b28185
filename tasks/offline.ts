// deno-lint-ignore-file no-console
/**
 * Runs `deno <arguments>`, with stand-ins for the packages of JSR where JSR is out of reach:
 *
 *     deno run -A tasks/offline.ts test --parallel
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** Whether `@std/assert` is in the cache or can be fetched; a network that never answers counts as no. */
async function jsrIsThere(): Promise<boolean> {
  const probe = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", 'import "@std/assert"; import "@denosaurs/plug";'],
    cwd: new URL("..", import.meta.url),
    stdin: "null",
    stdout: "null",
    stderr: "null",
    signal: AbortSignal.timeout(5000),
  });
  const { success } = await probe.output();
  return success;
}

/** The arguments that `deno test` and `deno check` need here besides their own. */
export async function offlineArguments(): Promise<string[]> {
  if (await jsrIsThere()) return [];
  console.error("note: JSR is out of reach, the stand-ins in tests/offline/ are used");
  return [`--import-map=${fileURLToPath(new URL("../tests/offline/import_map.json", import.meta.url))}`];
}

if (import.meta.main) {
  const [command, ...rest] = Deno.args;
  if (command === undefined) {
    console.error("usage: deno run -A tasks/offline.ts <deno command> [arguments]");
    Deno.exit(2);
  }
  const args = [command, ...await offlineArguments(), ...rest];
  const { code } = await new Deno.Command(Deno.execPath(), { args }).spawn().status;
  Deno.exit(code);
}
