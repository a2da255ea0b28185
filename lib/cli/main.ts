/**
 * The command line: finds the verb, stops it on an interrupt, and turns what it throws into one line and an exit code.
 *
 * @module
 */
import { KinoraError, type KinoraErrorCode } from "../../ffi/errors.ts";
import { VERSION } from "../version.ts";
import type { Command, CommandIo } from "./command.ts";
import { nearest } from "./options.ts";

/** A verb that is loaded when it is asked for. */
interface Verb {
  readonly summary: string;
  load(): Promise<{ readonly command: Command }>;
}

/** Every verb; the summaries stand here too, so that the list of verbs loads none. */
const VERBS: Readonly<Record<string, Verb>> = {
  generate: { summary: "make a video from a prompt", load: () => import("./generate.ts") },
  studio: { summary: "open a page to make videos with", load: () => import("./studio.ts") },
  animate: { summary: "make a picture move", load: () => import("./animate.ts") },
  interpolate: {
    summary: "put frames between those of a video, or between two pictures",
    load: () => import("./interpolate.ts"),
  },
  extend: { summary: "put frames before or after a video", load: () => import("./extend.ts") },
  vary: { summary: "make another video of what a video shows", load: () => import("./vary.ts") },
  gallery: { summary: "make a page of prompts and applications", load: () => import("./gallery.ts") },
  train: { summary: "train a stage by a recipe", load: () => import("./train.ts") },
  data: { summary: "get and index training data", load: () => import("./data.ts") },
  evaluate: { summary: "measure a model against the data it was trained on", load: () => import("./evaluate.ts") },
  ablate: { summary: "measure what each choice of the model is worth", load: () => import("./ablate.ts") },
  parity: { summary: "verify recorded runs of other projects", load: () => import("./parity.ts") },
  inspect: { summary: "say what a weights or media file is", load: () => import("./inspect.ts") },
  doctor: { summary: "say what this machine can do", load: () => import("./doctor.ts") },
};

/** Codes of errors that what was asked for causes, not how it went. */
const REFUSALS: ReadonlySet<KinoraErrorCode> = new Set<KinoraErrorCode>([
  "refused",
  "not-found",
  "bad-file",
  "unsupported",
]);

/** The exit code after an interrupt. */
const INTERRUPTED = 130;

/** Where the command line writes; replaced in tests. */
export interface Streams {
  /** Writes one line to stdout. */
  out(line: string): void;
  /** Writes one line to stderr. */
  note(line: string): void;
  /** Whether stderr is a terminal. */
  readonly interactive: boolean;
}

/**
 * Runs one command.
 *
 * @param args The arguments.
 * @param streams Where to write.
 * @param signal Stops the command.
 * @returns The exit code: 0 done, 1 failed, 2 bad usage or refused input, 130 interrupted, and what a verb adds.
 */
export async function runCommand(args: readonly string[], streams: Streams, signal: AbortSignal): Promise<number> {
  const io: CommandIo = {
    signal,
    out: (line) => streams.out(line),
    note: (line) => streams.note(line),
    interactive: streams.interactive,
  };
  try {
    const [name, ...rest] = args;
    if (name === undefined || name === "--help" || name === "-h" || name === "help") {
      const { command } = (name === "help" && rest[0] !== undefined) ? await verb(rest[0]) : { command: undefined };
      streams.out(command?.help ?? overview());
      return name === undefined ? 2 : 0;
    }
    if (name === "--version" || name === "-V") {
      streams.out(`kinora ${VERSION}`);
      return 0;
    }
    const { command } = await verb(name);
    const end = rest.indexOf("--");
    if ((end < 0 ? rest : rest.slice(0, end)).some((arg) => arg === "--help" || arg === "-h")) {
      streams.out(command.help);
      return 0;
    }
    return await command.run(rest, io);
  } catch (error) {
    streams.note(`kinora: ${explanation(error, signal)}`);
    if (signal.aborted) return INTERRUPTED;
    return error instanceof KinoraError && REFUSALS.has(error.code) ? 2 : 1;
  }
}

function verb(name: string): Promise<{ readonly command: Command }> {
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (verb !== undefined) return verb.load();
  const meant = nearest(name, Object.keys(VERBS));
  throw new KinoraError(
    "refused",
    `Unknown ${name.startsWith("-") ? "option" : "verb"} "${name.slice(0, 60)}"; ${
      meant === undefined ? `there are ${Object.keys(VERBS).join(", ")}` : `did you mean ${meant}?`
    }`,
  );
}

function overview(): string {
  const width = Math.max(...Object.keys(VERBS).map((name) => name.length));
  return [
    "Usage: kinora VERB [OPTION]...",
    "",
    "Make-A-Video: from a prompt to a moving picture.",
    "",
    "Verbs:",
    ...Object.entries(VERBS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "Options: --help (also after a verb), --version. Exit codes: 0 done, 1 failed, 2 bad usage or refused input, 130 interrupted.",
  ].join("\n");
}

/** One line for any error. */
function explanation(error: unknown, signal: AbortSignal): string {
  if (signal.aborted && (!(error instanceof KinoraError) || error.code === "cancelled")) return "interrupted";
  const text = error instanceof KinoraError
    ? error.message
    : error instanceof Deno.errors.NotCapable
    ? `a permission is missing: ${error.message}`
    : `internal error: ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`;
  return text.replaceAll(/\s*\n\s*/g, " ");
}

/** Aborts at the first signal to stop, and ends the process at the second. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) Deno.exit(INTERRUPTED);
    controller.abort(new KinoraError("cancelled", "interrupted"));
  };
  Deno.addSignalListener("SIGINT", stop);
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", stop);
  return controller.signal;
}

/**
 * Runs the command line with the arguments of the process, and ends the process.
 *
 * @returns Never.
 */
export async function main(): Promise<never> {
  const encoder = new TextEncoder();
  const writer = (stream: typeof Deno.stdout | typeof Deno.stderr) => (line: string): void => {
    const bytes = encoder.encode(`${line}\n`);
    try {
      for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
    } catch (error) {
      // Whoever read has read enough, as `head` does; the work itself goes on.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  };
  const streams = { out: writer(Deno.stdout), note: writer(Deno.stderr), interactive: Deno.stderr.isTerminal() };
  Deno.exit(await runCommand(Deno.args, streams, interruption()));
}

if (import.meta.main) await main();
