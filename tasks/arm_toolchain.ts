// deno-lint-ignore-file no-console
/**
 * What compiles for aarch64 and runs it on another processor: the machine's own tools, and Debian's packages, unpacked in a
 * folder of the user's cache, for those that are missing. That needs no root and changes nothing of the machine.
 *
 * @module
 */

/** What is compiled for. */
export const TARGET = "aarch64-unknown-linux-gnu";

/** A tool, and how it is got. */
interface Tool {
  readonly what: string;
  /** Debian's packages. */
  readonly packages: readonly string[];
  /** How to get it elsewhere. */
  readonly otherwise: string;
  /** The machine's own, if it is there. */
  readonly own: () => Promise<string | undefined>;
  /** Where it is in the folder of packages. */
  readonly unpacked: string;
}

/** Names of the tools. */
type Name = "rustc" | "linker" | "qemu";

const TOOLS: Readonly<Record<Name, Tool>> = {
  rustc: {
    what: "Rust's standard library for aarch64",
    packages: ["rustc-web", "libstd-rust-web-dev:arm64"],
    otherwise: `rustup target add ${TARGET}`,
    own: rustcWithTarget,
    unpacked: "bin/rustc",
  },
  linker: {
    what: "a linker for aarch64, with its C library",
    packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    otherwise: "aarch64-linux-gnu-gcc",
    own: async () =>
      await exists("/usr/aarch64-linux-gnu/lib/libc.so") ? await first("aarch64-linux-gnu-gcc") : undefined,
    unpacked: "bin/aarch64-linux-gnu-gcc",
  },
  qemu: {
    what: "qemu's user mode for aarch64",
    packages: ["qemu-user-static"],
    otherwise: "qemu-aarch64",
    own: () => first("qemu-aarch64", "qemu-aarch64-static"),
    unpacked: "root/usr/bin/qemu-aarch64-static",
  },
};

/** Wrappers of what is unpacked: it looks for libraries beside itself. cargo tells a linker's kind by its name. */
const WRAPPERS: Readonly<Record<string, string>> = {
  "rustc": `exec "$root/usr/bin/rustc" "$@"`,
  "aarch64-linux-gnu-gcc": `exec "$root/usr/bin/aarch64-linux-gnu-gcc" --sysroot="$root" "$@"`,
};

/** Why it cannot be had on this machine, if it cannot. */
export function unsupported(): string | undefined {
  const { os, arch } = Deno.build;
  if (arch === "aarch64") return "this processor runs the paths of ARM itself: deno task test";
  if (os !== "linux" || arch !== "x86_64") return `ARM is emulated on Linux x86_64, not on ${os} ${arch}`;
  return undefined;
}

