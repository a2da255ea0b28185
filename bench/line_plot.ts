/**
 * Curves over one quantity, as SVG.
 *
 * @module
 */

/** Size of the picture and of the space around the plot, in pixels. */
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [560, 300, 64, 120, 36, 44];
const COLOURS: readonly string[] = ["#d1495b", "#00798c", "#edae49", "#30638e"];

/** A curve. */
export interface Curve {
  /** What stands beside its end. */
  readonly name: string;
  /** Its points, from left to right. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** What stands at a plot. */
export interface PlotLabels {
  /** Above it. */
  readonly title: string;
  /** Under the axis from left to right. */
  readonly x: string;
  /** What is plotted upwards. */
  readonly y: string;
}

/**
 * Draws curves on linear axes that begin at 0, with a tick at every point's place.
 *
 * @param curves The curves; there is at least one point.
 * @param labels What stands at them.
 */
export function linePlot(curves: readonly Curve[], labels: PlotLabels): string {
  const points = curves.flatMap((curve) => curve.points);
  const [right, top] = [Math.max(...points.map(([x]) => x)), Math.max(...points.map(([, y]) => y))];
  const x = (value: number): string => (LEFT + value / right * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value: number): string => (HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const places = [...new Set(points.map(([value]) => value))];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="20" font-size="14">${escaped(labels.title)}: ${escaped(labels.y)}</text>`,
    ...[0, 1, 2, 3, 4].map((part) => {
      const value = top * part / 4;
      return `<path d="M${LEFT} ${y(value)}H${WIDTH - RIGHT}" stroke="#ddd"/>` +
        `<text x="${LEFT - 8}" y="${Number(y(value)) + 4}" text-anchor="end">${Number(value.toPrecision(3))}</text>`;
    }),
    ...places.map((value) => `<text x="${x(value)}" y="${HEIGHT - 24}" text-anchor="middle">${value}</text>`),
    `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escaped(labels.x)}</text>`,
    ...curves.flatMap(({ name, points }, index) => {
      const colour = COLOURS[index % COLOURS.length];
      const last = points.at(-1) ?? [0, 0];
      return [
        `<polyline points="${
          points.map(([at, value]) => `${x(at)},${y(value)}`).join(" ")
        }" fill="none" stroke="${colour}" stroke-width="1.5"/>`,
        ...points.map(([at, value]) => `<circle cx="${x(at)}" cy="${y(value)}" r="3" fill="${colour}"/>`),
        `<text x="${WIDTH - RIGHT + 10}" y="${Number(y(last[1])) + 4}" fill="${colour}">${escaped(name)}</text>`,
      ];
    }),
    "</svg>",
    "",
  ].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
