/**
 * Where the results of a verb go: names made from prompts, and whether a place can be written to, asked before the work.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/**
 * A file name made from a prompt: `a-butterfly` of "A butterfly!". At most 60 characters.
 *
 * @param prompt The prompt.
 * @returns The name without an ending; `video` where the prompt has no letter and no digit.
 */
export function slug(prompt: string): string {
  const words = prompt.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  let name = "";
  for (const word of words) {
    const longer = name === "" ? word : `${name}-${word}`;
    if (longer.length > 60) break;
    name = longer;
  }
  return name === "" ? [...words[0] ?? "video"].slice(0, 30).join("") : name;
}

/** The folder that a file goes into. */
export function parentFolder(path: string): string {
  const trimmed = path.replace(/\/+$/, "");
  const at = trimmed.lastIndexOf("/");
  return at < 0 ? "." : at === 0 ? "/" : trimmed.slice(0, at);
}

/** A path without the ending of its name, and without a slash at its end. */
export function withoutExtension(path: string): string {
  return path.replace(/\/+$/, "").replace(/(?<=[^/])\.[^./]*$/, "");
}

/**
 * Checks that a file can be written, by writing and removing an empty one beside it.
 *
 * @param path The file, or with a slash at its end a folder that is made later.
 * @throws {KinoraError} `refused` when the folder is missing or cannot be written to, or `path` is a folder itself.
 */
export async function checkWritable(path: string): Promise<void> {
  const folder = parentFolder(path);
  const there = await Deno.stat(path.replace(/\/+$/, "")).catch(() => undefined);
  if (there !== undefined && there.isDirectory !== path.endsWith("/")) {
    const kind = there.isDirectory ? "a folder; put a / at its end to write PNG files into it" : "a file, not a folder";
    throw new KinoraError("refused", `Cannot write "${path}": it is ${kind}`);
  }
  if (there === undefined) {
    const stat = await Deno.stat(folder).catch(() => undefined);
    if (stat === undefined || !stat.isDirectory) {
      const why = stat === undefined ? "does not exist" : "is not a folder";
      throw new KinoraError("refused", `Cannot write "${path}": the folder "${folder}" ${why}`);
    }
  }
  await checkFolderWritable(there?.isDirectory === true ? path : folder, path);
}

/**
 * Checks that files can be made in a folder.
 *
 * @param folder The folder, which exists.
 * @param path What is to be written, for the message.
 * @throws {KinoraError} `refused` when they cannot.
 */
export async function checkFolderWritable(folder: string, path = folder): Promise<void> {
  const probe = `${folder.replace(/\/+$/, "")}/.kinora-${crypto.randomUUID().slice(0, 8)}.partial`;
  try {
    await Deno.writeFile(probe, new Uint8Array(), { createNew: true });
    await Deno.remove(probe);
  } catch (cause) {
    const why = cause instanceof Deno.errors.PermissionDenied || cause instanceof Deno.errors.NotCapable
      ? "it may not be written to"
      : (cause as Error).message;
    throw new KinoraError("refused", `Cannot write "${path}": the folder "${folder}" is not writable (${why})`, {
      cause,
    });
  }
}

/** The first of `name`, `name-2`, `name-3` and so on that does not exist yet. */
export async function unusedPath(name: string): Promise<string> {
  for (let number = 1;; number++) {
    const path = number === 1 ? name : `${name}-${number}`;
    if (await Deno.lstat(path).catch(() => undefined) === undefined) return path;
  }
}
