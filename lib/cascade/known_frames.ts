/**
 * What the interpolation's network sees besides the noisy frames: the frames that are known, and what lies between them.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Tensor, type TensorTerm } from "../../ffi/tensor.ts";
import { COLOURS } from "./decoder.ts";
import { each } from "./network_stage.ts";
import type { FrameWindow } from "./windows.ts";

/**
 * The known frames of a window in their places, zeros everywhere else: (B, L, H, W, 3).
 *
 * @param frames The given frames (B, K, H, W, 3).
 * @param generated Those the window is given of earlier windows (B, G, H, W, 3), in the order it names them.
 * @param window The window.
 * @throws {KinoraError} `refused` when the window needs more of earlier windows than there is.
 */
export async function knownFrames(
  frames: Tensor,
  generated: Tensor | undefined,
  window: FrameWindow,
): Promise<Tensor> {
  const [batch = 0, count = 0, height = 0, width = 0] = frames.shape;
  using zero = await Tensor.create(
    [batch, 1, height, width, COLOURS],
    new Float32Array(batch * height * width * COLOURS),
  );
  using pool = await Tensor.cat(generated === undefined ? [frames, zero] : [frames, zero, generated], 1);
  const indices = each(window.length, count);
  let used = 0;
  for (const { position, source, frame } of window.known) {
    if (source === "generated" && used >= (generated?.shape[1] ?? 0)) {
      throw new KinoraError("refused", `the window at frame ${window.start} needs the end of the window before`);
    }
    indices[position] = source === "key" ? frame : count + 1 + used++;
  }
  return await pool.gather(1, indices);
}

/**
 * The known frames, between them a linear blend of the two beside, and before the first and after the last the nearest:
 * (B, L, H, W, 3).
 *
 * @param known The known frames in their places (B, L, H, W, 3); what is elsewhere does not matter.
 * @param window Which they are.
 */
export async function blendedFrames(known: Tensor, window: Pick<FrameWindow, "known">): Promise<Tensor> {
  if (window.known.length === 0) return await Tensor.combine([{ tensor: known, scale: 0 }]);
  const { before, after, shares } = knownBeside(known, window);
  return await mixed(known, [
    { places: before, scales: shares.map((share) => 1 - share) },
    { places: after, scales: shares },
  ]);
}

/** Pixels that anything may move between two known frames, of 64. */
const REACH = 3;

/** A quarter of a step of 8-bit colours in [-1, 1]: what moves less does not move. */
const LEAST_MOTION = 0.002;

/** How much moves between the known frames of a window. */
export interface KnownMotion {
  /** The plain blend ({@linkcode blendedFrames}), but between known frames along their motion ({@linkcode Tensor.between}). */
  readonly blend: Tensor;
  /**
   * For each hidden frame between two known ones the later less the earlier, divided by `size`; zeros elsewhere:
   * (B, L, H, W, 3).
   */
  readonly difference: Tensor;
  /** The root mean square of those differences for each sample, in units of the frames, at least 0.002. */
  readonly size: readonly number[];
  /** Which frames lie between two known ones, L of them. */
  readonly between: readonly boolean[];
}

/**
 * Measures how much moves between known frames.
 *
 * @param known The known frames in their places (B, L, H, W, 3); what is elsewhere does not matter.
 * @param window Which they are.
 */
export async function knownMotion(known: Tensor, window: Pick<FrameWindow, "known">): Promise<KnownMotion> {
  const { before, after, shares } = knownBeside(known, window);
  const between = before.map((place, index) => place < index && index < (after[index] ?? index));
  using stack = new DisposableStack();
  const blend = stack.use(await movingBlend(known, window, { before, after, shares, between }));
  using apart = await mixed(known, [
    { places: after, scales: between.map(Number) },
    { places: before, scales: between.map((is) => -Number(is)) },
  ]);
  const size: number[] = [];
  const share = between.filter(Boolean).length / between.length;
  for (let sample = 0; sample < (known.shape[0] ?? 0); sample++) {
    using one = await apart.gather(0, [sample]);
    const { rms } = await one.stats();
    size.push(share === 0 ? LEAST_MOTION : Math.max(LEAST_MOTION, rms / Math.sqrt(share)));
  }
  const difference = await Tensor.combine([{ tensor: apart, scale: size.map((rms) => 1 / rms) }]);
  stack.move();
  return { blend, difference, size, between };
}

