/**
 * Training: gradients, the optimiser and its state stay in native memory; what is minimised is said step by step.
 *
 * @module
 */
import { handleOf, NativeObject } from "./handle.ts";
import { type JobOptions, runJob } from "./job.ts";
import { inputTensors, Network, type NetworkInputs, type NetworkReply, type Precision, wireInputs } from "./network.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import type { Tensor } from "./tensor.ts";

/** How a trainer is made. */
export interface TrainerOptions {
  /** Threads that share a batch; by default as many as there are cores, and always one for networks on a GPU. */
  readonly workers?: number | undefined;
  /**
   * Whether a moving average of the weights is kept.
   *
   * @default {false}
   */
  readonly ema?: boolean | undefined;
}

/** A run of one of the trainer's networks. */
export interface NetworkRun {
  /** Which of the trainer's networks, from 0. */
  readonly network: number;
  /** Its inputs. */
  readonly inputs: NetworkInputs;
  /** Which of its outputs counts. */
  readonly output: string;
}

/** The mean square between an output and a target. */
export interface RegressionObjective extends NetworkRun {
  /** Says which kind of objective this is. */
  readonly type: "regression";
  /** Its share in the sum. @default {1} */
  readonly weight?: number | undefined;
  /** What the output should be, of the same shape. */
  readonly target: Tensor;
  /** One factor for each sample. */
  readonly sampleWeights?: readonly number[] | undefined;
}

/** The symmetric cross entropy of CLIP between the rows of two outputs. */
export interface ContrastiveObjective {
  /** Says which kind of objective this is. */
  readonly type: "contrastive";
  /** Its share in the sum. @default {1} */
  readonly weight?: number | undefined;
  /** One side. */
  readonly a: NetworkRun;
  /** The other side; row i belongs to row i. */
  readonly b: NetworkRun;
  /** The natural logarithm of what the cosines are multiplied with. */
  readonly logitScale: number;
  /** How much of the probability belongs to all the others, 0 to 1. @default {0} */
  readonly labelSmoothing?: number | undefined;
}

/** The cross entropy of texts against a bank of embeddings that do not change. */
export interface RetrievalObjective {
  /** Says which kind of objective this is. */
  readonly type: "retrieval";
  /** Its share in the sum. @default {1} */
  readonly weight?: number | undefined;
  /** The texts' embeddings. */
  readonly text: NetworkRun;
  /** The bank (N, E), rows of unit length. */
  readonly bank: Tensor;
  /** The probability of each row of the bank for each text, (B, N). */
  readonly targets: Tensor;
  /** The natural logarithm of what the cosines are multiplied with. */
  readonly logitScale: number;
}

/** What a step makes smaller. */
export type Objective = RegressionObjective | ContrastiveObjective | RetrievalObjective;

/** Muon (Jordan et al. 2024) moves the matrices inside the networks: along momentum whose singular values are made about 1. */
export interface MuonSettings {
  /** Decay of the sum of gradients, 0 to below 1. */
  readonly momentum: number;
  /** Parts of the names of matrices that AdamW moves all the same: tables, first and last layers. */
  readonly except: readonly string[];
}

/** AdamW's numbers. */
export interface OptimizerSettings {
  /** How far a step goes. */
  readonly learningRate: number;
  /** Decay of the mean of gradients. @default {0.9} */
  readonly beta1?: number | undefined;
  /** Decay of the mean of their squares. @default {0.999} */
  readonly beta2?: number | undefined;
  /** Keeps the division from zero. @default {1e-8} */
  readonly epsilon?: number | undefined;
  /** How much weights shrink, times the learning rate. @default {0} */
  readonly weightDecay?: number | undefined;
  /** What moves matrices in AdamW's place, by the same learning rate and weight decay; by default nothing does. */
  readonly muon?: MuonSettings | undefined;
}

/** Weights that learn at another rate. */
export interface LearningRateScale {
  /** A part of the names of the weights; of several entries that match, the last counts. */
  readonly namesWith: string;
  /** What the learning rate is multiplied with; 0 freezes them. */
  readonly scale: number;
}

/** One step of training. */
export interface TrainerStep {
  /** What is made smaller: their weighted sum. */
  readonly objectives: readonly Objective[];
  /** The arithmetic. @default {"f32"} */
  readonly precision?: Precision | undefined;
  /** The optimiser. */
  readonly optimizer: OptimizerSettings;
  /** Weights that learn at another rate. */
  readonly rates?: readonly LearningRateScale[] | undefined;
  /** The greatest length of the whole gradient; a longer one is shortened. */
  readonly clip?: number | undefined;
  /** Decay of the moving average, 0 to 1. */
  readonly emaDecay?: number | undefined;
  /** Stops the step; it has then changed nothing. */
  readonly signal?: AbortSignal | undefined;
}

/** What a step did. */
export interface TrainerStepResult {
  /** The weighted sum of all objectives. */
  readonly loss: number;
  /** Each objective before it is weighted. */
  readonly losses: readonly number[];
  /** Length of the whole gradient before it was shortened. */
  readonly gradientNorm: number;
  /** Whether loss or gradient were not finite; nothing was changed then. */
  readonly skipped: boolean;
}

