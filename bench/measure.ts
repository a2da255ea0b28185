/**
 * Measuring one thing after the other.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../ffi/errors.ts";
import type { Device } from "../ffi/network.ts";
import { type Case, type Dtype, type Job, type Peer, SPACE_TIME_UNET, tolerance, unetCase } from "./cases.ts";
import type { MeasuredRow, MemoryRow, Peaks, ScalingRow } from "./report.ts";
import { boundOf } from "./roofline.ts";
import { interleaved, median } from "./rounds.ts";
import { pinned, Side, type SideOptions, threadsEnvironment } from "./side.ts";

/** How to measure. */
export interface Measuring extends SideOptions {
  /** Rounds in which each side runs once. */
  readonly rounds: number;
  /** Seconds that a side runs in a round, at least. */
  readonly seconds: number;
  /** A folder for the files that both sides read. */
  readonly folder: string;
  /** Options of `deno` with which this package's modules load here. */
  readonly denoArguments: readonly string[];
  /** What both sides compute on. */
  readonly device: Device;
  /** Kinora's side. */
  readonly kinora: Program;
}

/** A program, and what it needs of its environment. */
export interface Program {
  /** Its file. */
  readonly path: string;
  /** More of its environment. */
  readonly env?: Readonly<Record<string, string>>;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Kinora's side for the CPU, where it is built. */
export const KINORA: Program = {
  path: here(`../native/target/release/${Deno.build.os === "windows" ? "kinora-bench.exe" : "kinora-bench"}`),
};

/** Starts Kinora's side. */
export function kinoraSide(options: SideOptions & Pick<Measuring, "kinora">): Side {
  const { path, env } = options.kinora;
  return new Side("Kinora", path, [], { ...options, env });
}

/** Starts PyTorch's side. */
export function peerSide(options: SideOptions): Side {
  return new Side("PyTorch", "python3", [here("peer.py")], options);
}

/** The file with a case's inputs and weights, which PyTorch writes. */
export async function caseFile(of: Case, python: Side, folder: string): Promise<string> {
  const file = `${folder}/${of.layer}-${JSON.stringify(of.config).replaceAll(/\W+/g, "-").slice(-48)}.safetensors`;
  const exists = await Deno.stat(file).then(() => true, () => false);
  if (!exists) await python.ask({ do: "write", case: { layer: of.layer, config: of.config }, file });
  return file;
}

/** Compares one case in all forms of the other side. */
export async function compare(
  job: Job,
  kinora: Side,
  python: Side,
  options: Measuring,
  peaks?: Peaks,
): Promise<MeasuredRow[]> {
  const { of, pass, dtype } = job;
  const { device } = options;
  const file = await caseFile(of, python, options.folder);
  const results = `${options.folder}/results.safetensors`;
  await python.ask({ do: "forget" });
  await kinora.ask({ do: "load", wanted: { layer: of.layer, config: of.config, pass, dtype, device }, file });
  const errors = new Map<Peer, number>();
  for (const peer of of.peers) {
    const wanted = { layer: of.layer, config: of.config, pass, dtype, device, peer };
    await python.ask({ do: "load", case: wanted, file });
    await python.ask({ do: "results", peer, file: results });
    const { error } = await kinora.ask<{ readonly error: number }>({ do: "compare", with: results });
    errors.set(peer, error);
  }
  await Deno.remove(results);
  const bound = peaks && boundOf(job, peaks, await countedOperations(of, python));
  // What takes seconds has been warmed by the comparison.
  const whole = of.layer === "unet" && device === "cpu";
  const request = { seconds: options.seconds, least: whole ? 1 : 3, warm: !whole };
  // Summed over all rounds: the system counts in hundredths of a second, too coarse for a single one.
  let [foreign, elapsed]: [number | undefined, number] = [0, 0];
  const timed = async (side: Side, peer?: Peer): Promise<readonly number[]> => {
    const found = await side.time(peer === undefined ? request : { ...request, peer });
    foreign = found.foreign === undefined ? undefined : (foreign ?? 0) + found.foreign;
    elapsed += found.elapsed;
    return found.ms;
  };
  const sides = [() => timed(kinora), ...of.peers.map((peer) => () => timed(python, peer))];
  const [ours = [], ...theirs] = await interleaved(options.rounds, sides);
  return of.peers.map((peer, index) => {
    const [peerRounds, error] = [theirs[index] ?? [], errors.get(peer) ?? Infinity];
    const found = row(of.name, job, peer, ours, peerRounds, error);
    // Who else uses the processor says little of a GPU.
    if (device === "cuda") return { ...found, ...bound && { share: bound.ms / found.kinora_ms } };
    return { ...found, ...shareOf(foreign, elapsed) };
  });
}

/** The operations of the whole network as PyTorch counts them; layers' are known. */
async function countedOperations({ layer, peers }: Case, python: Side): Promise<number | undefined> {
  const [peer] = peers;
  if (layer !== "unet") return undefined;
  return (await python.ask<{ readonly operations: number }>({ do: "operations", peer })).operations;
}

/** The others' share of a core, if it is known. */
function shareOf(foreign: number | undefined, elapsed: number): { readonly foreign?: number } {
  return foreign === undefined ? {} : { foreign: Math.max(0, Math.round(1e4 * foreign / elapsed) / 1e4) };
}

function row(
  name: string,
  job: Job,
  peer: Peer,
  kinora: readonly number[],
  theirs: readonly number[],
  error: number,
): MeasuredRow {
  const [peerMs, kinoraMs] = [median(theirs), median(kinora)];
  const allowed = tolerance(job);
  return {
    name,
    pass: job.pass,
    dtype: job.dtype,
    peer,
    peer_ms: peerMs,
    kinora_ms: kinoraMs,
    ratio: peerMs / kinoraMs,
    agrees: error <= allowed,
    kinora_rounds: kinora,
    peer_rounds: theirs,
    error,
    tolerance: allowed,
  };
}

/** The most memory of each side in two steps of training the whole network, in processes of their own. */
export async function trainingMemory(dtype: Dtype, options: Measuring): Promise<MemoryRow> {
  const of = unetCase();
  const wanted = { layer: of.layer, config: of.config, pass: "train", dtype };
  const file = await writtenUnet(of, options);
  const request = { do: "time", seconds: 0, least: 2, warm: false };
  const peak = async (side: Side): Promise<number> => {
    const { peak } = await side.ask<{ readonly peak: number | null }>({ do: "memory" });
    if (peak === null) throw new KinoraError("unsupported", "This system does not tell how much memory a process had");
    return peak;
  };
  const ofKinora = async (): Promise<number> => {
    await using side = kinoraSide(options);
    await side.ask({ do: "load", wanted, file });
    await side.ask(request);
    return await peak(side);
  };
  const ofPython = async (): Promise<number> => {
    await using side = peerSide(options);
    await side.ask({ do: "load", case: { ...wanted, peer: "eager" }, file });
    await side.ask({ ...request, peer: "eager" });
    return await peak(side);
  };
  return { dtype, kinora_bytes: await ofKinora(), peer_bytes: await ofPython() };
}

/** Written by a process of its own, whose memory does not count. */
async function writtenUnet(of: Case, options: Measuring): Promise<string> {
  await using python = peerSide(options);
  return await caseFile(of, python, options.folder);
}

/** From the start of a process to the end of its first forward: imports, reading the weights, and the forward. */
export async function startUp(options: Measuring): Promise<MeasuredRow> {
  const of = unetCase();
  const weights = await writtenUnet(of, options);
  const config = `${options.folder}/space_time_unet.json`;
  await Deno.writeTextFile(config, JSON.stringify(SPACE_TIME_UNET));
  const outputs = { kinora: `${options.folder}/kinora.safetensors`, python: `${options.folder}/python.safetensors` };
  const deno = ["run", "--quiet", ...options.denoArguments, "-A", here("start_up.ts")];
  const run = async (program: string, args: readonly string[], out: string): Promise<readonly number[]> => {
    const [command, all] = pinned(program, [...args, config, weights, out], options.cores);
    const start = performance.now();
    const process = new Deno.Command(command, {
      args: all,
      env: threadsEnvironment(options.threads),
      stdin: "null",
      stdout: "piped",
    }).spawn();
    // The word says that the forward is done; writing the result for the comparison is not timed.
    const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let [said, elapsed] = ["", NaN];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      // Packages may say something of their own before.
      said += value;
      if (Number.isNaN(elapsed) && said.includes("first forward done")) elapsed = performance.now() - start;
    }
    const { success } = await process.status;
    if (Number.isNaN(elapsed) || !success) {
      throw new KinoraError("failed", `${program} did not get to the end of its first forward`);
    }
    return [elapsed];
  };
  const [ours = [], theirs = []] = await interleaved(options.rounds, [
    () => run(Deno.execPath(), deno, outputs.kinora),
    () => run("python3", [here("start_up.py")], outputs.python),
  ]);
  const error = await distance(outputs.kinora, outputs.python);
  return row("start-up", { of, pass: "forward", dtype: "f32" }, "eager", ours, theirs, error);
}

