import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { linePlot } from "../../bench/line_plot.ts";
import { filled, PAGES, plots, rooflineTable } from "../../bench/page.ts";
import { type BenchRecord, exists, readRecord } from "../../bench/report.ts";

const recorded = await readRecord(fileURLToPath(new URL("record.json", import.meta.url)));
const [row] = recorded.rows;
assert(row !== undefined);

const scaling: BenchRecord["scaling"] = [[16, 64, 1], [32, 64, 2], [16, 256, 16]].map((
  [frames = 0, size = 0, times = 0],
) => (
  { frames, size, threads: recorded.machine.threads, dtype: "f32", ms: 1000 * times, bytes: 5e8 * times }
));

Deno.test("the pages of the repository show what their records hold", async () => {
  const docs = fileURLToPath(new URL("../../docs/", import.meta.url));
  for (const [record, name, parts] of PAGES) {
    const page = await Deno.readTextFile(docs + name);
    // There is a place for everything, recorded or not.
    assert(filled(page, parts(recorded)) !== page);
    if (!await exists(docs + record)) continue;
    assertEquals(page, filled(page, parts(await readRecord(docs + record))));
  }
  const page = await Deno.readTextFile(`${docs}performance.md`);
  for (const [name, svg] of Object.entries(plots(await readRecord(`${docs}performance.json`)))) {
    assertEquals(await Deno.readTextFile(docs + name), svg);
    assertStringIncludes(page, `(${name})`);
  }
});

Deno.test("a page's parts are replaced between their comments, and must be there", () => {
  const page = "# A\n\n<!-- one -->\nold\n<!-- /one -->\n\nkept <!-- two --><!-- /two -->\n";
  const once = filled(page, { one: ["| 1 |"], two: ["x", "y"] });
  assertEquals(once, "# A\n\n<!-- one -->\n\n| 1 |\n\n<!-- /one -->\n\nkept <!-- two -->\n\nx\ny\n\n<!-- /two -->\n");
  assertEquals(filled(once, { one: ["| 1 |"], two: ["x", "y"] }), once);
  assertThrows(() => filled(page, { three: [] }), KinoraError, "three");
});

Deno.test("a roofline is the longer of the times of arithmetic and memory", () => {
  const [product, norm] = ["linear-512@8", "norm-512@8"].map((name) => ({ ...row, name, dtype: "f32" as const }));
  assert(product !== undefined && norm !== undefined);
  // 2 * 1024 * 512 * 512 operations at 512 GFLOP/s take 1.049 ms; the norm's 4 MiB at 8.39 GB/s half a millisecond.
  const lines = rooflineTable({
    ...recorded,
    peaks: [{ threads: recorded.machine.threads, f32: 512, bf16: null, memory: 8.388608 }],
    rows: [{ ...product, kinora_ms: 2 * 1.048576 }, { ...norm, kinora_ms: 2 }, { ...product, dtype: "bf16" }],
  });
  assertEquals(lines.length, 4);
  assertStringIncludes(lines[2] ?? "", "arithmetic");
  assertStringIncludes(lines[2] ?? "", "50 %");
  assertStringIncludes(lines[3] ?? "", "memory");
  assertStringIncludes(lines[3] ?? "", "25 %");
});

Deno.test("time and memory are plotted over frames and over pixels, each with what was alike in the other", () => {
  const drawn = plots({ ...recorded, scaling });
  assertEquals(Object.keys(drawn).length, 4);
  const points = (svg = ""): string[] => /points="([^"]*)"/.exec(svg)?.[1]?.split(" ") ?? [];
  // Twice the frames take twice the time: half of the way up and right is the middle between the first point and 0.
  const [[x1, y1], [x2, y2]] = points(drawn["performance-time-frames.svg"]).map((p) => p.split(",").map(Number)) as [
    [number, number],
    [number, number],
  ];
  assertEquals([x1 - 64, 256 - y1], [(x2 - 64) / 2, (256 - y2) / 2]);
  assertEquals(points(drawn["performance-memory-size.svg"]).length, 2);
  assertEquals(plots({ ...recorded, scaling: [] }), {});
});

Deno.test("what stands at a plot is written as text", () => {
  const svg = linePlot([{ name: "a<b", points: [[1, 2], [3, 4]] }], { title: "T & U", x: "x", y: "y" });
  for (const part of ["a&lt;b", "T &amp; U", "<circle"]) assertStringIncludes(svg, part);
  assertEquals(svg.includes("NaN"), false);
});
