/**
 * Curves over an axis.
 *
 * @module
 */
import { Drawing, escapeXml, svgStart } from "./drawing.ts";

/** Size of the picture and of the space around the plot, in pixels. */
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 280, 64, 16, 32, 40];

/** Colours that are told apart by most eyes (Okabe and Ito), and dashes for the others. */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"] as const;
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "12 4", "4 4"] as const;

/** A curve. */
export interface Curve {
  /** Its name, for the legend. */
  readonly name: string;
  /** Its points; those that are not finite, or on a logarithmic axis not above 0, are left out. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** How curves are drawn. */
export interface LineChartOptions {
  /** What stands above. */
  readonly title: string;
  /** What the horizontal axis shows, with its unit. */
  readonly x: string;
  /** What the vertical axis shows, with its unit. */
  readonly y: string;
  /** Whether the vertical axis is logarithmic. @default {false} */
  readonly logarithmic?: boolean;
}

/** From numbers to places on an axis. */
interface Axis {
  readonly ticks: readonly number[];
  place(value: number): number;
}

/**
 * Draws curves.
 *
 * @param curves The curves, at most 6.
 * @param options How.
 */
export function lineChart(curves: readonly Curve[], options: LineChartOptions): Drawing {
  const { title, logarithmic = false } = options;
  const shown = curves.map(({ name, points }) => ({
    name,
    points: points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!logarithmic || y > 0)),
  }));
  const all = shown.flatMap(({ points }) => points);
  const x = linear(Math.min(0, ...all.map(([x]) => x)), Math.max(0.01, ...all.map(([x]) => x)), LEFT, WIDTH - RIGHT);
  const values = all.map(([, y]) => y);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [bottom, top] = [HEIGHT - BOTTOM, TOP];
  const y = values.length === 0
    ? { ticks: [], place: (): number => bottom }
    : (logarithmic ? logarithm : linear)(low, high, bottom, top);
  const parts = [
    svgStart(WIDTH, HEIGHT, { x: LEFT, text: title }),
    ...y.ticks.map((tick) => {
      const at = y.place(tick).toFixed(1);
      return `<path d="M${LEFT} ${at}H${WIDTH - RIGHT}" stroke="#ddd"/>` +
        `<text x="${LEFT - 8}" y="${at}" dy="4" text-anchor="end">${written(tick)}</text>`;
    }),
    ...x.ticks.map((tick) =>
      `<text x="${x.place(tick).toFixed(1)}" y="${HEIGHT - 22}" text-anchor="middle">${written(tick)}</text>`
    ),
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">${escapeXml(options.x)}</text>`,
    ...shown.map(({ points }, index) =>
      `<polyline points="${
        points.map(([at, value]) => `${x.place(at).toFixed(1)},${y.place(value).toFixed(1)}`).join(" ")
      }" ` +
      `fill="none" stroke="${colour(index)}" stroke-width="1.75"${dash(index)}/>`
    ),
    ...curves.length < 2 ? [] : legend(shown.map(({ name }) => name)),
    "</svg>",
    "",
  ];
  const names = curves.map(({ name }) => name).join(", ");
  return new Drawing(parts.join("\n"), `${title}: ${options.y} over ${options.x} (${names})`);
}

function legend(names: readonly string[]): string[] {
  let right = WIDTH - RIGHT;
  return names.map((name, index): [string, number] => [name, index]).reverse().map(([name, index]) => {
    // About as wide as a letter is on the mean.
    const left = right - name.length * 6.5 - 28;
    right = left - 12;
    return `<path d="M${left.toFixed(1)} 16h22" stroke="${colour(index)}" stroke-width="2"${dash(index)}/>` +
      `<text x="${(left + 28).toFixed(1)}" y="20">${escapeXml(name)}</text>`;
  });
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length] ?? "#333";
}

function dash(index: number): string {
  const dash = DASHES[index % DASHES.length];
  return dash === "" ? "" : ` stroke-dasharray="${dash}"`;
}

/** An axis with round numbers at its ticks. */
function linear(low: number, high: number, from: number, to: number): Axis {
  const range = Math.max(high - low, Math.abs(high) * 1e-6, 1e-9);
  const rough = range / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor((low + range) / step + 1e-9) - first + 1;
  const ticks = Array.from({ length: Math.max(0, count) }, (_, at) => (first + at) * step);
  return { ticks, place: (value) => from + (value - low) / range * (to - from) };
}

/** A logarithmic axis; where there are few round numbers on it, its ticks are evenly spaced. */
function logarithm(low: number, high: number, from: number, to: number): Axis {
  const [least, most] = [Math.log10(low), Math.log10(high)];
  const range = Math.max(most - least, 0.01);
  const round: number[] = [];
  for (let power = Math.floor(least); power <= most; power++) {
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (Math.log10(tick) >= least - 1e-9 && Math.log10(tick) <= most + 1e-9) round.push(tick);
    }
  }
  const ticks = round.length >= 3 ? round : [0, 1, 2, 3, 4].map((part) => 10 ** (least + range * part / 4));
  return { ticks, place: (value) => from + (Math.log10(value) - least) / range * (to - from) };
}

/** A number as short as its three first digits allow. */
function written(value: number): string {
  return String(Number(value.toPrecision(3)));
}
