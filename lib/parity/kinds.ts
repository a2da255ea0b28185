/**
 * Every kind of fixture that can be answered. A kind is one file of `lib/parity/kinds/` that exports its
 * {@linkcode AnswerKind} as `answer`; it is loaded when a fixture asks for it.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { layerKinds } from "../../ffi/layer.ts";
import type { AnswerKind } from "./kind.ts";

/** Loads the answer of a kind. */
type Load = () => Promise<{ readonly answer: AnswerKind }>;

const scheduler: Load = () => import("./kinds/diffusers_scheduler.ts");

const KINDS: ReadonlyMap<string, Load> = new Map<string, Load>([
  ["diffusers.DDIMScheduler", scheduler],
  ["diffusers.DDPMScheduler", scheduler],
  ["diffusers.DPMSolverMultistepScheduler", scheduler],
  ["diffusers.UnCLIPScheduler", () => import("./kinds/unclip_scheduler.ts")],
  ["interp.blend", () => import("./kinds/interp_blend.ts")],
  ["interp.psnr_ssim", () => import("./kinds/interp_psnr_ssim.ts")],
  ["loss.hybrid", () => import("./kinds/loss_hybrid.ts")],
  ["media.decode", () => import("./kinds/media_decode.ts")],
  ["rule.splitmix24", () => import("./kinds/rule_splitmix24.ts")],
  ["tokenizer.clip", () => import("./kinds/tokenizer_clip.ts")],
]);

/** The kinds that {@linkcode answerOf} finds, in alphabetical order. */
export async function kindNames(): Promise<string[]> {
  return [...KINDS.keys(), ...await layerKinds()].sort();
}

/**
 * How fixtures of a kind are answered.
 *
 * @param kind The kind, as a manifest names it.
 * @throws {KinoraError} `unsupported` when there is no such kind here.
 */
export async function answerOf(kind: string): Promise<AnswerKind> {
  const load = KINDS.get(kind) ??
    ((await layerKinds()).includes(kind) ? () => import("./kinds/native_layer.ts") : undefined);
  if (load === undefined) {
    throw new KinoraError(
      "unsupported",
      `The kind "${kind.slice(0, 80)}" is not known here; --list names those that are`,
    );
  }
  return (await load()).answer;
}
