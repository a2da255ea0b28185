/**
 * Drawings for notebooks and documents, as SVG.
 *
 * @module
 */
import { writeTextWhole } from "../video.ts";
import { DISPLAY, imageHtml, type MediaBundle } from "./media_bundle.ts";

/** A drawing. Notebooks show it, trusted or not. */
export class Drawing {
  /** The drawing, a whole SVG file. */
  readonly svg: string;
  /** What it shows, in words. */
  readonly alt: string;

  /**
   * Makes a drawing of SVG.
   *
   * @param svg The drawing, a whole SVG file.
   * @param alt What it shows, in words.
   */
  constructor(svg: string, alt: string) {
    this.svg = svg;
    this.alt = alt;
  }

  /**
   * Writes the drawing; the file appears whole or not at all.
   *
   * @param path The file.
   * @throws {KinoraError} `io` when it cannot be written.
   */
  async save(path: string): Promise<void> {
    await writeTextWhole(path, this.svg);
  }

  /** Shows the drawing in a notebook. */
  [DISPLAY](): MediaBundle {
    const bytes = new TextEncoder().encode(this.svg);
    return { "text/plain": this.alt, "text/html": imageHtml("image/svg+xml", bytes, { alt: this.alt }) };
  }
}

/** A text as it stands in SVG. */
export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/**
 * The beginning of a drawing: a white ground, so that it can be read in a dark notebook too, and the title.
 *
 * @param width Width in pixels.
 * @param height Height in pixels.
 * @param title Where and what the title is.
 */
export function svgStart(width: number, height: number, title: { readonly x: number; readonly text: string }): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#333">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${title.x}" y="20" font-size="14">${escapeXml(title.text)}</text>`,
  ].join("\n");
}
