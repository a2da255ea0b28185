/**
 * Videos beside each other, each with its name above.
 *
 * @module
 */
import type { Video } from "../video.ts";
import { DISPLAY, escapeHtml, type MediaBundle } from "./media_bundle.ts";
import { videoBundle } from "./video_bundle.ts";

/** Videos beside each other. They stay whoever's they are. */
export class SideBySide {
  readonly #videos: readonly (readonly [name: string, video: Video])[];
  readonly #columns: number;

  /**
   * Puts videos beside each other.
   *
   * @param videos Videos or pictures by their names, of any sizes and rates.
   * @param columns How many stand in a row.
   */
  constructor(videos: Readonly<Record<string, Video>>, columns: number = 4) {
    this.#videos = Object.entries(videos);
    this.#columns = columns;
  }

  /** Shows the videos in a notebook. */
  async [DISPLAY](): Promise<MediaBundle> {
    const cells: string[] = [];
    const lines: string[] = [];
    for (const [name, video] of this.#videos) {
      const bundle = await videoBundle(video);
      cells.push(`<td style="text-align:center">${escapeHtml(name)}<br>${bundle["text/html"]}</td>`);
      lines.push(`${name}: ${bundle["text/plain"]}`);
    }
    const rows: string[] = [];
    for (let at = 0; at < cells.length; at += this.#columns) {
      rows.push(`<tr>${cells.slice(at, at + this.#columns).join("")}</tr>`);
    }
    return { "text/plain": lines.join("\n"), "text/html": `<table>${rows.join("")}</table>` };
  }
}
