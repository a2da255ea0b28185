/**
 * Trains one stage: steps until the budget is spent, checkpoints, log, evaluations, and at the end the weights that the
 * model gets.
 *
 * @module
 */
import process from "node:process";
import { KinoraError } from "../../ffi/errors.ts";
import { type Device, Network, type Precision } from "../../ffi/network.ts";
import { type Objective, Trainer } from "../../ffi/trainer.ts";
import type { ModelStages } from "../cascade/model_index.ts";
import { emaDecay, learningRate } from "./learning_rate.ts";
import { writeLossCurve } from "./loss_curve.ts";
import type { Measures } from "./measures.ts";
import { exists, type ModelFolder } from "./model_folder.ts";
import { Draws } from "./random.ts";
import type { Budget, NetworkRecipe } from "./recipe.ts";
import {
  type BatchRequest,
  type NetworkStart,
  type StageContext,
  type StageTraining,
  TRAINED_STAGES,
  type TrainedStage,
} from "./stage_training.ts";
import type { TrainingData } from "./training_data.ts";
import { Log } from "./training_log.ts";

/** Seconds of training from one checkpoint to the next. */
const CHECKPOINT_SECONDS = 120;

/** So many steps in a row without finite numbers: nothing more will come of it. */
const MOST_SKIPPED = 50;

/** What a run is told besides the recipe. */
export interface StageRunOptions {
  /** The data set. */
  readonly data: TrainingData;
  /** The model that is trained. */
  readonly model: ModelFolder;
  /** The folder of the whole run; each stage has one below it. */
  readonly run: string;
  /** Decides every random number, 0 to 2^53 - 1. */
  readonly seed: number;
  /** The arithmetic. */
  readonly precision: Precision;
  /** Threads that share a batch; by default as many as there are cores, and one on a GPU. */
  readonly workers?: number | undefined;
  /** What trains; by default the CPU. */
  readonly device?: Device | undefined;
  /** What the checkpoint is good for: `resume` it where there is one, start over, or start from the model's weights. */
  readonly start?: "resume" | "restart" | "continue" | undefined;
  /** Called after each step. */
  readonly onProgress?: ((progress: StageProgress) => void) | undefined;
  /** Stops the training after the step that is under way; a checkpoint is written. */
  readonly signal?: AbortSignal | undefined;
}

/** How far the training of a stage is. */
export interface StageProgress {
  /** The stage. */
  readonly stage: TrainedStage;
  /** Steps that are done. */
  readonly step: number;
  /** How much of the budget is spent, 0 to 1. */
  readonly progress: number;
  /** The mean loss since the last line of the log. */
  readonly loss: number;
  /** Seconds of training so far, evaluations left out. */
  readonly seconds: number;
}

/** What the training of a stage came to. */
export interface StageReport {
  /** The stage. */
  readonly stage: TrainedStage;
  /** Steps in all. */
  readonly steps: number;
  /** Seconds of training in all. */
  readonly seconds: number;
  /** Seconds of processor time in all, of all cores. */
  readonly cpu_seconds: number;
  /** Whether the budget is spent. */
  readonly finished: boolean;
  /** The last measures. */
  readonly measures: Measures;
}

/** What a step is of. */
interface Batch extends Disposable {
  readonly samples: number;
  readonly objectives: readonly Objective[];
}

/** What a checkpoint says besides the weights. */
interface State {
  step: number;
  seconds: number;
  cpuSeconds: number;
  evaluatedAt: number;
  measures: Measures;
}

/**
 * Trains a stage until its budget is spent or `signal` stops it; then its averaged weights are written into the model.
 *
 * @param recipe The stage's part of the recipe.
 * @param options Where, and how.
 * @throws {KinoraError} `not-found` when what the stage builds on is not there, `bad-file` when a checkpoint is damaged or
 * of other networks, `failed` when the loss stays without finite numbers.
 */
export async function runStage(recipe: NetworkRecipe, options: StageRunOptions): Promise<StageReport> {
  const folder = `${options.run}/${recipe.stage}`;
  await Deno.mkdir(folder, { recursive: true });
  const context = stageContext(recipe, options);
  using training = await recipe.start(context);
  using trainer = await Trainer.create(training.networks.map(({ network }) => network), {
    workers: options.workers,
    ema: true,
  });
  const run = new StageRun(recipe, options, { folder, training, trainer });
  return await run.run();
}

