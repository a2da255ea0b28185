/**
 * The fixtures that stand in the repository, and changed copies of them.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { type PlainTensor, readSafetensors, writeSafetensors } from "../../lib/parity/safetensors.ts";

/** Their folder. */
export const FIXTURES = fileURLToPath(new URL("fixtures", import.meta.url));

/** What may be changed of a fixture. */
export interface FixtureParts {
  /** The tensors. */
  readonly tensors: Map<string, PlainTensor>;
  /** The manifest. */
  readonly manifest: Record<string, unknown>;
  /** The metadata. */
  readonly metadata: Record<string, string>;
}

/** Runs `use` with a changed copy of a fixture, in a folder of its own. */
export async function withChanged<T>(
  name: string,
  change: (parts: FixtureParts) => void,
  use: (path: string) => Promise<T>,
): Promise<T> {
  const { tensors, metadata } = await readSafetensors(`${FIXTURES}/${name}.safetensors`);
  const parts: FixtureParts = {
    tensors: new Map(tensors),
    manifest: JSON.parse(metadata.get("manifest") ?? "{}"),
    metadata: {},
  };
  change(parts);
  const folder = await Deno.makeTempDir();
  try {
    const words = { format: "parity-1", manifest: JSON.stringify(parts.manifest), ...parts.metadata };
    await writeSafetensors(`${folder}/case.safetensors`, parts.tensors, words);
    return await use(`${folder}/case.safetensors`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Makes a question of a fixture: takes the answers away and lists them. */
export function strip({ tensors, manifest }: FixtureParts): void {
  manifest["outputs"] = [...tensors.keys()].filter((name) => /^(out|grad)\//.test(name)).sort();
  for (const name of [...tensors.keys()]) if (/^(out|grad|alt)\//.test(name)) tensors.delete(name);
}