/** The relative error between the tensors `y` of two files. */
async function distance(ours: string, theirs: string): Promise<number> {
  const { numbersOf, readSafetensors } = await import("../lib/parity/safetensors.ts");
  const [a, b] = await Promise.all([ours, theirs].map(async (path) => {
    const y = (await readSafetensors(path)).tensors.get("y");
    if (y === undefined) throw new KinoraError("failed", `${path} has no result`);
    return numbersOf(y);
  }));
  if (a === undefined || b === undefined || a.length !== b.length) return Infinity;
  const difference = a.reduce((sum, value, index) => sum + (value - (b[index] ?? NaN)) ** 2, 0);
  return Math.sqrt(difference / b.reduce((sum, value) => sum + value ** 2, 0));
}

/** What the processor can do, or what PyTorch reaches on the GPU. */
export async function peaks(options: Measuring): Promise<Peaks> {
  await using side = options.device === "cuda" ? peerSide(options) : kinoraSide(options);
  const seconds = Math.max(options.seconds, 0.3);
  const found = await side.ask<Omit<Peaks, "threads">>(
    options.device === "cuda" ? { do: "peak", seconds, device: options.device } : { do: "peak", seconds },
  );
  return { threads: options.threads, ...found };
}

/** The first forward of the whole network at a size, in a process of its own. */
export async function scale(
  [frames, size]: readonly [number, number],
  dtype: Dtype,
  python: Side,
  options: Measuring,
): Promise<ScalingRow> {
  const of = unetCase(frames, size);
  const file = await caseFile(of, python, options.folder);
  await using side = kinoraSide(options);
  await side.ask({ do: "load", wanted: { layer: "unet", config: of.config, pass: "forward", dtype }, file });
  const { ms, elapsed, foreign } = await side.time({ seconds: options.seconds, least: 1, warm: false });
  const { peak } = await side.ask<{ readonly peak: number | null }>({ do: "memory" });
  const found = { frames, size, threads: options.threads, dtype, ms: median(ms), bytes: peak };
  return { ...found, ...shareOf(foreign, elapsed) };
}
