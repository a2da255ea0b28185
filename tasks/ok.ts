// deno-lint-ignore-file no-console
/**
 * Everything that must hold before a change is ready: formatting, lints, types, documentation, then all tests. It goes on
 * after a failure, so that one run shows them all; the last line is that of the tests.
 *
 * `deno run -A tasks/ok.ts --no-tests` leaves the tests out.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { NATIVE } from "./build.ts";
import { offlineArguments } from "./offline.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const deno = Deno.execPath();
const offline = await offlineArguments();

const checks: readonly (readonly [program: string, args: readonly string[], folder: string])[] = [
  [deno, ["fmt", "--check"], root],
  [deno, ["lint"], root],
  [deno, ["check", ...offline, "."], root],
  [deno, ["doc", "--lint", "mod.ts"], root],
  [deno, ["run", "-A", "tasks/notebooks.ts", "--no-run"], root],
  ["cargo", ["fmt", "--all", "--check"], NATIVE],
  ["cargo", ["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], NATIVE],
];

const failed: string[] = [];
for (const [program, args, cwd] of checks) {
  const name = `${program === deno ? "deno" : program} ${args.join(" ")}`;
  console.error(`ok: ${name}`);
  const { code } = await new Deno.Command(program, { args: [...args], cwd, stdin: "null" }).spawn().status;
  if (code !== 0) failed.push(name);
}
for (const name of failed) console.error(`ok: failed: ${name}`);
let code = failed.length === 0 ? 0 : 1;
if (!Deno.args.includes("--no-tests")) {
  const test = new Deno.Command(deno, { args: ["run", "-A", fileURLToPath(new URL("test.ts", import.meta.url))] });
  code = (await test.spawn().status).code || code;
}
Deno.exit(code);
