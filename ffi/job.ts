/**
 * Requests to the native library: short ones, and jobs, which run on a native thread while the event loop goes on.
 *
 * @module
 */
import { KinoraError, type KinoraErrorCode } from "./errors.ts";
import { holding, type NativeObject } from "./handle.ts";
import { orInterrupted } from "./interrupt.ts";
import { library, openLibrary } from "./library.ts";
import { STATUS } from "./symbols.ts";

/** A request: the verb, and its fields. */
export interface Request {
  /** The verb, for example `"tensor.noise"`. */
  readonly verb: string;
  /** A field of the verb. */
  readonly [field: string]: unknown;
}

/** How far a job is. */
export interface JobProgress {
  /** Steps that are done. */
  readonly step: number;
  /** Steps in all; 0 as long as it is not known. */
  readonly total: number;
  /** Seconds from the start to the last step that is done. */
  readonly seconds: number;
}

/** How a job is run. */
export interface JobOptions {
  /** Stops the job; what is thrown then is the signal's reason. In a notebook Interrupt stops it too. */
  readonly signal?: AbortSignal | undefined;
  /** Called after steps; several steps may go by between two calls. An error it throws stops the job and is thrown on. */
  readonly onProgress?: ((progress: JobProgress) => void) | undefined;
}

/** Bytes of reply that are expected; longer replies are fetched a second time. */
const REPLY_BYTES = 1 << 14;

/** How long one wait lasts at most, in milliseconds: it holds a thread of Deno's pool. */
const WAIT_MS = 500;

const RUNNING = 0;
const DONE = 1;
const CANCELLED = 3;

const CODES: ReadonlySet<string> = new Set<KinoraErrorCode>([
  "refused",
  "unsupported",
  "not-found",
  "bad-file",
  "io",
  "failed",
  "out-of-memory",
  "bad-handle",
  "cancelled",
  "native-panic",
]);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A buffer for the reply of one call. */
export class Reply {
  /** What native code writes to. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where it writes the length of the reply, which may be more than fits. */
  readonly length: Uint32Array<ArrayBuffer> = new Uint32Array(1);

  /**
   * Makes a buffer.
   *
   * @param capacity Its size in bytes.
   */
  constructor(capacity: number = REPLY_BYTES) {
    this.bytes = new Uint8Array(capacity);
  }

  /** The length of the whole reply. */
  get needed(): number {
    return this.length[0] ?? 0;
  }

  /**
   * The reply as a value.
   *
   * @param status What the function returned.
   * @throws {KinoraError} What the reply says when the status is not 0.
   */
  value(status: number): unknown {
    const text = decoder.decode(this.bytes.subarray(0, Math.min(this.needed, this.bytes.length)));
    if (status === STATUS.ok) return JSON.parse(text);
    throw refusal(status, text);
  }
}

function refusal(status: number, text: string): KinoraError {
  try {
    const { code, message } = JSON.parse(text);
    if (CODES.has(code) && typeof message === "string") return new KinoraError(code, message);
  } catch {
    // A message that did not fit; the status is all there is to say.
  }
  const code = status === STATUS.badHandle ? "bad-handle" : "failed";
  return new KinoraError(code, `The native library answered with status ${status}`);
}

/**
 * Runs a short verb without side effects on the calling thread. The library must be open.
 *
 * @throws {KinoraError} What the native library refuses.
 */
export function callSync<T>(request: Request): T {
  const { symbols } = openLibrary();
  const bytes = encoder.encode(JSON.stringify(request));
  let reply = new Reply();
  for (;;) {
    const status = symbols.kinora_call(bytes, bytes.length, reply.bytes, reply.bytes.length, reply.length);
    if (status !== STATUS.bufferTooSmall) return reply.value(status) as T;
    // What it made was released again: the verb is run once more.
    reply = new Reply(reply.needed);
  }
}

/**
 * Runs a verb without side effects, and not longer than a moment, on a thread of Deno's pool.
 *
 * @param request The verb and its fields.
 * @param uses The objects whose handles are in the request: they stay alive until it is answered.
 * @throws {KinoraError} What the native library refuses.
 */
export function call<T>(request: Request, uses: readonly NativeObject[] = []): Promise<T> {
  return holding(uses, () => callAsync<T>(request));
}

async function callAsync<T>(request: Request): Promise<T> {
  const { symbols } = await library();
  const bytes = encoder.encode(JSON.stringify(request));
  let reply = new Reply();
  for (;;) {
    const status = await symbols.kinora_call_async(
      bytes,
      bytes.length,
      reply.bytes,
      reply.bytes.length,
      reply.length,
    );
    if (status !== STATUS.bufferTooSmall) return reply.value(status) as T;
    reply = new Reply(reply.needed);
  }
}

/**
 * Runs a verb as a job, to its end.
 *
 * @param request The verb and its fields.
 * @param options Signal and progress.
 * @param uses The objects whose handles are in the request: they stay alive until it is answered.
 * @throws {KinoraError} What the native library refuses. When `signal` stopped the job, the signal's reason.
 */
export function runJob<T>(
  request: Request,
  options: JobOptions = {},
  uses: readonly NativeObject[] = [],
): Promise<T> {
  return holding(uses, () => runToEnd<T>(request, options));
}

async function runToEnd<T>(request: Request, options: JobOptions): Promise<T> {
  const { onProgress } = options;
  const signal = orInterrupted(options.signal);
  signal?.throwIfAborted();
  const { symbols } = await library();
  // It may have been aborted while the library was opened.
  signal?.throwIfAborted();
  const job = start(request);
  const cancel = (): void => void symbols.kinora_job_cancel(job);
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    let failure: { readonly error: unknown } | undefined;
    const out = new Uint32Array(6);
    for (let version = 0;;) {
      const status = await symbols.kinora_job_wait(job, version, WAIT_MS, out);
      if (status !== STATUS.ok) throw refusal(status, "");
      const [state = 0, step = 0, total = 0, elapsed = 0, seen = 0] = out;
      // Some verbs count the steps that are begun; the end is the end all the same.
      const done = state === DONE ? total : step;
      if (seen !== version && done > 0 && failure === undefined) {
        try {
          onProgress?.({ step: done, total, seconds: elapsed / 1000 });
        } catch (error) {
          failure = { error };
          cancel();
        }
      }
      // An ended job answers at once whatever version was seen: only its state says that it has ended.
      if (state !== RUNNING) {
        if (failure !== undefined) throw failure.error;
        if (state === CANCELLED) signal?.throwIfAborted();
        return result(job) as T;
      }
      version = seen;
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    // Releasing also frees what the reply names, unless it was read.
    symbols.kinora_release(job);
  }
}

function start(request: Request): number {
  const bytes = encoder.encode(JSON.stringify(request));
  const reply = new Reply();
  const { symbols } = openLibrary();
  const status = symbols.kinora_job_start(bytes, bytes.length, reply.bytes, reply.bytes.length, reply.length);
  return (reply.value(status) as { readonly job: number }).job;
}

function result(job: number): unknown {
  const { symbols } = openLibrary();
  let reply = new Reply();
  for (;;) {
    const status = symbols.kinora_job_result(job, reply.bytes, reply.bytes.length, reply.length);
    if (reply.needed <= reply.bytes.length) return reply.value(status);
    reply = new Reply(reply.needed);
  }
}
