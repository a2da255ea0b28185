import { assertEquals } from "@std/assert";
import type { Fixture } from "../../lib/parity/fixture.ts";
import { BOUNDLESS, isExact, judge } from "../../lib/parity/judge.ts";
import { type PlainTensor, plainTensor } from "../../lib/parity/safetensors.ts";

/** A fixture that expects something. */
function expecting(tensors: Record<string, PlainTensor>, tolerance: Record<string, number>): Fixture {
  return {
    path: "",
    name: "a",
    kind: "b",
    config: {},
    call: {},
    manifest: {},
    rule: undefined,
    tolerance: new Map(Object.entries(tolerance)),
    wanted: Object.keys(tensors).filter((name) => !name.startsWith("alt/")),
    answered: true,
    tensors: new Map(Object.entries(tensors)),
    parameters: 0,
  };
}

const floats = (...values: number[]): PlainTensor => plainTensor([values.length], Float32Array.from(values));
const fixture = expecting({ "out/y": floats(1, -8) }, { "out/y": 0.25 });

/** Verdict and worst ratio of one answer. */
function judged(answer: PlainTensor, of = fixture, precision: "f32" | "bf16" = "f32"): [boolean, number] {
  const { pass, worst } = judge(of, new Map([["out/y", answer]]), precision);
  return [pass, worst];
}

Deno.test("an answer passes up to its tolerance", () => {
  assertEquals(judged(floats(1, -8)), [true, 0]);
  assertEquals(judged(floats(1.125, -8)), [true, 0.5]);
  assertEquals(judged(floats(1.25, -8)), [true, 1]);
  assertEquals(judged(floats(1.25, -8.5)), [false, 2]);
  assertEquals(judged(plainTensor([2], Float64Array.of(1, -8))), [true, 0]);
});

Deno.test("what is missing, of another shape, infinite or no number never passes", () => {
  assertEquals(judged(floats(1)), [false, BOUNDLESS]);
  assertEquals(judged(plainTensor([2, 1], Float32Array.of(1, -8))), [false, BOUNDLESS]);
  assertEquals(judged(floats(NaN, -8)), [false, BOUNDLESS]);
  assertEquals(judged(floats(1, -Infinity)), [false, BOUNDLESS]);
  const { tensors, pass } = judge(fixture, new Map(), "f32");
  assertEquals([pass, tensors["out/y"]?.problem], [false, "missing"]);
  // A number that is none is not forgotten when a larger difference follows.
  const long = expecting({ "out/y": floats(0, 0, 0) }, { "out/y": 9 });
  assertEquals(judged(floats(NaN, 5, 1), long)[0], false);
});

Deno.test("an alternative is as right as what is expected", () => {
  const either = expecting({ "out/y": floats(1, 2), "alt/y": floats(3, 4) }, { "out/y": 0.5 });
  assertEquals(judged(floats(1, 2), either), [true, 0]);
  assertEquals(judged(floats(3.25, 4), either), [true, 0.5]);
  assertEquals(judged(floats(1, 4), either)[0], false);
});

Deno.test("integers and bytes must be equal where nothing else is said", () => {
  const big = 2n ** 60n;
  const exact = expecting({ "out/y": plainTensor([1], BigInt64Array.of(big)) }, {});
  assertEquals(isExact(exact), true);
  assertEquals(judged(plainTensor([1], BigInt64Array.of(big)), exact), [true, 0]);
  assertEquals(judged(plainTensor([1], BigInt64Array.of(big + 1n)), exact), [false, BOUNDLESS]);
  const bytes = expecting({ "out/y": plainTensor([2], Uint8Array.of(7, 200)) }, { "out/y": 1 });
  assertEquals(judged(plainTensor([2], Uint8Array.of(8, 200)), bytes), [true, 1]);
  assertEquals(judged(plainTensor([0], new Float32Array()), expecting({ "out/y": floats() }, {})), [true, 0]);
});

Deno.test("in bf16 a number may be off by 3 percent of the largest", () => {
  assertEquals(judged(floats(1.2, -8), expecting({ "out/y": floats(1, -8) }, { "out/y": 1e-6 }), "bf16")[0], true);
  assertEquals(judged(floats(1.25, -8), expecting({ "out/y": floats(1, -8) }, { "out/y": 1e-6 }), "bf16")[0], false);
  assertEquals(isExact(fixture), false);
});
