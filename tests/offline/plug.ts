/**
 * Stands in for `@denosaurs/plug` where its registry is out of reach: it refuses every download.
 *
 * @module
 */

/** Fails: there is no network to download from. */
export function download(options: { url: string }): Promise<string> {
  return Promise.reject(new Error(`Cannot download ${options.url}: no network`));
}
