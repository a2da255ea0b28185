/**
 * Numbers as colours.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { Drawing, escapeXml, svgStart } from "./drawing.ts";

/** Space around the cells, in pixels. */
const [LEFT, RIGHT, TOP, BOTTOM] = [96, 16, 34, 30];

/** Most cells that are drawn. */
const MOST_CELLS = 65_536;

/** How numbers are drawn as colours. */
export interface HeatMapOptions {
  /** What stands above. */
  readonly title: string;
  /** Names of the rows, from the top. */
  readonly rows?: readonly string[];
  /** What the columns are, for example `frame`. */
  readonly columns?: string;
  /** The number that is drawn in full colour; its negative in the other. By default the largest absolute value. */
  readonly most?: number;
}

/**
 * Draws numbers as colours: white is 0, orange above, blue below.
 *
 * @param values The rows, all of one length.
 * @param options How.
 * @throws {KinoraError} `refused` when rows differ in length, or there are none or too many numbers.
 */
export function heatMap(values: readonly ArrayLike<number>[], options: HeatMapOptions): Drawing {
  const columns = values[0]?.length ?? 0;
  const rows = values.length;
  if (columns === 0 || rows * columns > MOST_CELLS || values.some(({ length }) => length !== columns)) {
    throw new KinoraError("refused", `values must be rows of one length, with 1 to ${MOST_CELLS} numbers in all`);
  }
  const all = values.flatMap((row) => Array.from(row));
  const most = options.most ?? Math.max(1e-12, ...all.map(Math.abs));
  const cell = Math.max(1, Math.min(24, Math.floor(512 / columns)));
  const line = Math.max(cell, Math.min(24, Math.floor(240 / rows)));
  const width = Math.max(360, LEFT + columns * cell + RIGHT);
  const height = TOP + rows * line + BOTTOM;
  const cells = values.flatMap((row, y) =>
    Array.from(
      row,
      (value, x) =>
        `<path fill="${colour(value / most)}" d="M${LEFT + x * cell} ${TOP + y * line}h${cell}v${line}h-${cell}z"/>`,
    )
  );
  const names = (options.rows ?? []).map((name, y) =>
    `<text x="${LEFT - 8}" y="${TOP + (y + 0.5) * line + 4}" text-anchor="end">${escapeXml(name)}</text>`
  );
  const range = `colours from ${(-most).toPrecision(2)} (blue) over 0 (white) to ${most.toPrecision(2)} (orange)`;
  const below = options.columns === undefined ? range : `${options.columns} →   ${range}`;
  const svg = [
    svgStart(width, height, { x: 16, text: options.title }),
    `<g shape-rendering="crispEdges">${cells.join("")}</g>`,
    `<path d="M${LEFT} ${TOP}h${columns * cell}v${rows * line}h-${columns * cell}z" fill="none" stroke="#bbb"/>`,
    ...names,
    `<text x="${LEFT}" y="${height - 10}" font-size="11" fill="#666">${escapeXml(below)}</text>`,
    "</svg>",
    "",
  ].join("\n");
  return new Drawing(svg, `${options.title}: ${rows} x ${columns} numbers, ${range}`);
}

/** White at 0, orange at 1, blue at -1. */
function colour(value: number): string {
  const share = Number.isFinite(value) ? Math.min(1, Math.abs(value)) : 0;
  const full = value > 0 ? [0xd5, 0x5e, 0x00] : [0x00, 0x72, 0xb2];
  return `#${full.map((part) => Math.round(255 + (part - 255) * share).toString(16).padStart(2, "0")).join("")}`;
}
