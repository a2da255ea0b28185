/**
 * What a verb of the command line is. A verb is one file of `lib/cli/` that exports a {@linkcode Command} as `command`;
 * `main.ts` lists its name and loads the file when the verb is asked for.
 *
 * @module
 */

/** What a verb may touch besides the files and options it was given. */
export interface CommandIo {
  /** Aborted at the first interrupt (Ctrl-C or a termination signal); a second one ends the process at once. */
  readonly signal: AbortSignal;
  /** Writes one line to stdout: results only, so that it can be piped. */
  out(line: string): void;
  /** Writes one line to stderr: notes and progress. */
  note(line: string): void;
  /** Whether stderr is a terminal, that is whether a line that is redrawn may be shown there. */
  readonly interactive: boolean;
}

/**
 * One verb. It gets the arguments after its name. `--help` is answered before `run` is called.
 *
 * A verb throws a `KinoraError` for whatever goes wrong; `main.ts` prints it as one line and chooses the exit code:
 * 2 for bad usage and refused input (`refused`, `not-found`, `bad-file`), 130 once `signal` is aborted, else 1.
 */
export interface Command {
  /** The word on the command line, for example `"generate"`. */
  readonly name: string;
  /** One line for the list of verbs. */
  readonly summary: string;
  /** The whole text of `--help`; `helpText` of `options.ts` makes it from the options. */
  readonly help: string;
  /**
   * Does the work.
   *
   * @param args The arguments after the verb.
   * @param io Where to write, and when to stop.
   * @returns The exit code: 0 for success.
   */
  run(args: readonly string[], io: CommandIo): Promise<number>;
}
