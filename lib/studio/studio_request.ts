/**
 * What the studio's page asks for, read without trusting it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Fit } from "../../ffi/media.ts";
import { FITS } from "../cascade/given_frames.ts";
import type { RunRequest } from "../cascade/run_plan.ts";
import { checkPrompt } from "../cascade/text.ts";

/** Most bytes of a request. */
const MOST_BYTES = 65_536;

/** The fields of a request that are numbers and may be left out. */
export const NUMBERS = ["frames", "size", "fps", "steps", "guidance"] as const;

/** What can be made of given pictures, and of how many each. */
export const GIVEN_COUNTS = { animate: 1, interpolate: 2, vary: 1 } as const;

/** A video of a prompt. */
export interface PromptTask {
  /** What is done. */
  readonly verb: "generate";
  /** The prompt. */
  readonly prompt: string;
}

/** A video of pictures that the page has brought. */
export interface GivenPicturesTask {
  /** What is done: a method of `Cascade`. */
  readonly verb: keyof typeof GIVEN_COUNTS;
  /** The SHA-256 of each, in order. */
  readonly given: readonly string[];
  /** How they become square. */
  readonly fit?: Fit;
}

/** A run that is asked for. */
export interface StudioRequest {
  /** The page that asks: a word of its own. */
  readonly tab: string;
  /** What is to be made of what. */
  readonly task: PromptTask | GivenPicturesTask;
  /** The seed. */
  readonly seed: number;
  /** Whether previews are to stand still. */
  readonly still: boolean;
  /** What is asked of the cascade. */
  readonly request: RunRequest;
}

/**
 * Reads a request.
 *
 * @throws {KinoraError} `refused` when it is too large, not JSON, has unknown fields, or ones of another kind.
 */
export async function readStudioRequest(request: Request): Promise<StudioRequest> {
  const { tab, seed = 0, still = false, ...rest } = await json(request);
  if (typeof tab !== "string" || !/^[\w-]{1,64}$/.test(tab)) {
    throw new KinoraError("refused", "tab must be 1 to 64 letters, digits or dashes");
  }
  if (typeof still !== "boolean") throw new KinoraError("refused", "still must be true or false");
  if (typeof seed !== "number" || !Number.isSafeInteger(seed) || seed < 0) {
    throw new KinoraError("refused", `seed must be a whole number from 0 to 2^53-1, not ${shown(seed)}`);
  }
  const given: Partial<Record<typeof NUMBERS[number], number>> = {};
  for (const name of NUMBERS) {
    const { [name]: value } = rest;
    delete rest[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== "number") throw new KinoraError("refused", `${name} must be a number, not ${shown(value)}`);
    given[name] = value;
  }
  return { tab, task: readTask(rest), seed, still, request: given };
}

/**
 * Reads the body of a request, or of a response.
 *
 * @param request The request.
 * @param most The most bytes it may have.
 * @param called What it is, for the message.
 * @throws {KinoraError} `refused` when it has more.
 */
export async function readBody(
  request: Pick<Request, "body">,
  most: number,
  called: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const part of request.body ?? []) {
    length += part.length;
    if (length > most) throw new KinoraError("refused", `${called} has more than ${most} bytes`);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Reads what is to be made of what, from fields that have nothing else. */
function readTask(fields: Readonly<Record<string, unknown>>): StudioRequest["task"] {
  const { verb = "generate", ...rest } = fields;
  if (verb === "generate") {
    const { prompt, ...none } = rest;
    refuseUnknown(none);
    if (typeof prompt !== "string") throw new KinoraError("refused", "prompt must be a text");
    return { verb, prompt: checkPrompt(prompt) };
  }
  if (verb !== "animate" && verb !== "interpolate" && verb !== "vary") {
    throw new KinoraError("refused", `verb must be generate, animate, interpolate or vary, not ${shown(verb)}`);
  }
  const { given, fit, ...none } = rest;
  refuseUnknown(none);
  const count = GIVEN_COUNTS[verb];
  if (!Array.isArray(given) || given.length !== count || !given.every((id) => typeof id === "string")) {
    throw new KinoraError("refused", `${verb} needs ${count === 1 ? "one picture" : "two pictures"}`);
  }
  if (fit === undefined || fit === null) return { verb, given };
  const chosen = FITS.find((name) => name === fit);
  if (chosen === undefined) throw new KinoraError("refused", `fit must be cover or contain, not ${shown(fit)}`);
  return { verb, given, fit: chosen };
}

function refuseUnknown(fields: Readonly<Record<string, unknown>>): void {
  const [unknown] = Object.keys(fields);
  if (unknown !== undefined) throw new KinoraError("refused", `Unknown field "${unknown.slice(0, 40)}"`);
}

async function json(request: Request): Promise<Record<string, unknown>> {
  const bytes = await readBody(request, MOST_BYTES, "The request");
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new KinoraError("refused", "The request is not JSON", { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new KinoraError("refused", "The request must be an object");
  }
  return value as Record<string, unknown>;
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 40);
}