/** What a checkpoint says. */
export interface TrainerCheckpoint {
  /** Steps that were done. */
  readonly step: number;
  /** The words that were kept with it. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Trains networks. */
export class Trainer extends NativeObject {
  /** Threads that share a batch. */
  readonly workers: number;
  /** The networks, in order; they stay the caller's. */
  readonly networks: readonly Network[];

  private constructor(reply: { readonly trainer: number; readonly workers: number }, networks: readonly Network[]) {
    super("trainer", reply.trainer);
    this.workers = reply.workers;
    this.networks = networks;
  }

  /**
   * Makes a trainer.
   *
   * @param networks What is trained; all made with `trainable`.
   * @param options How.
   * @throws {KinoraError} `refused` when a network is not trainable, or not on the device of the others.
   */
  static async create(networks: readonly Network[], options: TrainerOptions = {}): Promise<Trainer> {
    const { workers, ema } = options;
    const request = { verb: "trainer.create", networks: networks.map(handleOf), workers, ema };
    return new Trainer(await runJob(request, {}, networks), networks);
  }

  /**
   * Does one step: gradients of all objectives over the whole batch, then the optimiser. A step whose loss or gradient is
   * not finite changes nothing.
   *
   * @param step What is made smaller, and how.
   * @throws {KinoraError} `refused` when inputs do not fit.
   */
  async step(step: TrainerStep): Promise<TrainerStepResult> {
    const { objectives, precision = "f32", optimizer, rates, clip, emaDecay, signal } = step;
    const { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, muon } = optimizer;
    const reply = await runJob<Omit<TrainerStepResult, "gradientNorm"> & { readonly gradient_norm: number | null }>(
      {
        verb: "trainer.step",
        trainer: handleOf(this),
        objectives: objectives.map(wireObjective),
        precision,
        optimizer: { learning_rate: learningRate, beta1, beta2, epsilon, weight_decay: weightDecay, muon },
        rates: rates?.map(({ namesWith, scale }) => ({ names_with: namesWith, scale })),
        clip,
        ema_decay: emaDecay,
      },
      { signal },
      [this, ...this.networks, ...objectives.flatMap(objectiveTensors)],
    );
    // What is not finite has no JSON form and comes as null.
    return {
      loss: reply.loss ?? NaN,
      losses: reply.losses.map((loss) => loss ?? NaN),
      gradientNorm: reply.gradient_norm ?? NaN,
      skipped: reply.skipped,
    };
  }

  /**
   * A copy of a network with the averaged weights, or the current ones when no average is kept.
   *
   * @param index Which of the networks, from 0.
   */
  async ema(index: number): Promise<Network> {
    const request = { verb: "trainer.ema", trainer: handleOf(this), network: index };
    const device = this.networks[index]?.device;
    return new Network(await runJob<NetworkReply>(request, {}, [this]), { device });
  }

  /**
   * Writes weights, average, the optimiser's state and the number of steps as one file, which appears whole or not at all.
   *
   * @param path The file.
   * @param options `metadata` is kept with it.
   * @throws {KinoraError} `permission` or `io` when it cannot be written.
   */
  async save(
    path: string,
    options: JobOptions & { readonly metadata?: Readonly<Record<string, string>> | undefined } = {},
  ): Promise<void> {
    checkMayWrite(path);
    const { metadata, ...rest } = options;
    await runJob({ verb: "trainer.save", trainer: handleOf(this), path, metadata }, rest, [this]);
  }

  /**
   * Goes on from a file that {@linkcode Trainer.save} wrote of networks of the same configuration.
   *
   * @param path The file.
   * @throws {KinoraError} `not-found`, `bad-file`, `permission` or `io` when it cannot be read.
   */
  async load(path: string): Promise<TrainerCheckpoint> {
    checkMayRead(path);
    return await runJob({ verb: "trainer.load", trainer: handleOf(this), path }, {}, [this]);
  }
}

function wireRun({ network, inputs, output }: NetworkRun): unknown {
  return { network, inputs: wireInputs(inputs), output };
}

function wireObjective(objective: Objective): unknown {
  const { type, weight } = objective;
  switch (objective.type) {
    case "regression": {
      const { network, inputs, output, target, sampleWeights } = objective;
      return {
        type,
        weight,
        network,
        inputs: wireInputs(inputs),
        output,
        target: handleOf(target),
        sample_weights: sampleWeights,
      };
    }
    case "contrastive": {
      const { a, b, logitScale, labelSmoothing } = objective;
      return { type, weight, a: wireRun(a), b: wireRun(b), logit_scale: logitScale, label_smoothing: labelSmoothing };
    }
    default: {
      const { text, bank, targets, logitScale } = objective;
      return {
        type,
        weight,
        text: wireRun(text),
        bank: handleOf(bank),
        targets: handleOf(targets),
        logit_scale: logitScale,
      };
    }
  }
}

function objectiveTensors(objective: Objective): Tensor[] {
  switch (objective.type) {
    case "regression":
      return [...inputTensors(objective.inputs), objective.target];
    case "contrastive":
      return [...inputTensors(objective.a.inputs), ...inputTensors(objective.b.inputs)];
    default:
      return [...inputTensors(objective.text.inputs), objective.bank, objective.targets];
  }
}
