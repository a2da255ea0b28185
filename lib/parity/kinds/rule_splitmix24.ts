/**
 * `rule.splitmix24`: the rule itself.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { type Fixture, ruledTensor } from "../fixture.ts";
import type { Answers } from "../kind.ts";
import { elementsOf } from "../safetensors.ts";

/** The most numbers that are held in memory. */
const MOST_NUMBERS = 2 ** 28;

/**
 * Makes every tensor of the fixture's rule.
 *
 * @param fixture The fixture.
 */
export function answer(fixture: Fixture): Answers {
  const { rule, wanted } = fixture;
  if (rule === undefined) throw new KinoraError("bad-file", `"${fixture.path}" has no rule in its manifest`);
  const names = new Set(wanted);
  const tensors = rule.tensors.filter(({ name }) => names.has(`out/${name}`));
  const numbers = tensors.reduce((sum, { shape }) => sum + elementsOf(shape), 0);
  if (numbers > MOST_NUMBERS) {
    throw new KinoraError("unsupported", `${numbers} numbers are more than the ${MOST_NUMBERS} that are made at once`);
  }
  return new Map(tensors.map((tensor) => [`out/${tensor.name}`, ruledTensor(rule.seed, tensor)]));
}