class StageRun {
  readonly #recipe: NetworkRecipe;
  readonly #options: StageRunOptions;
  readonly #folder: string;
  readonly #training: StageTraining;
  readonly #trainer: Trainer;
  readonly #state: State = { step: 0, seconds: 0, cpuSeconds: 0, evaluatedAt: 0, measures: {} };
  #log: Log | undefined;
  /** The batch of the next step: it is made while a step runs. */
  #ahead: Promise<Batch> | undefined;
  #skipped = 0;

  constructor(
    recipe: NetworkRecipe,
    options: StageRunOptions,
    parts: { readonly folder: string; readonly training: StageTraining; readonly trainer: Trainer },
  ) {
    this.#recipe = recipe;
    this.#options = options;
    this.#folder = parts.folder;
    this.#training = parts.training;
    this.#trainer = parts.trainer;
  }

  async run(): Promise<StageReport> {
    const { signal } = this.#options;
    const state = this.#state;
    await this.#resume();
    this.#log = await Log.open(`${this.#folder}/log.jsonl`, state.step);
    const begun = state.step;
    let saved = state.seconds;
    try {
      while (this.#progress() < 1 && !signal?.aborted) {
        await this.#step();
        if (state.seconds - saved >= CHECKPOINT_SECONDS) {
          await this.#checkpoint();
          saved = state.seconds;
        }
        const wait = this.#recipe.training.evaluationMinutes * 60;
        if (state.seconds - state.evaluatedAt >= wait && this.#progress() < 1) await this.#evaluate();
      }
    } finally {
      (await this.#ahead?.catch(() => undefined))?.[Symbol.dispose]();
    }
    if (state.step > begun) await this.#finish(signal?.aborted === true);
    const { step, seconds, cpuSeconds, measures } = state;
    return {
      stage: this.#recipe.stage,
      steps: step,
      seconds,
      cpu_seconds: cpuSeconds,
      finished: this.#progress() >= 1,
      measures,
    };
  }

  #progress(): number {
    return progressOf(this.#recipe.training.budget, this.#state);
  }

  get #checkpointPath(): string {
    return `${this.#folder}/checkpoint.safetensors`;
  }

  async #resume(): Promise<void> {
    if ((this.#options.start ?? "resume") !== "resume" || !await exists(this.#checkpointPath)) return;
    const { metadata } = await this.#trainer.load(this.#checkpointPath);
    try {
      Object.assign(this.#state, JSON.parse(metadata["state"] ?? ""));
    } catch (cause) {
      throw new KinoraError("bad-file", `"${this.#checkpointPath}" does not say how far the training was`, { cause });
    }
  }

  async #batch(step: number, progress: number): Promise<Batch> {
    const { stage, training: { batch } } = this.#recipe;
    const held = new DisposableStack();
    try {
      const samples = batch[Math.min(batch.length - 1, Math.floor(progress * batch.length))] ?? 1;
      const draws = new Draws(this.#options.seed, TRAINED_STAGES.indexOf(stage), step);
      const keep: BatchRequest["keep"] = (tensor) => held.use(tensor);
      const objectives = await this.#training.batch({ samples, step, progress, draws, keep });
      return { samples, objectives, [Symbol.dispose]: () => held.dispose() };
    } catch (error) {
      held.dispose();
      throw error;
    }
  }

  async #step(): Promise<void> {
    const { stage, training: settings } = this.#recipe;
    const state = this.#state;
    const progress = this.#progress();
    const [from, cpu] = [performance.now(), process.cpuUsage()];
    using batch = await (this.#ahead ?? this.#batch(state.step, progress));
    const next = { ...state, step: state.step + 1 };
    const after = progressOf(settings.budget, next);
    this.#ahead = after < 1 ? this.#batch(next.step, after) : undefined;
    // Its failure is met when it is waited for.
    this.#ahead?.catch(() => {});
    const rate = learningRate(settings.learningRate, { progress, step: state.step });
    const result = await this.#trainer.step({
      objectives: batch.objectives,
      precision: this.#options.precision,
      optimizer: {
        learningRate: rate,
        beta1: settings.betas[0],
        beta2: settings.betas[1],
        weightDecay: settings.weightDecay,
        muon: settings.muon,
      },
      rates: settings.rates,
      clip: settings.clip,
      emaDecay: emaDecay(settings.emaDecay, state.step),
    });
    this.#skipped = result.skipped ? this.#skipped + 1 : 0;
    if (this.#skipped === MOST_SKIPPED) {
      throw new KinoraError("failed", `${stage}: ${MOST_SKIPPED} steps in a row had a loss that is not finite`);
    }
    const used = process.cpuUsage(cpu);
    state.step++;
    state.seconds += (performance.now() - from) / 1000;
    state.cpuSeconds += (used.user + used.system) / 1e6;
    this.#log?.add({ ...result, samples: batch.samples, rate });
    if (state.step % settings.logSteps === 0) await this.#log?.write(state);
    const loss = this.#log?.loss ?? NaN;
    this.#options.onProgress?.({ stage, step: state.step, progress: this.#progress(), loss, seconds: state.seconds });
  }

  async #checkpoint(): Promise<void> {
    const metadata = { stage: this.#recipe.stage, state: JSON.stringify(this.#state) };
    await this.#trainer.save(this.#checkpointPath, { metadata });
  }

  /** The networks with averaged weights. */
  async #averaged<Result>(use: (networks: readonly Network[]) => Promise<Result>): Promise<Result> {
    using stack = new DisposableStack();
    const networks: Network[] = [];
    for (const index of this.#training.networks.keys()) networks.push(stack.use(await this.#trainer.ema(index)));
    return await use(networks);
  }

  async #evaluate(): Promise<void> {
    const { signal } = this.#options;
    const state = this.#state;
    state.evaluatedAt = state.seconds;
    try {
      state.measures = await this.#averaged((networks) =>
        this.#training.evaluate({ networks, sheet: `${this.#folder}/sheet.png`, signal })
      );
      await this.#log?.write(state, state.measures);
    } catch (error) {
      // Stopped: what was learnt is still written.
      if (!signal?.aborted) throw error;
    }
  }

  async #finish(stopped: boolean): Promise<void> {
    // First what cannot be made again.
    await this.#checkpoint();
    await this.#averaged(async (networks) => {
      for (const [index, { part }] of this.#training.networks.entries()) {
        const network = networks[index];
        if (network === undefined) continue;
        const { model, data } = this.#options;
        const metadata = {
          format: "pt",
          stage: this.#recipe.stage,
          steps: `${this.#state.step}`,
          data: data.index.hash,
        };
        await network.save(`${this.#folder}/${part}`, { dtype: "f16", metadata });
        await network.save(model.networkFolder(part), { dtype: "f16", metadata });
      }
    });
    await this.#options.model.writeIndex();
    await writeLossCurve(`${this.#folder}/log.jsonl`, `${this.#folder}/loss.svg`, this.#recipe.stage);
    if (stopped) return;
    await this.#evaluate();
    // Once more, with the measures.
    await this.#checkpoint();
  }
}

