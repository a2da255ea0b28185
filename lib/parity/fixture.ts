/**
 * Recorded runs of other projects, one a file (format `parity-1`): a safetensors file whose tensors are weights
 * (`state/NAME`), inputs (`in/NAME`), and what is expected (`out/NAME`, `grad/in/NAME`, `grad/state/NAME`; `alt/NAME` is
 * as right as `out/NAME`). The metadata entry `manifest` says which operation that was, and how exact an answer must be.
 * A file without what is expected is a question; its manifest lists what is wanted.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { ruleBytes, ruleValues } from "./rule.ts";
import { elementsOf, type PlainTensor, plainTensor, readSafetensors } from "./safetensors.ts";

/** The format's name, in the metadata of every fixture. */
export const FIXTURE_FORMAT = "parity-1";

/** The most numbers that all tensors by rule may have together; one of them may have an eighth of it. */
const MOST_NUMBERS = 2 ** 31;

/** A tensor that is not stored but made by the rule. */
export interface RuledTensor {
  /** Its name, which the rule takes in. */
  readonly name: string;
  /** The axes' lengths. */
  readonly shape: readonly number[];
  /** Factor of the rule's numbers. */
  readonly scale: number;
  /** Added after it. */
  readonly offset: number;
  /** Whether it is of bytes. */
  readonly bytes: boolean;
}

/** Weights and inputs by rule. */
export interface FixtureRule {
  /** The seed. */
  readonly seed: string;
  /** The weights, by their names in the state dict. */
  readonly tensors: readonly RuledTensor[];
  /** The inputs, by their names in the file (`in/x`). */
  readonly inputs: readonly RuledTensor[];
}

/** A fixture or a question. */
export interface Fixture {
  /** The file. */
  readonly path: string;
  /** Its own name. */
  readonly name: string;
  /** Which operation was run, for example `lucidrains.PseudoConv3d`. */
  readonly kind: string;
  /** Arguments of the constructor. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Arguments of the call. */
  readonly call: Readonly<Record<string, unknown>>;
  /** Everything the manifest says. */
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Weights and inputs by rule, if there are any. */
  readonly rule: FixtureRule | undefined;
  /** The absolute tolerance by the full name of the tensor. */
  readonly tolerance: ReadonlyMap<string, number>;
  /** Full names of the tensors that are to be computed. */
  readonly wanted: readonly string[];
  /** Whether the file has what is expected. */
  readonly answered: boolean;
  /** The stored tensors by their full names. */
  readonly tensors: ReadonlyMap<string, PlainTensor>;
  /** Number of weights, stored or by rule. */
  readonly parameters: number;
}

/**
 * Reads a fixture or a question.
 *
 * @param path The file.
 * @throws {KinoraError} `not-found` or `io` when it cannot be read, `bad-file` when it is damaged or something else.
 */
export async function readFixture(path: string): Promise<Fixture> {
  const { tensors, metadata } = await readSafetensors(path);
  const bad = (why: string): KinoraError => new KinoraError("bad-file", `"${path}" ${why}`);
  if (metadata.get("format") !== FIXTURE_FORMAT) {
    throw bad(`is not a fixture: its metadata has no "format": "${FIXTURE_FORMAT}"`);
  }
  let manifest: unknown;
  try {
    manifest = JSON.parse(metadata.get("manifest") ?? "");
  } catch {
    throw bad("is not a fixture: its manifest is not JSON");
  }
  if (!isObject(manifest)) throw bad("is not a fixture: its manifest is not an object");
  const fields = manifest;
  const text = (name: string): string => {
    const value = fields[name];
    if (typeof value !== "string" || value === "") throw bad(`has no ${name} in its manifest`);
    return value;
  };
  const object = (name: string): Readonly<Record<string, unknown>> => {
    const value = fields[name] ?? {};
    if (!isObject(value)) throw bad(`has a manifest whose ${name} is not an object`);
    return value;
  };
  for (const name of tensors.keys()) {
    if (/^((state|in|out|alt|grad\/in|grad\/state)\/)?$/.test(name)) {
      throw bad(`has a tensor without a name: "${name}"`);
    }
  }
  const expected = [...tensors.keys()].filter((name) => name.startsWith("out/") || name.startsWith("grad/"));
  const wanted = expected.length > 0 ? expected : fields["outputs"];
  if (
    !Array.isArray(wanted) || wanted.length === 0 ||
    !wanted.every((name) => typeof name === "string" && /^(out|grad\/in|grad\/state)\/./.test(name))
  ) {
    throw bad('has neither answers nor, in its manifest, "outputs" with the full names of what is wanted');
  }
  const tolerance = new Map<string, number>();
  for (const [name, value] of Object.entries(object("tolerance"))) {
    if (typeof value !== "number" || !(value >= 0 && value < Infinity)) {
      throw bad(`has a tolerance of "${name}" that is not a number of at least 0`);
    }
    tolerance.set(name, value);
  }
  for (const name of expected) {
    if (!tolerance.has(name) && isFloat(tensors.get(name))) throw bad(`has no tolerance of "${name}"`);
  }
  const rule = fields["rule"] === undefined || fields["rule"] === null ? undefined : ruleOf(fields["rule"], bad);
  let parameters = 0;
  for (const [name, { shape }] of tensors) if (name.startsWith("state/")) parameters += elementsOf(shape);
  for (const { shape } of rule?.tensors ?? []) parameters += elementsOf(shape);
  return {
    path,
    name: text("name"),
    kind: text("kind"),
    config: object("config"),
    call: object("call"),
    manifest: fields,
    rule,
    tolerance,
    wanted: [...new Set(wanted as string[])],
    answered: expected.length > 0,
    tensors,
    parameters,
  };
}