/** The plain blend with the frames between known ones in their places along the motion. */
async function movingBlend(
  known: Tensor,
  window: Pick<FrameWindow, "known">,
  beside: {
    readonly before: readonly number[];
    readonly after: readonly number[];
    readonly shares: readonly number[];
    readonly between: readonly boolean[];
  },
): Promise<Tensor> {
  const blend = await blendedFrames(known, window);
  const places = beside.between.flatMap((is, place) => is ? [place] : []);
  if (places.length === 0) return blend;
  using plain = blend;
  const [batch = 0, length = 0, height = 0] = known.shape;
  const at = (of: readonly number[]): number[] => places.map((place) => of[place] ?? 0);
  using from = await known.gather(1, at(beside.before));
  using to = await known.gather(1, at(beside.after));
  using moved = await from.between(to, {
    shares: range(0, batch).flatMap(() => at(beside.shares)),
    reach: Math.max(1, Math.min(16, Math.round(REACH * height / 64))),
  });
  using both = await Tensor.cat([plain, moved], 1);
  return await both.gather(
    1,
    range(0, length).map((place) => {
      const index = places.indexOf(place);
      return index < 0 ? place : length + index;
    }),
  );
}

/** The known frames on both sides of each frame, and how far it lies on the way from the one to the other, 0 to 1. */
function knownBeside(known: Tensor, window: Pick<FrameWindow, "known">): {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly shares: readonly number[];
} {
  const all = range(0, known.shape[1] ?? 0);
  const places = window.known.map(({ position }) => position).sort((one, other) => one - other);
  const [first = 0, last = 0] = [places[0], places.at(-1)];
  const before = all.map((place) => places.findLast((known) => known <= place) ?? first);
  const after = all.map((place) => places.find((known) => known >= place) ?? last);
  const shares = all.map((place) => {
    const [from = first, to = last] = [before[place], after[place]];
    return from < to ? (place - from) / (to - from) : 0;
  });
  return { before, after, shares };
}

/** The weighted sum of frames at other places, with a weight for each place: (B, L, H, W, C). */
async function mixed(
  frames: Tensor,
  terms: readonly { readonly places: readonly number[]; readonly scales: readonly number[] }[],
): Promise<Tensor> {
  const [batch = 0, length = 0, ...frame] = frames.shape;
  using stack = new DisposableStack();
  const addends: TensorTerm[] = [];
  for (const { places, scales } of terms) {
    const moved = stack.use(await frames.gather(1, places));
    // Scales go by the first axis.
    const tensor = stack.use(await moved.reshape([batch * length, ...frame]));
    addends.push({ tensor, scale: range(0, batch).flatMap(() => scales) });
  }
  const sum = stack.use(await Tensor.combine(addends));
  return await sum.reshape(frames.shape);
}

/** How the network's output becomes frames, where it gives the difference to a blend. */
export interface ResidualSettings {
  /** What its output is multiplied by; without it, it gives the frames, and sees zeros where a frame is masked. */
  readonly residual_scale?: number;
  /** Whether it sees how much moves between known frames, and gives what lies between them in units of that. */
  readonly known_motion?: boolean;
}

/** What a network sees of the known frames of a window, and what it gives. */
export class KnownFrames implements Disposable {
  /** Its further channels: (B, L, H, W, 4), or 7 with `known_motion`. */
  readonly channels: Tensor;
  readonly #blend: Tensor | undefined;
  readonly #scales: readonly number[];

