/**
 * What files are, found out without trust in what they say of themselves: nothing is allocated from a size that a file
 * claims, and no more than some hundred megabytes are ever used, however large the file.
 *
 * @module
 */
import { type JobOptions, runJob } from "./job.ts";
import { checkMayRead } from "./permission.ts";

/** A network, as weights are compared with it. */
export interface InspectedNetwork {
  /** Its `_class_name`, or the name of a layer of lucidrains' make-a-video-pytorch, for example `"PseudoConv3d"`. */
  readonly class: string;
  /** The `config.json`, or the arguments of the layer's constructor; none when left out. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
}

/** How weights are looked at. */
export interface InspectWeightsOptions extends JobOptions {
  /** The network whose tensors the file must have: these and no others, in their shapes, floating point and finite. */
  readonly network?: InspectedNetwork | undefined;
}

/** A tensor of a file. */
export interface InspectedTensor {
  /** Its name. */
  readonly name: string;
  /** The type of its numbers, for example `"F16"`. */
  readonly dtype: string;
  /** Its shape; empty for a single number. */
  readonly shape: readonly number[];
}

/** A file of weights. */
export interface InspectedWeights {
  /** What kind of file it is. */
  readonly format: "safetensors";
  /** Its size. */
  readonly bytes: number;
  /** How many tensors it has. */
  readonly count: number;
  /** How many numbers all of them have. */
  readonly numbers: number;
  /** The first 1,000 tensors by name. */
  readonly tensors: readonly InspectedTensor[];
  /** The first texts of its metadata, long ones cut. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** A picture or a video. */
export interface InspectedMedia {
  /** What kind of file it is, by its content. */
  readonly format: "png" | "apng" | "gif" | "webp" | "jpeg" | "mp4" | "y4m";
  /** Its size. */
  readonly bytes: number;
  /** Pixels a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
  /** Number of frames; 1 in a still. */
  readonly frames: number;
  /** How long it plays, in milliseconds; `null` for a still. */
  readonly durationMs: number | null;
  /** How the pixels are stored, where the format leaves a choice, for example `"avc1"`. */
  readonly codec: string | null;
  /** Whether every pixel was decoded; if not, there are too many, or this package does not decode the format. */
  readonly decoded: boolean;
}

/** A network's configuration. */
export interface InspectedConfig {
  /** What kind of file it is. */
  readonly format: "config";
  /** Its `_class_name`. */
  readonly class: string;
  /** How many tensors the network has. */
  readonly count: number;
  /** How many numbers all of them have. */
  readonly numbers: number;
}

/**
 * Says what a file of weights holds, and whether a network could have them.
 *
 * @param path The file.
 * @param options The network, if there is one.
 * @throws {KinoraError} `bad-file` when it is damaged, something else, or not the network's; the message names the tensor.
 * `refused` when there is no such network; `not-found`, `permission` or `io` when the file cannot be read.
 */
export async function inspectWeights(path: string, options: InspectWeightsOptions = {}): Promise<InspectedWeights> {
  checkMayRead(path);
  const { network, ...rest } = options;
  return await runJob<InspectedWeights>({ verb: "inspect.weights", path, network }, rest);
}

/**
 * Says what a picture or video is. PNG, JPEG, GIF, WebP and MP4 (where it is H.264 of a kind that is decoded) are decoded as
 * well, if they have not too many pixels.
 *
 * @param path The file.
 * @param options Signal.
 * @throws {KinoraError} `bad-file` when it is damaged, too large or something else; the message names the chunk or box.
 * `not-found`, `permission` or `io` when it cannot be read.
 */
export async function inspectMedia(path: string, options: JobOptions = {}): Promise<InspectedMedia> {
  checkMayRead(path);
  const { duration_ms: durationMs, ...rest } = await runJob<
    Omit<InspectedMedia, "durationMs"> & { readonly duration_ms: number | null }
  >({ verb: "inspect.media", path }, options);
  return { ...rest, durationMs };
}

/**
 * Says what network a `config.json` describes.
 *
 * @param path The file.
 * @param options Signal.
 * @throws {KinoraError} `bad-file` when it describes none that is known here; the message names the field.
 * `not-found`, `permission` or `io` when it cannot be read.
 */
export async function inspectConfig(path: string, options: JobOptions = {}): Promise<InspectedConfig> {
  checkMayRead(path);
  return await runJob<InspectedConfig>({ verb: "inspect.config", path }, options);
}
