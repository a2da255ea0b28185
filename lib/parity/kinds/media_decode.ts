/**
 * `media.decode`: the frames of a picture or an animation, as a viewer shows them.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { decodeMedia } from "../../../ffi/media.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { AnswerOptions, Answers } from "../kind.ts";
import { plainTensor } from "../safetensors.ts";

/** The formats that are decoded, as manifests call them. */
const FORMATS: ReadonlySet<unknown> = new Set(["png", "apng", "gif", "webp"]);

/**
 * Decodes the fixture's file.
 *
 * @param fixture The fixture: `in/file` has the bytes.
 * @param options Signal.
 */
export async function answer(fixture: Fixture, options: AnswerOptions): Promise<Answers> {
  const { format } = fixture.config;
  if (!FORMATS.has(format)) {
    throw new KinoraError(
      "unsupported",
      `config.format must be one of ${[...FORMATS].join(", ")}, not ${JSON.stringify(format)}`,
    );
  }
  const { values } = fixtureInput(fixture, "file");
  if (!(values instanceof Uint8Array)) {
    throw new KinoraError("bad-file", `"${fixture.path}" has an in/file that is not of the type U8`);
  }
  // Native code reads files, not bytes.
  const path = await Deno.makeTempFile({ prefix: "kinora-parity-" });
  try {
    await Deno.writeFile(path, values);
    const { tensor, delaysMs } = await decodeMedia(path, { signal: options.signal });
    using decoded = tensor;
    const bytes = Uint8Array.from(await decoded.read(), (value) => Math.round((value + 1) * 127.5));
    return new Map([
      ["out/frames", plainTensor(decoded.shape, bytes)],
      ["out/delays_ms", plainTensor([delaysMs.length], Float32Array.from(delaysMs))],
    ]);
  } finally {
    await Deno.remove(path);
  }
}
