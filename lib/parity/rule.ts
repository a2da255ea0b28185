/**
 * Weights by rule: numbers that are a function of seed, name and position, so that a large network can be described in a
 * few bytes.
 *
 * The key is the FNV-1a hash of `seed/name` in 64 bits; element i is the (i + 1)-th output of SplitMix64 (Steele, Lea &
 * Flood 2014) from that key, of which the upper 24 bits are scaled to -1 to 1.
 *
 * @module
 */

/** One over 2^23. */
const UNIT = 2 ** -23;

/** How the numbers of a tensor are placed. */
export interface RuleRange {
  /** Factor of the numbers, which are from -1 to 1. */
  readonly scale: number;
  /** Added after it. */
  readonly offset: number;
}

/**
 * The numbers of a tensor; product and sum are rounded to f32 once.
 *
 * @param seed The seed.
 * @param name The name of the tensor.
 * @param count How many numbers.
 * @param range Scale and offset.
 */
export function ruleValues(seed: string, name: string, count: number, range: RuleRange): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  const { scale, offset } = range;
  generate(seed, name, count, (index, bits) => values[index] = offset + scale * (bits - 0x80_0000) * UNIT);
  return values;
}

/**
 * Bytes, evenly distributed.
 *
 * @param seed The seed.
 * @param name The name of the tensor.
 * @param count How many.
 */
export function ruleBytes(seed: string, name: string, count: number): Uint8Array<ArrayBuffer> {
  const values = new Uint8Array(count);
  generate(seed, name, count, (index, bits) => values[index] = bits >>> 16);
  return values;
}

/** Gives the 24 bits of each element. 64-bit numbers are pairs of 32-bit ones, which is 50 times as fast as BigInt. */
function generate(seed: string, name: string, count: number, use: (index: number, bits: number) => void): void {
  const key = fnv1a(`${seed}/${name}`);
  let [high, low] = [Number(key >> 32n) | 0, Number(key & 0xffff_ffffn) | 0];
  for (let index = 0; index < count; index++) {
    // z = key + (index + 1) * 0x9E3779B97F4A7C15
    const sum = (low >>> 0) + 0x7f4a_7c15;
    low = sum | 0;
    high = (high + 0x9e37_79b9 + (sum > 0xffff_ffff ? 1 : 0)) | 0;
    let [h, l] = [high, low];
    // z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
    l ^= (l >>> 30) | (h << 2);
    h ^= h >>> 30;
    h = (Math.imul(h, 0x1ce4_e5b9) + Math.imul(l, 0xbf58_476d) + upper(l, 0x1ce4_e5b9)) | 0;
    l = Math.imul(l, 0x1ce4_e5b9);
    // z = (z ^ z >> 27) * 0x94D049BB133111EB
    l ^= (l >>> 27) | (h << 5);
    h ^= h >>> 27;
    h = (Math.imul(h, 0x1331_11eb) + Math.imul(l, 0x94d0_49bb) + upper(l, 0x1331_11eb)) | 0;
    // z ^= z >> 31 changes the upper half only in its last bit, which is not among the upper 24.
    use(index, h >>> 8);
  }
}

/** The upper half of the product of two 32-bit numbers. */
function upper(a: number, b: number): number {
  const [a1, a0, b1, b0] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = a1 * b0 + (a0 * b0 >>> 16);
  const carry = a0 * b1 + middle % 0x1_0000;
  return (a1 * b1 + Math.floor(middle / 0x1_0000) + Math.floor(carry / 0x1_0000)) | 0;
}

function fnv1a(text: string): bigint {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100_0000_01b3n);
  }
  return hash;
}
