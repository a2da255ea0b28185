// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The studio's page: asks for runs, draws what the server tells of them, and lists past ones.
 */

/**
 * @typedef {object} Run
 * @property {string} file
 * @property {string} model
 * @property {string} prompt
 * @property {number} seed
 * @property {number} frames
 * @property {number} size
 * @property {number} fps
 * @property {number} keyFps
 * @property {number} [steps]
 * @property {number} [guidance]
 *
 * @typedef {{ stage: string, steps: number }} StageState
 */

/**
 * What each stage is: its symbol in Eq. 1, what stands above and below that, and words.
 *
 * @type {Record<string, [symbol: string, above: string, below: string, words: string]>}
 */
const STAGES = {
  prior: ["P", "", "", "prior"],
  decoder: ["D", "t", "", "decoder"],
  interpolation: ["upF", "", "", "interpolation"],
  "sr-low": ["SR", "t", "l", "first enlarging"],
  "sr-high": ["SR", "", "h", "second enlarging"],
};

/** @param {string} stage */
function wordsOf(stage) {
  return STAGES[stage]?.[3] ?? stage;
}

/** The settings that are numbers. */
const NUMBERS = /** @type {const} */ (["seed", "frames", "size", "fps", "steps", "guidance"]);

/** This page, for the queue: pages take turns. */
const TAB = crypto.randomUUID();

const reduced = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {string} id
 * @param {K} _tag
 * @returns {HTMLElementTagNameMap[K]}
 */
