/**
 * Single layers of other projects, run by their own names: what a checkpoint or a recorded run of theirs is checked with.
 *
 * `lucidrains.*` are the layers of make-a-video-pytorch 0.4.0, with its faults, which Kinora's own networks do not have: a
 * new `SpaceTimeUnet` run along time does not give what it gives for single frames, since its feed-forward shifts half of
 * the channels by one frame and its resampling of time starts at random; frames must be a multiple of 2 to the number of
 * levels that compress time (8 by default, which 76 frames are not) and sides of 2 to the number of levels; only the first
 * block of a level is told the timestep; a video of one frame is not treated as an image; `PseudoConv3d` accepts any other
 * argument in silence.
 *
 * @module
 */
import { handleOf } from "./handle.ts";
import { call, runJob } from "./job.ts";
import type { Device, Precision } from "./network.ts";
import { mapValues, Tensor } from "./tensor.ts";

/** What {@linkcode runLayer} runs. */
export interface LayerRun {
  /** Which layer, for example `"lucidrains.PseudoConv3d"`; {@linkcode layerKinds} lists them. */
  readonly kind: string;
  /** Arguments of the layer's constructor, as its own project names them. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** Arguments of the call that are no tensors, for example `{ enable_time: false }`. */
  readonly call?: Readonly<Record<string, unknown>> | undefined;
  /** Whole numbers that are passed by position, for example the sizes that `ContinuousPositionBias` is called with. */
  readonly ints?: readonly number[] | undefined;
  /** Every weight, by its name in the layer's state dict. */
  readonly state?: Readonly<Record<string, Tensor>> | undefined;
  /** Arguments of the call that are tensors, in the layer's own order of axes (channels second). */
  readonly inputs?: Readonly<Record<string, Tensor>> | undefined;
  /**
   * Names of the inputs that are passed by position, in order; the others are passed by name.
   *
   * @default {[]}
   */
  readonly positional?: readonly string[] | undefined;
  /**
   * What the gradient of `sum(y * cotangent)` is wanted of: `in/NAME` of an input, `state/NAME` of a weight.
   *
   * @default {[]}
   */
  readonly gradients?: readonly string[] | undefined;
  /** A tensor of the output's shape; needed for gradients. */
  readonly cotangent?: Tensor | undefined;
  /**
   * The arithmetic.
   *
   * @default {"f32"}
   */
  readonly precision?: Precision | undefined;
  /**
   * What computes: `cuda` is the first NVIDIA GPU, with a library that was built for it.
   *
   * @default {"cpu"}
   */
  readonly device?: Device | undefined;
  /** Stops the run. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a layer once, and back where gradients are wanted.
 *
 * @param run Which layer, with what.
 * @returns `out/y`, and `grad/in/NAME` and `grad/state/NAME` as asked for; they are the caller's.
 * @throws {KinoraError} `unsupported` when the kind, its configuration or an argument of the call is not known here, or there
 * is no GPU to compute on, `refused` when the weights or inputs do not fit them.
 */
export async function runLayer(run: LayerRun): Promise<Record<string, Tensor>> {
  const { kind, config = {}, ints, state = {}, inputs = {}, positional = [], gradients = [], cotangent, signal } = run;
  const { tensors } = await runJob<{ readonly tensors: Readonly<Record<string, number>> }>(
    {
      verb: "layer.run",
      kind,
      config,
      call: run.call ?? {},
      ints,
      state: mapValues(state, handleOf),
      inputs: mapValues(inputs, handleOf),
      positional,
      gradients,
      cotangent: cotangent === undefined ? undefined : handleOf(cotangent),
      precision: run.precision ?? "f32",
      device: run.device ?? "cpu",
    },
    { signal },
    [...Object.values(state), ...Object.values(inputs), ...(cotangent === undefined ? [] : [cotangent])],
  );
  return mapValues(tensors, (handle) => new Tensor(handle));
}

/** The kinds of layers that {@linkcode runLayer} knows. */
export async function layerKinds(): Promise<readonly string[]> {
  return (await call<{ readonly kinds: readonly string[] }>({ verb: "layer.kinds" })).kinds;
}
