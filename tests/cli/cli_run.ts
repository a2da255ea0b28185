/**
 * The command line in this process, for tests.
 *
 * @module
 */
import { runCommand } from "../../lib/cli/main.ts";

/** What a command did. */
export interface CliRun {
  /** Its exit code. */
  readonly code: number;
  /** What it wrote to stdout. */
  readonly out: string;
  /** The lines it wrote to stderr. */
  readonly notes: string[];
}

/** Runs a command. */
export function runCli(...args: string[]): Promise<CliRun> {
  return runCliUntil(new AbortController().signal, ...args);
}

/** Runs a command that a signal interrupts. */
export async function runCliUntil(signal: AbortSignal, ...args: string[]): Promise<CliRun> {
  const [out, notes]: [string[], string[]] = [[], []];
  const streams = {
    out: (line: string): void => void out.push(line),
    note: (line: string): void => void notes.push(line),
    interactive: false,
  };
  return { code: await runCommand(args, streams, signal), out: out.join("\n"), notes };
}
