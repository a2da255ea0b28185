/**
 * Measures what the paper never ablated, arm by arm.
 *
 * @module
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { KinoraError } from "../../../ffi/errors.ts";
import { libraryInfo } from "../../../ffi/library.ts";
import type { Tensor } from "../../../ffi/tensor.ts";
import type { Cascade } from "../../cascade/cascade.ts";
import { fileSha256, WEIGHTS_FILE } from "../../cascade/model_files.ts";
import { type ModelStages, stageSettings } from "../../cascade/model_index.ts";
import { stillBank } from "../../training/embeddings.ts";
import type { TrainingData } from "../../training/training_data.ts";
import { loadNetwork } from "../../cascade/network_stage.ts";
import { VERSION } from "../../version.ts";
import { type AblationGroup, type AblationRow, type RowIdentity, sameMeasurement } from "./ablation.ts";
import { commonNoise, guidance, noiseSeconds, sampler } from "./decoder_sampling.ts";
import { frameSkip } from "./frame_skip.ts";
import { superResolutionNoise, superResolutionTime } from "./super_resolution_frames.ts";
import { temporalTraining } from "./temporal_training.ts";

/** All groups, in the order they run: the cheap ones first. */
export const ABLATION_GROUPS: readonly AblationGroup[] = [
  superResolutionNoise,
  superResolutionTime,
  frameSkip,
  guidance,
  commonNoise,
  noiseSeconds,
  sampler,
  temporalTraining,
];

/** How ablations are run. */
export interface AblationOptions {
  /** The data set; without one, groups that need it are refused. */
  readonly data?: TrainingData | undefined;
  /** The contents of the recipe that short trainings follow; without one, they are refused. */
  readonly recipe?: Readonly<Record<string, unknown>> | undefined;
  /** Which groups; by default all. */
  readonly groups?: readonly string[] | undefined;
  /** Which arms of these groups; by default all. */
  readonly arms?: readonly string[] | undefined;
  /** Rows measured before; an arm that would be measured in the same way is not measured again. */
  readonly known?: readonly AblationRow[] | undefined;
  /**
   * A folder for the checkpoints of short trainings: what was interrupted goes on there.
   *
   * @default {"runs/ablations"}
   */
  readonly run?: string | undefined;
  /**
   * Steps of each short training, 1 to 1,000,000.
   *
   * @default {40}
   */
  readonly trainingSteps?: number | undefined;
  /**
   * Clips of each batch of a short training, 1 to 256.
   *
   * @default {4}
   */
  readonly batch?: number | undefined;
  /**
   * Prompts or clips that each arm is measured on, 1 to 64; there are 8 prompts.
   *
   * @default {4}
   */
  readonly samples?: number | undefined;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each piece of work. */
  readonly onProgress?: ((progress: AblationProgress) => void) | undefined;
  /** Called when an arm is measured; `frames` (F, H, W, 3) are freed when it is done. */
  readonly onRow?: ((row: AblationRow, frames: Tensor | undefined) => void | Promise<void>) | undefined;
}

/** How far the work is. */
export interface AblationProgress {
  /** The group. */
  readonly group: string;
  /** The arm. */
  readonly arm: string;
  /** Its pieces of work that are done. */
  readonly step: number;
  /** Its pieces of work in all. */
  readonly total: number;
}

/**
 * Measures arms. Rows that are known already are passed on.
 *
 * @param cascade The model, with all stages that the groups need.
 * @param options Which arms, and how.
 * @returns A row for each arm, in order.
 * @throws {KinoraError} `refused` when a group or an arm is not there, a number is not accepted, or a group needs the data
 * set; `not-found` when the model lacks a stage. When `signal` stopped it, the signal's reason.
 */