function element(id, _tag) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no ${id}`);
  return /** @type {HTMLElementTagNameMap[K]} */ (found);
}

const form = element("form", "form");
const prompt = element("prompt", "textarea");
const problem = element("problem", "p");
const make = element("make", "button");
const stop = element("stop", "button");
const picture = element("picture", "img");
const empty = element("empty", "p");
const bar = element("bar", "progress");
const status = element("status", "p");
const stages = element("stages", "ol");
const runs = element("runs", "ul");
const compare = element("compare", "button");
const comparison = element("comparison", "dialog");
const card = element("card", "template");

/** Aborted to stop the run; none when nothing runs. @type {AbortController | undefined} */
let running;

/** @param {string} name */
function field(name) {
  return /** @type {HTMLInputElement | HTMLSelectElement} */ (form.elements.namedItem(name));
}

/** @param {string} text */
function refuse(text) {
  problem.textContent = text;
  problem.hidden = text === "";
  const named = /^\s*(\w+)/.exec(text)?.[1]?.toLowerCase();
  for (const name of ["prompt", ...NUMBERS]) {
    const wrong = text !== "" && (name === named || (name === "prompt" && /\bprompt\b/i.test(text)));
    const input = name === "prompt" ? prompt : field(name);
    input.setAttribute("aria-invalid", String(wrong));
    if (!wrong) continue;
    if (name === "steps" || name === "guidance") element("more", "details").open = true;
    input.focus();
  }
}

/** @param {string} src @param {string} alt @param {boolean} fine */
function present(src, alt, fine) {
  picture.src = src;
  picture.alt = alt;
  picture.hidden = false;
  picture.classList.toggle("fine", fine);
  empty.hidden = true;
}

/** @param {StageState[]} list */
function drawStages(list) {
  stages.replaceChildren(...list.map(({ stage }) => {
    const [symbol, above, below] = STAGES[stage] ?? [stage, "", ""];
    const item = document.createElement("li");
    const name = document.createElement("b");
    const words = document.createElement("span");
    for (const [tag, text] of [["sub", below], ["sup", above]]) {
      if (text === "" || tag === undefined || text === undefined) continue;
      const part = document.createElement(tag);
      part.textContent = text;
      name.append(part);
    }
    name.prepend(symbol);
    words.textContent = wordsOf(stage);
    item.dataset["stage"] = stage;
    item.append(name, words);
    return item;
  }));
}

/** @param {string} stage */
function stageItem(stage) {
  return /** @type {HTMLElement | null} */ (stages.querySelector(`[data-stage="${stage}"]`));
}

/** @param {string} stage @param {string | undefined} image @param {string} alt */
function stagePicture(stage, image, alt) {
  const item = stageItem(stage);
  if (item === null || image === undefined) return;
  let button = item.querySelector("button");
  if (button === null) {
    button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("img"));
    button.addEventListener("click", () => {
      const shown = /** @type {HTMLButtonElement} */ (button);
      for (const other of stages.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === shown));
      }
      present(shown.querySelector("img")?.src ?? "", alt, false);
    });
    item.append(button);
  }
  button.setAttribute("aria-label", `Show what the ${wordsOf(stage)} made`);
  const shown = button.querySelector("img");
  if (shown !== null) {
    shown.src = image;
    shown.alt = "";
  }
}

/**
 * Reads server-sent events from an answer.
 *
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @returns {AsyncGenerator<{ event: string, data: any }, void, void>}
 */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (event !== undefined && data !== undefined) yield { event, data: JSON.parse(data) };
    }
  }
}

/** What the form asks for; a field that is empty is left to the model. */
function asked() {
  /** @type {Record<string, unknown>} */
  const body = { tab: TAB, prompt: prompt.value, still: reduced.matches };
  for (const name of NUMBERS) {
    const input = field(name);
    if (input instanceof HTMLInputElement && input.validity.badInput) throw new Error(`${name} must be a number`);
    if (input.value !== "") body[name] = Number(input.value);
  }
  return body;
}

/** @param {boolean} busy */
function setBusy(busy) {
  make.disabled = busy;
  stop.hidden = !busy;
  bar.hidden = !busy;
  document.body.dataset["state"] = busy ? "busy" : "idle";
}

async function generate() {
  if (running !== undefined) return;
  refuse("");
  const controller = new AbortController();
  running = controller;
  setBusy(true);
  try {
    const response = await fetch("generate", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(asked()),
      signal: controller.signal,
    });
    if (!response.ok || response.body === null) {
      refuse((await response.json()).error ?? `The studio answered with ${response.status}`);
      status.textContent = "";
      return;
    }
    status.textContent = "Making a video.";
    stages.replaceChildren();
    bar.removeAttribute("value");
    let ended = false;
    for await (const { event, data } of events(response.body)) {
      ended ||= event === "done" || event === "failed";
      hear(event, data);
    }
    if (!ended) throw new Error("the studio was closed");
  } catch (error) {
    if (controller.signal.aborted) status.textContent = "Stopped.";
    else {
      status.textContent = "";
      const why = error instanceof TypeError ? "The studio does not answer: is it still open?" : String(error);
      refuse(why.replace(/^Error: /, ""));
    }
    for (const item of stages.querySelectorAll('[data-state="at-work"]')) item.removeAttribute("data-state");
  } finally {
    running = undefined;
    setBusy(false);
  }
}

/** @param {string} event @param {any} data */
function hear(event, data) {
  const words = wordsOf(data.stage ?? "");
  switch (event) {
    case "queued":
      status.textContent = data.ahead === 1
        ? "Waiting: one video is made before."
        : `Waiting: ${data.ahead} videos are made before.`;
      break;
    case "begun":
      status.textContent = "Loading the model.";
      drawStages(data.stages);
      stageItem(data.stages[0].stage)?.setAttribute("data-state", "at-work");
      element("screen", "section").scrollIntoView({ block: "nearest", behavior: reduced.matches ? "auto" : "smooth" });
      break;
    case "step": {
      bar.max = data.total;
      bar.value = data.step;
      stageItem(data.stage)?.setAttribute("data-state", "at-work");
      const left = data.left === undefined ? "" : `, ${data.left} s left of this stage`;
      status.textContent = `${words}: step ${data.step} of ${data.total}${left}`;
      if (data.image !== undefined) {
        stagePicture(data.stage, data.image, `What the ${words} has so far`);
        present(data.image, `What the ${words} has so far`, false);
      }
      break;
    }
    case "stage": {
      const item = stageItem(data.stage);
      item?.setAttribute("data-state", "done");
      item?.nextElementSibling?.setAttribute("data-state", "at-work");
      item?.querySelector("span")?.append(`, ${data.seconds.toFixed(1)} s`);
      stagePicture(data.stage, data.image, `What the ${words} made`);
      if (data.image !== undefined) present(data.image, `What the ${words} made`, false);
      bar.removeAttribute("value");
      break;
    }
    case "done":
      status.textContent = `Done: ${facts(data.run)}.`;
      present(address(data.run), data.run.prompt, true);
      listRuns();
      break;
    case "failed":
      status.textContent = "";
      refuse(data.why);
      break;
  }
}

/** @param {Run} run */
function address(run) {
  const name = encodeURIComponent(run.file);
  return reduced.matches ? `thumbs/${name}?still` : `runs/${name}`;
}

/** @param {Run} run */
function facts(run) {
  const length = run.frames === 1 ? "a picture" : `${run.frames} frames, ${Number(run.fps.toPrecision(3))} fps`;
  return `seed ${run.seed}, ${run.size}×${run.size}, ${length}`;
}

/** @param {Run} run */
function fill(run) {
  prompt.value = run.prompt;
  const values = { ...run, fps: Number(run.keyFps.toPrecision(6)) };
  for (const name of NUMBERS) {
    const value = values[name];
    const input = field(name);
    if (value === undefined) continue;
    if (input instanceof HTMLSelectElement && ![...input.options].some((option) => option.value === String(value))) {
      input.append(new Option(String(value), String(value)));
    }
    input.value = String(value);
  }
}

function roll() {
  field("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** Runs that are picked to be compared. @type {Map<string, Run>} */
const picked = new Map();

async function listRuns() {
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
  const image = part("img", HTMLImageElement);
  const name = run.prompt || run.file;
  image.alt = name;
  image.src = `thumbs/${encodeURIComponent(run.file)}${reduced.matches ? "?still" : ""}`;
  part(".said", HTMLElement).textContent = name;
  part(".facts", HTMLElement).textContent = facts(run);
  // What was made from pictures cannot be made again from this form.
  for (const button of [part(".again", HTMLElement), part(".another", HTMLElement)]) button.hidden = run.prompt === "";
  part(".again", HTMLElement).setAttribute("aria-label", `Again: ${run.prompt}`);
  part(".again", HTMLElement).addEventListener("click", () => again(run, false));
  part(".another", HTMLElement).setAttribute("aria-label", `New seed: ${run.prompt}`);
  part(".another", HTMLElement).addEventListener("click", () => again(run, true));
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

/** @param {Run} run @param {boolean} anew */
function again(run, anew) {
  fill(run);
  if (anew) roll();
  scrollTo({ top: 0, behavior: reduced.matches ? "auto" : "smooth" });
  make.focus({ preventScroll: true });
  return generate();
}

function showComparison() {
  const chosen = [...picked.values()];
  /** @type {[name: string, value: (run: Run) => string][]} */
  const rows = [
    ["prompt", (run) => run.prompt],
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
    side.style.margin = "0";
    const image = document.createElement("img");
    image.src = address(run);
    image.alt = run.prompt;
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

async function start() {
  const model = await (await fetch("model")).json();
  element("model", "p").textContent = `model ${model.name}`;
  const names = { 1: "a picture" };
  const frames = field("frames");
  for (const count of model.frames) {
    const text = /** @type {Record<number, string>} */ (names)[count] ?? `${count} frames`;
    frames.append(new Option(text, String(count), false, count === model.frames[1]));
  }
  for (const size of model.sizes) {
    field("size").append(new Option(`${size}×${size}`, String(size), false, size === model.sizes[1]));
  }
  field("fps").value = String(model.fps);
  /** @type {HTMLInputElement} */ (field("steps")).placeholder = String(model.steps);
  /** @type {HTMLInputElement} */ (field("guidance")).placeholder = String(model.guidance);
  await listRuns();
  setBusy(false);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !comparison.open) running?.abort();
});
stop.addEventListener("click", () => running?.abort());
element("dice", "button").addEventListener("click", roll);
compare.addEventListener("click", showComparison);
reduced.addEventListener("change", listRuns);
start().catch((error) => refuse(`The studio does not answer: ${error.message}`));
