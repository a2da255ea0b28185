/**
 * The other side: Python with its packages at the versions that are compared with.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { KinoraError } from "../ffi/errors.ts";

/** Versions by name: `python` and each package. */
export type PythonVersions = Readonly<Record<string, string>>;

const PROBE = `
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
`;

/** The pinned packages, by name. */
export async function pinnedPackages(): Promise<Readonly<Record<string, string>>> {
  const text = await Deno.readTextFile(new URL("requirements.txt", import.meta.url));
  return Object.fromEntries(text.split("\n").filter((line) => line !== "").map((line) => line.split("==")));
}

/**
 * Finds `python3` on the path and looks at its packages.
 *
 * @throws {KinoraError} `refused` when it or one of the packages is missing or of another version; the message says how
 * to get them.
 */
export async function findPython(): Promise<PythonVersions> {
  const pinned = await pinnedPackages();
  const found = await probe(Object.keys(pinned));
  const problems = found === undefined
    ? ["python3 is not on the path or does not run"]
    : Object.entries(pinned).flatMap(([name, version]) => {
      const have = found[name];
      // What follows a plus says for which hardware it was built.
      if (have?.split("+")[0] === version) return [];
      return [have === undefined ? `${name} ${version} is missing` : `${name} is ${have}, not ${version}`];
    });
  if (found === undefined || problems.length > 0) {
    const requirements = fileURLToPath(new URL("requirements.txt", import.meta.url));
    throw new KinoraError(
      "refused",
      `The comparison needs Python 3.10 or newer with pinned packages: ${problems.join("; ")}. To get them:

    python3 -m venv /tmp/kinora-peers
    /tmp/kinora-peers/bin/pip install -r "${requirements}"
    PATH="/tmp/kinora-peers/bin:$PATH" deno task bench

"--only roofline" needs no Python.`,
    );
  }
  return found;
}

async function probe(names: readonly string[]): Promise<PythonVersions | undefined> {
  try {
    const command = new Deno.Command("python3", { args: ["-c", PROBE, ...names], stdin: "null", stderr: "null" });
    const { success, stdout } = await command.output();
    return success ? JSON.parse(new TextDecoder().decode(stdout)) : undefined;
  } catch {
    return undefined;
  }
}
