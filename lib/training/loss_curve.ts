/**
 * A picture of a training log: loss over minutes.
 *
 * @module
 */
import { writeTextWhole } from "../video.ts";

/** Size of the picture and of the space around the plot, in pixels. */
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 280, 64, 16, 32, 40];

/** A point of a curve. */
export interface CurvePoint {
  /** Seconds of training. */
  readonly seconds: number;
  /** The loss, above 0. */
  readonly loss: number;
}

/**
 * Draws a loss curve as SVG, with a logarithmic axis for the loss.
 *
 * @param points The points, in order; those whose loss is not a number above 0 are left out.
 * @param title What stands above it.
 */
export function lossCurve(points: readonly CurvePoint[], title: string): string {
  const shown = points.filter(({ loss }) => loss > 0 && Number.isFinite(loss));
  const logs = shown.map(({ loss }) => Math.log10(loss));
  const [low, high] = [Math.min(...logs, Infinity), Math.max(...logs, -Infinity)];
  const range = Math.max(high - low, 0.01);
  const minutes = Math.max(...shown.map(({ seconds }) => seconds / 60), 0.01);
  const x = (value: number): number => LEFT + value / minutes * (WIDTH - LEFT - RIGHT);
  const y = (log: number): number => TOP + (high - log) / range * (HEIGHT - TOP - BOTTOM);
  const path = shown.map(({ seconds }, index) => `${x(seconds / 60).toFixed(1)},${y(logs[index] ?? low).toFixed(1)}`);
  const ticks = shown.length === 0 ? [] : [0, 1, 2, 3, 4].map((part) => low + range * part / 4);
  const labels = [
    ...ticks.map((log) =>
      `<path d="M${LEFT} ${y(log).toFixed(1)}H${WIDTH - RIGHT}" stroke="#ddd"/>` +
      `<text x="${LEFT - 8}" y="${(y(log) + 4).toFixed(1)}" text-anchor="end">${(10 ** log).toPrecision(3)}</text>`
    ),
    ...[0, 1, 2, 3, 4].map((part) =>
      `<text x="${x(minutes * part / 4).toFixed(1)}" y="${HEIGHT - 20}" text-anchor="middle">${
        (minutes * part / 4).toFixed(1)
      }</text>`
    ),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="20" font-size="14">${escaped(title)}: loss over minutes of training</text>`,
    ...labels,
    `<polyline points="${path.join(" ")}" fill="none" stroke="#d1495b" stroke-width="1.5"/>`,
    "</svg>",
    "",
  ].join("\n");
}

/**
 * Draws the curve of a log file.
 *
 * @param log The log, a JSON object a line.
 * @param out Where the SVG is written.
 * @param title What stands above it.
 */
export async function writeLossCurve(log: string, out: string, title: string): Promise<void> {
  const lines = (await Deno.readTextFile(log)).split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line)
  );
  await writeTextWhole(out, lossCurve(lines.filter(({ loss }) => typeof loss === "number"), title));
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
