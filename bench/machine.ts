/**
 * What the measurements were made on.
 *
 * @module
 */

import type { Gpu } from "../ffi/library.ts";

/** Instruction sets that matter here, as Linux names them. */
const FEATURES: readonly string[] = [
  "avx2",
  "fma",
  "avx512f",
  "avx512bw",
  "avx512vl",
  "avx512dq",
  "avx512_bf16",
  "amx_tile",
  "amx_bf16",
  "asimd",
  "asimdhp",
  "bf16",
  "i8mm",
];

/** A machine. */
export interface Machine {
  /** The processor, as it calls itself. */
  readonly cpu: string;
  /** Those of its instruction sets that matter here; empty where the system does not tell. */
  readonly features: readonly string[];
  /** Cores that the system shows. */
  readonly cores: number;
  /** Threads that each side computed on. */
  readonly threads: number;
  /** Cores that both sides were pinned to; `null` where pinning is not possible. */
  readonly pinned: string | null;
  /** Bytes of main memory. */
  readonly memory: number;
  /** The system and its architecture. */
  readonly os: string;
  /** The GPU, where one was measured. */
  readonly gpu?: Gpu;
}

/** Looks at this machine. */
export async function thisMachine(threads: number, cores: string | undefined): Promise<Machine> {
  const info = Deno.build.os === "linux" ? await Deno.readTextFile("/proc/cpuinfo") : "";
  const field = (names: string): string | undefined => new RegExp(`^(?:${names})\\s*: (.*)$`, "m").exec(info)?.[1];
  const flags = new Set(field("flags|Features")?.split(" "));
  const family = field("cpu family");
  const named = field("model name") ?? Deno.build.arch;
  return {
    cpu: family === undefined ? named : `${named} (family ${family}, model ${field("model")})`,
    features: FEATURES.filter((feature) => flags.has(feature)),
    cores: navigator.hardwareConcurrency,
    threads,
    pinned: cores ?? null,
    memory: Deno.systemMemoryInfo().total,
    os: `${Deno.build.os} ${Deno.build.arch}`,
  };
}
