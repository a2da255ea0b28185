/**
 * Layers that native code runs by the name that their own project gave them, with gradients.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { runLayer } from "../../../ffi/layer.ts";
import { Tensor } from "../../../ffi/tensor.ts";
import { type Fixture, fixtureInput, fixtureState, inputNames, isFloat } from "../fixture.ts";
import type { AnswerOptions, Answers } from "../kind.ts";
import { numbersOf, type PlainTensor, plainTensor } from "../safetensors.ts";

/** The input that the gradients of `sum(y * cot)` are taken with. */
const COTANGENT = "cot";

/**
 * Runs the layer, and back where gradients are wanted.
 *
 * @param fixture The fixture.
 * @param options Arithmetic.
 * @throws {KinoraError} `unsupported` when the kind, its configuration or an option of the call is not known here,
 * `bad-file` when weights or inputs do not fit them: missing, one too many, of another shape, or not finite.
 */
export async function answer(fixture: Fixture, options: AnswerOptions): Promise<Answers> {
  using held = new DisposableStack();
  const state: Record<string, Tensor> = {};
  const inputs: Record<string, Tensor> = {};
  for (const [name, tensor] of fixtureState(fixture)) {
    requireFinite(fixture, `state/${name}`, tensor);
    state[name] = held.use(await native(tensor));
  }
  for (const name of inputNames(fixture)) {
    const tensor = fixtureInput(fixture, name);
    requireFinite(fixture, `in/${name}`, tensor);
    if (name !== COTANGENT) inputs[name] = held.use(await native(tensor));
  }
  const gradients = fixture.wanted.filter((name) => name.startsWith("grad/")).map((name) => name.slice("grad/".length));
  const cotangent = gradients.length === 0 ? undefined : held.use(await native(fixtureInput(fixture, COTANGENT)));
  const outputs = await runLayer({
    kind: fixture.kind,
    config: fixture.config,
    call: fixture.call,
    ints: listOf(fixture, "ints", Number.isInteger),
    state,
    inputs,
    positional: listOf<string>(fixture, "positional", (name) => typeof name === "string"),
    gradients,
    cotangent,
    precision: options.precision,
    device: options.device,
    signal: options.signal,
  }).catch((cause) => {
    if (!(cause instanceof KinoraError) || cause.code !== "refused") throw cause;
    throw new KinoraError("bad-file", `"${fixture.path}" does not fit its kind: ${cause.message}`, { cause });
  });
  for (const tensor of Object.values(outputs)) held.use(tensor);
  const answers: Answers = new Map();
  for (const [name, tensor] of Object.entries(outputs)) {
    answers.set(name, plainTensor(tensor.shape, await tensor.read()));
  }
  return answers;
}

function requireFinite(fixture: Fixture, name: string, tensor: PlainTensor): void {
  if (isFloat(tensor) && numbersOf(tensor).some((value) => !Number.isFinite(value))) {
    throw new KinoraError("bad-file", `"${fixture.path}" has a number in ${name} that is not finite`);
  }
}

async function native(tensor: PlainTensor): Promise<Tensor> {
  const { shape, values } = tensor;
  return await Tensor.create(
    shape,
    values instanceof Float32Array
      ? values
      : values instanceof BigInt64Array || values instanceof BigUint64Array
      ? Float32Array.from(values, Number)
      : new Float32Array(values),
  );
}

function listOf<T>(fixture: Fixture, name: string, fits: (value: unknown) => boolean): T[] | undefined {
  const list = fixture.manifest[name];
  if (list === undefined || list === null) return undefined;
  if (!Array.isArray(list) || !list.every(fits)) {
    throw new KinoraError("bad-file", `"${fixture.path}" has a manifest whose ${name} is not such a list`);
  }
  return list as T[];
}