/** How much of a budget is spent, 0 to 1. */
export function progressOf(budget: Budget, spent: { readonly step: number; readonly seconds: number }): number {
  return Math.min(1, "minutes" in budget ? spent.seconds / (60 * budget.minutes) : spent.step / budget.steps);
}

function stageContext({ stage, training }: NetworkRecipe, options: StageRunOptions): StageContext {
  const { data, model, seed, precision, run, device } = options;
  const trainable = { trainable: true, trained: training.trained, device };
  return {
    data,
    model,
    seed,
    precision,
    async network(part: keyof ModelStages, start: NetworkStart): Promise<Network> {
      if (options.start === "continue" && await model.has(part)) {
        return await Network.load(model.networkFolder(part), trainable);
      }
      if (start.from === undefined) return await Network.create(start.config, { seed, ...trainable });
      const folder = await trainedFolder(start.from, part, run, model);
      const config = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
      const { fresh } = start;
      return await Network.grow(folder, { ...config, ...start.config }, { seed, fresh, ...trainable });
    },
  };

  /** Where the weights of an earlier stage lie: in this run, or where it did not run here, in the model. */
  async function trainedFolder(
    from: TrainedStage,
    part: keyof ModelStages,
    run: string,
    model: ModelFolder,
  ): Promise<string> {
    const earlier = FROM_PARTS[from] ?? part;
    const folder = `${run}/${from}/${earlier}`;
    if (await exists(`${folder}/config.json`)) return folder;
    if (await model.has(earlier)) return model.networkFolder(earlier);
    throw new KinoraError("not-found", `${stage} starts from ${from}, which must be trained first`);
  }
}

/** The part of the model that stages train which others start from. */
const FROM_PARTS: Partial<Record<TrainedStage, keyof ModelStages>> = {
  "text-pair": "text",
  "decoder-image": "decoder",
  "decoder-video": "decoder",
  "sr-low-image": "sr-low",
};
