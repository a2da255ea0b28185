import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { applyThreshold, dynamicThreshold, threshold } from "../../lib/diffusion/dynamic_threshold.ts";

await libraryInfo();

Deno.test("threshold() is the quantile of the magnitudes, from 1 to the limit", () => {
  const sample = [-4, 0.5, 3, -1, 2];
  assertEquals(threshold(sample, { ratio: 0.5, most: 10 }), 2);
  // Between the third and the fourth of five magnitudes.
  assertAlmostEquals(threshold(sample, { ratio: 0.6, most: 10 }), 2.4, 1e-12);
  assertEquals(threshold(sample, { ratio: 1, most: 10 }), 4);
  assertEquals(threshold(sample, { ratio: 1, most: 2.5 }), 2.5);
  assertEquals(threshold(sample, { ratio: 0, most: 10 }), 1);
  assertEquals(threshold(sample), 1);
  assertThrows(() => threshold(sample, { ratio: 1.1 }), KinoraError, "ratio must be from 0 to 1");
  assertThrows(() => threshold(sample, { most: 0 }), KinoraError, "most must be more than 0");
});

Deno.test("applyThreshold() cuts at the threshold and scales it to 1", () => {
  const sample = Float64Array.of(-4, 0.5, 3, -1, 2);
  applyThreshold(sample, { ratio: 0.5, most: 10 });
  assertEquals([...sample], [-1, 0.25, 1, -0.5, 1]);
});

Deno.test("dynamicThreshold() looks at each sample by itself", async () => {
  using clean = await Tensor.create([2, 2, 1], [0.5, -0.25, 8, -4]);
  using result = await dynamicThreshold(clean, { ratio: 0, most: 10 });
  assertEquals([...await result.read()], [0.5, -0.25, 1, -1]);
});
