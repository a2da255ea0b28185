// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * The studio's page: asks for runs, and draws what the server tells of them.
 */
import { address, answer, element, facts, reason, reduced, tell, title } from "./elements.js";
import {
  askedOfPictures,
  isLooking,
  keptPicture,
  pictureOfRun,
  replacePictures,
  startPictures,
  verb,
} from "./given_pictures.js";
import { isComparing, listRuns, startPastRuns } from "./past_runs.js";

/**
 * @typedef {import("./elements.js").Run} Run
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

/** What the button says for each thing that can be made. */
const MAKE = {
  generate: "Make a video",
  animate: "Make it move",
  interpolate: "Make the frames between",
  vary: "Make a variation",
};

/** @param {string} stage */
function wordsOf(stage) {
  return STAGES[stage]?.[3] ?? stage;
}

/** The settings that are numbers. */
const NUMBERS = /** @type {const} */ (["seed", "frames", "size", "fps", "steps", "guidance"]);

/** This page, for the queue: pages take turns. */
const TAB = crypto.randomUUID();

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

/** What the server says of the model. @type {any} */
let model;

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

/** Says how far it is, to who sees the page and to who does not. @param {string} text */
function say(text) {
  status.textContent = text;
  tell(text);
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
  const body = { tab: TAB, still: reduced.matches };
  Object.assign(body, verb() === "generate" ? { prompt: prompt.value } : askedOfPictures());
  for (const name of NUMBERS) {
    const input = field(name);
    if (input instanceof HTMLInputElement && input.validity.badInput) throw new Error(`${name} must be a number`);
    if (input.value !== "") body[name] = Number(input.value);
  }
  return body;
}

/** Draws what depends on whether something runs, and on what is to be made. */
function refresh() {
  const busy = running !== undefined;
  const making = verb();
  make.disabled = busy || isLooking();
  make.textContent = isLooking() ? "Looking at the picture…" : MAKE[making];
  stop.hidden = !busy;
  bar.hidden = !busy;
  document.body.dataset["state"] = busy ? "busy" : "idle";
  // Of one frame there is nothing to move.
  const [single] = /** @type {HTMLSelectElement} */ (field("frames")).options;
  if (single === undefined) return;
  single.disabled = making === "animate" || making === "interpolate";
  if (single.disabled && single.selected) field("frames").value = String(model.frames[1]);
  const sampled = single.disabled ? model.interpolation : model.decoder;
  /** @type {HTMLInputElement} */ (field("steps")).placeholder = String(sampled.steps ?? "");
  /** @type {HTMLInputElement} */ (field("guidance")).placeholder = String(sampled.guidance ?? "");
}

async function run() {
  if (running !== undefined || isLooking()) return;
  refuse("");
  const controller = new AbortController();
  running = controller;
  refresh();
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
    say("Making a video.");
    stages.replaceChildren();
    bar.removeAttribute("value");
    let ended = false;
    for await (const { event, data } of events(response.body)) {
      ended ||= event === "done" || event === "failed";
      hear(event, data);
    }
    if (!ended) throw new Error("the studio was closed");
  } catch (error) {
    if (controller.signal.aborted) say("Stopped.");
    else {
      status.textContent = "";
      refuse(error instanceof TypeError ? "The studio does not answer: is it still open?" : reason(error));
    }
    for (const item of stages.querySelectorAll('[data-state="at-work"]')) item.removeAttribute("data-state");
  } finally {
    running = undefined;
    refresh();
  }
}

/** @param {string} event @param {any} data */
function hear(event, data) {
  const words = wordsOf(data.stage ?? "");
  switch (event) {
    case "queued":
      say(data.ahead === 1 ? "Waiting: one video is made before." : `Waiting: ${data.ahead} videos are made before.`);
      break;
    case "begun":
      say("Loading the model.");
      drawStages(data.stages);
      stageItem(data.stages[0].stage)?.setAttribute("data-state", "at-work");
      element("screen", "section").scrollIntoView({ block: "nearest", behavior: reduced.matches ? "auto" : "smooth" });
      break;
    case "step": {
      bar.max = data.total;
      bar.value = data.step;
      stageItem(data.stage)?.setAttribute("data-state", "at-work");
      const left = data.left === undefined ? "" : `, ${data.left} s left of this stage`;
      // Not told: several a second are too much to be read out.
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
      tell(`The ${words} is done.`);
      break;
    }
    case "done":
      say(`Done: ${facts(data.run)}.`);
      present(address(data.run), title(data.run), true);
      listRuns();
      break;
    case "failed":
      status.textContent = "";
      refuse(data.why);
      break;
  }
}

/**
 * Sets the form to what a run was asked for.
 *
 * @param {Run} run
 */
function fill(run) {
  /** @type {Record<string, unknown>} */
  const values = {
    frames: model.frames[1],
    size: model.sizes[1],
    fps: model.fps,
    ...run.asked,
    seed: run.seed,
  };
  for (const name of NUMBERS) {
    const value = values[name];
    const input = field(name);
    const text = typeof value === "number" ? String(value) : "";
    if (input instanceof HTMLSelectElement && ![...input.options].some((option) => option.value === text)) {
      input.append(new Option(text, text));
    }
    input.value = text;
  }
}

function roll() {
  field("seed").value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** Makes what the form says, which a card of a past run has filled. */
async function runFromCard() {
  scrollTo({ top: 0, behavior: reduced.matches ? "auto" : "smooth" });
  make.focus({ preventScroll: true });
  await run();
}

/** @param {Run} past @param {boolean} anew */
async function again(past, anew) {
  refuse("");
  try {
    await replacePictures(past.given.map(({ id }) => keptPicture(id)), { verb: past.verb, fit: past.asked["fit"] });
  } catch (error) {
    return refuse(reason(error));
  }
  prompt.value = past.prompt;
  fill(past);
  if (anew) roll();
  await runFromCard();
}

/** @param {Run} past */
async function vary(past) {
  refuse("");
  try {
    await replacePictures([pictureOfRun(past.file)], { verb: "vary" });
  } catch (error) {
    return refuse(reason(error));
  }
  fill(past);
  roll();
  await runFromCard();
}

async function start() {
  model = await answer("model");
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
  startPictures({ mostBytes: model.pictureBytes, onChange: refresh, onRefuse: refuse });
  await startPastRuns({ again, vary });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isComparing()) running?.abort();
});
stop.addEventListener("click", () => running?.abort());
element("dice", "button").addEventListener("click", roll);
start().catch((error) => refuse(reason(error)));
