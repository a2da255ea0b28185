/**
 * Stands in for `@std/assert` where its registry is out of reach: the functions that the tests use, on `node:assert`.
 *
 * @module
 */
import { AssertionError, deepStrictEqual, notDeepStrictEqual } from "node:assert";

export { AssertionError };

// deno-lint-ignore no-explicit-any
type ErrorClass<E extends Error = Error> = abstract new (...args: any[]) => E;

/** Checks that `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError({ message: msg || "The condition does not hold" });
}

/** Checks that two values are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  deepStrictEqual(actual, expected, msg);
}

/** Checks that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  notDeepStrictEqual(actual, expected, msg);
}

/** Checks that two numbers differ by at most `tolerance`. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance: number = Math.max(Math.abs(expected) * 1e-7, Number.MIN_VALUE),
  msg?: string,
): void {
  if (Object.is(actual, expected) || Math.abs(actual - expected) <= tolerance) return;
  throw new AssertionError({ message: msg ?? `${actual} differs from ${expected} by more than ${tolerance}` });
}

/** Checks that `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  assert(actual.includes(expected), msg ?? `"${actual}" does not contain "${expected}"`);
}

/** Checks that a function throws, and gives the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass?: ErrorClass<E>,
  msgIncludes?: string,
): E {
  try {
    fn();
  } catch (error) {
    return checked(error, errorClass, msgIncludes);
  }
  throw new AssertionError({ message: "Expected the function to throw" });
}

/** Checks that a promise is rejected, and gives the error. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass?: ErrorClass<E>,
  msgIncludes?: string,
): Promise<E> {
  try {
    await fn();
  } catch (error) {
    return checked(error, errorClass, msgIncludes);
  }
  throw new AssertionError({ message: "Expected the promise to be rejected" });
}

function checked<E extends Error>(error: unknown, errorClass?: ErrorClass<E>, msgIncludes?: string): E {
  const wanted = errorClass ?? Error;
  if (!(error instanceof wanted)) {
    throw new AssertionError({ message: `Expected ${wanted.name}, got ${error}` });
  }
  if (msgIncludes !== undefined) assertStringIncludes(error.message, msgIncludes);
  return error as E;
}
