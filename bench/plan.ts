/**
 * What the options ask for.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import type { Device } from "../ffi/network.ts";
import { type Case, type Dtype, type Job, LAYER_KINDS, layerCase, LEVELS, type Pass, unetCase } from "./cases.ts";

/** What is not a row of a layer or network. */
export type Extra = "memory" | "start-up" | "roofline" | "scaling" | "tails" | "video";

/** What to do. */
export interface Plan {
  /** Comparisons, in order. */
  readonly jobs: readonly Job[];
  /** The rest. */
  readonly extras: ReadonlySet<Extra>;
}

/** What limits a plan. */
export interface PlanOptions {
  /** Names that are wanted; when not given, layers, network, `memory` and `start-up`, or on a GPU all that is measured there. */
  readonly only?: readonly string[] | undefined;
  /** The arithmetics that are wanted; `f32` and `bf16` when not given. */
  readonly dtypes?: readonly Dtype[] | undefined;
  /** The passes that are wanted; all when not given. */
  readonly passes?: readonly Pass[] | undefined;
  /** Whether the last level alone is wanted of the layers, and of the network its forward in f32. */
  readonly quick?: boolean | undefined;
  /** Whether the network is compared with its compiled form as well. */
  readonly compile?: boolean | undefined;
  /** What computes; on a GPU the layers, too, are compared with their compiled forms. */
  readonly device?: Device | undefined;
}

const EXTRAS: readonly Extra[] = ["memory", "start-up", "roofline", "scaling", "tails", "video"];
/** Those that are measured on a GPU. */
const OF_GPUS: readonly Extra[] = ["roofline", "video"];

/** The names that a plan's `only` knows, besides those of single rows. */
export const NAMES: readonly string[] = ["unet", "layers", ...LAYER_KINDS, ...EXTRAS];

/**
 * Makes a plan.
 *
 * @throws {KinoraError} `refused` for a name that is not known.
 */
export function planOf(
  { only, dtypes = ["f32", "bf16"], passes, quick = false, compile = false, device = "cpu" }: PlanOptions,
): Plan {
  const gpu = device === "cuda";
  const kinds = LAYER_KINDS.flatMap((kind) => LEVELS.map((level) => layerCase(kind, level)));
  const layers = gpu ? kinds.map((layer): Case => ({ ...layer, peers: [...layer.peers, "compile"] })) : kinds;
  const unknown = only?.find((name) => !NAMES.includes(name) && !layers.some((layer) => layer.name === name));
  if (unknown !== undefined) {
    throw new KinoraError(
      "refused",
      `--only must name some of ${NAMES.join(", ")}, or a row like "${layers[0]?.name}", not "${unknown}"`,
    );
  }
  const elsewhere = gpu ? EXTRAS.find((extra) => !OF_GPUS.includes(extra) && only?.includes(extra)) : undefined;
  if (elsewhere !== undefined) {
    throw new KinoraError("refused", `--only ${elsewhere} is not measured on a GPU: leave --device out`);
  }
  const wanted = (names: readonly string[]): boolean => only === undefined || names.some((name) => only.includes(name));
  const last = LEVELS[LEVELS.length - 1];
  const shown = layers.filter(({ name, layer, config }) =>
    wanted([name, layer, "layers"]) && (!quick || only !== undefined || config["channels"] === last?.[0])
  );
  const unet = unetCase(undefined, undefined, compile || gpu ? ["eager", "compile"] : ["eager"]);
  const cases: readonly Case[] = wanted(["unet"]) ? [unet, ...shown] : shown;
  const jobs = cases.flatMap((of) =>
    dtypes.flatMap((dtype) => (["forward", "train"] as const).map((pass) => ({ of, pass, dtype })))
  );
  const extras = only === undefined
    ? quick ? [] : gpu ? OF_GPUS : ["memory", "start-up"] as const
    : EXTRAS.filter((extra) => only.includes(extra));
  return {
    jobs: jobs.filter(({ of, pass, dtype }) =>
      (passes ?? [pass]).includes(pass) &&
      (!quick || only !== undefined || of.layer !== "unet" || (pass === "forward" && dtype === "f32"))
    ),
    extras: new Set(extras),
  };
}