  private constructor(channels: Tensor, blend: Tensor | undefined, scales: readonly number[]) {
    this.channels = channels;
    this.#blend = blend;
    this.#scales = scales;
  }

  /**
   * Prepares a window.
   *
   * @param known The known frames in their places, zeros elsewhere (B, L, H, W, 3).
   * @param window Which they are.
   * @param settings What the network was trained to see and give.
   */
  static async of(
    known: Tensor,
    window: Pick<FrameWindow, "known">,
    settings: ResidualSettings,
  ): Promise<KnownFrames> {
    const { residual_scale: scale, known_motion: moving } = settings;
    const [batch = 0, length = 0] = known.shape;
    if (scale === undefined) return new KnownFrames(await maskedInput(known, window), undefined, []);
    using kept = new DisposableStack();
    using parts = new DisposableStack();
    const motion = moving === true ? await knownMotion(known, window) : undefined;
    const blend = kept.use(motion?.blend ?? await blendedFrames(known, window));
    const seen = [parts.use(await maskedInput(blend, window))];
    if (motion !== undefined) seen.push(parts.use(motion.difference));
    const channels = await Tensor.cat(seen, 4);
    const scales = motion === undefined
      ? each(batch * length, scale)
      : motion.size.flatMap((rms) => motion.between.map((is) => is ? rms : scale));
    kept.move();
    return new KnownFrames(channels, blend, scales);
  }

  /**
   * The frames that an output of the network means; without `residual_scale` it is the frames.
   *
   * @param output What the network gave, (B, L, H, W, 3); it becomes this object's.
   */
  async frames(output: Tensor): Promise<Tensor> {
    const blend = this.#blend;
    if (blend === undefined) return output;
    using given = output;
    return await this.#sum([{ tensor: blend, scale: 1 }, { tensor: given, scale: this.#scales }]);
  }

  /**
   * What the network should give for frames; without `residual_scale` that is undefined, for its prediction decides.
   *
   * @param clean The frames, (B, L, H, W, 3).
   */
  async target(clean: Tensor): Promise<Tensor | undefined> {
    const blend = this.#blend;
    if (blend === undefined) return undefined;
    const scales = this.#scales.map((scale) => 1 / scale);
    return await this.#sum([{ tensor: clean, scale: scales }, { tensor: blend, scale: scales.map((scale) => -scale) }]);
  }

  /** A sum whose scales are of frames: a number, or one for each frame of each sample. */
  async #sum(terms: readonly TensorTerm[]): Promise<Tensor> {
    const [batch = 0, length = 0, ...frame] = terms[0]?.tensor.shape ?? [];
    using stack = new DisposableStack();
    const flat: TensorTerm[] = [];
    for (const { tensor, scale } of terms) {
      flat.push({ tensor: stack.use(await tensor.reshape([batch * length, ...frame])), scale });
    }
    const sum = stack.use(await Tensor.combine(flat));
    return await sum.reshape([batch, length, ...frame]);
  }

  /** Frees what it holds. */
  [Symbol.dispose](): void {
    this.channels.dispose();
    this.#blend?.dispose();
  }
}

/**
 * The four channels that the network gets besides the noisy frames: the known frames, and 1 where a frame is masked.
 *
 * @param known The known frames, zeros or a blend elsewhere (B, L, H, W, 3).
 * @param window Which they are.
 * @returns (B, L, H, W, 4).
 */
export async function maskedInput(known: Tensor, window: Pick<FrameWindow, "known">): Promise<Tensor> {
  const [batch = 0, length = 0, height = 0, width = 0] = known.shape;
  const values = new Float32Array(batch * length * height * width).fill(1);
  const frame = height * width;
  for (let sample = 0; sample < batch; sample++) {
    for (const { position } of window.known) {
      const at = (sample * length + position) * frame;
      values.fill(0, at, at + frame);
    }
  }
  using mask = await Tensor.create([batch, length, height, width, 1], values);
  return await Tensor.cat([known, mask], 4);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}
