/**
 * All measures of a model, each figure with how it was measured.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { type LibraryInfo, libraryInfo } from "../../ffi/library.ts";
import type { Cascade } from "../cascade/cascade.ts";
import { checkNetworkFiles } from "../cascade/model_files.ts";
import { type ModelStages, stageSettings } from "../cascade/model_index.ts";
import { NETWORK_CLASSES } from "../cascade/network_classes.ts";
import type { TrainingData } from "../training/training_data.ts";
import { VERSION } from "../version.ts";
import { measurePrior } from "./embedding.ts";
import type { Figure } from "./figure.ts";
import { measureInterpolation } from "./interpolation.ts";
import { measureLikeness } from "./likeness.ts";
import { Bench, type Measure, type MeasureOptions } from "./measure.ts";
import { measureMotion } from "./motion.ts";
import { measureWarnings } from "./prompt_warnings.ts";
import { measureRetrieval } from "./retrieval.ts";
import { measureSuperResolution } from "./super_resolution.ts";

/** The name of a measure. */
export type MeasureName =
  | "prior"
  | "likeness"
  | "super-resolution"
  | "interpolation"
  | "retrieval"
  | "motion"
  | "warnings";

/** The measures by name; the cheap ones first. */
const MEASURES: Readonly<Record<MeasureName, Measure>> = {
  warnings: measureWarnings,
  prior: measurePrior,
  likeness: measureLikeness,
  "super-resolution": measureSuperResolution,
  interpolation: measureInterpolation,
  retrieval: measureRetrieval,
  motion: measureMotion,
};

/** Every {@linkcode MeasureName}, in the order they run. */
export const MEASURE_NAMES: readonly MeasureName[] = Object.keys(MEASURES) as MeasureName[];

/** How a model is evaluated. */
export interface EvaluationOptions {
  /**
   * The first seed, 0 to 10^9.
   *
   * @default {0}
   */
  readonly seed?: number | undefined;
  /**
   * Concepts, clips or texts of each measure, at least 1; where the data set has fewer, all of them.
   *
   * @default {64}
   */
  readonly concepts?: number | undefined;
  /** Which measures; by default all. */
  readonly only?: readonly MeasureName[] | undefined;
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each piece of work. */
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  /** Called when a measure is done. */
  readonly onFigures?: ((figures: readonly Figure[]) => void) | undefined;
}

/** How far an evaluation is. */
export interface EvaluationProgress {
  /** The measure that is at work. */
  readonly measure: MeasureName;
  /** Its pieces of work that are done. */
  readonly step: number;
  /** Its pieces of work in all. */
  readonly total: number;
}

/** What an evaluation came to. */
export interface Evaluation {
  /** Says what kind of file this is. */
  readonly format: "kinora-evaluation-1";
  /** The model's name. */
  readonly model: string;
  /** Versions of what measured. */
  readonly versions: { readonly kinora: string; readonly native: string; readonly deno: string };
  /** The arithmetic, and the instruction set it ran on; both change the last digits. */
  readonly arithmetic: { readonly precision: string; readonly isa: string };
  /** The data set, and the hash of its index. */
  readonly data: { readonly name: string; readonly hash: string };
  /** The first seed. */
  readonly seed: number;
  /** The wanted number of concepts. */
  readonly concepts: number;
  /** All figures. */
  readonly figures: readonly Figure[];
}

/**
 * Measures a model on a data set. Whether goals are met stands in the figures; it is no failure when they are not.
 *
 * @param cascade The model, with all stages of Eq. 1 up to the decoder and the image tower; measures of stages it does not
 * have are left out.
 * @param data The data set it was trained on.
 * @param options How.
 * @throws {KinoraError} `refused` when a number is not accepted, `not-found` when the model lacks a stage. When `signal`
 * stopped it, the signal's reason.
 */
export async function evaluateModel(
  cascade: Cascade,
  data: TrainingData,
  options: EvaluationOptions = {},
): Promise<Evaluation> {
  const { seed = 0, concepts = 64, only = MEASURE_NAMES, signal, onProgress, onFigures } = options;
  checkWhole("seed", seed, 0, 1e9);
  checkWhole("concepts", concepts, 1, 1e6);
  const library: LibraryInfo = await libraryInfo();
  for (const stage of ["text", "image", "prior", "decoder"] as const) stageSettings(cascade.index, stage);
  for (const [stage, { folder }] of Object.entries(cascade.index.stages)) {
    await checkNetworkFiles(`${cascade.index.folder}/${folder}`, [NETWORK_CLASSES[stage as keyof ModelStages]]);
  }
  using bench = new Bench(cascade, data);
  const figures: Figure[] = [];
  for (const measure of MEASURE_NAMES.filter((name) => only.includes(name))) {
    signal?.throwIfAborted();
    const progress: MeasureOptions["onProgress"] = (step, total) => {
      onProgress?.({ measure, step, total });
      signal?.throwIfAborted();
    };
    const made = await MEASURES[measure](bench, { seed, concepts, signal, onProgress: progress });
    figures.push(...made);
    onFigures?.(made);
  }
  return {
    format: "kinora-evaluation-1",
    model: cascade.index.name,
    versions: { kinora: VERSION, native: library.version, deno: Deno.version.deno },
    arithmetic: { precision: cascade.precision, isa: library.isa },
    data: { name: data.index.name, hash: data.index.hash },
    seed,
    concepts,
    figures,
  };
}

function checkWhole(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new KinoraError("refused", `${name} must be a whole number from ${least} to ${most}, not ${value}`);
}
