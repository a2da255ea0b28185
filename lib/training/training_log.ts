/**
 * The log of a stage: a JSON object a line.
 *
 * @module
 */
import { writeTextWhole } from "../video.ts";
import type { Measures } from "./measures.ts";
import { exists } from "./model_folder.ts";

/** What a step adds. */
export interface LoggedStep {
  /** The loss. */
  readonly loss: number;
  /** The objectives by themselves. */
  readonly losses: readonly number[];
  /** Length of the gradient. */
  readonly gradientNorm: number;
  /** Whether the step changed nothing because a number was not finite. */
  readonly skipped: boolean;
  /** Samples of the batch. */
  readonly samples: number;
  /** The learning rate. */
  readonly rate: number;
}

/** Where a run is when a line is written. */
export interface LogPoint {
  /** Steps that are done. */
  readonly step: number;
  /** Seconds of training. */
  readonly seconds: number;
  /** Seconds of processor time. */
  readonly cpuSeconds: number;
}

/** The log file of a stage. Lines of steps hold means since the line before. */
export class Log {
  readonly #path: string;
  #steps: LoggedStep[] = [];
  #since: number | undefined;
  #loss = NaN;

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Opens a log. Lines of steps that a resumed run will do again are taken out.
   *
   * @param path The file.
   * @param step The steps that the run goes on from; 0 starts a new log.
   */
  static async open(path: string, step: number): Promise<Log> {
    const lines = step > 0 && await exists(path) ? (await Deno.readTextFile(path)).split("\n") : [];
    const kept = lines.filter((line) => {
      try {
        return JSON.parse(line).step <= step;
      } catch {
        return false;
      }
    });
    await writeTextWhole(path, kept.map((line) => `${line}\n`).join(""));
    return new Log(path);
  }

  /** The mean loss since the last line; of that line where there was no step since. */
  get loss(): number {
    return this.#steps.length === 0 ? this.#loss : mean(this.#steps.map(({ loss }) => loss));
  }

  /** Notes a step. */
  add(step: LoggedStep): void {
    this.#steps.push(step);
  }

  /**
   * Writes a line: of the steps since the last one, or of measures.
   *
   * @param point Where the run is.
   * @param measures The measures.
   */
  async write(point: LogPoint, measures?: Measures): Promise<void> {
    const { step, seconds, cpuSeconds } = point;
    const at = { step, seconds: rounded(seconds), cpu_seconds: rounded(cpuSeconds) };
    if (measures !== undefined) return await this.#append({ ...at, measures });
    const steps = this.#steps;
    const last = steps.at(-1);
    if (last === undefined) return;
    const samples = steps.reduce((sum, { samples }) => sum + samples, 0);
    this.#loss = this.loss;
    const skipped = steps.filter(({ skipped }) => skipped).length;
    await this.#append({
      ...at,
      loss: this.#loss,
      losses: last.losses,
      gradient_norm: mean(steps.map(({ gradientNorm }) => gradientNorm)),
      learning_rate: last.rate,
      ...this.#since === undefined ? {} : { samples_per_second: rounded(samples / (seconds - this.#since)) },
      ...skipped === 0 ? {} : { skipped },
    });
    this.#since = seconds;
    this.#steps = [];
  }

  async #append(line: Record<string, unknown>): Promise<void> {
    await Deno.writeTextFile(this.#path, `${JSON.stringify(line)}\n`, { append: true });
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
