/**
 * The only module that imports plug. It is reached by a computed import, so that running, checking and testing the
 * package never contacts a registry.
 *
 * @module
 */
import { download as fetchLibrary } from "@denosaurs/plug";

/**
 * Fetches a published library into plug's cache.
 *
 * @param url Where it is.
 * @returns The path of the file in the cache.
 */
export async function download(url: string): Promise<string> {
  return await fetchLibrary({ url });
}
