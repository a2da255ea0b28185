/**
 * The packages the Fluent Emoji collection is made from, and how their files are put on disk: by Deno's own npm
 * resolution, at pinned versions whose content is checked against the hashes here.
 *
 * @module
 */

/** One npm package, pinned. */
export interface SourcePackage {
  /** Its name, for example `"emojilib"`. */
  readonly name: string;
  /** The version that is installed. */
  readonly version: string;
  /** Its licence as an SPDX identifier. */
  readonly licence: string;
  /** Subresource integrity of its archive; another content is refused. */
  readonly integrity: string;
  /** What it needs beside it, as `name@version`. */
  readonly dependencies?: readonly string[];
}

/** Everything the collection is made from. The pictures are Microsoft's Fluent Emoji, MIT. */
export const SOURCES: readonly SourcePackage[] = [
  {
    name: "@lobehub/fluent-emoji-3d",
    version: "1.1.0",
    licence: "MIT",
    integrity: "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
  },
  {
    name: "@lobehub/fluent-emoji-anim-1",
    version: "1.0.0",
    licence: "MIT",
    integrity: "sha512-/4m31vAuZEQ4aUJ5pxcOU5PVkuJya55GRxUZL7+zgLlxZXpzzE8jPqpDyhZICE3n47nS/Y9M5/vLdizi8201QA==",
  },
  {
    name: "@lobehub/fluent-emoji-anim-2",
    version: "1.0.0",
    licence: "MIT",
    integrity: "sha512-S6yzf0RZXrQbXdxCWuHA9BAoLdBRk2flX+ne4TPGEH/qApwisCAKHoAAGjKSlTY3OVeZ9b7t/NEbmpjawnQYJA==",
  },
  {
    name: "@lobehub/fluent-emoji-anim-3",
    version: "1.0.0",
    licence: "MIT",
    integrity: "sha512-UzRSUDMjdfdt9vER5bhjHkPqgc3EEgfGtYs6ndvizOTvQOxYQ57ow2RTkWSDZxwW30X4EYBi2eWTS7CXDDoFsg==",
  },
  {
    name: "@lobehub/fluent-emoji-anim-4",
    version: "1.0.0",
    licence: "MIT",
    integrity: "sha512-IIkl5ztSd1HrzvIDt/uGsFoC1WODXRdYq5uROrnkyqi9DbToEcJ1nlY86PnoUXeFS9nBCnHfiYk3ouSEGThFmA==",
  },
  {
    name: "unicode-emoji-json",
    version: "0.9.0",
    licence: "MIT",
    integrity: "sha512-HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
  },
  {
    name: "emojibase-data",
    version: "17.0.0",
    licence: "MIT",
    integrity: "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    dependencies: ["emojibase@17.0.0"],
  },
  {
    name: "emojibase",
    version: "17.0.0",
    licence: "MIT",
    integrity: "sha512-bXdpf4HPY3p41zK5swVKZdC/VynsMZ4LoLxdYDE+GucqkFwzcM1GVc4ODfYAlwoKaf2U2oNNUoOO78N96ovpBA==",
  },
  {
    name: "emojilib",
    version: "4.0.3",
    licence: "MIT",
    integrity: "sha512-KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
  },
];

/** Packages that are imported by themselves, not only needed by another. */
const direct = (source: SourcePackage) =>
  !SOURCES.some((other) => other.dependencies?.includes(`${source.name}@${source.version}`));

/**
 * The `deno.json` of the scratch project that holds the packages.
 *
 * @returns Its content as a value.
 */
export function sourceConfig(): Record<string, unknown> {
  const imports: Record<string, string> = {};
  for (const source of SOURCES.filter(direct)) {
    imports[source.name] = `npm:${source.name}@${source.version}`;
  }
  return { nodeModulesDir: "auto", imports };
}

/**
 * The lock file that belongs to {@linkcode sourceConfig}: it makes Deno refuse any other content.
 *
 * @returns Its content as a value.
 */
export function sourceLock(): Record<string, unknown> {
  const specifiers: Record<string, string> = {};
  const npm: Record<string, unknown> = {};
  for (const source of SOURCES) {
    const peers = (source.dependencies ?? []).map((name) => `_${name}`).join("");
    const version = `${source.version}${peers}`;
    npm[`${source.name}@${version}`] = {
      integrity: source.integrity,
      ...(source.dependencies === undefined
        ? {}
        : { dependencies: source.dependencies.map((name) => name.slice(0, name.lastIndexOf("@"))) }),
    };
    if (direct(source)) specifiers[`npm:${source.name}@${source.version}`] = version;
  }
  return {
    version: "5",
    specifiers,
    npm,
    workspace: { dependencies: Object.keys(specifiers).sort() },
  };
}
