// @ts-check
/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * What the parts of the studio's page have in common.
 */

/**
 * @typedef {object} Run A past run.
 * @property {string} file
 * @property {string} model
 * @property {string} prompt
 * @property {number} seed
 * @property {number} frames
 * @property {number} size
 * @property {number} fps
 * @property {number} [steps]
 * @property {number} [guidance]
 * @property {string} verb
 * @property {{ id: string, name?: string }[]} given
 * @property {Record<string, unknown>} asked
 * @property {boolean} repeatable
 */

/** Whether nothing is to move. */
export const reduced = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {string} id
 * @param {K} _tag
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(id, _tag) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no ${id}`);
  return /** @type {HTMLElementTagNameMap[K]} */ (found);
}

/**
 * Says something to who cannot see the page; everybody else sees it by other signs.
 *
 * @param {string} text
 */
export function tell(text) {
  element("told", "p").textContent = text;
}

/**
 * The answer to a request, as JSON.
 *
 * @param {string} address
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function answer(address, options) {
  const response = await fetch(address, options).catch(() => {
    throw new Error("The studio does not answer: is it still open?");
  });
  const value = await response.json();
  if (!response.ok) throw new Error(value.error ?? `The studio answered with ${response.status}`);
  return value;
}

/** @param {unknown} error */
export function reason(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {Run} run */
export function address(run) {
  const name = encodeURIComponent(run.file);
  return reduced.matches ? `thumbs/${name}?still` : `runs/${name}`;
}

/**
 * What a run is called.
 *
 * @param {Run} run
 */
export function title(run) {
  const [first, second] = run.given.map(({ name }) => name);
  if (run.verb === "generate" || first === undefined) return run.prompt || run.file;
  if (run.verb === "interpolate") return second === undefined ? `${first}, interpolated` : `From ${first} to ${second}`;
  if (run.verb === "animate") return `${first}, moving`;
  return run.verb === "vary" ? `A variation of ${first}` : `${first}, extended`;
}

/** @param {Run} run */
export function facts(run) {
  const length = run.frames === 1 ? "a picture" : `${run.frames} frames, ${Number(run.fps.toPrecision(3))} fps`;
  return `seed ${run.seed}, ${run.size}×${run.size}, ${length}`;
}
