// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * Pictures that a video is to start from: dropped anywhere on the page, pasted, or chosen. The server looks at each before
 * it is taken.
 */
import { answer, element, reason, reduced, tell } from "./elements.js";

/**
 * @typedef {object} Picture
 * @property {string} id
 * @property {string} name
 * @property {number} width
 * @property {number} height
 * @property {number} frames
 * @property {string} image
 *
 * @typedef {"generate" | "animate" | "interpolate" | "vary"} Verb
 */

/** The most pictures that a video starts from. */
const MOST = 2;

const tray = element("given", "ul");
const chooser = element("choose", "input");
const verbs = element("verbs", "fieldset");
const fit = element("fit", "select");
const entry = element("picture-entry", "template");

/** @type {Picture[]} */
let pictures = [];

/** How many are being looked at. */
let looking = 0;

/** The most bytes of one; the server says. */
let mostBytes = Infinity;

/** What else changes with them. @type {() => void} */
let changed = () => {};

/** @type {(why: string) => void} */
let refuse = () => {};

/** Whether a picture is still being looked at. */
export function isLooking() {
  return looking > 0;
}

/** What is to be made. @returns {Verb} */
export function verb() {
  const [first, second] = pictures;
  if (first === undefined) return "generate";
  if (second !== undefined) return "interpolate";
  if (first.frames > 1) return "vary";
  return /** @type {Verb} */ (new FormData(element("form", "form")).get("verb") ?? "animate");
}

/** What a run from pictures is asked for with. */
export function askedOfPictures() {
  return { verb: verb(), given: pictures.map(({ id }) => id), ...fits() ? { fit: fit.value } : {} };
}

/** Whether it matters how they become square. */
function fits() {
  return pictures.some(({ width, height }) => width !== height);
}

/**
 * Takes others in place of those that are there.
 *
 * @param {Promise<Picture>[]} others
 * @param {{ verb?: string, fit?: unknown }} [how]
 */
export async function replacePictures(others, how = {}) {
  const taken = await whileLooking(Promise.all(others));
  pictures = taken;
  for (const radio of verbs.querySelectorAll("input")) radio.checked = radio.value === (how.verb ?? "animate");
  fit.value = how.fit === "contain" ? "contain" : "cover";
  draw();
}

/** @param {string} id @returns {Promise<Picture>} */
export function keptPicture(id) {
  return answer(`given/${id}${reduced.matches ? "?still" : ""}`);
}

/** @param {string} file @returns {Promise<Picture>} */
export function pictureOfRun(file) {
  return answer(`given?run=${encodeURIComponent(file)}${reduced.matches ? "&still" : ""}`, { method: "POST" });
}

/** @param {File} file @returns {Promise<Picture>} */
function pictureOfFile(file) {
  const name = file.name || "picture";
  if (file.size > mostBytes) throw new Error(`${name}: it has more than ${Math.floor(mostBytes / 2 ** 20)} MB`);
  const still = reduced.matches ? "&still" : "";
  return answer(`given?name=${encodeURIComponent(name)}${still}`, { method: "POST", body: file });
}

/** @param {Iterable<File>} files */
async function addFiles(files) {
  const list = [...files];
  if (list.length === 0) return;
  refuse("");
  if (pictures.length + list.length > MOST) {
    const there = pictures.length === 0 ? "" : ": take one away first";
    refuse(`A video starts from two pictures at most${there}`);
    return;
  }
  try {
    const taken = await whileLooking(Promise.all(list.map(async (file) => await pictureOfFile(file))));
    pictures = [...pictures, ...taken].slice(0, MOST);
    draw();
    tell(`${taken.map(({ name }) => name).join(" and ")} taken. ${element("hint", "p").textContent}`);
  } catch (error) {
    refuse(reason(error));
  }
}

/**
 * @template T
 * @param {Promise<T>} work
 * @returns {Promise<T>}
 */
async function whileLooking(work) {
  looking++;
  element("drop", "div").dataset["looking"] = "";
  changed();
  try {
    return await work;
  } finally {
    looking--;
    if (looking === 0) delete element("drop", "div").dataset["looking"];
    changed();
  }
}

/** @param {Picture} picture */
function remove(picture) {
  pictures = pictures.filter((other) => other !== picture);
  draw();
  tell(`${picture.name} taken away.`);
  chooser.focus();
}

function draw() {
  tray.replaceChildren(...pictures.map((picture) => {
    const copy = /** @type {DocumentFragment} */ (entry.content.cloneNode(true));
    const { name, width, height, frames } = picture;
    const [image, button] = [copy.querySelector("img"), copy.querySelector("button")];
    const [said, size] = copy.querySelectorAll("span");
    if (image === null || button === null || said === undefined || size === undefined) {
      throw new Error("The page has another entry");
    }
    image.src = picture.image;
    image.alt = name;
    said.textContent = name;
    size.textContent = frames === 1 ? `${width}×${height}` : `${width}×${height}, ${frames} frames`;
    button.setAttribute("aria-label", `Take ${name} away`);
    button.addEventListener("click", () => remove(picture));
    return copy;
  }));
  tray.dataset["fit"] = fit.value;
  const [first] = pictures;
  element("ask", "div").hidden = first !== undefined;
  element("from", "div").hidden = first === undefined;
  verbs.hidden = pictures.length !== 1 || (first?.frames ?? 1) > 1;
  element("fitting", "div").hidden = !fits();
  element("swap", "button").hidden = pictures.length !== 2;
  element("drop", "div").hidden = pictures.length === MOST || (first?.frames ?? 1) > 1;
  element("hint", "p").textContent = hint();
  changed();
}

function hint() {
  const [first, second] = pictures;
  if (first === undefined) {
    return "Or drop or choose pictures: one starts to move, of two the first leads to the second.";
  }
  if (second === undefined) return first.frames > 1 ? "" : "Drop or choose a second one, and the first leads to it.";
  return "The video leads from the first to the second.";
}

/** @param {DataTransfer | null} data */
function bringsFiles(data) {
  return data !== null && data.types.includes("Files");
}

/**
 * Begins to listen.
 *
 * @param {{ mostBytes: number, onChange: () => void, onRefuse: (why: string) => void }} options
 */
export function startPictures(options) {
  ({ mostBytes, onChange: changed, onRefuse: refuse } = options);
  /** How many elements the dragged thing is over, one inside the other. */
  let over = 0;
  const leave = () => {
    over = 0;
    delete document.body.dataset["drag"];
  };
  document.addEventListener("dragenter", (event) => {
    if (!bringsFiles(event.dataTransfer)) return;
    over++;
    document.body.dataset["drag"] = "";
  });
  document.addEventListener("dragleave", (event) => {
    if (bringsFiles(event.dataTransfer) && --over <= 0) leave();
  });
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event.dataTransfer)) return;
    event.preventDefault();
    if (event.dataTransfer !== null) event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    if (!bringsFiles(event.dataTransfer)) return;
    // Otherwise the browser leaves the page and shows the picture.
    event.preventDefault();
    leave();
    addFiles(event.dataTransfer?.files ?? []);
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData?.files ?? []];
    if (files.length === 0) return;
    event.preventDefault();
    addFiles(files);
  });
  chooser.addEventListener("change", () => {
    const files = [...chooser.files ?? []];
    // The same file can be chosen again.
    chooser.value = "";
    addFiles(files);
  });
  verbs.addEventListener("change", () => changed());
  fit.addEventListener("change", draw);
  element("swap", "button").addEventListener("click", () => {
    pictures.reverse();
    draw();
    tell(`Now from ${pictures.map(({ name }) => name).join(" to ")}.`);
  });
  draw();
}
