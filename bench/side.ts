/**
 * A process that is asked with lines of JSON, pinned to some cores.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { watched } from "./processor_time.ts";

/** The cores that both sides are pinned to, in the form of `taskset`; `undefined` where there is no `taskset`. */
export async function coreList(threads: number): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || !await runs("taskset", ["--version"])) return undefined;
  const status = await Deno.readTextFile("/proc/self/status");
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "";
  return coresOf(allowed).slice(0, threads).join(",");
}

/** The numbers in a list like `0-3,6`. */
export function coresOf(list: string): number[] {
  return list.split(",").filter((part) => part !== "").flatMap((part) => {
    const [first = 0, last = first] = part.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

async function runs(program: string, args: string[]): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).output()).success;
  } catch {
    return false;
  }
}

/** How a side is started. */
export interface SideOptions {
  /** Threads it computes on. */
  readonly threads: number;
  /** Cores it is pinned to, if any. */
  readonly cores: string | undefined;
  /** More of its environment. */
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** The command of a pinned program. */
export function pinned(program: string, args: readonly string[], cores: string | undefined): [string, string[]] {
  // `taskset` becomes the program, so the process is the program's.
  return cores === undefined ? [program, [...args]] : ["taskset", ["--cpu-list", cores, program, ...args]];
}

/** The environment that makes either side compute on so many threads. */
export function threadsEnvironment(threads: number): Record<string, string> {
  return { RAYON_NUM_THREADS: `${threads}`, OMP_NUM_THREADS: `${threads}`, MKL_NUM_THREADS: `${threads}` };
}

/** A running side. */
export class Side implements AsyncDisposable {
  readonly #name: string;
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #rest = "";

  /** Starts a program that answers lines with lines. */
  constructor(name: string, program: string, args: readonly string[], options: SideOptions) {
    const [command, all] = pinned(program, args, options.cores);
    this.#name = name;
    this.#process = new Deno.Command(command, {
      args: all,
      env: { ...threadsEnvironment(options.threads), ...options.env },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /**
   * Asks, and waits for the answer.
   *
   * @throws {KinoraError} `failed` when the side cannot do it, or has ended.
   */
  async ask<T = unknown>(request: Readonly<Record<string, unknown>>): Promise<T> {
    try {
      await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
      const reply = JSON.parse(await this.#line()) as { readonly error?: unknown };
      // A number is a comparison's result.
      if (typeof reply.error === "string") throw new Error(reply.error);
      return reply as T;
    } catch (cause) {
      const message = `${this.#name} failed at "${request["do"]}": ${(cause as Error).message}`;
      throw new KinoraError("failed", message, { cause });
    }
  }

  /** The times of runs in milliseconds, the seconds of all of them, and those that other processes computed meanwhile. */
  async time(
    request: { readonly seconds: number; readonly least: number; readonly warm: boolean; readonly peer?: string },
  ): Promise<{ readonly ms: readonly number[]; readonly elapsed: number; readonly foreign?: number }> {
    const { value, ...rest } = await watched(
      this.#process.pid,
      () => this.ask<{ readonly ms: readonly number[] }>({ do: "time", ...request }),
    );
    return { ms: value.ms, ...rest };
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("it ended");
      this.#rest += value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => undefined);
    await this.#lines.cancel().catch(() => undefined);
    await this.#process.status;
  }
}
