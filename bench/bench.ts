// deno-lint-ignore-file no-console
/**
 * `deno task bench`: Kinora and PyTorch in turn on the same cores, with the same inputs and weights.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import type { Gpu } from "../ffi/library.ts";
import type { Device } from "../ffi/network.ts";
import { helpText, parseOptions } from "../lib/cli/options.ts";
import { VERSION } from "../lib/version.ts";
import { build } from "../tasks/build.ts";
import { offlineArguments } from "../tasks/offline.ts";
import type { Dtype, Pass } from "./cases.ts";
import { builtForGpus, checkPeer, onOwnKernels, ownKernels, skipped } from "./gpu.ts";
import { thisMachine } from "./machine.ts";
import {
  compare,
  KINORA,
  kinoraSide,
  type Measuring,
  peaks,
  peerSide,
  type Program,
  scale,
  startUp,
  trainingMemory,
} from "./measure.ts";
import { NAMES, type Plan, planOf } from "./plan.ts";
import { findPython } from "./python.ts";
import {
  type BenchRecord,
  checkRecord,
  type MeasuredRow,
  type MemoryRow,
  record,
  reportJson,
  reportText,
  type TailRow,
  type VideoRow,
} from "./report.ts";
import { coreList } from "./side.ts";
import { tails } from "./tails.ts";
import { timeOfVideo } from "./video.ts";

const OPTIONS = {
  only: { type: "text", value: "NAME,...", help: "measure only these (see below)" },
  dtype: {
    type: "choice",
    choices: ["f32", "bf16", "bf16x3"],
    help: "measure only this arithmetic; default f32 and bf16",
  },
  pass: { type: "choice", choices: ["forward", "train"], help: "measure only this pass" },
  rounds: { type: "whole", value: "N", least: 1, most: 99, help: "rounds in which the sides take turns (default 3)" },
  threads: { type: "whole", value: "N", least: 1, most: 1024, help: "threads of each side (default 2)" },
  seconds: {
    type: "number",
    value: "S",
    least: 0,
    most: 3600,
    help: "how long a side runs in a round, at least (default 0.5)",
  },
  quick: { type: "flag", help: "one short round of the last level's layers and of the unet's forward" },
  compile: { type: "flag", help: "compare the unet with torch.compile as well, which takes minutes and needs g++" },
  device: {
    type: "choice",
    choices: ["cpu", "cuda"],
    help: "what both sides compute on: cuda is the first NVIDIA GPU; default cpu",
  },
  json: { type: "flag", help: "print one JSON object" },
  record: { type: "text", value: "FILE", help: "add everything that was measured to this file" },
} as const;

const HELP = helpText({
  usage: "bench [OPTION]...",
  about:
    "Runs Kinora and PyTorch in turn on the same cores, with the same inputs and weights, compares their results,\n" +
    "and prints PyTorch's time divided by Kinora's. Needs Rust, and python3 with the packages of bench/requirements.txt.",
  options: OPTIONS,
  notes: `NAME is a row, for example conv3x3-64@64, or one of ${NAMES.join(", ")}.
Without --only everything is measured but video (from text to video by the default model), roofline (what the processor can
do), scaling (the unet's time and memory over frames, sizes and threads), both of which go to --record alone, and tails (odd
frames, sides and channels beside the next size that fills whole vectors, on Kinora's side).
With --device cuda layers and unet are compared with torch.compile too, and roofline and video are measured as well; without a
GPU it says why, and measures nothing.`,
}).replace("kinora bench", "deno task bench");

/** Frames, sizes and threads at which the network is run alone. */
const SCALING: readonly (readonly [frames: number, size: number])[] = [[16, 64], [32, 64], [76, 64], [16, 128], [
  16,
  256,
]];

function optionsOf(args: readonly string[]): { readonly values: ReturnType<typeof read>; readonly plan: Plan } {
  const values = read(args);
  const { only, dtype, pass, quick, compile, device } = values;
  const plan = planOf({
    only: only?.split(",").filter((name) => name !== ""),
    dtypes: dtype && [dtype],
    passes: pass && [pass],
    quick,
    compile,
    device,
  });
  const cores = navigator.hardwareConcurrency;
  if ((values.threads ?? 1) > cores) {
    throw new KinoraError(
      "refused",
      `--threads must be 1 to ${cores}, the cores of this machine, not ${values.threads}`,
    );
  }
  return { values, plan };
}

const read = (args: readonly string[]) => parseOptions("bench", OPTIONS, args).values;

/** Builds Kinora's side. */
async function built(device: Device): Promise<Program> {
  if (device === "cuda") return await builtForGpus();
  if (await build(["--package", "kinora-bench"]) !== 0) {
    throw new KinoraError("failed", "Kinora's side of the comparison was not built");
  }
  return KINORA;
}

