/**
 * Random decisions of a training run, as functions of seed, stage and step: a run that is resumed draws what the
 * uninterrupted one would have drawn. The generator is Philox4x32-10 (Salmon et al. 2011), as on the native side.
 *
 * @module
 */

/** Four whole numbers below 2^32: a counter or an output of {@linkcode philox}. */
export type PhiloxBlock = [number, number, number, number];

/**
 * One block of Philox4x32-10.
 *
 * @param counter Four whole numbers below 2^32.
 * @param key Two whole numbers below 2^32.
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): PhiloxBlock {
  let [a, b, c, d] = counter;
  let [k, l] = key;
  for (let round = 0; round < 10; round++) {
    const high = mulHigh(0xd2511f53, a);
    const low = Math.imul(0xd2511f53, a) >>> 0;
    const otherHigh = mulHigh(0xcd9e8d57, c);
    const otherLow = Math.imul(0xcd9e8d57, c) >>> 0;
    [a, b, c, d] = [(otherHigh ^ b ^ k) >>> 0, otherLow, (high ^ d ^ l) >>> 0, low];
    k = (k + 0x9e3779b9) >>> 0;
    l = (l + 0xbb67ae85) >>> 0;
  }
  return [a, b, c, d];
}

/** The upper 32 bits of a product of two 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = ah * bl + Math.floor(al * bl / 65536);
  const other = middle % 65536 + al * bh;
  return ah * bh + Math.floor(middle / 65536) + Math.floor(other / 65536);
}

/** The random numbers of one step of one stage, in the order they are asked for. */
export class Draws {
  readonly #key: readonly [number, number];
  readonly #stage: number;
  readonly #step: number;
  #block: PhiloxBlock = [0, 0, 0, 0];
  #drawn = 0;

  /**
   * Begins with the first number of the step.
   *
   * @param seed The run's seed, 0 to 2^53 - 1.
   * @param stage The stage's number, 0 to 2^32 - 1.
   * @param step The step's number, 0 to 2^32 - 1.
   */
  constructor(seed: number, stage: number, step: number) {
    this.#key = [seed >>> 0, Math.floor(seed / 2 ** 32)];
    this.#stage = stage;
    this.#step = step;
  }

  /** 32 random bits. */
  bits(): number {
    const place = this.#drawn % 4;
    if (place === 0) {
      this.#block = philox([Math.floor(this.#drawn / 4), this.#step, this.#stage, 0x6b696e6f], this.#key);
    }
    this.#drawn++;
    return this.#block[place as 0 | 1 | 2 | 3];
  }

  /** A number from 0 to below 1. */
  next(): number {
    return this.bits() / 2 ** 32;
  }

  /** A number between two others. */
  between(least: number, most: number): number {
    return least + (most - least) * this.next();
  }

  /** A whole number from 0 to below `count`. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** `true` with a probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A number of the standard normal distribution (Box & Muller 1958). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    return radius * Math.cos(2 * Math.PI * this.next());
  }

  /**
   * One of a list.
   *
   * @throws {RangeError} When the list is empty.
   */
  pick<Item>(list: readonly Item[]): Item {
    if (list.length === 0) throw new RangeError("There is nothing to pick from");
    return list[this.below(list.length)] as Item;
  }

  /** `count` different ones of a list, or all of a shorter list, in random order. */
  several<Item>(list: readonly Item[], count: number): Item[] {
    const left = [...list];
    const most = Math.min(count, left.length);
    for (let index = 0; index < most; index++) {
      const other = index + this.below(left.length - index);
      [left[index], left[other]] = [left[other] as Item, left[index] as Item];
    }
    return left.slice(0, most);
  }

  /** A seed for native noise, 0 to 2^53 - 1. */
  seed(): number {
    return this.bits() * 2 ** 21 + (this.bits() >>> 11);
  }

  /** One seed for each of a number of samples. */
  seeds(count: number): number[] {
    return this.each(count, () => this.seed());
  }

  /** What `draw` gives, once for each of a number of samples. */
  each<Item>(count: number, draw: (index: number) => Item): Item[] {
    return Array.from({ length: count }, (_, index) => draw(index));
  }
}
