import { assert, assertEquals } from "@std/assert";
import { lossCurve } from "../../lib/training/loss_curve.ts";

Deno.test("lossCurve() draws falling losses from the top left to the bottom right", () => {
  const points = [1, 0.1, 0.01].map((loss, index) => ({ seconds: 60 * index, loss }));
  const svg = lossCurve(points, "a < b");
  const [, line = ""] = svg.match(/polyline points="([^"]*)"/) ?? [];
  const places = line.split(" ").map((place) => place.split(",").map(Number));
  assertEquals(places.length, 3);
  const [first, second, third] = places;
  // Each step is a tenth of the loss and one minute: evenly spaced on both axes.
  assert(first?.[0] === 64 && first[1] === 32);
  assert(third?.[0] === 624 && third[1] === 240);
  assertEquals(second, [344, 136]);
  assert(svg.includes("a &lt; b"));
});

Deno.test("lossCurve() leaves out what has no logarithm, and stands without points", () => {
  for (const points of [[], [{ seconds: 1, loss: NaN }, { seconds: 2, loss: 0 }]]) {
    const svg = lossCurve(points, "empty");
    assert(!svg.includes("NaN") && !svg.includes("Infinity"), svg);
  }
});
