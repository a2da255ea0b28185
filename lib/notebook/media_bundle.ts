/**
 * What a notebook is given to show: one thing in several forms, of which it takes the best that it knows.
 *
 * The forms here are those that are shown before a notebook is trusted too: pictures as `<img>` with a `data:` address.
 * A drawing as `image/svg+xml`, or as `<svg>` in HTML, would be blank there.
 *
 * @module
 */

/** One thing in several forms, by their MIME types; `text/plain` and `text/html` are always there. */
export type MediaBundle = Readonly<Record<string, string>> & {
  /** In words. */
  readonly "text/plain": string;
  /** As HTML. */
  readonly "text/html": string;
};

/** The name of the method that a notebook asks a value for its {@linkcode MediaBundle} by. */
export const DISPLAY: unique symbol = Symbol.for("Jupyter.display");

/** What can be shown in a notebook. */
export interface Displayable {
  /** Gives the forms. */
  [DISPLAY](): MediaBundle | Promise<MediaBundle>;
}

/** A text as it stands in HTML, in an element or in an attribute's double quotes. */
export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/**
 * An `<img>`.
 *
 * @param type The picture's MIME type.
 * @param bytes The picture.
 * @param options `alt` is what it shows, in words; `width` how wide it is shown, in pixels.
 */
export function imageHtml(
  type: "image/png" | "image/svg+xml",
  bytes: Uint8Array<ArrayBuffer>,
  options: { readonly alt: string; readonly width?: number },
): string {
  const { alt, width } = options;
  // Enlarged pixels stay squares: they are what the network made.
  const size = width === undefined ? "" : ` width="${width}" style="image-rendering:pixelated"`;
  return `<img alt="${escapeHtml(alt)}"${size} src="data:${type};base64,${bytes.toBase64()}">`;
}
