/**
 * The studio: a page on this machine to make videos with, watching every stage.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Cascade } from "../cascade/cascade.ts";
import { loadCascade } from "../load_cascade.ts";
import { DISPLAY, escapeHtml, type MediaBundle } from "../notebook/media_bundle.ts";
import { FairQueue } from "./fair_queue.ts";
import { Gallery } from "./gallery.ts";
import { GivenPictures } from "./given_pictures.ts";
import { studioHandler } from "./studio_server.ts";

/** How the studio is opened. */
export interface StudioOptions {
  /** The cascade it works with, which stays the caller's; by default it opens one. */
  readonly cascade?: Cascade;
  /** The folder of the model that it opens; by default the one of this package. */
  readonly model?: string;
  /** Where videos go and past runs are looked for; pictures that the page brings go into `given` in it. @default {"out"} */
  readonly folder?: string;
  /** The port, 0 to 65,535; 0 takes a free one. @default {0} */
  readonly port?: number;
}

/** An open studio. */
export class Studio implements AsyncDisposable {
  /** Where the page is. Whoever knows this address can use it; nobody else can. */
  readonly url: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #close: AbortController;
  readonly #own: Cascade | undefined;

  /**
   * Holds what is open; `openStudio` makes it.
   *
   * @param url Where the page is.
   * @param server Its server.
   * @param close Stops all runs.
   * @param own The cascade that is disposed with the studio.
   */
  constructor(
    url: string,
    server: Deno.HttpServer<Deno.NetAddr>,
    close: AbortController,
    own: Cascade | undefined,
  ) {
    this.url = url;
    this.#server = server;
    this.#close = close;
    this.#own = own;
  }

  /** Resolves when it is closed. */
  get finished(): Promise<void> {
    return this.#server.finished;
  }

  /** Closes the page's server; what runs is stopped. */
  async close(): Promise<void> {
    this.#close.abort(new KinoraError("cancelled", "the studio was closed"));
    await this.#server.shutdown();
    this.#own?.dispose();
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Shows the page in a notebook, where the browser is on the kernel's machine. */
  [DISPLAY](): MediaBundle {
    const url = escapeHtml(this.url);
    return {
      "text/plain": `Kinora studio: ${this.url}`,
      "text/html": `<iframe src="${url}" title="Kinora studio" width="100%" height="900" style="border:0"></iframe>` +
        `<p><a href="${url}" target="_blank" rel="noreferrer">Open the studio in its own tab</a></p>`,
    };
  }
}

/**
 * Opens the studio on 127.0.0.1.
 *
 * @param options How.
 * @throws {KinoraError} `refused` for a bad port or one that is taken, and what opening the model throws.
 */
export async function openStudio(options: StudioOptions = {}): Promise<Studio> {
  const { folder = "out", port = 0, model } = options;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new KinoraError("refused", `port must be a whole number from 0 to 65535, not ${port}`);
  }
  const own = options.cascade === undefined ? await loadCascade(model === undefined ? {} : { model }) : undefined;
  const cascade = options.cascade ?? own;
  if (cascade === undefined) throw new KinoraError("failed", "There is no cascade");
  const token = crypto.getRandomValues(new Uint8Array(24)).toBase64({ alphabet: "base64url", omitPadding: true });
  const trimmed = folder.replace(/(?<=.)\/+$/, "");
  const pictures = new GivenPictures(`${trimmed}/given`);
  const room = {
    cascade,
    folder: trimmed,
    pictures,
    gallery: new Gallery(trimmed, pictures),
    queue: new FairQueue(),
  };
  const controller = new AbortController();
  try {
    const server = Deno.serve({
      hostname: "127.0.0.1",
      port,
      onListen: () => {},
    }, studioHandler({ ...room, token, closing: controller.signal }));
    return new Studio(`http://127.0.0.1:${server.addr.port}/${token}/`, server, controller, own);
  } catch (cause) {
    own?.dispose();
    if (!(cause instanceof Deno.errors.AddrInUse)) throw cause;
    throw new KinoraError("refused", `port ${port} is taken: give another, or none for a free one`, { cause });
  }
}
