/**
 * `media.decode`: the frames of a picture or an animation, as a viewer shows them.
 *
 * @module
 */
import { KinoraError } from "../../../ffi/errors.ts";
import { decodeMedia, decodePlanes } from "../../../ffi/media.ts";
import type { Tensor } from "../../../ffi/tensor.ts";
import { type Fixture, fixtureInput } from "../fixture.ts";
import type { AnswerOptions, Answers } from "../kind.ts";
import { type PlainTensor, plainTensor } from "../safetensors.ts";

/** The formats that are decoded, as manifests call them. */
const FORMATS: ReadonlySet<unknown> = new Set(["png", "apng", "jpeg", "gif", "webp", "mp4", "y4m"]);

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
      ...fixture.wanted.includes("out/y") ? await planes(path, options) : [],
    ]);
  } finally {
    await Deno.remove(path);
  }
}

async function planes(path: string, options: AnswerOptions): Promise<[string, PlainTensor][]> {
  const { y, chroma } = await decodePlanes(path, { signal: options.signal });
  const named: [string, Tensor][] = [["out/y", y]];
  if (chroma !== undefined) named.push(["out/u", chroma[0]], ["out/v", chroma[1]]);
  try {
    return await Promise.all(
      named.map(async ([name, plane]) => [name, plainTensor(plane.shape, Uint8Array.from(await plane.read()))]),
    );
  } finally {
    for (const [, plane] of named) plane.dispose();
  }
}
