/**
 * Which graphics card driver this machine has, and what can be computed on.
 *
 * @module
 */

import { type LibraryInfo, whyNoGpu } from "../../ffi/library.ts";
import type { Device } from "../../ffi/network.ts";

/** What was found, what was chosen, and why. */
export interface DeviceReport {
  /** What networks run on unless `--device` says otherwise. */
  readonly chosen: "cpu";
  /** All that they can run on. */
  readonly usable: readonly Device[];
  /** The version of NVIDIA's driver; null where there is none, or where it may not be looked for. */
  readonly nvidiaDriver: string | null;
  /** Why, in words. */
  readonly reason: string;
}

/** Where Linux says which driver it has loaded. */
const DRIVER = "/proc/driver/nvidia/version";

/**
 * Looks for a graphics card.
 *
 * @param library The native library, if it opens.
 * @param read Reads a file; by default from disk.
 */
export async function deviceReport(
  library?: LibraryInfo,
  read: (path: string) => Promise<string> = Deno.readTextFile,
): Promise<DeviceReport> {
  const { version, found } = await driver(read);
  const usable: readonly Device[] = library?.gpu ? ["cpu", "cuda"] : ["cpu"];
  return { chosen: "cpu", usable, nvidiaDriver: version, reason: `${found}; ${use(library)}` };
}

/** What becomes of the GPU, in words. */
function use(library: LibraryInfo | undefined): string {
  if (library === undefined) return "there is no native library";
  const { gpu } = library;
  if (gpu === null) return `no GPU is used: ${whyNoGpu(library)}`;
  const memory = `${(gpu.memory / 2 ** 30).toFixed(0)} GiB`;
  const convolutions = "version" in gpu.cudnn
    ? `by cuDNN ${gpu.cudnn.version} in f32 and by Kinora's kernels in bf16 unless KINORA_CUDA_PRODUCTS says otherwise`
    : `by Kinora's kernels (${gpu.cudnn.unused})`;
  return `--device cuda computes on ${gpu.name} (compute capability ${
    gpu.capability.join(".")
  }, ${memory}), with convolutions over pixels ${convolutions}`;
}

async function driver(read: (path: string) => Promise<string>): Promise<{ version: string | null; found: string }> {
  try {
    const version = driverVersion(await read(DRIVER));
    return {
      version,
      found: `${version === null ? "an NVIDIA driver of unknown version" : `NVIDIA's driver ${version}`} was found`,
    };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { version: null, found: "no NVIDIA driver was found" };
    // Deno guards /proc with all permissions.
    if (error instanceof Deno.errors.NotCapable || error instanceof Deno.errors.PermissionDenied) {
      return { version: null, found: "NVIDIA's driver may not be looked for" };
    }
    throw error;
  }
}

/** The version in what the driver says of itself, or null. */
export function driverVersion(text: string): string | null {
  return /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(text)?.[1] ?? null;
}
