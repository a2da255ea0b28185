/**
 * Showing a value in a notebook.
 *
 * @module
 */
import { inNotebook } from "../../ffi/interrupt.ts";

/** What Deno's kernel has to show things with. */
interface JupyterKernel {
  display(
    value: unknown,
    options?: { readonly raw: boolean; readonly update: boolean; readonly display_id: string },
  ): Promise<void>;
}

/** How long a cell waits for what it has shown to be sent, in milliseconds. */
const SENT_MS = 100;

/** The kernel's ways to show things; none outside a notebook. */
export function jupyterKernel(): JupyterKernel | undefined {
  return inNotebook() ? (Deno as unknown as { readonly jupyter: JupyterKernel }).jupyter : undefined;
}

/**
 * Shows a value in a notebook; does nothing anywhere else.
 *
 * Use it rather than ending a cell with the value: Deno's kernel sends a cell's value after it has said that the cell is
 * done, so that it may be shown under the next one, or not at all.
 *
 * @param value A `Video`, `Table`, `Drawing` or `SideBySide`, or anything that Deno's kernel can show.
 */
export async function show(value: unknown): Promise<void> {
  const kernel = jupyterKernel();
  if (kernel === undefined) return;
  await kernel.display(value);
  await new Promise((resolve) => setTimeout(resolve, SENT_MS));
}
