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
:root {
  color-scheme: light dark;
  --ground: light-dark(#f6f4ef, #16151a);
  --card: light-dark(#fffefb, #201f26);
  --line: light-dark(#d9d3c6, #3a3843);
  --ink: light-dark(#211f1b, #efedf5);
  --soft: light-dark(#615b4e, #aca7ba);
  --accent: light-dark(#b23a12, #ff9a6b);
  --bad: light-dark(#a3102b, #ff8fa0);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  background: var(--ground);
  color: var(--ink);
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px clamp(14px, 3vw, 40px) 64px; max-width: 1240px; }
header { max-width: 44rem; }
h1 { margin: 0 0 4px; font-size: 1.75rem; letter-spacing: -0.02em; }
header p { margin: 0 0 12px; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--accent); }
h2 { margin: 40px 0 12px; font-size: 1.125rem; text-transform: capitalize; }
h2 small { color: var(--soft); font-weight: 400; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 16px; }
section.applications { grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
figure { margin: 0; overflow: hidden; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.shown { display: flex; align-items: center; gap: 8px; background: #fff; color: #615b4e; }
.shown > img { flex: 1; min-width: 0; width: 100%; aspect-ratio: 1; object-fit: contain; }
.given { display: flex; flex-direction: column; gap: 8px; padding-left: 8px; width: 30%; }
.given img { width: 100%; border: 1px solid #d9d3c6; border-radius: 6px; }
figcaption { padding: 8px 12px 10px; border-top: 1px solid var(--line); font-size: 0.875rem; line-height: 1.35; }
figcaption small { display: block; margin-top: 2px; color: var(--soft); font-variant-numeric: tabular-nums; }
.error { margin: 0; padding: 16px 12px; color: var(--bad); font-size: 0.875rem; }
</style>
</head>
<body>
<header>
<h1>Gallery of ${escaped(model)}</h1>
<p>Prompts and applications were chosen before anything was made; every one was made once, with seed ${seed}, and is shown
whatever came out: ${state}. Each has its manifest, from which it can be made again.</p>
<nav>${groups.map((group) => `<a href="#${anchor(group)}">${escaped(group)}</a>`).join("\n")}</nav>
</header>
${groups.map((group) => section(group, entries.filter((entry) => entry.group === group))).join("\n")}
</body>
</html>
`;
}

function section(group: string, entries: readonly GalleryEntry[]): string {
  const id = anchor(group);
  const head = `<h2 id="${id}">${escaped(group)} <small>${entries.length}</small></h2>`;
  return `${head}\n<section class="${id}">\n${entries.map(figure).join("\n")}\n</section>`;
}

function anchor(group: string): string {
  return group.replace(/\W+/g, "-");
}

function figure(entry: GalleryEntry): string {
  const { title, given, file, manifest, seed, error } = entry;
  const inputs = given.map((path) => `<img src="${escaped(path)}" alt="given" loading="lazy">`).join("");
  const before = inputs === "" ? "" : `<div class="given">${inputs}</div><span aria-hidden="true">→</span>`;
  const made = file === undefined
    ? `<p class="error">${escaped(error ?? "not made")}</p>`
    : `<img src="${escaped(file)}" alt="${escaped(title)}" loading="lazy">`;
  const link = manifest === undefined
    ? ""
    : ` <small>seed ${seed} · <a href="${escaped(manifest)}">manifest</a></small>`;
  return `<figure>\n<div class="shown">${before}${made}</div>\n<figcaption>${
    escaped(title)
  }${link}</figcaption>\n</figure>`;
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}
