import { assert, assertEquals } from "@std/assert";
import { barText, mean, median, meets } from "../../lib/evaluation/figure.ts";
import { figure, seedsFrom, seedsText } from "../../lib/evaluation/measure.ts";
import { SENTENCES } from "../../lib/evaluation/prompts.ts";
import { cutSide } from "../../lib/evaluation/super_resolution.ts";
import { FILLERS } from "../../lib/training/captions.ts";

Deno.test("median() and mean(), also of even counts and of nothing", () => {
  assertEquals([median([3, 1, 2]), median([4, 1, 3, 2]), median([7]), median([])], [2, 2.5, 7, null]);
  assertEquals([mean([1, 2, 6]), mean([])], [3, null]);
});

Deno.test("meets() includes the ends, and nothing meets no goal", () => {
  assert(meets(0.8, { least: 0.8 }) && !meets(0.79, { least: 0.8 }));
  assert(meets(2, { least: 0.4, most: 2 }) && !meets(2.1, { least: 0.4, most: 2 }));
  assert(!meets(null, { most: 2 }) && !meets(NaN, { most: 2 }));
  assertEquals(
    [barText({ least: 0.4, most: 2 }), barText({ least: 1 }), barText({ most: 0 })],
    ["0.4 to 2", "at least 1", "at most 0"],
  );
});

Deno.test("figure() holds a number against the goal of its name, if there is one", () => {
  const protocol = { what: "x", count: 1, seeds: "0", stages: [] };
  assertEquals(figure("likeness.rmse", 0.09, "colour", protocol), {
    name: "likeness.rmse",
    value: 0.09,
    unit: "colour",
    bar: { most: 0.08 },
    met: false,
    protocol,
  });
  assertEquals(Object.keys(figure("likeness.other", 1, "colour", protocol)), ["name", "value", "unit", "protocol"]);
  assertEquals([seedsFrom(5, 3), seedsText(5, 3), seedsText(5, 1)], [[5, 6, 7], "5 to 7, one each", "5"]);
});

Deno.test("no training caption has the sentences: each has a word that no filler has", () => {
  const known = new Set(FILLERS.flatMap((filler) => filler.split(" ")));
  for (const sentence of SENTENCES) {
    assertEquals(sentence.split("{}").length, 2, sentence);
    const words = sentence.replace("{}", " ").toLowerCase().split(/[^a-z]+/).filter((word) => word !== "");
    assert(words.some((word) => !known.has(word)), sentence);
  }
});

Deno.test("cutSide() is the largest that the factor and the network's patches divide", () => {
  const config = { patch_size: 8, block_out_channels: [48, 96] };
  assertEquals(cutSide(256, 3, config), 240);
  assertEquals(cutSide(256, 4, config), 256);
  assertEquals(cutSide(32, 3, { patch_size: 8, block_out_channels: [8] }), 24);
  assertEquals(cutSide(10, 2, {}), 10);
});