/** The folder of unpacked packages: `KINORA_ARM_TOOLCHAIN`, or one in the user's cache. */
function folder(): string {
  const given = Deno.env.get("KINORA_ARM_TOOLCHAIN");
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "."}/.cache`;
  return given || `${cache}/kinora/aarch64`;
}

/**
 * The environment for cargo to compile for {@linkcode TARGET} and run what comes out.
 *
 * @param cpu The processor that is emulated, as qemu names it.
 */
export type Toolchain = (cpu: string) => Readonly<Record<string, string>>;

/** The toolchain; what is missing is fetched with apt-get. */
export async function installToolchain(): Promise<Toolchain> {
  const home = folder();
  const unpacked = (name: Name): string => `${home}/${TOOLS[name].unpacked}`;
  const found: Partial<Record<Name, string>> = {};
  const missing: Name[] = [];
  for (const name of Object.keys(TOOLS) as Name[]) {
    const own = await TOOLS[name].own();
    if (own !== undefined) found[name] = own;
    else if (await exists(unpacked(name))) found[name] = unpacked(name);
    else missing.push(name);
  }
  if (missing.length > 0) {
    await unpack(missing.map((name) => TOOLS[name]), home);
    for (const name of missing) found[name] = unpacked(name);
  }
  const { rustc = "", linker = "", qemu = "" } = found;
  const libraries = linker === unpacked("linker") ? `${home}/root` : "";
  return (cpu) => ({
    RUSTC: rustc,
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: linker,
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: `${qemu} -cpu ${cpu} -L ${libraries}/usr/aarch64-linux-gnu`,
  });
}

/** The machine's compiler, if it has the target. */
async function rustcWithTarget(): Promise<string | undefined> {
  const rustc = Deno.env.get("RUSTC") || "rustc";
  const library = await output(rustc, ["--print", "target-libdir", "--target", TARGET]);
  return library !== undefined && await exists(library.trim()) ? rustc : undefined;
}

/** The first of some programs that runs. */
async function first(...programs: readonly string[]): Promise<string | undefined> {
  for (const program of programs) if (await output(program, ["--version"]) !== undefined) return program;
  return undefined;
}

/** What a program writes, if it is there and succeeds. */
async function output(
  program: string,
  args: readonly string[],
  options: Deno.CommandOptions = {},
): Promise<string | undefined> {
  try {
    const command = new Deno.Command(program, { args: [...args], stdin: "null", ...options });
    const { success, stdout } = await command.output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function exists(file: string): Promise<boolean> {
  return await Deno.stat(file).then(() => true, () => false);
}

/**
 * The packages that `apt-get --simulate install` would install and that are unpacked: new ones for this machine's processor
 * and for all, and of another's only the wanted. Newer versions of what is installed are left out.
 *
 * @param simulation What apt-get wrote.
 * @param wanted What was asked for.
 */
export function newPackages(simulation: string, wanted: readonly string[]): string[] {
  const names = [...simulation.matchAll(/^Inst (\S+) \(/gm)].map(([, name]) => name ?? "");
  return names.filter((name) => !name.includes(":") || wanted.includes(name));
}

/** Unpacks Debian's packages of some tools in a folder, beside what is there. */
async function unpack(tools: readonly Tool[], home: string): Promise<void> {
  const how = tools.map(({ what, otherwise }) => `\n    ${what}: ${otherwise}`).join("");
  if (await output("apt-get", ["--version"]) === undefined) {
    throw new Error(`there is no apt-get to fetch what is missing; to get it:${how}`);
  }
  const wanted = tools.flatMap(({ packages }) => packages);
  console.error(`arm: fetching ${wanted.join(", ")} and what they need into ${home} (up to 1.1 GB, this once)`);
  const state = `${home}.partial-${Deno.pid}`;
  try {
    await Deno.mkdir(`${state}/lists/partial`, { recursive: true });
    await Deno.mkdir(`${state}/cache/archives/partial`, { recursive: true });
    // Lists of its own: those of the machine know packages of its own processor alone.
    const options = [`Dir::State::lists=${state}/lists`, `Dir::Cache=${state}/cache`, "APT::Sandbox::User="];
    options.push("APT::Architectures::=amd64", "APT::Architectures::=arm64");
    const apt = async (...args: readonly string[]): Promise<string> => {
      const all = [...options.flatMap((option) => ["-o", option]), ...args];
      const out = await output("apt-get", all, { cwd: `${state}/cache`, stderr: "inherit" });
      if (out === undefined) throw new Error(`apt-get ${args[0]} failed; to get what is missing otherwise:${how}`);
      return out;
    };
    await apt("update", "-qq");
    const simulation = await apt("install", "--simulate", "--no-install-recommends", ...wanted);
    await apt("download", "-qq", ...newPackages(simulation, wanted));
    await Deno.mkdir(`${home}/root`, { recursive: true });
    for await (const { name } of Deno.readDir(`${state}/cache`)) {
      if (!name.endsWith(".deb")) continue;
      if (await output("dpkg", ["-x", `${state}/cache/${name}`, `${home}/root`]) === undefined) {
        throw new Error(`dpkg does not unpack ${name}`);
      }
    }
    // Last: a wrapper says that what it runs is there.
    await Deno.mkdir(`${home}/bin`, { recursive: true });
    for (const [name, line] of Object.entries(WRAPPERS)) {
      if (!await exists(`${home}/root/usr/bin/${name}`)) continue;
      const lines = [
        "#!/bin/sh",
        `root="$(dirname "$0")/../root"`,
        `export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu"`,
        line,
      ];
      await Deno.writeTextFile(`${home}/bin/${name}`, `${lines.join("\n")}\n`, { mode: 0o755 });
    }
  } finally {
    await Deno.remove(state, { recursive: true }).catch(() => {});
  }
}