/**
 * The names of a fixture's inputs without `in/`, stored or by rule.
 */
export function inputNames(fixture: Fixture): string[] {
  const stored = [...fixture.tensors.keys()].filter((name) => name.startsWith("in/"));
  return [...new Set([...stored, ...fixture.rule?.inputs.map(({ name }) => name) ?? []])].map((name) => name.slice(3));
}

/**
 * An input, stored or by rule.
 *
 * @param fixture The fixture.
 * @param name Its name without `in/`.
 * @throws {KinoraError} `bad-file` when there is none.
 */
export function fixtureInput(fixture: Fixture, name: string): PlainTensor {
  const stored = fixture.tensors.get(`in/${name}`);
  if (stored !== undefined) return stored;
  const ruled = fixture.rule?.inputs.find((input) => input.name === `in/${name}`);
  if (fixture.rule !== undefined && ruled !== undefined) return ruledTensor(fixture.rule.seed, ruled);
  throw new KinoraError("bad-file", `"${fixture.path}" has no input in/${name}`);
}

/**
 * The weights by their names in the state dict, stored or by rule, each made when it is asked for.
 *
 * @param fixture The fixture.
 */
export function* fixtureState(fixture: Fixture): Generator<readonly [name: string, tensor: PlainTensor], void, void> {
  const stored = [...fixture.tensors].filter(([name]) => name.startsWith("state/"));
  for (const [name, tensor] of stored) yield [name.slice("state/".length), tensor];
  // Weights are stored all, or made by the rule all.
  const { rule } = fixture;
  if (stored.length > 0 || rule === undefined) return;
  for (const ruled of rule.tensors) yield [ruled.name, ruledTensor(rule.seed, ruled)];
}

/**
 * A tensor by rule.
 *
 * @param seed The rule's seed.
 * @param tensor Which.
 */
export function ruledTensor(seed: string, tensor: RuledTensor): PlainTensor {
  const { name, shape, bytes } = tensor;
  const count = elementsOf(shape);
  return plainTensor(shape, bytes ? ruleBytes(seed, name, count) : ruleValues(seed, name, count, tensor));
}

/** Whether a tensor is of floating-point numbers. */
export function isFloat(tensor: PlainTensor | undefined): boolean {
  return tensor !== undefined && /^(F|BF)/.test(tensor.type);
}

function ruleOf(value: unknown, bad: (why: string) => KinoraError): FixtureRule {
  if (!isObject(value)) throw bad("has a rule that is not an object");
  const { name, seed, tensors = [], inputs = [] } = value as {
    name?: unknown;
    seed?: unknown;
    tensors?: unknown;
    inputs?: unknown;
  };
  if (name !== "splitmix24") {
    throw new KinoraError("unsupported", `There is no rule ${JSON.stringify(name) ?? "without a name"} here`);
  }
  if (typeof seed !== "string") throw bad("has a rule whose seed is not a text");
  const list = (field: string, value: unknown): RuledTensor[] => {
    if (!Array.isArray(value)) throw bad(`has a rule whose ${field} are not a list`);
    return value.map((row, index) => {
      const [name, shape, scale, offset, bytes = false] = Array.isArray(row) ? row as unknown[] : [];
      const known = typeof name === "string" && Array.isArray(shape) && shape.length <= 16 &&
        shape.every((side) => Number.isSafeInteger(side) && side >= 0) && elementsOf(shape) <= MOST_NUMBERS / 8 &&
        Number.isFinite(scale) && Number.isFinite(offset) && typeof bytes === "boolean";
      if (!known) throw bad(`has a rule whose ${field}[${index}] is not a name, a shape, a scale and an offset`);
      return { name, shape: shape as number[], scale: scale as number, offset: offset as number, bytes };
    });
  };
  const rule = { seed, tensors: list("tensors", tensors), inputs: list("inputs", inputs) };
  const numbers = [...rule.tensors, ...rule.inputs].reduce((sum, { shape }) => sum + elementsOf(shape), 0);
  if (numbers > MOST_NUMBERS) throw bad(`has a rule for ${numbers} numbers, more than ${MOST_NUMBERS}`);
  return rule;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
