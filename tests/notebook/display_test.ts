import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Drawing } from "../../lib/notebook/drawing.ts";
import { heatMap } from "../../lib/notebook/heat_map.ts";
import { lineChart } from "../../lib/notebook/line_chart.ts";
import { DISPLAY, type MediaBundle } from "../../lib/notebook/media_bundle.ts";
import { show } from "../../lib/notebook/show.ts";
import { SideBySide } from "../../lib/notebook/side_by_side.ts";
import { Table } from "../../lib/notebook/table.ts";
import { trainingCurves } from "../../lib/notebook/training_curves.ts";
import { MOST_INLINE, shownWidth } from "../../lib/notebook/video_bundle.ts";
import { Video } from "../../lib/video.ts";

await libraryInfo();

/** A video of noise: PNG cannot make it smaller. */
async function noise(frames: number, side: number): Promise<Video> {
  return new Video(
    await Tensor.noise({ shape: [frames, side, side, 3], seeds: [...Array(frames).keys()], stream: 1 }),
    {
      fps: 8,
    },
  );
}

/** The PNG of an `<img>`, decoded: frames, height, width. */
async function decoded(base64: string): Promise<readonly number[]> {
  const path = await Deno.makeTempFile({ suffix: ".png" });
  try {
    await Deno.writeFile(path, Uint8Array.fromBase64(base64));
    const { tensor } = await decodeMedia(path);
    using frames = tensor;
    return frames.shape.slice(0, 3);
  } finally {
    await Deno.remove(path);
  }
}

function inlined(bundle: MediaBundle): string[] {
  return Array.from(bundle["text/html"].matchAll(/src="data:image\/png;base64,([^"]+)"/g), ([, data = ""]) => data);
}

Deno.test("a small video is an animated PNG in HTML and by itself", async () => {
  using video = await noise(5, 8);
  const bundle = await video[DISPLAY]();
  assertEquals(Object.keys(bundle).sort(), ["image/png", "text/html", "text/plain"]);
  assertEquals(bundle["text/plain"], "Video 8x8, 5 frames, 8 fps, 0.6 s");
  assertEquals(await decoded(bundle["image/png"] ?? ""), [5, 8, 8]);
  assertEquals(inlined(bundle), [bundle["image/png"] ?? ""]);
  assertStringIncludes(bundle["text/html"], 'width="192"');
  assert(!/<(script|svg|video|iframe)/.test(bundle["text/html"]));
});

Deno.test("a larger video moves in HTML and stands still as image/png", async () => {
  using video = await noise(16, 64);
  const bundle = await video[DISPLAY]();
  const [moving = ""] = inlined(bundle);
  assertEquals(await decoded(moving), [16, 64, 64]);
  assertEquals(await decoded(bundle["image/png"] ?? ""), [1, 64, 64]);
});

Deno.test("a video above the cap is a contact sheet that says how to save it", async () => {
  using video = await noise(16, 320);
  const bundle = await video[DISPLAY]();
  const [sheet = ""] = inlined(bundle);
  assert(sheet.length * 3 / 4 <= MOST_INLINE);
  assertEquals(await decoded(sheet), [1, 1024, 1024]);
  for (const form of ["text/plain", "text/html"] as const) assertStringIncludes(bundle[form], "video.save(");
});

Deno.test("pictures are enlarged by whole numbers", () => {
  assertEquals([8, 64, 100, 192, 256].map((side) => shownWidth(side, side)), [192, 192, 200, 192, 256]);
  // Sheets: nine frames of 11 pixels, eight of 64, and one that is wide already.
  assertEquals([[99, 11], [512, 128], [1024, 16]].map(([width = 0, height = 0]) => shownWidth(width, height)), [
    594,
    512,
    1024,
  ]);
});

