/**
 * A picture of a training log: loss over minutes.
 *
 * @module
 */
import { lineChart } from "../notebook/line_chart.ts";
import { writeTextWhole } from "../video.ts";

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
  const curve = { name: title, points: points.map(({ seconds, loss }) => [seconds / 60, loss] as const) };
  const options = { title: `${title}: loss over minutes of training`, x: "minutes", y: "loss", logarithmic: true };
  return lineChart([curve], options).svg;
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
