/**
 * The command line, for a clone of the repository: builds the native library where there is none yet, then does what
 * `lib/cli/main.ts` does.
 *
 * @module
 */
import { libraryFileName } from "../ffi/library.ts";
import { main } from "../lib/cli/main.ts";
import { build } from "./build.ts";

/** Arguments that are answered without computing. */
const ANSWERED: ReadonlySet<string> = new Set(["--help", "-h", "help", "--version", "-V"]);

async function libraryIsThere(): Promise<boolean> {
  if (Deno.env.get("KINORA_LIBRARY")) return true;
  const file = new URL(`../native/target/release/${libraryFileName()}`, import.meta.url);
  return await Deno.stat(file).then(() => true, () => false);
}

const computes = Deno.args.length > 0 && !Deno.args.some((arg) => ANSWERED.has(arg));
if (computes && !await libraryIsThere()) {
  // Its own code says nothing to a caller of this command line, where 1 is a failure and 2 a refusal.
  if (await build([], "kinora: building the native library, this once; it takes some minutes") !== 0) Deno.exit(1);
}
await main();
