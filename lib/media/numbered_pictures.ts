/**
 * Folders of numbered pictures, as cameras, renderers and `ffmpeg` make them.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** The endings of the names of pictures. */
const PICTURE = /\.(png|jpe?g|webp|gif)$/i;

/**
 * The pictures of a folder whose names have a number, in the order of the last number in each; other files are left out.
 *
 * @param folder The folder.
 * @returns The paths, `1.png` before `10.png`.
 * @throws {KinoraError} `refused` when there is none, or two have the same number; `io` when the folder cannot be read.
 */
export async function numberedPictures(folder: string): Promise<string[]> {
  const numbered = new Map<bigint, string>();
  for (const name of await names(folder)) {
    // A name that begins with a dot is hidden, or a file that is still being written.
    const digits = name.startsWith(".") || !PICTURE.test(name) ? undefined : name.replace(PICTURE, "").match(/\d+/g);
    const last = digits?.at(-1);
    if (last === undefined) continue;
    const other = numbered.get(BigInt(last));
    if (other !== undefined) {
      throw new KinoraError(
        "refused",
        `The order of the pictures in "${folder}" is not clear: "${other}" and "${name}" have the same number`,
      );
    }
    numbered.set(BigInt(last), name);
  }
  if (numbered.size === 0) {
    throw new KinoraError("refused", `"${folder}" has no numbered pictures, such as 0000.png or frame-12.jpg`);
  }
  const order = [...numbered.keys()].sort((a, b) => a < b ? -1 : 1);
  return order.map((number) => `${folder.replace(/\/+$/, "")}/${numbered.get(number)}`);
}

async function names(folder: string): Promise<string[]> {
  try {
    const files = (await Array.fromAsync(Deno.readDir(folder))).filter((entry) => !entry.isDirectory);
    return files.map(({ name }) => name).sort();
  } catch (cause) {
    throw new KinoraError("io", `Cannot read the folder "${folder}": ${(cause as Error).message}`, { cause });
  }
}
