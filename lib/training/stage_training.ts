/**
 * What the training of a stage is: networks, batches, and how what was learnt is looked at. One file of
 * `lib/training/stages/` is one stage; `run_stage.ts` runs any of them.
 *
 * @module
 */
import type { Network, NetworkConfig, Precision } from "../../ffi/network.ts";
import type { Objective } from "../../ffi/trainer.ts";
import type { JsonFields } from "../cascade/json_fields.ts";
import type { ModelStages } from "../cascade/model_index.ts";
import type { Measures } from "./measures.ts";
import type { ModelFolder } from "./model_folder.ts";
import type { Draws } from "./random.ts";
import type { TrainingData } from "./training_data.ts";

/** The stages that can be trained, in the order they need each other. */
export const TRAINED_STAGES = [
  "tokenizer",
  "text-pair",
  "text-tuning",
  "prior",
  "decoder-image",
  "decoder-video",
  "interpolation",
  "sr-low-image",
  "sr-low",
  "sr-high",
] as const;

/** A stage that can be trained. */
export type TrainedStage = typeof TRAINED_STAGES[number];

/** What a stage works with. */
export interface StageContext {
  /** The data set. */
  readonly data: TrainingData;
  /** The model that is trained. */
  readonly model: ModelFolder;
  /** Decides every random number. */
  readonly seed: number;
  /** The arithmetic. */
  readonly precision: Precision;
  /**
   * Makes or finds the network that training starts from.
   *
   * @param part The part of the model.
   * @param start What it is.
   */
  network(part: keyof ModelStages, start: NetworkStart): Promise<Network>;
}

/** What a network starts as. */
export interface NetworkStart {
  /** Its configuration; with `from`, what is different from that stage's. */
  readonly config: NetworkConfig;
  /** A stage trained before, whose weights it starts from. */
  readonly from?: TrainedStage | undefined;
  /** With `from`: layers that start anew. */
  readonly fresh?: readonly string[] | undefined;
}

/** A network that a stage trains, and the part of the model that it becomes. */
export interface TrainedNetwork {
  /** The part. */
  readonly part: keyof ModelStages;
  /** The network, made trainable. */
  readonly network: Network;
}

/** What decides a batch. */
export interface BatchRequest {
  /** Number of samples. */
  readonly samples: number;
  /** The step, from 0. */
  readonly step: number;
  /** How much of the run is over, 0 to 1. */
  readonly progress: number;
  /** The step's random numbers. */
  readonly draws: Draws;
  /** Whatever the batch holds is put here, to be freed after the step. */
  readonly keep: <Held extends Disposable>(held: Held) => Held;
}

/** How a stage is looked at. */
export interface EvaluationRequest {
  /** The networks with averaged weights, in the order of {@linkcode StageTraining.networks}; they stay the caller's. */
  readonly networks: readonly Network[];
  /** Where the sheet is written, a PNG. */
  readonly sheet: string;
  /** Stops the work. */
  readonly signal: AbortSignal | undefined;
}

/** The training of one stage. */
export interface StageTraining extends Disposable {
  /** What is trained. */
  readonly networks: readonly TrainedNetwork[];
  /** Makes the batch of a step: what is minimised. */
  batch(request: BatchRequest): Promise<readonly Objective[]>;
  /** Measures the networks, and writes a sheet where there is something to see. */
  evaluate(request: EvaluationRequest): Promise<Measures>;
}

/** Starts the training of a stage. */
export type StageStarter = (context: StageContext) => Promise<StageTraining>;

/** Reads a stage's own settings from a recipe, and says how it is trained with them. */
export type StageReader = (fields: JsonFields) => StageStarter;

/** Runs `start` with a stack that owns what is made; if it throws, all of that is freed. */
export async function owning<Result>(start: (stack: DisposableStack) => Promise<Result>): Promise<Result> {
  using stack = new DisposableStack();
  const result = await start(stack);
  stack.move();
  return result;
}

/** The random seed of measures: the same pictures every time. */
export const EVALUATION_SEED = 1;

/** One seed for each of some samples of a measure. */
export function evaluationSeeds(count: number): number[] {
  return Array.from({ length: count }, (_, index) => EVALUATION_SEED + index);
}
