/**
 * Whether a process had the processor to itself.
 *
 * @module
 */

/** Jiffies in a second, as Linux reports to programs. */
const TICKS = 100;

/**
 * Runs `work` and says how much others computed meanwhile.
 *
 * @param pid The process that is measured.
 * @returns What `work` gave, the seconds it took, and those that others computed; the latter only on Linux.
 */
export async function watched<T>(
  pid: number,
  work: () => Promise<T>,
): Promise<{ readonly value: T; readonly elapsed: number; readonly foreign?: number }> {
  const before = await seconds(pid);
  const start = performance.now();
  const value = await work();
  const elapsed = (performance.now() - start) / 1000;
  const after = await seconds(pid);
  if (before === undefined || after === undefined) return { value, elapsed };
  return { value, elapsed, foreign: after.all - before.all - (after.own - before.own) };
}

async function seconds(pid: number): Promise<{ all: number; own: number } | undefined> {
  if (Deno.build.os !== "linux") return undefined;
  const [stat = ""] = (await Deno.readTextFile("/proc/stat")).split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = stat.split(/\s+/).slice(1).map(Number);
  const own = await Deno.readTextFile(`/proc/${pid}/stat`);
  // The name, which may hold spaces, stands in brackets; of what follows, the 12th and 13th are user and system.
  const fields = own.slice(own.lastIndexOf(")") + 2).split(" ").map(Number);
  return {
    all: (user + nice + system + irq + softirq + steal) / TICKS,
    own: ((fields[11] ?? 0) + (fields[12] ?? 0)) / TICKS,
  };
}
