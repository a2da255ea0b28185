/**
 * What is timed: the layers of a pseudo-3D U-Net at the sizes of its levels, and a whole SpaceTimeUnet.
 *
 * @module
 */

/** The arithmetic of a row; `bf16x3` is compared with the other side's f32. */
export type Dtype = "f32" | "bf16" | "bf16x3";

/** What a row times: the result alone, or a step of training (a layer's forward and backward). */
export type Pass = "forward" | "train";

/**
 * A form of the other side: as PyTorch is used by default (`eager`; attention with its scores in memory), with
 * `channels_last` tensors (a temporal convolution as `conv3d`), with `scaled_dot_product_attention`, compiled, or a
 * temporal convolution with the permutations of make-a-video-pytorch (`lucidrains`).
 */
export type Peer = "eager" | "channels_last" | "sdpa" | "compile" | "lucidrains";

/** A layer or network at one size. */
export interface Case {
  /** The row's name. */
  readonly name: string;
  /** The kind of layer, or `unet`. */
  readonly layer: string;
  /** What both sides make it from. */
  readonly config: Readonly<Record<string, unknown>> & { readonly frames: number; readonly size: number };
  /** The forms it is compared with. */
  readonly peers: readonly Peer[];
}

/** A case with what is timed of it. */
export interface Job {
  /** The case. */
  readonly of: Case;
  /** What is timed. */
  readonly pass: Pass;
  /** The arithmetic. */
  readonly dtype: Dtype;
}

/** Channels and sides of the levels. */
export const LEVELS: readonly (readonly [channels: number, size: number])[] = [[64, 64], [128, 32], [256, 16], [
  512,
  8,
]];

/** Frames of a clip. */
export const FRAMES = 16;

/** Channels of an attention head. */
const HEAD = 64;

const LAYERS: Readonly<Record<string, readonly Peer[]>> = {
  conv3x3: ["eager", "channels_last"],
  conv1x1: ["eager", "channels_last"],
  linear: ["eager"],
  temporal_conv: ["lucidrains", "channels_last"],
  temporal_attention: ["eager", "sdpa"],
  spatial_attention: ["eager", "sdpa"],
  norm: ["eager", "channels_last"],
};

/** The kinds of layers. */
export const LAYER_KINDS: readonly string[] = Object.keys(LAYERS);

/** Constructor arguments of make-a-video-pytorch's SpaceTimeUnet with 59.8 million parameters. */
export const SPACE_TIME_UNET: Readonly<Record<string, unknown>> = {
  dim: 64,
  channels: 3,
  dim_mult: [1, 2, 4, 8],
  resnet_block_depths: [1, 1, 1, 2],
  temporal_compression: [false, false, false, true],
  self_attns: [false, false, false, true],
  condition_on_timestep: true,
  attn_pos_bias: false,
  flash_attn: false,
};

/** A kind of layer at a level. */
export function layerCase(layer: string, [channels, size]: readonly [number, number]): Case {
  return {
    name: `${layer}-${channels}@${size}`,
    layer,
    config: { frames: FRAMES, size, channels, heads: channels / HEAD },
    peers: LAYERS[layer] ?? [],
  };
}

/** The whole network on one clip. */
export function unetCase(frames = FRAMES, size = 64, peers: readonly Peer[] = ["eager"]): Case {
  return { name: "unet", layer: "unet", config: { network: SPACE_TIME_UNET, frames, size }, peers };
}

/**
 * Operations of a layer: two for each multiplication that is added; of a norm, none that are counted. A product's
 * gradients are two products more.
 *
 * @returns `undefined` for what is not a layer.
 */
export function operations({ layer, config }: Case, pass: Pass = "forward"): number | undefined {
  const { frames, size } = config;
  const channels = Number(config["channels"]);
  const rows = (pass === "train" ? 3 : 1) * frames * size * size;
  const product = (taps: number): number => 2 * rows * taps * channels * channels;
  switch (layer) {
    case "conv3x3":
      return product(9);
    case "temporal_conv":
      return product(3);
    case "conv1x1":
    case "linear":
      return product(1);
    case "temporal_attention":
      return 4 * rows * frames * channels;
    case "spatial_attention":
      return 4 * rows * size * size * channels;
    case "norm":
      return 0;
    default:
      return undefined;
  }
}

/**
 * Bytes that a layer must move at least: f32 activations in and out once, and the weights; for the gradients the input, the
 * weights and the output's gradient once more, and the gradients that they make.
 */
export function leastBytes({ layer, config }: Case, pass: Pass = "forward"): number {
  const channels = Number(config["channels"]);
  const activations = config.frames * config.size ** 2 * channels;
  const weights: Readonly<Record<string, number>> = { conv3x3: 9, temporal_conv: 3, conv1x1: 1, linear: 1 };
  const read = layer.endsWith("attention") ? 3 : 1;
  const [ins, outs, kernels] = pass === "train" ? [3, 2, 3] : [1, 1, 1];
  return 4 * ((ins * read + outs) * activations + kernels * (weights[layer] ?? 0) * channels ** 2);
}

/**
 * The largest relative error, in the Euclidean length of a result or of a whole gradient, at which both sides are said
 * to agree. f32 sums are rounded in another order; bf16 has 8 bits, and both sides round at other places.
 */
export function tolerance({ of: { layer }, dtype }: Job): number {
  const whole = layer === "unet";
  if (dtype === "f32") return whole ? 1e-4 : 1e-5;
  if (dtype === "bf16x3") return whole ? 1e-3 : 3e-5;
  if (whole) return 0.03;
  return 0.015;
}
