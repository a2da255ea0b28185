/**
 * What an ablation is: a question, the arms that differ in one thing, and what was measured of each.
 *
 * @module
 */
import type { Tensor } from "../../../ffi/tensor.ts";
import type { Cascade } from "../../cascade/cascade.ts";
import type { ModelStages } from "../../cascade/model_index.ts";
import type { TrainingData } from "../../training/training_data.ts";

/** Names and what they are set to. */
export type AblationSettings = Readonly<Record<string, number | string | boolean>>;

/** A question. */
export interface AblationGroup {
  /** Its name: `"guidance"`. */
  readonly name: string;
  /** What is asked, in words. */
  readonly question: string;
  /** How it is measured, in words: what each figure is. */
  readonly protocol: string;
  /** The stages whose weights count. */
  readonly stages: readonly (keyof ModelStages)[];
  /** Whether it needs the data set; otherwise it is measured on fixed prompts. */
  readonly needsData: boolean;
  /**
   * What is compared.
   *
   * @param cascade The model.
   * @param options What the user may choose.
   */
  arms(cascade: Cascade, options: ArmOptions): readonly AblationArm[];
}

/** What the user of an ablation may choose. */
export interface ArmOptions {
  /** Steps of each short training. */
  readonly trainingSteps: number;
  /** Clips of each batch of a short training. */
  readonly batch: number;
  /** Prompts, pictures or clips that an arm is measured on, at most. */
  readonly samples: number;
  /** The contents of the recipe that short trainings follow, if there is one. */
  readonly recipe: Readonly<Record<string, unknown>> | undefined;
}

/** One of the things that are compared. */
export interface AblationArm {
  /** Its name, unique in its group. */
  readonly name: string;
  /** What differs from the other arms. */
  readonly varied: AblationSettings;
  /** Everything else that decides the figures. */
  readonly settings: AblationSettings;
  /** The random seeds. */
  readonly seeds: readonly number[];
  /** Measures it. */
  measure(work: AblationWork): Promise<Measured>;
}

/** What arms work with. */
export interface AblationWork {
  /** The model. */
  readonly cascade: Cascade;
  /** The data set; arms of groups that need none must not ask for it. */
  readonly data: TrainingData;
  /** The embeddings of the stills of all concepts (N, E). */
  bank(): Promise<Tensor>;
  /** A folder for what is worth keeping until the arm is measured, such as checkpoints; it is made when it is needed. */
  readonly folder: string;
  /** Stops the work. */
  readonly signal: AbortSignal | undefined;
  /** Called after each piece of work. */
  readonly onProgress: (step: number, total: number) => void;
}

/** What was measured of an arm. */
export interface Measured {
  /** The figures by name. */
  readonly figures: Readonly<Record<string, number>>;
  /** Frames to look at, (F, H, W, 3) in [-1, 1]; the receiver frees them. */
  readonly frames?: Tensor;
}

/** A measured arm: a row of the table, with all that decided it. */
export interface AblationRow {
  /** The group. */
  readonly group: string;
  /** The arm. */
  readonly arm: string;
  /** What differs from the other arms. */
  readonly varied: AblationSettings;
  /** Everything else that was set. */
  readonly settings: AblationSettings;
  /** The random seeds. */
  readonly seeds: readonly number[];
  /** The model's name. */
  readonly model: string;
  /** SHA-256 of the weights that ran, by stage. */
  readonly weights: Readonly<Record<string, string>>;
  /** The hash of the data set's index; `null` where no data set was needed. */
  readonly data: string | null;
  /** Versions of what measured. */
  readonly versions: { readonly kinora: string; readonly native: string; readonly deno: string };
  /** The arithmetic, and the instruction set it ran on; both change the last digits. */
  readonly arithmetic: { readonly precision: string; readonly isa: string };
  /** What it was measured on. */
  readonly machine: { readonly cpu: string; readonly cores: number; readonly os: string };
  /** The figures by name. */
  readonly figures: Readonly<Record<string, number>>;
  /** Seconds by the clock, other work of the machine included. */
  readonly seconds: number;
  /** Seconds of processor time, of all cores together. */
  readonly cpu_seconds: number;
}

/**
 * Whether two rows are of the same arm, whatever was measured.
 *
 * @param one One.
 * @param other The other.
 */
export function sameArm(one: Pick<AblationRow, "group" | "arm">, other: Pick<AblationRow, "group" | "arm">): boolean {
  return one.group === other.group && one.arm === other.arm;
}

/** What decides the figures of a row: rows that agree in it need not be measured again. */
export type RowIdentity = Omit<AblationRow, "figures" | "seconds" | "cpu_seconds" | "versions" | "machine">;

/**
 * Whether a row's figures are those that another measurement would give, but for the last digits.
 *
 * @param one One.
 * @param other The other.
 */
export function sameMeasurement(one: RowIdentity, other: RowIdentity): boolean {
  const text = ({ group, arm, varied, settings, seeds, weights, data, arithmetic }: RowIdentity): string =>
    JSON.stringify([
      group,
      arm,
      sorted(varied),
      sorted(settings),
      seeds,
      sorted(weights),
      data,
      arithmetic.precision,
    ]);
  return text(one) === text(other);
}

function sorted(object: Readonly<Record<string, unknown>>): unknown[] {
  return Object.entries(object).sort(([one], [other]) => one < other ? -1 : 1);
}
