/**
 * The page of a gallery.
 *
 * @module
 */

/** What is shown of one item. */
export interface GalleryEntry {
  /** Its name. */
  readonly id: string;
  /** Its class. */
  readonly group: string;
  /** What stands below it. */
  readonly title: string;
  /** Files that it was made from, below the gallery's folder. */
  readonly given: readonly string[];
  /** The file, below the gallery's folder; absent where it was not made. */
  readonly file?: string;
  /** The manifest, likewise. */
  readonly manifest?: string;
  /** The seed it was made with. */
  readonly seed?: number;
  /** Why it was not made. */
  readonly error?: string;
}

/** A gallery. */
export interface Gallery {
  /** The name in the model's `model_index.json`. */
  readonly model: string;
  /** The seed that was asked for. */
  readonly seed: number;
  /** The items in order; those that are still to be made are left out. */
  readonly entries: readonly GalleryEntry[];
  /** Items that are still to be made. */
  readonly missing: number;
}

/**
 * The page: plain HTML without scripts.
 *
 * @param gallery The gallery.
 */
export function galleryPage(gallery: Gallery): string {
  const { model, seed, entries, missing } = gallery;
  const groups = [...new Set(entries.map(({ group }) => group))];
  const failed = entries.filter(({ error }) => error !== undefined).length;
  const state = [
    `${entries.length - failed} videos`,
    ...failed > 0 ? [`${failed} that failed`] : [],
    ...missing > 0 ? [`${missing} still to be made`] : [],
  ].join(", ");
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Gallery of ${escaped(model)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; background: #fff; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
img { width: 100%; height: auto; border: 1px solid #ddd; }
.given { display: flex; gap: 0.25rem; }
.given img { width: 4rem; }
figcaption { font-size: 0.9rem; }
small { color: #555; }
.error { border: 1px solid #b00; padding: 0.5rem; }
</style>
</head>
<body>
<h1>Gallery of ${escaped(model)}</h1>
<p>Prompts and applications were chosen before anything was made; every one was made once, with seed ${seed}, and is shown
whatever came out: ${state}. Each has its manifest, from which it can be made again.</p>
${groups.map((group) => section(group, entries.filter((entry) => entry.group === group))).join("\n")}
</body>
</html>
`;
}

function section(group: string, entries: readonly GalleryEntry[]): string {
  return `<h2>${escaped(group)}</h2>\n<section>\n${entries.map(figure).join("\n")}\n</section>`;
}

function figure(entry: GalleryEntry): string {
  const { title, given, file, manifest, seed, error } = entry;
  const inputs = given.map((path) => `<img src="${escaped(path)}" alt="given" loading="lazy">`).join("");
  const shown = file === undefined
    ? `<p class="error">${escaped(error ?? "not made")}</p>`
    : `<img src="${escaped(file)}" alt="${escaped(title)}" loading="lazy">`;
  const link = manifest === undefined
    ? ""
    : ` <small>seed ${seed} · <a href="${escaped(manifest)}">manifest</a></small>`;
  const before = inputs === "" ? "" : `<div class="given">${inputs}</div>\n`;
  return `<figure>\n${before}${shown}\n<figcaption>${escaped(title)}${link}</figcaption>\n</figure>`;
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}