async function measured(
  plan: Plan,
  given: Omit<Measuring, "kinora">,
  dtypes: readonly Dtype[],
  passes: readonly Pass[],
  file: string | undefined,
): Promise<BenchRecord> {
  const { jobs, extras } = plan;
  const gpu = given.device === "cuda";
  const needsPython = jobs.length > 0 || (gpu && extras.has("roofline")) ||
    ["memory", "start-up", "scaling", "tails"].some((name) => (extras as Set<string>).has(name));
  const { torch, ...packages } = needsPython ? await findPython() : {} as Record<string, string>;
  if (gpu && needsPython) await checkPeer(given);
  const options = { ...given, kinora: await built(given.device) };
  const rows: MeasuredRow[] = [];
  const memory: MemoryRow[] = [];
  const scaling: BenchRecord["scaling"][number][] = [];
  await using kinora = kinoraSide(options);
  const hello = await kinora.ask<{ readonly isa: string; readonly gpu: Gpu | null }>({ do: "hello" });
  const host = await thisMachine(options.threads, options.cores);
  const machine = gpu && hello.gpu !== null ? { ...host, gpu: hello.gpu } : host;
  if (file !== undefined) await checkRecord(file, machine);
  if (extras.has("roofline")) console.error(`bench: what the ${gpu ? "GPU" : "processor"} can do`);
  const found = extras.has("roofline") ? [await peaks(options)] : [];
  if (jobs.length > 0) {
    await using python = peerSide(options);
    await using own = gpu ? kinoraSide({ ...options, kinora: ownKernels(options.kinora) }) : undefined;
    for (const [index, job] of jobs.entries()) {
      console.error(`bench: ${index + 1} of ${jobs.length}: ${job.of.name} ${job.pass} ${job.dtype}`);
      const bounds = gpu ? found[0] : undefined;
      rows.push(...await compare(job, kinora, python, options, bounds));
      const again = onOwnKernels(job);
      if (own !== undefined && again !== undefined) rows.push(...await compare(again, own, python, options, bounds));
    }
  }
  if (extras.has("start-up")) {
    console.error("bench: start-up");
    rows.push(await startUp(options));
  }
  if (extras.has("memory")) {
    for (const dtype of dtypes) {
      console.error(`bench: memory of training, ${dtype}`);
      memory.push(await trainingMemory(dtype, options));
    }
  }
  const alone = { ...options, threads: 1, cores: options.cores?.split(",")[0] };
  if (extras.has("roofline") && !gpu && options.threads > 1) found.push(await peaks(alone));
  if (extras.has("scaling")) {
    await using python = peerSide(options);
    for (const dtype of dtypes) {
      for (const size of SCALING) {
        console.error(`bench: unet of ${size[0]} frames of ${size[1]}x${size[1]}, ${dtype}`);
        scaling.push(await scale(size, dtype, python, options));
      }
      if (options.threads > 1) scaling.push(await scale([16, 64], dtype, python, alone));
    }
  }
  let ofTails: readonly TailRow[] = [];
  if (extras.has("tails")) {
    console.error("bench: tails");
    await using python = peerSide(options);
    ofTails = await tails(passes, dtypes, python, options);
  }
  const versions = {
    kinora: VERSION,
    instructions: hello.isa,
    deno: Deno.version.deno,
    ...torch === undefined ? {} : { torch },
    ...packages,
  };
  const videos: VideoRow[] = [];
  if (extras.has("video")) {
    console.error("bench: from text to video");
    videos.push(await timeOfVideo(options.device, options.rounds));
  }
  return { machine, versions, rows, memory, peaks: found, scaling, tails: ofTails, videos };
}

/**
 * Runs the bench.
 *
 * @param args The arguments of the command line.
 * @returns The exit code: 0 when everything was measured and agrees, 1 when something failed, 2 when it was refused.
 */
export async function bench(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  let folder: string | undefined;
  const clear = async (): Promise<void> => {
    if (folder !== undefined) await Deno.remove(folder, { recursive: true });
  };
  // What both sides read takes hundreds of megabytes: an interrupt leaves none of it.
  const stop = (): void => void clear().finally(() => Deno.exit(130));
  const signals: readonly Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, stop);
  try {
    const { values, plan } = optionsOf(args);
    const device = values.device ?? "cpu";
    if (device === "cuda" && skipped()) return 0;
    const threads = values.threads ?? Math.min(2, navigator.hardwareConcurrency);
    const cores = device === "cuda" ? undefined : await coreList(threads);
    folder = await Deno.makeTempDir({ prefix: "kinora-bench-" });
    const found = await measured(
      plan,
      {
        threads,
        cores,
        rounds: values.rounds ?? (values.quick ? 1 : 3),
        seconds: values.seconds ?? (values.quick ? 0.05 : 0.5),
        folder,
        denoArguments: await offlineArguments(),
        device,
      },
      values.dtype === undefined ? ["f32", "bf16"] : [values.dtype],
      values.pass === undefined ? ["forward", "train"] : [values.pass],
      values.record,
    );
    if (values.record !== undefined) await record(values.record, found);
    if (values.json) console.log(JSON.stringify(reportJson(found)));
    else for (const line of reportText(found)) console.log(line);
    const differing = found.rows.filter(({ agrees }) => !agrees);
    for (const { name, pass, dtype, peer, error, tolerance } of differing) {
      console.error(`bench: ${name} ${pass} ${dtype} does not agree with ${peer}: ${error}, allowed is ${tolerance}`);
    }
    return differing.length === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof KinoraError)) throw error;
    console.error(`bench: ${error.message}`);
    return ["refused", "not-found", "bad-file"].includes(error.code) ? 2 : 1;
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, stop);
    await clear();
  }
}

if (import.meta.main) Deno.exit(await bench(Deno.args));
