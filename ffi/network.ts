/**
 * Networks in native memory.
 *
 * @module
 */
import { handleOf, NativeObject } from "./handle.ts";
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead, checkMayWrite } from "./permission.ts";
import { mapValues, Tensor } from "./tensor.ts";

/**
 * The arithmetic of a network: `f32` is the reference, `bf16` multiplies in bf16 and adds in f32, `bf16x3` takes three
 * products of bf16 for one of f32, with relative errors of about 1e-5.
 */
export type Precision = "f32" | "bf16" | "bf16x3";

/** What a network computes on: the processor, or the first NVIDIA GPU. */
export type Device = "cpu" | "cuda";

/** The type that weights have on disk. */
export type WeightType = "f16" | "f32" | "bf16";

/** A network's configuration: `_class_name`, and what that class takes, named as in its `config.json`. */
export type NetworkConfig = Readonly<Record<string, unknown>>;

/** Inputs by name: a tensor, or one number for each sample of the batch. */
export type NetworkInputs = Readonly<Record<string, Tensor | readonly number[]>>;

/** What every way to make a network takes. */
export interface NetworkOptions extends JobOptions {
  /**
   * Whether a {@linkcode "./trainer.ts".Trainer} may change the weights; such a network is slower to run.
   *
   * @default {false}
   */
  readonly trainable?: boolean | undefined;
  /**
   * With `trainable`: only weights whose names contain one of these texts are trained. The others cost no gradient.
   *
   * @default All are trained.
   */
  readonly trained?: readonly string[] | undefined;
  /**
   * The arithmetic of {@linkcode Network.forward}, unless it is told otherwise.
   *
   * @default {"f32"}
   */
  readonly precision?: Precision | undefined;
  /**
   * What it computes on. Inputs and outputs are in main memory all the same, so that everything else works as before.
   *
   * @default {"cpu"}
   */
  readonly device?: Device | undefined;
}

/** How new weights are made. */
export interface NewNetworkOptions extends NetworkOptions {
  /** Decides the random weights, 0 to 2^53 - 1. */
  readonly seed: number;
}

/** How a network grows out of another. */
export interface GrowOptions extends NewNetworkOptions {
  /** Layers whose weights are not taken but start anew, such as `conv_out`. */
  readonly fresh?: readonly string[] | undefined;
}

/** How a network is run. */
export interface ForwardOptions {
  /** The arithmetic; by default the one that the network was loaded for. */
  readonly precision?: Precision | undefined;
  /** Stops the run. */
  readonly signal?: AbortSignal | undefined;
}

/** How a network is saved. */
export interface SaveNetworkOptions extends JobOptions {
  /** The type of the weights on disk; `f16` halves the file. */
  readonly dtype: WeightType;
  /** Words to be kept with the weights. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
}

/** What native code says of a network it has made. */
export interface NetworkReply {
  /** Its number, which becomes the object's. */
  readonly network: number;
  /** Its configuration with all defaults filled in. */
  readonly config: NetworkConfig;
  /** Number of its weights. */
  readonly parameters: number;
  /** Names of the weights that were not on disk. */
  readonly initialised?: readonly string[];
}

/** A network in native memory. */
export class Network extends NativeObject {
  /** The configuration, as in its `config.json`. */
  readonly config: NetworkConfig;
  /** Number of weights. */
  readonly parameters: number;
  /** The arithmetic unless asked otherwise. */
  readonly precision: Precision;
  /** What it computes on. */
  readonly device: Device;
  /** Names of the weights that {@linkcode Network.grow} made new. */
  readonly initialised: readonly string[];

  /**
   * Not for calling: {@linkcode Network.create}, {@linkcode Network.load} and {@linkcode Network.grow} make networks.
   *
   * @param reply What native code says of it.
   * @param options How it is run.
   */
  constructor(reply: NetworkReply, options: NetworkOptions = {}) {
    super("network", reply.network);
    this.config = reply.config;
    this.parameters = reply.parameters;
    this.precision = options.precision ?? "f32";
    this.device = options.device ?? "cpu";
    this.initialised = reply.initialised ?? [];
  }

