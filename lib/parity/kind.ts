/**
 * What it takes to answer fixtures of one kind.
 *
 * @module
 */
import type { Device, Precision } from "../../ffi/network.ts";
import type { Fixture } from "./fixture.ts";
import type { PlainTensor } from "./safetensors.ts";

/** Where and how answers are computed. */
export interface AnswerOptions {
  /** The arithmetic of native layers; whatever is computed in TypeScript is computed in f64. */
  readonly precision: Precision;
  /**
   * Where native layers are computed.
   *
   * @default {"cpu"}
   */
  readonly device?: Device | undefined;
  /** Stops the computation. */
  readonly signal?: AbortSignal | undefined;
}

/** Answers by their full names, for example `out/y`. */
export type Answers = Map<string, PlainTensor>;

/**
 * Computes what a fixture wants; more is allowed, `fixture.wanted` says what is needed.
 *
 * @throws {KinoraError} `unsupported` when the configuration is not known here, `bad-file` when an input is missing or
 * does not fit.
 */
export type AnswerKind = (fixture: Fixture, options: AnswerOptions) => Promise<Answers> | Answers;
