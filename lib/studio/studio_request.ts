/**
 * What the studio's page asks for, read without trusting it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { RunRequest } from "../cascade/run_plan.ts";
import { checkPrompt } from "../cascade/text.ts";

/** Most bytes of a request. */
const MOST_BYTES = 65_536;

/** The fields of a request that are numbers and may be left out. */
const NUMBERS = ["frames", "size", "fps", "steps", "guidance"] as const;

/** A run that is asked for. */
export interface StudioRequest {
  /** The page that asks: a word of its own. */
  readonly tab: string;
  /** The prompt. */
  readonly prompt: string;
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
  const fields = await json(request);
  const unknown = Object.keys(fields).find((name) => !["tab", "prompt", "seed", "still", ...NUMBERS].includes(name));
  if (unknown !== undefined) throw new KinoraError("refused", `Unknown field "${unknown.slice(0, 40)}"`);
  const { tab, prompt, seed = 0, still = false } = fields;
  if (typeof tab !== "string" || !/^[\w-]{1,64}$/.test(tab)) {
    throw new KinoraError("refused", "tab must be 1 to 64 letters, digits or dashes");
  }
  if (typeof prompt !== "string") throw new KinoraError("refused", "prompt must be a text");
  if (typeof still !== "boolean") throw new KinoraError("refused", "still must be true or false");
  if (typeof seed !== "number" || !Number.isSafeInteger(seed) || seed < 0) {
    throw new KinoraError("refused", `seed must be a whole number from 0 to 2^53-1, not ${shown(seed)}`);
  }
  const given: Partial<Record<typeof NUMBERS[number], number>> = {};
  for (const name of NUMBERS) {
    const value = fields[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== "number") throw new KinoraError("refused", `${name} must be a number, not ${shown(value)}`);
    given[name] = value;
  }
  return { tab, prompt: checkPrompt(prompt), seed, still, request: given };
}

async function json(request: Request): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await body(request);
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

async function body(request: Request): Promise<Uint8Array> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const part of request.body ?? []) {
    length += part.length;
    if (length > MOST_BYTES) throw new KinoraError("refused", `The request has more than ${MOST_BYTES} bytes`);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 40);
}
