/**
 * The line under a cell that says how far its work is: what is going on, a bar, the seconds left, and a preview.
 *
 * @module
 */
import { orInterrupted } from "../../ffi/interrupt.ts";
import type { Video } from "../video.ts";
import { DISPLAY, type Displayable, escapeHtml, imageHtml, type MediaBundle } from "./media_bundle.ts";
import { jupyterKernel } from "./show.ts";
import { shownWidth, smallFrames, videoPng } from "./video_bundle.ts";

/** Milliseconds from one update to the next, at least. */
const UPDATE_MS = 250;

/** The larger side of a preview, in pixels. */
const PREVIEW_SIDE = 128;

/** How far the work is. */
export interface LiveState {
  /** What is going on, for example `decoder`. */
  readonly stage: string;
  /** Steps that are done. */
  readonly step: number;
  /** Steps in all. */
  readonly total: number;
  /** How the result looks now; it stays the caller's and is not used after {@linkcode LiveWork.report} is done. */
  readonly preview?: Pick<Video, "tensor" | "fps"> | undefined;
}

/** What the work is given. */
export interface LiveWork {
  /** Aborted by Interrupt, and by whoever called {@linkcode live}. */
  readonly signal: AbortSignal;
  /**
   * Says how far the work is. What comes sooner than 250 ms after the update before is not drawn.
   *
   * @param state How far it is.
   */
  report(state: LiveState): Promise<void>;
}

/** Where a live line is drawn, and what time it is; replaced in tests. */
export interface LiveTarget {
  /** Draws the line, or draws it anew. */
  draw(bundle: MediaBundle): Promise<void>;
  /** Milliseconds from any origin. */
  now(): number;
  /** Waits. */
  sleep(milliseconds: number): Promise<void>;
}

/** How {@linkcode live} works. */
export interface LiveOptions<T> {
  /** Stops the work. */
  readonly signal?: AbortSignal | undefined;
  /** What stands in the preview's place when the work is done, above the seconds it took; by default nothing. */
  readonly result?: ((value: T) => Displayable | undefined) | undefined;
  /** Where the line is drawn; by default under the notebook's cell, and nowhere outside a notebook. */
  readonly target?: LiveTarget | undefined;
}

/**
 * Does long work with one line under the notebook's cell that says how far it is, drawn at most 4 times a second. What it
 * shows last stays. Outside a notebook the work is done and nothing drawn.
 *
 * @param label What is done.
 * @param work Does it.
 * @param options How.
 * @returns What the work gives.
 */
export async function live<T>(
  label: string,
  work: (line: LiveWork) => Promise<T>,
  options: LiveOptions<T> = {},
): Promise<T> {
  const { target = notebookTarget() } = options;
  const line = new Line(label, target);
  const signal = orInterrupted(options.signal) ?? new AbortController().signal;
  await line.begin();
  let value: T;
  try {
    value = await work({ signal, report: (state) => line.report(state) });
  } catch (error) {
    await line.end(signal.aborted ? "stopped" : "failed");
    throw error;
  }
  await line.end("done", await options.result?.(value)?.[DISPLAY]());
  return value;
}

/** One line and what it has shown. */
class Line {
  readonly #label: string;
  readonly #target: LiveTarget | undefined;
  readonly #begun: number;
  #drawn = -Infinity;
  #drawing = false;
  #state: LiveState | undefined;
  #since: number;
  #first = 0;
  #image = "";
  readonly #laps: string[] = [];

  constructor(label: string, target: LiveTarget | undefined) {
    this.#label = label;
    this.#target = target;
    this.#begun = this.#since = target?.now() ?? 0;
  }

  async begin(): Promise<void> {
    await this.#draw("…", `<progress max="1" value="0"></progress> ${escapeHtml(this.#label)} …`);
  }

  async report(state: LiveState): Promise<void> {
    if (this.#target === undefined) return;
    const now = this.#target.now();
    if (state.stage !== this.#state?.stage) {
      this.#lap(now);
      [this.#since, this.#first] = [now, state.step];
    }
    this.#state = state;
    if (this.#drawing || now - this.#drawn < UPDATE_MS) return;
    this.#drawing = true;
    try {
      const { stage, step, total, preview } = state;
      if (preview !== undefined) this.#image = await previewHtml(preview, this.#label);
      const left = secondsLeft(now - this.#since, step - this.#first, total - step);
      const text = `${stage} ${step}/${total}${left}`;
      const bar = `<progress max="${Math.max(1, total)}" value="${step}"></progress>`;
      await this.#draw(text, `${bar} ${escapeHtml(`${this.#label}: ${text}`)}`);
    } finally {
      this.#drawing = false;
    }
  }

  async end(how: "done" | "stopped" | "failed", result?: MediaBundle): Promise<void> {
    if (this.#target === undefined) return;
    const now = this.#target.now();
    this.#lap(now);
    const seconds = `${((now - this.#begun) / 1000).toFixed(1)} s`;
    const at = this.#state === undefined ? "" : ` at ${this.#state.stage} ${this.#state.step}/${this.#state.total}`;
    const laps = this.#laps.length < 2 ? "" : ` (${this.#laps.join(", ")})`;
    const text = how === "done" ? `done in ${seconds}${laps}` : `${how}${at} after ${seconds}`;
    await this.#target.sleep(Math.max(0, UPDATE_MS - (now - this.#drawn)));
    // What was made is shown by whoever has it; of what was not, the preview is all there is.
    if (how === "done") this.#image = "";
    await this.#draw(text, escapeHtml(`${this.#label}: ${text}`), result);
    await this.#target.sleep(100);
  }

  #lap(now: number): void {
    if (this.#state !== undefined) {
      this.#laps.push(`${this.#state.stage} ${((now - this.#since) / 1000).toFixed(1)} s`);
    }
  }

  async #draw(text: string, html: string, result?: MediaBundle): Promise<void> {
    if (this.#target === undefined) return;
    this.#drawn = this.#target.now();
    const above = result?.["text/html"] ?? this.#image;
    await this.#target.draw({
      ...result,
      "text/plain": `${result === undefined ? "" : `${result["text/plain"]}\n`}${this.#label}: ${text}`,
      "text/html": `${above === "" ? "" : `${above}<br>`}<small>${html}</small>`,
    });
  }
}

async function previewHtml(preview: Pick<Video, "tensor" | "fps">, label: string): Promise<string> {
  using small = await smallFrames(preview, PREVIEW_SIDE);
  const [, height = PREVIEW_SIDE, side = PREVIEW_SIDE] = small.tensor.shape;
  const width = shownWidth(side, height);
  return imageHtml("image/png", await videoPng(small), { alt: `${label}, so far`, width });
}

function secondsLeft(elapsed: number, done: number, left: number): string {
  return done > 0 && left > 0 ? `, ${Math.ceil(elapsed / done * left / 1000)} s left` : "";
}

function notebookTarget(): LiveTarget | undefined {
  const kernel = jupyterKernel();
  if (kernel === undefined) return undefined;
  const id = crypto.randomUUID();
  let update = false;
  return {
    async draw(bundle): Promise<void> {
      await kernel.display(bundle, { raw: true, update, display_id: id });
      update = true;
    },
    now: () => performance.now(),
    sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  };
}
