/**
 * What the options ask for.
 *
 * @module
 */
import { KinoraError } from "../ffi/errors.ts";
import { type Case, type Dtype, type Job, LAYER_KINDS, layerCase, LEVELS, type Pass, unetCase } from "./cases.ts";

/** What is not a row of a layer or network. */
export type Extra = "memory" | "start-up" | "roofline" | "scaling";

/** What to do. */
export interface Plan {
  /** Comparisons, in order. */
  readonly jobs: readonly Job[];
  /** The rest. */
  readonly extras: ReadonlySet<Extra>;
}

/** What limits a plan. */
export interface PlanOptions {
  /** Names that are wanted; everything but `roofline` and `scaling` when not given. */
  readonly only?: readonly string[] | undefined;
  /** The arithmetics that are wanted; all when not given. */
  readonly dtypes?: readonly Dtype[] | undefined;
  /** The passes that are wanted; all when not given. */
  readonly passes?: readonly Pass[] | undefined;
  /** Whether the last level alone is wanted of the layers, and of the network its forward in f32. */
  readonly quick?: boolean | undefined;
  /** Whether the network is compared with its compiled form as well. */
  readonly compile?: boolean | undefined;
}

const EXTRAS: readonly Extra[] = ["memory", "start-up", "roofline", "scaling"];

/** The names that a plan's `only` knows, besides those of single rows. */
export const NAMES: readonly string[] = ["unet", "layers", ...LAYER_KINDS, ...EXTRAS];

/**
 * Makes a plan.
 *
 * @throws {KinoraError} `refused` for a name that is not known.
 */
export function planOf({ only, dtypes, passes, quick = false, compile = false }: PlanOptions): Plan {
  const layers = LAYER_KINDS.flatMap((kind) => LEVELS.map((level) => layerCase(kind, level)));
  const unknown = only?.find((name) => !NAMES.includes(name) && !layers.some((layer) => layer.name === name));
  if (unknown !== undefined) {
    throw new KinoraError(
      "refused",
      `--only must name some of ${NAMES.join(", ")}, or a row like "${layers[0]?.name}", not "${unknown}"`,
    );
  }
  const wanted = (names: readonly string[]): boolean => only === undefined || names.some((name) => only.includes(name));
  const last = LEVELS[LEVELS.length - 1];
  const shown = layers.filter(({ name, layer, config }) =>
    wanted([name, layer, "layers"]) && (!quick || only !== undefined || config["channels"] === last?.[0])
  );
  const unet = unetCase(undefined, undefined, compile ? ["eager", "compile"] : ["eager"]);
  const cases: readonly Case[] = wanted(["unet"]) ? [unet, ...shown] : shown;
  const jobs = cases.flatMap((of) =>
    (["f32", "bf16"] as const).flatMap((dtype) => (["forward", "train"] as const).map((pass) => ({ of, pass, dtype })))
  );
  const extras = only === undefined
    ? quick ? [] : ["memory", "start-up"] as const
    : EXTRAS.filter((extra) => only.includes(extra));
  return {
    jobs: jobs.filter(({ of, pass, dtype }) =>
      (dtypes ?? [dtype]).includes(dtype) && (passes ?? [pass]).includes(pass) &&
      (!quick || only !== undefined || of.layer !== "unet" || (pass === "forward" && dtype === "f32"))
    ),
    extras: new Set(extras),
  };
}
