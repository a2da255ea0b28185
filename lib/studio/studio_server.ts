/**
 * What the studio answers: the page, runs, and past ones. Plain requests and responses; `studio.ts` puts it on a port.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import { KinoraError } from "../../ffi/errors.ts";
import { eventStream } from "./event_stream.ts";
import type { Gallery } from "./gallery.ts";
import { MOST_PICTURE_BYTES } from "./given_pictures.ts";
import { prepareRun, runJob, type RunRoom } from "./run_job.ts";
import { readBody, readStudioRequest } from "./studio_request.ts";

/** The page's files, their places beside this one, and their MIME types. */
const FILES: Readonly<Record<string, readonly [file: string, type: string]>> = {
  "": ["page/studio.html", "text/html; charset=utf-8"],
  "studio.css": ["page/studio.css", "text/css; charset=utf-8"],
  ...Object.fromEntries(
    ["elements.js", "given_pictures.js", "past_runs.js", "studio.js"].map((
      name,
    ) => [name, [`page/${name}`, "text/javascript; charset=utf-8"] as const]),
  ),
};

/**
 * What goes with every answer: the page runs its own script and style and talks to its own server, nothing else, and only
 * pages of this machine (a notebook) may show it in a frame.
 */
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*",
  ].join("; "),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
};

/** What the studio works with. */
export interface StudioRoom extends RunRoom {
  /** What every path begins with: without it nothing is answered. */
  readonly token: string;
  /** Aborted when the studio is closed. */
  readonly closing: AbortSignal;
}

/**
 * Makes the studio's answers.
 *
 * @param room What it works with.
 * @returns What answers a request.
 */
export function studioHandler(room: StudioRoom): (request: Request) => Promise<Response> {
  return async (request) => {
    const response = await answer(request, room).catch(failure);
    for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
    return response;
  };
}

async function answer(request: Request, room: StudioRoom): Promise<Response> {
  const { hostname, pathname, searchParams } = new URL(request.url);
  // A name that somebody else's server gave this address to is not this machine.
  if (hostname !== "127.0.0.1" && hostname !== "localhost") return refusal(403, "The studio answers this machine only");
  const [, token = "", ...rest] = pathname.split("/");
  if (!sameText(token, room.token) || rest.length === 0) return refusal(404, "Not found");
  const [place = "", name = ""] = rest.map(decodeURIComponent);
  const file = rest.length === 1 ? FILES[place] : undefined;
  if (request.method === "POST" && place === "generate" && rest.length === 1) {
    const task = await readStudioRequest(request);
    // What cannot be done is refused here, with a status, before anything is queued. Nothing is held while it waits.
    (await prepareRun(task, room))[Symbol.dispose]();
    return eventStream((send, signal) => runJob(task, room, send, AbortSignal.any([signal, room.closing])));
  }
  const still = searchParams.has("still");
  if (request.method === "POST" && place === "given" && rest.length === 1) {
    // A past run is taken from where it is; anything else comes with the request.
    const run = searchParams.get("run");
    const source = run === null ? request : await room.gallery.file(run);
    const bytes = await readBody(source, MOST_PICTURE_BYTES, "The picture");
    const { id } = await room.pictures.add(bytes, run ?? searchParams.get("name") ?? "picture");
    return Response.json(await room.pictures.show(id, still), noStore());
  }
  if (request.method !== "GET") return refusal(405, "Method not allowed");
  if (file !== undefined) return await pageFile(...file);
  if (rest.length === 1 && place === "model") return Response.json(modelSummary(room));
  if (rest.length === 1 && place === "runs") return Response.json(await room.gallery.list(), noStore());
  if (rest.length === 2 && place === "runs") return await runFile(room.gallery, name);
  if (rest.length === 2 && place === "given") return Response.json(await room.pictures.show(name, still), noStore());
  if (rest.length === 2 && place === "thumbs") {
    const thumb = await room.gallery.thumb(name, still);
    return new Response(thumb, { headers: { "content-type": "image/png" } });
  }
  return refusal(404, "Not found");
}

async function pageFile(file: string, type: string): Promise<Response> {
  // Not a path of the disk: the package may be loaded from a registry.
  const { body } = await fetch(new URL(file, import.meta.url));
  return new Response(body, { headers: { "content-type": type, "cache-control": "no-cache" } });
}

async function runFile(gallery: Gallery, name: string): Promise<Response> {
  const { type, body } = await gallery.file(name);
  return new Response(body, { headers: { "content-type": type } });
}

/** What the page needs to know of the model. */
function modelSummary({ cascade }: StudioRoom): unknown {
  const { index } = cascade;
  const { decoder, interpolation, "sr-low": low, "sr-high": high } = index.stages;
  const sampled = (stage: typeof decoder | typeof interpolation): unknown => ({
    steps: stage?.steps,
    guidance: stage?.guidance,
  });
  const keyFrames = decoder?.frames ?? 0;
  return {
    name: index.name,
    frames: [1, keyFrames, ...interpolation === undefined ? [] : [2, 5].map((skip) => (keyFrames - 1) * skip + 1)],
    sizes: [
      decoder?.size,
      low?.size,
      ...high === undefined ? [] : [Math.round(high.size * 2 / 3), high.size],
    ].filter((size) => size !== undefined),
    fps: decoder?.fps,
    decoder: sampled(decoder),
    interpolation: sampled(interpolation),
    pictureBytes: MOST_PICTURE_BYTES,
  };
}

/** An error as an answer. */
function failure(error: unknown): Response {
  if (!(error instanceof KinoraError)) return refusal(500, `internal error: ${(error as Error).message}`);
  return refusal(error.code === "not-found" ? 404 : error.code === "refused" ? 400 : 500, error.message);
}

function refusal(status: number, error: string): Response {
  return Response.json({ error }, { status, ...noStore() });
}

function noStore(): ResponseInit {
  return { headers: { "cache-control": "no-store" } };
}

function sameText(one: string, other: string): boolean {
  const encoder = new TextEncoder();
  const [a, b] = [encoder.encode(one), encoder.encode(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