Deno.test("videos stand beside each other with their names escaped", async () => {
  using one = await noise(2, 8);
  using other = await noise(1, 16);
  const bundle = await new SideBySide({ "a <b>": one, "c": other }, 1)[DISPLAY]();
  assertEquals(await Promise.all(inlined(bundle).map(decoded)), [[2, 8, 8], [1, 16, 16]]);
  assertStringIncludes(bundle["text/html"], "a &lt;b&gt;");
  assertEquals(bundle["text/html"].match(/<tr>/g)?.length, 2);
  assertEquals(bundle["text/plain"], "a <b>: Video 8x8, 2 frames, 8 fps, 0.3 s\nc: Picture 16x16");
});

Deno.test("a drawing is an <img>, for an inline SVG is not shown before a notebook is trusted", () => {
  const drawing = new Drawing('<svg xmlns="http://www.w3.org/2000/svg"/>', 'a "line"');
  const bundle = drawing[DISPLAY]();
  assertEquals(bundle["text/plain"], 'a "line"');
  const [, alt, data = ""] =
    /^<img alt="([^"]*)" src="data:image\/svg\+xml;base64,([^"]+)">$/.exec(bundle["text/html"]) ??
      [];
  assertEquals(alt, "a &quot;line&quot;");
  assertEquals(new TextDecoder().decode(Uint8Array.fromBase64(data)), drawing.svg);
});

Deno.test("curves are told apart by colour and dash, and their axes have round numbers", () => {
  const curves = [{ name: "one", points: [[0, 0], [10, 100]] }, {
    name: "two & more",
    points: [[0, 50], [10, NaN]],
  }] as const;
  const { svg, alt } = lineChart(curves, { title: "T", x: "steps", y: "error" });
  const lines = Array.from(svg.matchAll(/<polyline points="([^"]*)"[^>]*stroke="([^"]+)"[^>]*>/g));
  assertEquals(lines.map(([, points]) => points), ["64.0,240.0 624.0,32.0", "64.0,136.0"]);
  assertEquals(new Set(lines.map(([, , colour]) => colour)).size, 2);
  assertStringIncludes(lines[1]?.[0] ?? "", "stroke-dasharray");
  for (const tick of ["0", "50", "100"]) assertStringIncludes(svg, `text-anchor="end">${tick}</text>`);
  assertStringIncludes(svg, "two &amp; more");
  assertEquals(alt, "T: error over steps (one, two & more)");
});

Deno.test("numbers are colours: white is 0, full colour the largest", () => {
  const { svg } = heatMap([[0, 2], [-2, 1]], { title: "H", rows: ["a", "b"] });
  assertEquals(Array.from(svg.matchAll(/<path fill="(#[0-9a-f]{6})"/g), ([, colour]) => colour), [
    "#ffffff",
    "#d55e00",
    "#0072b2",
    "#eaaf80",
  ]);
  assertThrows(() => heatMap([[1], [1, 2]], { title: "H" }), KinoraError, "rows of one length");
  assertThrows(() => heatMap([], { title: "H" }), KinoraError);
});

Deno.test("a table has the columns of all rows, numbers with 4 digits at the right", () => {
  const table = new Table([{ name: "a<b", psnr: 23.45678 }, { name: "c", seeds: 3 }], "Measures");
  assertEquals(table.toString(), "Measures\nname  psnr   seeds\na<b   23.46\nc                3");
  const html = table[DISPLAY]()["text/html"];
  assertStringIncludes(html, "<div><b>Measures</b></div><table>");
  assertStringIncludes(html, '<td style="text-align:left">a&lt;b</td><td style="text-align:right">23.46</td>');
});

Deno.test("the curve of a training log is read from its lines", async () => {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    await Deno.writeTextFile(
      path,
      '{"step":1,"seconds":60,"loss":1}\n{"step":1,"seconds":60,"measures":{}}\n{"step":2,"seconds":120,"loss":0.1}\n',
    );
    assertStringIncludes((await trainingCurves({ decoder: path })).svg, 'points="344.0,32.0 624.0,240.0"');
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("outside a notebook nothing is shown", async () => {
  await show({ [DISPLAY]: () => assert(false) });
});
