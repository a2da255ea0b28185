/**
 * `kinora inspect`: what a file is, without trust in what it says of itself.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import {
  inspectConfig,
  type InspectedConfig,
  type InspectedMedia,
  type InspectedNetwork,
  type InspectedWeights,
  inspectMedia,
  inspectWeights,
} from "../../ffi/inspect.ts";
import type { Command } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";

const OPTIONS = {
  network: { type: "text", value: "JSON", help: 'network the weights must fit: {"class": ..., "config": {...}}' },
  json: { type: "flag", help: "print one JSON object" },
} as const satisfies Options;

/** Endings of pictures and videos, by which a file is called a damaged one when its content says nothing. */
const MEDIA_ENDINGS = /\.(avif|heic|webm|mkv|avi|tiff?|bmp|a?png|gif|webp|jpe?g|mp4|m4v|mov|y4m)$/i;

/** Errors that say nothing of the file. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  "refused",
  "not-found",
  "bad-file",
  "cancelled",
  "library-not-found",
  "abi-mismatch",
]);

/** What a file turned out to be. */
type Inspected = InspectedWeights | InspectedMedia | InspectedConfig;

/** The verb. */
export const command: Command = {
  name: "inspect",
  summary: "say what a weights or media file is",
  help: helpText({
    usage: "inspect [OPTION]... FILE",
    about:
      "Says what a file is: weights (safetensors), a network's config.json, or a picture or video (PNG, GIF, WebP, JPEG,\n" +
      "MP4, Y4M). Nothing in the file is trusted: each size it claims is checked before it is used. All but\n" +
      "Y4M are decoded too, unless they have very many pixels or are films of a kind that is not decoded here.",
    options: OPTIONS,
    notes:
      'With --network, weights must be those of that network: each tensor there, in its shape, finite, and no other. "class"\n' +
      'is the _class_name of a config.json, or a layer of make-a-video-pytorch such as "PseudoConv3d".\n\n' +
      "Exit codes: 0 accepted; 2 refused, with a line on stderr that names the tensor, chunk or box that is wrong.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals: [path] } = parseOptions("inspect", OPTIONS, args, { positionals: 1, called: "file" });
    if (path === undefined) throw new KinoraError("refused", "The file is missing: kinora inspect FILE");
    const network = values.network === undefined ? undefined : networkOf(values.network);
    let found: Inspected;
    try {
      found = await inspected(path, network, io.signal);
    } catch (error) {
      // Whatever keeps a file from being looked at is a reason not to accept it.
      if (!(error instanceof KinoraError) || ELSEWHERE.has(error.code)) throw error;
      throw new KinoraError("bad-file", error.message, { cause: error });
    }
    if (values.json) io.out(JSON.stringify({ file: path, ...found }));
    else for (const line of lines(path, found)) io.out(line);
    return 0;
  },
};

function networkOf(text: string): InspectedNetwork {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new KinoraError("refused", "--network must be JSON with class and config, which it is not");
  }
  const { class: name, config, ...others } = Object(json) as Record<string, unknown>;
  const [other] = Object.keys(others);
  if (typeof name !== "string" || (config !== undefined && (typeof config !== "object" || config === null))) {
    throw new KinoraError("refused", '--network must have a text "class" and an object "config"');
  }
  if (other !== undefined) throw new KinoraError("refused", `--network has only class and config, not "${other}"`);
  return { class: name, config: config as Record<string, unknown> | undefined };
}

async function inspected(
  path: string,
  network: InspectedNetwork | undefined,
  signal: AbortSignal,
): Promise<Inspected> {
  if (network !== undefined) return await inspectWeights(path, { network, signal });
  const start = await firstBytes(path);
  const text = new TextDecoder("latin1").decode(start);
  if (
    MEDIA_ENDINGS.test(path) || /^(\x89PNG|GIF8|RIFF....WEBP|\xff\xd8\xff|....ftyp|YUV4MPEG2)/s.test(text)
  ) {
    return await inspectMedia(path, { signal });
  }
  if (/\.json$/i.test(path) || /^\s*[{[]/.test(text)) return await inspectConfig(path, { signal });
  return await inspectWeights(path, { signal });
}

async function firstBytes(path: string): Promise<Uint8Array> {
  try {
    // Before it is opened: opening a pipe would wait for its writer.
    const { isFile } = await Deno.stat(path);
    if (!isFile) throw new KinoraError("bad-file", `"${path}" is not a file`);
    using file = await Deno.open(path);
    const bytes = new Uint8Array(16);
    return bytes.subarray(0, await file.read(bytes) ?? 0);
  } catch (cause) {
    if (cause instanceof KinoraError) throw cause;
    if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
      throw new KinoraError("not-found", `"${path}" is not there`, { cause });
    }
    throw new KinoraError("io", `Cannot read "${path}": ${(cause as Error).message}`, { cause });
  }
}

function lines(path: string, found: Inspected): string[] {
  switch (found.format) {
    case "safetensors":
      return [
        `${path}: safetensors, ${count(found.count, "tensor")}, ${count(found.numbers, "number")}, ${
          count(found.bytes, "byte")
        }`,
        ...found.tensors.map(({ name, dtype, shape }) => `  ${JSON.stringify(name)} ${dtype} [${shape.join(", ")}]`),
        ...found.count > found.tensors.length
          ? [`  and ${count(found.count - found.tensors.length, "more tensor")}`]
          : [],
      ];
    case "config":
      return [
        `${path}: configuration of a ${found.class}, ${count(found.count, "tensor")}, ${
          count(found.numbers, "number")
        }`,
      ];
    default: {
      const parts = [
        `${path}: ${found.format}${found.codec === null ? "" : ` (${found.codec})`}`,
        `${found.width}x${found.height}`,
        count(found.frames, "frame"),
        ...found.durationMs === null ? [] : [`${(found.durationMs / 1000).toFixed(2)} s`],
        count(found.bytes, "byte"),
        ...found.decoded ? [] : ["its pixels were not decoded"],
      ];
      return [parts.join(", ")];
    }
  }
}

function count(number: number, of: string): string {
  return `${number.toLocaleString("en")} ${of}${number === 1 ? "" : "s"}`;
}
