import { assertEquals } from "@std/assert";
import { ruleBytes, ruleValues } from "../../lib/parity/rule.ts";

/** The rule as it is written down, in 64-bit integers. */
function plainly(seed: string, name: string, count: number): number[] {
  const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
  let key = 0xCBF29CE484222325n;
  for (const byte of new TextEncoder().encode(`${seed}/${name}`)) key = wrap((key ^ BigInt(byte)) * 0x100000001B3n);
  return Array.from({ length: count }, (_, i) => {
    let z = wrap(key + BigInt(i + 1) * 0x9E3779B97F4A7C15n);
    z = wrap((z ^ z >> 30n) * 0xBF58476D1CE4E5B9n);
    z = wrap((z ^ z >> 27n) * 0x94D049BB133111EBn);
    z ^= z >> 31n;
    return (Number(z >> 40n) - 2 ** 23) / 2 ** 23;
  });
}

Deno.test("ruleValues() gives the published first values", () => {
  assertEquals([...ruleValues("1", "a", 5, { scale: 1, offset: 0 })], [
    -0.19862008094787598,
    0.5366137027740479,
    0.9906021356582642,
    0.6785856485366821,
    -0.7444198131561279,
  ]);
});

Deno.test("ruleValues() and ruleBytes() are the rule in 64-bit integers", () => {
  for (
    const [seed, name] of [["1", "a"], ["", ""], ["7:x/y", "conv.weight"], ["ü", "näme/日本"], ["2024", "in/video"]]
  ) {
    const expected = plainly(seed ?? "", name ?? "", 3000);
    const values = ruleValues(seed ?? "", name ?? "", 3000, { scale: 1 / 3, offset: -0.125 });
    assertEquals([...values], expected.map((value) => Math.fround(-0.125 + 1 / 3 * value)));
    assertEquals([...ruleBytes(seed ?? "", name ?? "", 3000)], expected.map((value) => Math.floor(128 + 128 * value)));
  }
});
