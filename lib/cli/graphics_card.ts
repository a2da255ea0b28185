/**
 * Which graphics card driver this machine has, and what is computed on.
 *
 * @module
 */

/** What was found, what was chosen, and why. */
export interface DeviceReport {
  /** What networks run on. */
  readonly chosen: "cpu";
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
 * @param read Reads a file; by default from disk.
 */
export async function deviceReport(
  read: (path: string) => Promise<string> = Deno.readTextFile,
): Promise<DeviceReport> {
  const cpu = "the native library computes on the CPU only";
  try {
    const version = driverVersion(await read(DRIVER));
    const found = version === null ? "an NVIDIA driver of unknown version" : `NVIDIA's driver ${version}`;
    return { chosen: "cpu", nvidiaDriver: version, reason: `${found} was found, but ${cpu}` };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return { chosen: "cpu", nvidiaDriver: null, reason: `no NVIDIA driver was found; ${cpu}` };
    }
    // Deno guards /proc with all permissions.
    if (error instanceof Deno.errors.NotCapable || error instanceof Deno.errors.PermissionDenied) {
      return { chosen: "cpu", nvidiaDriver: null, reason: `NVIDIA's driver may not be looked for; ${cpu}` };
    }
    throw error;
  }
}

/** The version in what the driver says of itself, or null. */
export function driverVersion(text: string): string | null {
  return /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(text)?.[1] ?? null;
}
