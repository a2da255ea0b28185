/**
 * The line on stderr that says which stage is at which step and how long it has to go. Nothing is written when stderr is
 * not a terminal.
 *
 * @module
 */

/** What a progress line shows. */
export interface ProgressState {
  /** What is going on, for example `"decoder"`. */
  readonly stage: string;
  /** Steps that are done. */
  readonly step: number;
  /** Steps in all. */
  readonly total: number;
  /** What else there is to say. */
  readonly note?: string;
}

/** A line that is redrawn in place. */
export interface ProgressLine {
  /** Shows a state. */
  show(state: ProgressState): void;
  /** Removes the line, so that something else can be written. */
  clear(): void;
}

/** Where a progress line goes, and what time it is; replaced in tests. */
export interface ProgressTarget {
  /** Whether the target is a terminal. */
  readonly interactive: boolean;
  /** Writes without a line break. */
  write(text: string): void;
  /** Milliseconds from any origin. */
  now(): number;
}

/**
 * Makes a progress line.
 *
 * @param target Where it goes; default stderr.
 */
export function progressLine(target: ProgressTarget = stderr()): ProgressLine {
  let stage: string | undefined;
  let since = 0;
  let first = 0;
  let shown = false;
  return {
    show(state: ProgressState): void {
      if (!target.interactive) return;
      if (state.stage !== stage) [stage, since, first] = [state.stage, target.now(), state.step];
      const left = secondsLeft(target.now() - since, state.step - first, state.total - state.step);
      const note = state.note === undefined ? "" : `, ${state.note}`;
      target.write(`\r\x1b[K${state.stage} ${state.step}/${state.total}${note}${left}`);
      shown = true;
    },
    clear(): void {
      if (shown) target.write("\r\x1b[K");
      shown = false;
    },
  };
}

function secondsLeft(elapsed: number, done: number, left: number): string {
  return done > 0 && left > 0 ? `, ${Math.ceil(elapsed / done * left / 1000)} s left` : "";
}

function stderr(): ProgressTarget {
  const encoder = new TextEncoder();
  return {
    interactive: Deno.stderr.isTerminal(),
    write: (text: string): void => void Deno.stderr.writeSync(encoder.encode(text)),
    now: (): number => performance.now(),
  };
}