export async function ablate(cascade: Cascade, options: AblationOptions = {}): Promise<AblationRow[]> {
  const chosen = chosenArms(cascade, options);
  const { known = [], data, signal, run = "runs/ablations" } = options;
  const library = await libraryInfo();
  const machine = { cpu: await processor(), cores: navigator.hardwareConcurrency, os: Deno.build.os };
  const hashes = new Map<string, Promise<string>>();
  using held = new DisposableStack();
  let bank: Promise<Tensor> | undefined;
  const rows: AblationRow[] = [];
  for (const { group, arm } of chosen) {
    signal?.throwIfAborted();
    const weights = Object.fromEntries(
      await Promise.all(group.stages.map(async (stage) => [stage, await hash(stage)] as const)),
    );
    const identity: RowIdentity = {
      group: group.name,
      arm: arm.name,
      varied: arm.varied,
      settings: arm.settings,
      seeds: arm.seeds,
      model: cascade.index.name,
      weights,
      data: group.needsData ? data?.index.hash ?? null : null,
      arithmetic: { precision: cascade.precision, isa: library.isa },
    };
    const before = known.find((row) => sameMeasurement(row, identity));
    if (before !== undefined) {
      rows.push(before);
      continue;
    }
    // What was begun in another way is not gone on with.
    const folder = `${run}/${group.name}-${textHash(JSON.stringify(identity))}`;
    const [from, cpu] = [performance.now(), process.cpuUsage()];
    const { figures, frames } = await arm.measure({
      cascade,
      get data() {
        if (data === undefined) throw new KinoraError("refused", `${group.name} needs the data set`);
        return data;
      },
      bank: () => bank ??= stills(),
      folder,
      signal,
      // A training that is stopped writes a checkpoint first, so nothing is thrown here.
      onProgress: (step, total) => options.onProgress?.({ group: group.name, arm: arm.name, step, total }),
    });
    const used = process.cpuUsage(cpu);
    const row: AblationRow = {
      ...identity,
      versions: { kinora: VERSION, native: library.version, deno: Deno.version.deno },
      machine,
      figures,
      seconds: (performance.now() - from) / 1000,
      cpu_seconds: (used.user + used.system) / 1e6,
    };
    rows.push(row);
    using _frames = frames;
    await options.onRow?.(row, frames);
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
  return rows;

  function hash(stage: keyof ModelStages): Promise<string> {
    const path = `${cascade.index.folder}/${stageSettings(cascade.index, stage).folder}/${WEIGHTS_FILE}`;
    let hash = hashes.get(path);
    if (hash === undefined) hashes.set(path, hash = fileSha256(path));
    return hash;
  }

  async function stills(): Promise<Tensor> {
    if (data === undefined) throw new KinoraError("refused", "The embeddings of stills need the data set");
    using network = await loadNetwork(cascade.index.folder, stageSettings(cascade.index, "image"));
    return held.use(await stillBank(network, data, cascade.precision));
  }
}

function chosenArms(
  cascade: Cascade,
  options: AblationOptions,
): { readonly group: AblationGroup; readonly arm: ReturnType<AblationGroup["arms"]>[number] }[] {
  const { groups: names, arms, trainingSteps = 40, batch = 4, samples = 4, recipe } = options;
  const whole = { trainingSteps: [trainingSteps, 1e6], batch: [batch, 256], samples: [samples, 64] } as const;
  for (const [name, [value, most]] of Object.entries(whole)) {
    if (Number.isInteger(value) && value >= 1 && value <= most) continue;
    throw new KinoraError("refused", `${name} must be a whole number from 1 to ${most}, not ${value}`);
  }
  const all = ABLATION_GROUPS.map(({ name }) => name);
  const unknown = names?.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    throw new KinoraError("refused", `There is no ablation "${unknown}"; there are ${all.join(", ")}`);
  }
  const groups = ABLATION_GROUPS.filter(({ name }) => names?.includes(name) ?? true);
  const found = groups.flatMap((group) => {
    for (const stage of group.stages) stageSettings(cascade.index, stage);
    if (group.needsData && options.data === undefined) {
      throw new KinoraError("refused", `${group.name} is measured on the data set: give "data"`);
    }
    return group.arms(cascade, { trainingSteps, batch, samples, recipe }).map((arm) => ({ group, arm }));
  });
  const missing = arms?.find((name) => !found.some(({ arm }) => arm.name === name));
  if (missing !== undefined) {
    throw new KinoraError(
      "refused",
      `There is no arm "${missing}"; there are ${found.map(({ arm }) => `"${arm.name}"`).join(", ")}`,
    );
  }
  return found.filter(({ arm }) => arms?.includes(arm.name) ?? true);
}

/**
 * The beginning of a text's SHA-256, hexadecimal.
 *
 * @param text The text.
 */
function textHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** The processor, as it calls itself. */
async function processor(): Promise<string> {
  const info = Deno.build.os === "linux" ? await Deno.readTextFile("/proc/cpuinfo").catch(() => "") : "";
  return /^model name\s*: (.*)$/m.exec(info)?.[1] ?? Deno.build.arch;
}
