/**
 * Whether an answer is right: of the same shape, no number further off than the tolerance, none that is not a number.
 *
 * @module
 */
import type { Precision } from "../../ffi/network.ts";
import { type Fixture, isFloat } from "./fixture.ts";
import { numbersOf, type PlainTensor } from "./safetensors.ts";

/** Which share of a tensor's largest value an answer in bf16 may be off. */
const BF16_TOLERANCE = 3e-2;

/** Stands for what JSON has no number for: infinite, or not a number. */
export const BOUNDLESS: number = Number.MAX_VALUE;

/** How a tensor was met. */
export interface TensorVerdict {
  /** The largest difference. */
  readonly max_abs: number;
  /** The largest difference that is allowed. */
  readonly tolerance: number;
  /** Whether it is within the tolerance. */
  readonly pass: boolean;
  /** What is wrong besides the numbers: no answer at all, or one of another shape. */
  readonly problem?: string;
}

/** How a fixture was met. */
export interface Verdict {
  /** Whether all tensors are. */
  readonly pass: boolean;
  /** The largest difference in units of its tolerance; 0 where nothing is off. */
  readonly worst: number;
  /** The tensors by their full names. */
  readonly tensors: Readonly<Record<string, TensorVerdict>>;
}

/**
 * Judges the answers to a fixture.
 *
 * @param fixture The fixture, with what is expected.
 * @param answers The answers by their full names; more than are wanted do no harm.
 * @param precision The arithmetic of the answers: in bf16 a number may be off by 3 percent of its tensor's largest.
 */
export function judge(fixture: Fixture, answers: ReadonlyMap<string, PlainTensor>, precision: Precision): Verdict {
  const tensors: Record<string, TensorVerdict> = {};
  let worst = 0;
  for (const name of fixture.wanted) {
    const expected = fixture.tensors.get(name);
    if (expected === undefined) continue;
    const alternative = name.startsWith("out/") ? fixture.tensors.get(`alt/${name.slice(4)}`) : undefined;
    const exact = fixture.tolerance.get(name) ?? 0;
    const tolerance = precision === "bf16" && isFloat(expected)
      ? Math.max(exact, BF16_TOLERANCE * largest(expected))
      : exact;
    const verdict = compare(expected, alternative, answers.get(name), tolerance);
    tensors[name] = verdict;
    const ratio = verdict.max_abs === 0 ? 0 : tolerance === 0 ? BOUNDLESS : verdict.max_abs / tolerance;
    worst = Math.max(worst, verdict.problem === undefined ? finite(ratio) : BOUNDLESS);
  }
  return { pass: Object.values(tensors).every(({ pass }) => pass), worst, tensors };
}

/**
 * Whether a fixture wants some tensor to the last digit, so that it says nothing about arithmetic in bf16.
 *
 * @param fixture The fixture.
 */
export function isExact(fixture: Fixture): boolean {
  return fixture.wanted.some((name) => (fixture.tolerance.get(name) ?? 0) === 0);
}

function compare(
  expected: PlainTensor,
  alternative: PlainTensor | undefined,
  answer: PlainTensor | undefined,
  tolerance: number,
): TensorVerdict {
  const wrong = (problem: string): TensorVerdict => ({ max_abs: BOUNDLESS, tolerance, pass: false, problem });
  if (answer === undefined) return wrong("missing");
  if (String(answer.shape) !== String(expected.shape)) {
    return wrong(`shape [${answer.shape.join(", ")}] instead of [${expected.shape.join(", ")}]`);
  }
  let difference = distance(expected, answer);
  if (!(difference <= tolerance) && alternative !== undefined && String(alternative.shape) === String(answer.shape)) {
    const other = distance(alternative, answer);
    if (!(difference <= other)) difference = other;
  }
  return { max_abs: finite(difference), tolerance, pass: difference <= tolerance };
}

/** The largest difference; NaN where there is one. */
function distance(a: PlainTensor, b: PlainTensor): number {
  if (a.values instanceof BigInt64Array && b.values instanceof BigInt64Array) {
    let most = 0n;
    for (const [index, value] of a.values.entries()) {
      const difference = value - (b.values[index] ?? 0n);
      most = difference > most ? difference : -difference > most ? -difference : most;
    }
    return Number(most);
  }
  const [x, y] = [numbersOf(a), numbersOf(b)];
  let most = 0;
  for (const [index, value] of x.entries()) most = Math.max(most, Math.abs(value - (y[index] ?? NaN)));
  return most;
}

function largest(tensor: PlainTensor): number {
  let most = 0;
  for (const value of numbersOf(tensor)) most = Math.max(most, Math.abs(value));
  return most;
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : BOUNDLESS;
}
