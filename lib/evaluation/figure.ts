/**
 * A measured number with how it was measured, and what it is to reach.
 *
 * @module
 */

/** What a figure is to reach: this project's own goals, not a standard. */
export interface Bar {
  /** The least value that is good enough. */
  readonly least?: number;
  /** The greatest value that is good enough. */
  readonly most?: number;
}

/** One stage's part in a figure. */
export interface StageProtocol {
  /** The stage; `text` and `image` are the CLIP pair. */
  readonly stage: string;
  /** SHA-256 of its weights, hexadecimal. */
  readonly weights: string;
  /** Steps, where the stage samples. */
  readonly steps?: number;
  /** Classifier-free guidance, where the stage samples. */
  readonly guidance?: number;
}

/** How a figure was measured. */
export interface Protocol {
  /** What was measured, in words. */
  readonly what: string;
  /** How many pictures, texts or clips. */
  readonly count: number;
  /** Which seeds, in words. */
  readonly seeds: string;
  /** The stages whose networks ran. */
  readonly stages: readonly StageProtocol[];
  /** Further numbers, such as frame rates and sizes. */
  readonly settings?: Readonly<Record<string, number | string>>;
}

/** A measured number. */
export interface Figure {
  /** Its name, unique in an evaluation: `"retrieval.names.first.r1"`. */
  readonly name: string;
  /** The number; `null` when nothing could be measured, as of clips that do not move. */
  readonly value: number | null;
  /** What kind of number. */
  readonly unit: "share" | "dB" | "cosine" | "colour" | "ratio";
  /** What it is to reach, where there is a goal. */
  readonly bar?: Bar;
  /** Whether it does, where there is a goal. */
  readonly met?: boolean;
  /** How it was measured. */
  readonly protocol: Protocol;
}

/**
 * Whether a number reaches a bar.
 *
 * @param value The number; `null` reaches none.
 * @param bar The bar, ends included.
 */
export function meets(value: number | null, bar: Bar): boolean {
  return value !== null && value >= (bar.least ?? -Infinity) && value <= (bar.most ?? Infinity);
}

/** A bar in words, for example `0.4 to 2` or `at least 0.8`. */
export function barText({ least, most }: Bar): string {
  if (least !== undefined && most !== undefined) return `${least} to ${most}`;
  return least === undefined ? `at most ${most}` : `at least ${least}`;
}

/**
 * The middle of some numbers, of an even count the mean of the two middle ones.
 *
 * @returns `null` where there are none.
 */
export function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? null : (low + high) / 2;
}

/**
 * The mean of some numbers.
 *
 * @returns `null` where there are none.
 */
export function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
