/**
 * The one error class of the package.
 *
 * @module
 */

/**
 * What went wrong, as a word that does not change:
 *
 * - `refused`: the input is not accepted; nothing was done.
 * - `unsupported`: the input may be right, but its kind or configuration is not known here.
 * - `not-found`: a file or folder is not there.
 * - `bad-file`: a file is damaged, or not what it should be.
 * - `io`: reading or writing failed.
 * - `permission`: Deno was not given the permission that is needed.
 * - `failed`: the work began and could not be finished.
 * - `out-of-memory`: there is not enough memory for it.
 * - `cancelled`: it was stopped.
 * - `disposed`: an object was used after it was disposed.
 * - `bad-handle`: an object's native side is gone or of another kind.
 * - `library-not-found`: the native library is not built, or cannot be opened.
 * - `abi-mismatch`: the native library is of another version.
 * - `native-panic`: a bug in the native library; please report it.
 */
export type KinoraErrorCode =
  | "refused"
  | "unsupported"
  | "not-found"
  | "bad-file"
  | "io"
  | "permission"
  | "failed"
  | "out-of-memory"
  | "cancelled"
  | "disposed"
  | "bad-handle"
  | "library-not-found"
  | "abi-mismatch"
  | "native-panic";

/** Whatever this package throws by itself: `code` is for programs, `message` a sentence for people. */
export class KinoraError extends Error {
  /** What went wrong. */
  readonly code: KinoraErrorCode;

  /**
   * Makes an error.
   *
   * @param code What went wrong.
   * @param message A sentence that names the field or file and what is accepted.
   * @param options `cause` is the error behind this one.
   */
  constructor(code: KinoraErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "KinoraError";
    this.code = code;
  }
}
