/**
 * The version of this package.
 *
 * @module
 */
import deno from "../deno.json" with { type: "json" };

/** The version in `deno.json`, for example `"0.1.0"`. */
export const VERSION: string = deno.version;
