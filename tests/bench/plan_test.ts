import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { layerCase, leastBytes, operations, unetCase } from "../../bench/cases.ts";
import { planOf } from "../../bench/plan.ts";

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
  const quick = planOf({ quick: true });
  assert(quick.jobs.every(({ of }) => of.name === "unet" || of.name.endsWith("512@8")));
  assertEquals(quick.jobs.filter(({ of }) => of.name === "unet").length, 1);
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
});
