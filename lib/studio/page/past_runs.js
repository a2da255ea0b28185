// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The past runs: a card each, and those that are picked beside each other.
 */
import { address, element, facts, reduced, title } from "./elements.js";

/** @typedef {import("./elements.js").Run} Run */

const runs = element("runs", "ul");
const compare = element("compare", "button");
const comparison = element("comparison", "dialog");
const card = element("card", "template");

/** Runs that are picked to be compared. @type {Map<string, Run>} */
const picked = new Map();

/** @type {{ again: (run: Run, anew: boolean) => void, vary: (run: Run) => void }} */
let doings = { again: () => {}, vary: () => {} };

/** Whether the runs are shown beside each other. */
export function isComparing() {
  return comparison.open;
}

export async function listRuns() {
  const response = await fetch("runs");
  /** @type {Run[]} */
  const list = response.ok ? await response.json() : [];
  element("none", "p").hidden = list.length > 0;
  runs.replaceChildren(...list.map(runCard));
  for (const file of picked.keys()) if (!list.some((run) => run.file === file)) picked.delete(file);
  compare.disabled = picked.size < 2;
}

/** @param {Run} run */
function runCard(run) {
  const copy = /** @type {DocumentFragment} */ (card.content.cloneNode(true));
  /** @template {Element} T @param {string} selector @param {new () => T} kind @returns {T} */
  const part = (selector, kind) => {
    const found = copy.querySelector(selector);
    if (!(found instanceof kind)) throw new Error(`A card has no ${selector}`);
    return found;
  };
  const name = title(run);
  /** @param {string} selector @param {string} words @param {() => void} act */
  const button = (selector, words, act) => {
    const found = part(selector, HTMLElement);
    found.setAttribute("aria-label", `${words}: ${name}`);
    found.addEventListener("click", act);
    return found;
  };
  const image = part("img", HTMLImageElement);
  image.alt = name;
  image.src = `thumbs/${encodeURIComponent(run.file)}${reduced.matches ? "?still" : ""}`;
  part(".said", HTMLElement).textContent = name;
  part(".facts", HTMLElement).textContent = facts(run);
  // What the form cannot say, or was made from what is not here, cannot be made again from it.
  button(".again", "Again", () => doings.again(run, false)).hidden = !run.repeatable;
  button(".another", "New seed", () => doings.again(run, true)).hidden = !run.repeatable;
  button(".vary", "Vary", () => doings.vary(run));
  const save = part(".save", HTMLAnchorElement);
  save.href = `runs/${encodeURIComponent(run.file)}`;
  save.download = run.file;
  save.setAttribute("aria-label", `Save ${run.file}`);
  const pick = part(".pick input", HTMLInputElement);
  pick.checked = picked.has(run.file);
  pick.addEventListener("change", () => {
    if (pick.checked) picked.set(run.file, run);
    else picked.delete(run.file);
    compare.disabled = picked.size < 2;
  });
  return copy;
}

function showComparison() {
  const chosen = [...picked.values()];
  /** @type {[name: string, value: (run: Run) => string][]} */
  const rows = [
    ["made from", title],
    ["seed", (run) => String(run.seed)],
    ["size", (run) => `${run.size}×${run.size}`],
    ["frames", (run) => String(run.frames)],
    ["fps", (run) => String(Number(run.fps.toPrecision(3)))],
    ["steps", (run) => String(run.steps ?? "")],
    ["guidance", (run) => String(run.guidance ?? "")],
    ["model", (run) => run.model],
  ];
  element("sides", "div").replaceChildren(...chosen.map((run) => {
    const side = document.createElement("figure");
    const image = document.createElement("img");
    image.src = address(run);
    image.alt = title(run);
    const list = document.createElement("dl");
    for (const [name, value] of rows) {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value(run);
      text.classList.toggle("differs", chosen.some((other) => value(other) !== value(run)));
      list.append(term, text);
    }
    side.append(image, list);
    return side;
  }));
  comparison.showModal();
}

/**
 * Lists the runs.
 *
 * @param {typeof doings} wanted What is done where a card's buttons are pressed.
 */
export async function startPastRuns(wanted) {
  doings = wanted;
  compare.addEventListener("click", showComparison);
  reduced.addEventListener("change", listRuns);
  await listRuns();
}