  /**
   * Makes a network with random weights.
   *
   * @param config The configuration.
   * @param options The seed.
   * @throws {KinoraError} `refused` when the configuration is not accepted, `unsupported` when there is no such device.
   */
  static async create(config: NetworkConfig, options: NewNetworkOptions): Promise<Network> {
    const { seed, trainable, trained, device } = options;
    return new Network(
      await runJob({ verb: "network.create", config, seed, trainable, trained, device }, job(options)),
      options,
    );
  }

  /**
   * Loads a network.
   *
   * @param folder The folder with `config.json` and `diffusion_pytorch_model.safetensors`.
   * @param options How.
   * @throws {KinoraError} `not-found` or `bad-file` when a file is missing or damaged, `permission` when it may not be
   * read, `unsupported` when there is no such device.
   */
  static async load(folder: string, options: NetworkOptions = {}): Promise<Network> {
    checkMayRead(...files(folder));
    const { trainable, trained, device } = options;
    return new Network(
      await runJob({ verb: "network.load", folder, trainable, trained, device }, job(options)),
      options,
    );
  }

  /**
   * Makes a network of another configuration from one on disk: weights of the same name and shape are taken, the others
   * start as identity or at random. An image network inflated this way gives, before training, for each frame what it
   * gave for a picture.
   *
   * @param folder The folder of the network on disk.
   * @param config The new configuration.
   * @param options The seed, and what starts anew.
   * @throws {KinoraError} As {@linkcode Network.load} and {@linkcode Network.create}.
   */
  static async grow(folder: string, config: NetworkConfig, options: GrowOptions): Promise<Network> {
    checkMayRead(...files(folder));
    const { seed, trainable, trained, fresh, device } = options;
    const request = { verb: "network.grow", folder, config, seed, trainable, trained, fresh, device };
    return new Network(await runJob(request, job(options)), options);
  }

  /**
   * Runs the network once.
   *
   * @param inputs Its inputs.
   * @param options How.
   * @returns Its outputs by name, which are the caller's.
   * @throws {KinoraError} `refused` when an input is missing, superfluous or of another shape.
   */
  async forward(inputs: NetworkInputs, options: ForwardOptions = {}): Promise<Record<string, Tensor>> {
    const { precision = this.precision, signal } = options;
    const { outputs } = await runJob<{ readonly outputs: Readonly<Record<string, number>> }>(
      { verb: "network.forward", network: handleOf(this), inputs: wireInputs(inputs), precision },
      { signal },
      [this, ...inputTensors(inputs)],
    );
    return mapValues(outputs, (handle) => new Tensor(handle));
  }

  /**
   * Writes configuration and weights. Files appear whole or not at all.
   *
   * @param folder The folder, which is made where it is not there.
   * @param options The type of the weights.
   * @returns The size of the file with the weights, in bytes.
   * @throws {KinoraError} `permission` or `io` when it cannot be written.
   */
  async save(folder: string, options: SaveNetworkOptions): Promise<{ readonly bytes: number }> {
    checkMayWrite(folder);
    const { dtype, metadata } = options;
    return await runJob(
      { verb: "network.save", network: handleOf(this), folder, dtype, metadata },
      job(options),
      [this],
    );
  }
}

/** Inputs as a request has them: handles for tensors. */
export function wireInputs(inputs: NetworkInputs): Record<string, number | readonly number[]> {
  return mapValues(inputs, (input) => input instanceof Tensor ? handleOf(input) : input);
}

/** The tensors among inputs. */
export function inputTensors(inputs: NetworkInputs): Tensor[] {
  return Object.values(inputs).filter((input) => input instanceof Tensor);
}

function job({ signal, onProgress }: JobOptions): JobOptions {
  return { signal, onProgress };
}

function files(folder: string): string[] {
  return ["config.json", "diffusion_pytorch_model.safetensors"].map((name) => `${folder}/${name}`);
}
