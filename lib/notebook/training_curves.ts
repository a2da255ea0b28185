/**
 * The curves of a training, from its log.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import type { Drawing } from "./drawing.ts";
import { lineChart } from "./line_chart.ts";

/**
 * Draws the loss of one or more stages over minutes of training.
 *
 * @param logs Log files by the name of their curve; a log has a JSON object a line.
 * @throws {KinoraError} `bad-file` when a line is not one.
 */
export async function trainingCurves(logs: Readonly<Record<string, string>>): Promise<Drawing> {
  const curves = [];
  for (const [name, path] of Object.entries(logs)) {
    const points: [number, number][] = [];
    for (const line of (await Deno.readTextFile(path)).split("\n").filter((line) => line !== "")) {
      const { seconds, loss } = parsed(path, line);
      if (typeof seconds === "number" && typeof loss === "number") points.push([seconds / 60, loss]);
    }
    curves.push({ name, points });
  }
  return lineChart(curves, { title: "Training loss", x: "minutes of training", y: "loss", logarithmic: true });
}

function parsed(path: string, line: string): { readonly seconds?: unknown; readonly loss?: unknown } {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new KinoraError("bad-file", `${path} is not a training log: a line of it is not JSON`, { cause });
  }
}
