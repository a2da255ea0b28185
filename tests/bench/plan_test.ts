import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { type Dtype, type Job, layerCase, leastBytes, operations, type Pass, unetCase } from "../../bench/cases.ts";
import { planOf } from "../../bench/plan.ts";
import { boundOf } from "../../bench/roofline.ts";
import { tailPairs } from "../../bench/tails.ts";

Deno.test("everything is the unet and seven layers at four levels, in two arithmetics, forward and train", () => {
  const { jobs, extras } = planOf({});
  assertEquals(jobs.length, (1 + 7 * 4) * 2 * 2);
  assertEquals([...extras], ["memory", "start-up"]);
  assertEquals(new Set(jobs.map(({ of }) => of.name)).size, 29);
});

Deno.test("a plan can be limited to rows, kinds, passes and arithmetics", () => {
  const names = (jobs: readonly { readonly of: { readonly name: string } }[]): string[] =>
    jobs.map(({ of }) => of.name);
  assertEquals(names(planOf({ only: ["unet"], dtypes: ["f32"], passes: ["train"] }).jobs), ["unet"]);
  const [job] = planOf({ only: ["norm-512@8"], dtypes: ["bf16"], passes: ["forward"] }).jobs;
  assertEquals([job?.of.config.size, job?.of.config["channels"], job?.dtype, job?.pass], [8, 512, "bf16", "forward"]);
  assertEquals(planOf({ only: ["conv3x3"] }).jobs.length, 16);
  assertEquals(planOf({ only: ["layers"] }).jobs.length, 112);
  assertEquals([...planOf({ only: ["roofline"] }).extras], ["roofline"]);
  assertEquals(planOf({ dtypes: ["bf16x3"] }).jobs.length, 29 * 2);
  const quick = planOf({ quick: true });
  assert(quick.jobs.every(({ of }) => of.name === "unet" || of.name.endsWith("512@8")));
  assertEquals(quick.jobs.filter(({ of }) => of.name === "unet").length, 1);
});

Deno.test("on a GPU everything is compared with its compiled form, and roofline and video are measured", () => {
  const { jobs, extras } = planOf({ device: "cuda" });
  assertEquals(
    jobs.map(({ of, pass, dtype }) => [of.name, pass, dtype]),
    planOf({}).jobs.map(({ of, pass, dtype }) => [of.name, pass, dtype]),
  );
  assert(jobs.every(({ of }) => of.peers.includes("compile")));
  assert(jobs.every(({ of }) => new Set(of.peers).size === of.peers.length));
  assert(jobs.some(({ of }) => of.peers.join() === "eager,sdpa,compile"));
  assert(planOf({}).jobs.every(({ of }) => !of.peers.includes("compile")));
  assertEquals([...extras], ["roofline", "video"]);
  assertEquals([...planOf({ device: "cuda", only: ["video"] }).extras], ["video"]);
  for (const only of ["memory", "start-up", "scaling", "tails"]) {
    assertThrows(() => planOf({ device: "cuda", only: [only] }), KinoraError, "not measured on a GPU");
  }
});

Deno.test("a tail is smaller than what it stands beside, in one thing", () => {
  for (const [tail, full] of tailPairs()) {
    const differing = Object.keys(tail.config).filter((name) => tail.config[name] !== full.config[name]);
    assertEquals([tail.layer, differing.length], [full.layer, 1]);
    assert(differing.every((name) => Number(tail.config[name]) < Number(full.config[name])));
    assert(tail.name !== full.name);
  }
});

Deno.test("a name that is not known is refused, with those that are", () => {
  const error = assertThrows(() => planOf({ only: ["unet", "unnet"] }), KinoraError);
  assertEquals((error as KinoraError).code, "refused");
  for (const part of ["unnet", "unet", "layers", "roofline"]) assertStringIncludes(error.message, part);
});

Deno.test("operations and bytes of layers", () => {
  // 16 frames of 8x8 pixels are 1024 rows.
  assertEquals(operations(layerCase("conv3x3", [512, 8])), 2 * 1024 * 9 * 512 * 512);
  assertEquals(operations(layerCase("linear", [512, 8])), 2 * 1024 * 512 * 512);
  // For each of 64 pixels and 8 heads of 64: scores of 16 x 16, and as many sums of values.
  assertEquals(operations(layerCase("temporal_attention", [512, 8])), 64 * 8 * (2 * 2 * 16 * 16 * 64));
  assertEquals(operations(layerCase("spatial_attention", [512, 8])), 16 * 8 * (2 * 2 * 64 * 64 * 64));
  assertEquals(operations(unetCase()), undefined);
  assertEquals(leastBytes(layerCase("temporal_conv", [512, 8])), 4 * (2 * 1024 * 512 + 3 * 512 * 512));
  assertEquals(leastBytes(layerCase("spatial_attention", [512, 8])), 4 * 4 * 1024 * 512);
  // Two products more for the gradients; input, kernel and the output's gradient are read, two gradients are written.
  const conv = layerCase("conv3x3", [512, 8]);
  assertEquals(operations(conv, "train"), 3 * 2 * 1024 * 9 * 512 * 512);
  assertEquals(leastBytes(conv, "train"), 4 * (5 * 1024 * 512 + 3 * 9 * 512 * 512));
});

Deno.test("the least time is that of arithmetic or of memory, whichever is longer", () => {
  const peaks = { threads: 1, f32: 100, bf16: 1000, memory: 10 };
  const job = (layer: string, dtype: Dtype, pass: Pass = "forward"): Job => ({
    of: layerCase(layer, [512, 8]),
    pass,
    dtype,
  });
  const conv = 2 * 1024 * 9 * 512 * 512;
  assertEquals(boundOf(job("conv3x3", "f32"), peaks)?.ms, conv / 100e6);
  assertEquals(boundOf(job("conv3x3", "f32"), peaks)?.by, "arithmetic");
  assertEquals(boundOf(job("conv3x3", "bf16", "train"), peaks)?.ms, 3 * conv / 1000e6);
  assertEquals(boundOf(job("norm", "bf16"), peaks), {
    operations: 0,
    bytes: 4 * 2 * 1024 * 512,
    by: "memory",
    ms: 4 * 2 * 1024 * 512 / 10 / 1e6,
  });
  // Attention is in f32 in any case.
  assertEquals(boundOf(job("spatial_attention", "bf16"), peaks), boundOf(job("spatial_attention", "f32"), peaks));
  assertEquals(boundOf(job("linear", "bf16"), { ...peaks, bf16: null }), undefined);
  const unet: Job = { of: unetCase(), pass: "forward", dtype: "bf16" };
  assertEquals(boundOf(unet, peaks), undefined);
  assertEquals(boundOf(unet, peaks, 5e9), { operations: 5e9, bytes: 0, by: "arithmetic", ms: 5 });
});
