/**
 * `tokenizer.clip`: CLIP's tokenizer in its two readings.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { type ClipReading, clipTokens } from "../../../ffi/tokenizer.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { AnswerOptions, Answers } from "../kind.ts";
import { numbersOf, plainTensor } from "../safetensors.ts";

/**
 * Turns the fixture's texts into tokens.
 *
 * @param fixture The fixture: `in/text_bytes` has the texts in UTF-8 one after the other, `in/text_offsets` where each
 * begins, and where the last ends.
 * @param options Signal.
 */
export async function answer(fixture: Fixture, options: AnswerOptions): Promise<Answers> {
  const { clean, context = 77, pad_id: pad = 0, ...others } = fixture.call as Readonly<Record<string, unknown>>;
  const known = (name: string, value: unknown, accepted: string): KinoraError =>
    new KinoraError("unsupported", `call.${name} must be ${accepted}, not ${JSON.stringify(value)}`);
  if (clean !== "hf" && clean !== "openai") throw known("clean", clean, '"hf" or "openai"');
  if (!Number.isInteger(context) || Number(context) < 2 || Number(context) > 1024) {
    throw known("context", context, "a whole number from 2 to 1024");
  }
  if (!Number.isInteger(pad) || Number(pad) < 0) throw known("pad_id", pad, "a whole number of at least 0");
  const [other] = Object.keys(others);
  if (other !== undefined) throw new KinoraError("unsupported", `call.${other} is not known here`);

  const reading: ClipReading = clean;
  const length = Number(context);
  const texts = textsOf(fixture);
  const ids = new BigInt64Array(texts.length * length);
  const mask = new BigInt64Array(texts.length * length);
  if (texts.length > 0) {
    const made = await clipTokens(texts, { reading, length, signal: options.signal });
    using tokens = made.ids;
    const numbers = await tokens.read();
    made.lengths.forEach((count, text) => {
      for (let place = 0; place < length; place++) {
        const at = text * length + place;
        ids[at] = BigInt(place < count ? numbers[at] ?? 0 : Number(pad));
        mask[at] = place < count ? 1n : 0n;
      }
    });
  }
  const shape = [texts.length, length];
  return new Map([["out/ids", plainTensor(shape, ids)], ["out/mask", plainTensor(shape, mask)]]);
}

function textsOf(fixture: Fixture): string[] {
  const bytes = fixtureInput(fixture, "text_bytes").values;
  const offsets = numbersOf(fixtureInput(fixture, "text_offsets"));
  const bad = (why: string): KinoraError => new KinoraError("bad-file", `"${fixture.path}" ${why}`);
  if (!(bytes instanceof Uint8Array)) throw bad("has an in/text_bytes that is not of the type U8");
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return Array.from(offsets.subarray(1), (end, index) => {
    const start = offsets[index] ?? NaN;
    if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= bytes.length)) {
      throw bad(`has an in/text_offsets whose text ${index} is not within in/text_bytes`);
    }
    try {
      return decoder.decode(bytes.subarray(start, end));
    } catch {
      throw bad(`has an in/text_bytes whose text ${index} is not UTF-8`);
    }
  });
}
