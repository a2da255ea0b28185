/**
 * Native code reads and writes files that Deno does not see, so what Deno permits is asked for here before a path is
 * handed over. Nobody is prompted.
 *
 * @module
 */
import { KinoraError } from "./errors.ts";

/**
 * Checks that files may be read.
 *
 * @throws {KinoraError} `permission` when one may not.
 */
export function checkMayRead(...paths: readonly string[]): void {
  for (const path of paths) check("read", path);
}

/**
 * Checks that files may be written.
 *
 * @throws {KinoraError} `permission` when one may not.
 */
export function checkMayWrite(...paths: readonly string[]): void {
  for (const path of paths) check("write", path);
}

function check(name: "read" | "write", path: string): void {
  if (typeof path !== "string" || path === "" || path.includes("\0")) {
    throw new KinoraError("refused", `path must be the path of a file, not ${JSON.stringify(path)}`);
  }
  if (Deno.permissions.querySync({ name, path }).state !== "granted") {
    throw new KinoraError(
      "permission",
      `"${path}" may not be ${name === "read" ? "read" : "written"}: run Deno with --allow-${name}=${path}`,
    );
  }
}
