/**
 * Deno's kernel for Jupyter: whether it is installed, and installing it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** Whether Deno's kernel is installed for Jupyter; `undefined` where it cannot be found out. */
export async function jupyterKernelInstalled(): Promise<boolean | undefined> {
  const path = Deno.execPath();
  if ((await Deno.permissions.query({ name: "run", command: path })).state !== "granted") return undefined;
  const { success, text } = await denoJupyter(path, []);
  if (!success) return undefined;
  return /already installed/i.test(text) ? true : /not yet installed/i.test(text) ? false : undefined;
}

/**
 * Installs Deno's kernel for Jupyter.
 *
 * @throws {KinoraError} `failed` when that does not work.
 */
export async function installJupyterKernel(): Promise<void> {
  const { success, text } = await denoJupyter(Deno.execPath(), ["--install"]);
  if (!success) throw new KinoraError("failed", `Deno's kernel for Jupyter could not be installed: ${text}`);
}

async function denoJupyter(
  path: string,
  args: readonly string[],
): Promise<{ readonly success: boolean; readonly text: string }> {
  const command = new Deno.Command(path, { args: ["jupyter", ...args], stdin: "null", env: { NO_COLOR: "1" } });
  const { success, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { success, text: `${decoder.decode(stdout)}${decoder.decode(stderr)}`.trim() };
}
