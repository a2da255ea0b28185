import { assertEquals } from "@std/assert";
import { emojiRows, type EmojiSources } from "../../lib/data/fluent_emoji_rows.ts";

function sources(files: readonly string[], changes: Partial<EmojiSources> = {}): EmojiSources {
  return {
    stills: new Map(files.map((file) => [file, `/stills/${file}`])),
    clips: new Map([["1f98b.webp", "/clips/1f98b.webp"]]),
    unicode: {
      "🦋": { name: "butterfly", group: "Animals & Nature" },
      "❤️": { name: "red heart", group: "Smileys & Emotion" },
      "👋": { name: "waving hand", group: "People & Body" },
      "🇳🇴": { name: "flag Norway", group: "Flags" },
      "🏁": { name: "chequered flag", group: "Flags" },
    },
    emojibase: [
      { hexcode: "1F98B", label: "Butterfly", tags: ["insect", "butterfly", "Pretty", "pretty", ":)"] },
      { hexcode: "1FAE8", label: "shaking face" },
    ],
    emojilib: { "🦋": ["butterfly", "insect", "flying_thing", "蝶"], "❤": ["love"] },
    ...changes,
  };
}

Deno.test("emojiRows() names files by all tables, variation selectors or not", () => {
  const rows = emojiRows(sources(["2764-fe0f.webp", "1f98b.webp", "1fae8.webp"]));
  assertEquals(rows, [
    {
      code: "1f98b",
      name: "butterfly",
      label: "Butterfly",
      tags: ["insect", "pretty"],
      keywords: ["insect", "flying thing"],
      group: "Animals & Nature",
      still: "/stills/1f98b.webp",
      clip: "/clips/1f98b.webp",
    },
    {
      code: "1fae8",
      name: "shaking face",
      label: "shaking face",
      tags: [],
      keywords: [],
      group: "Other",
      still: "/stills/1fae8.webp",
      clip: null,
    },
    {
      code: "2764",
      name: "red heart",
      label: "red heart",
      tags: [],
      keywords: ["love"],
      group: "Smileys & Emotion",
      still: "/stills/2764-fe0f.webp",
      clip: null,
    },
  ]);
});

Deno.test("emojiRows() leaves out skin tones, flags of places, lone letters and what has no name", () => {
  const files = ["1f44b.webp", "1f44b-1f3fd.webp", "1f1f3-1f1f4.webp", "1f1f3.webp", "1f3c1.webp", "e50a.webp"];
  const letter = { "🇳": { name: "regional indicator symbol letter n", group: "Symbols" } };
  const rows = emojiRows(sources(files, { unicode: { ...sources([]).unicode, ...letter } }));
  assertEquals(rows.map(({ name }) => name), ["chequered flag", "waving hand"].sort());
});

Deno.test("emojiRows() orders rows by file name whatever the order of the files", () => {
  const files = ["1fae8.webp", "1f98b.webp", "1f44b.webp"];
  assertEquals(emojiRows(sources(files)), emojiRows(sources(files.toReversed())));
});
