/**
 * From the files of the Fluent Emoji packages to the rows of the collection: one named concept a row.
 *
 * @module
 */

/** A concept before its pictures are read. */
export interface EmojiRow {
  /** Code points in lower-case hex, joined by `-`, without variation selectors. */
  readonly code: string;
  /** The short name, as in the Unicode list: `"butterfly"`. */
  readonly name: string;
  /** The name in emojibase, often the same. */
  readonly label: string;
  /** Search words of emojibase. */
  readonly tags: readonly string[];
  /** Further search words of emojilib. */
  readonly keywords: readonly string[];
  /** Unicode group: `"Animals & Nature"`, or `"Other"`. */
  readonly group: string;
  /** Path of the still picture. */
  readonly still: string;
  /** Path of the animated picture, where there is one. */
  readonly clip: string | null;
}

/** The files and tables that {@linkcode emojiRows} reads; paths are whatever the caller will open. */
export interface EmojiSources {
  /** Still files by file name. */
  readonly stills: ReadonlyMap<string, string>;
  /** Animated files by file name. */
  readonly clips: ReadonlyMap<string, string>;
  /** `data-by-emoji.json` of unicode-emoji-json. */
  readonly unicode: Readonly<Record<string, { name: string; group: string }>>;
  /** `en/data.json` of emojibase-data. */
  readonly emojibase: readonly { hexcode: string; label: string; tags?: readonly string[] }[];
  /** `emoji-en-US.json` of emojilib. */
  readonly emojilib: Readonly<Record<string, readonly string[]>>;
}

const SKIN_TONES = new Set(["1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"]);

/**
 * Names every still file and leaves out what is not a concept of its own: skin-tone variants, files without a
 * name, country and subdivision flags, single regional letters.
 *
 * @param sources The packages' files and tables.
 * @returns Rows ordered by file name. Rows with the same name or nearly the same pixels are still in it: the native
 * side drops those, as it looks at the pictures.
 */
export function emojiRows(sources: EmojiSources): EmojiRow[] {
  const unicode = byCode(Object.entries(sources.unicode));
  const emojibase = new Map(sources.emojibase.map((entry) => [bare(entry.hexcode), entry]));
  const emojilib = byCode(Object.entries(sources.emojilib));
  const rows: EmojiRow[] = [];
  for (const file of [...sources.stills.keys()].sort()) {
    const full = file.slice(0, file.lastIndexOf(".")).toLowerCase();
    if (full.split("-").some((part) => SKIN_TONES.has(part))) continue;
    const code = bare(full);
    const known = unicode.get(code);
    const base = emojibase.get(code);
    const name = known?.name ?? base?.label;
    if (name === undefined) continue;
    const group = known?.group ?? "Other";
    if ((group === "Flags" && name.startsWith("flag")) || /^1f1[ef].$/.test(code)) continue;
    rows.push({
      code,
      name,
      label: base?.label ?? name,
      tags: words(base?.tags ?? [], name),
      keywords: words(emojilib.get(code) ?? [], name),
      group,
      still: sources.stills.get(file) ?? "",
      clip: sources.clips.get(file) ?? null,
    });
  }
  return rows;
}

function byCode<T>(entries: readonly [string, T][]): Map<string, T> {
  return new Map(entries.map(([emoji, value]) => [codeOf(emoji), value]));
}

function codeOf(emoji: string): string {
  const points = Array.from(emoji, (c) => (c.codePointAt(0) ?? 0).toString(16).padStart(4, "0"));
  return bare(points.join("-"));
}

/** Without variation selectors, which the packages do not agree on. */
function bare(code: string): string {
  return code.toLowerCase().split("-").filter((part) => part !== "fe0f").join("-");
}

/** Plain lower-case words and phrases: no emoticons, nothing twice, not the name itself. */
function words(list: readonly string[], name: string): string[] {
  const plain = list.map((word) => word.toLowerCase().replaceAll("_", " ").trim());
  return [...new Set(plain)].filter((word) => word !== name.toLowerCase() && /^[a-z0-9][a-z0-9 '&.+-]*$/.test(word));
}
