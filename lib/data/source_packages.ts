/**
 * Putting pinned packages on disk by Deno's own npm resolution, in a scratch project that is removed afterwards.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** A scratch project. */
export interface ScratchProject {
  /** Content of its `deno.json`; it must ask for a `node_modules` folder. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Content of its `deno.lock`: what it does not name, or names with another hash, is refused. */
  readonly lock: Readonly<Record<string, unknown>>;
}

/** How the packages are got. */
export interface InstallOptions {
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of packages that are there so far. */
  readonly onPackage?: ((count: number) => void) | undefined;
}

/**
 * Installs the packages of a scratch project in a folder of its own and hands their folder to `use`; then removes it.
 *
 * @param project The project.
 * @param parent An existing folder, in which the scratch folder is made.
 * @param options How.
 * @param use Gets the path of `node_modules`.
 * @throws {KinoraError} `permission` when Deno may not run itself, `bad-file` when a package is not what the lock file
 * says, `io` when it cannot be got.
 */
export async function withPackages<T>(
  project: ScratchProject,
  parent: string,
  options: InstallOptions,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  // A full path: the packages' paths go to code with another idea of where it is.
  const folder = await Deno.makeTempDir({ dir: await Deno.realPath(parent), prefix: ".packages-", suffix: ".partial" });
  try {
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(project.config));
    await Deno.writeTextFile(`${folder}/deno.lock`, JSON.stringify(project.lock));
    await install(folder, options);
    return await use(`${folder}/node_modules`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function install(folder: string, options: InstallOptions): Promise<void> {
  const { signal, onPackage } = options;
  const deno = Deno.execPath();
  if ((await Deno.permissions.query({ name: "run", command: deno })).state !== "granted") {
    throw new KinoraError("permission", `Deno may not run itself to get the packages: run it with --allow-run=${deno}`);
  }
  signal?.throwIfAborted();
  const child = new Deno.Command(deno, {
    args: ["install", "--frozen", "--config", "deno.json"],
    cwd: folder,
    env: { NO_COLOR: "1", RUST_BACKTRACE: "0" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    ...signal === undefined ? {} : { signal },
  }).spawn();
  let [said, packages] = ["", 0];
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    said += text;
    const count = said.match(/^Initialize /gm)?.length ?? 0;
    if (count !== packages) onPackage?.(packages = count);
  }
  const { success } = await child.status;
  signal?.throwIfAborted();
  if (success) return;
  const reason = said.match(/^error: [^]*/m)?.[0] ?? said.slice(-300);
  throw new KinoraError(
    /integrity|checksum|tarball|lockfile/i.test(reason) ? "bad-file" : "io",
    `Cannot get the packages: ${reason.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ").trim()}`,
  );
}
