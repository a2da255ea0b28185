/**
 * Where a library comes from that was not built on this machine.
 *
 * @module
 */
import { KinoraError } from "./errors.ts";

/**
 * The folder with the published libraries of this version, one file a platform; `undefined` as long as none is
 * published.
 */
const RELEASE: string | undefined = undefined;

/** What is used of `_plug.ts`; written out because importing its type would load plug. */
interface PlugModule {
  download(url: string): Promise<string>;
}

/**
 * Fetches the published library for this machine, once: it is kept in a cache.
 *
 * @param name The file name without system and architecture, for example `libkinora.so`.
 * @param release The folder with the published libraries.
 * @returns Its path.
 * @throws {KinoraError} `library-not-found` when none is published, or it cannot be fetched.
 */
export async function downloadLibrary(name: string, release: string | undefined = RELEASE): Promise<string> {
  const { os, arch } = Deno.build;
  if (release === undefined) {
    throw new KinoraError(
      "library-not-found",
      `No native library is published for ${os} ${arch} yet: clone the repository, run "deno task build" in it (it ` +
        "needs Rust, https://rustup.rs), and set KINORA_LIBRARY to the path of native/target/release/" + name,
    );
  }
  const url = `${release}/${os}-${arch}-${name}`;
  // Computed, so that the module graph of a normal run ends here.
  const plug: string = new URL("./_plug.ts", import.meta.url).href;
  try {
    const { download } = await import(plug) as PlugModule;
    return await download(url);
  } catch (cause) {
    throw new KinoraError("library-not-found", `Cannot fetch the native library ${url}: ${(cause as Error).message}`, {
      cause,
    });
  }
}
