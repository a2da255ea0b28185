/**
 * Jupyter's Interrupt: in a Deno kernel it stops what is running and leaves the kernel alive.
 *
 * Jupyter interrupts by SIGINT, which ends a process that does not listen to it. So the first job that is run in a kernel
 * begins to listen, for as long as the kernel lives.
 *
 * @module
 */
import { KinoraError } from "./errors.ts";

let controller: AbortController | undefined;
let inside: boolean | undefined;

/** Whether this is a notebook's kernel. */
export function inNotebook(): boolean {
  if (inside !== undefined) return inside;
  try {
    // Reading it anywhere else throws.
    inside = (Deno as unknown as { readonly jupyter?: unknown }).jupyter !== undefined;
  } catch {
    inside = false;
  }
  return inside;
}

/**
 * A signal that the next Interrupt aborts besides those given; outside a kernel the one given, for there whoever started
 * the process says what an interrupt does.
 *
 * @param signal What else stops the work.
 */
export function orInterrupted(signal?: AbortSignal): AbortSignal | undefined {
  if (!inNotebook()) return signal;
  const interrupt = listening(controller).signal;
  return signal === undefined ? interrupt : AbortSignal.any([signal, interrupt]);
}

function listening(current: AbortController | undefined): AbortController {
  if (current !== undefined) return current;
  Deno.addSignalListener("SIGINT", () => {
    const stopped = controller;
    // What is run after this is not stopped by it.
    controller = new AbortController();
    stopped?.abort(new KinoraError("cancelled", "interrupted"));
  });
  controller = new AbortController();
  return controller;
}
