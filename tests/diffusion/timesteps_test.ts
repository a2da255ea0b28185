import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { CLEAN, noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";
import { type TimestepOptions, transitions } from "../../lib/diffusion/timesteps.ts";

const cosine = noiseSchedule({ type: "cosine", shift: 2 });
const discrete = noiseSchedule({ type: "discrete", beta_schedule: "linear" });

/** The visited timesteps. */
function visited(options: TimestepOptions): number[] {
  return transitions(discrete, options).map(({ timestep }) => timestep);
}

Deno.test("continuous runs go evenly from the start to no noise, each step from where the last one ended", () => {
  for (const steps of [1, 2, 12, 1000]) {
    const run = transitions(cosine, { steps, start: 0.99 });
    assertEquals(run.length, steps);
    run.forEach(({ timestep, from, to }, index) => {
      assertAlmostEquals(timestep, 990 * (1 - index / steps), 1e-9);
      assert(to.sigma < from.sigma);
      assertEquals(to, run[index + 1]?.from ?? CLEAN);
    });
  }
});

Deno.test("discrete spacings visit what diffusers visits", () => {
  assertEquals(visited({ steps: 5 }), [800, 600, 400, 200, 0]);
  assertEquals(visited({ steps: 7, offset: 1 }), [853, 711, 569, 427, 285, 143, 1]);
  assertEquals(visited({ steps: 5, spacing: "linspace" }), [999, 749, 500, 250, 0]);
  assertEquals(visited({ steps: 4, spacing: "trailing" }), [999, 749, 499, 249]);
  assertEquals(visited({ steps: 1, spacing: "trailing" }), [999]);
});

Deno.test("timesteps halfway between two round as numpy's own arithmetic makes them", () => {
  // 1000 - 3 * 1000 / 48 is 937.5, which numpy's arange misses by its last bit.
  assertEquals(visited({ steps: 48, spacing: "trailing" }).slice(0, 4), [999, 978, 957, 936]);
  assertEquals(visited({ steps: 23, spacing: "linspace" })[11], 500);
});

Deno.test("the last timestep can be left out, and the first ones of a schedule", () => {
  assertEquals(visited({ steps: 4, spacing: "linspace", omit_last: true }), [999, 749, 500, 250]);
  assertEquals(visited({ steps: 4, omit_last: true, offset: 1 }), [801, 601, 401, 201]);
  assertEquals(visited({ steps: 4, spacing: "linspace", limit: 501 }), [500, 333, 167, 0]);
  assertEquals(visited({ steps: 4, spacing: "trailing", limit: 501 }), [500, 250, 0]);
  assertEquals(visited({ steps: 4, spacing: "trailing", limit: 500 }), [499, 249]);
  assertThrows(() => visited({ steps: 4, limit: 1001 }), KinoraError, "limit must be a whole number from 1 to 1000");
  assertThrows(() => visited({ steps: 6, limit: 5 }), KinoraError, "steps must be at most 5");
});

Deno.test("respacing splits the timesteps into sections as improved DDPM does", () => {
  const small = noiseSchedule({ type: "discrete", beta_schedule: "linear", num_train_timesteps: 300 });
  const run = transitions(small, { steps: 45, spacing: [10, 15, 20] }).map(({ timestep }) => timestep).reverse();
  assertEquals(run.slice(0, 10), [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]);
  assertEquals(run.slice(10, 25), [100, 107, 114, 121, 128, 135, 142, 149, 157, 164, 171, 178, 185, 192, 199]);
  assertEquals(run.slice(25, 27), [200, 205]);
  assertEquals(run.at(-1), 299);
});

Deno.test("the last step ends clean, or at the first timestep's level", () => {
  assertEquals(transitions(discrete, { steps: 5 }).at(-1)?.to, CLEAN);
  assertEquals(transitions(discrete, { steps: 5, final: "first" }).at(-1)?.to, discrete.level(0));
  // With a whole stride back from uneven timesteps, the next level is not the next visited one.
  const run = transitions(discrete, { steps: 11, spacing: "linspace", previous: "stride" });
  assertEquals(run[0]?.to, discrete.level(999 - 90));
  assertEquals(run.at(-1)?.to, CLEAN);
});

Deno.test("runs refuse what they cannot do", () => {
  for (const steps of [0, -1, 1.5, 1001, NaN]) {
    assertThrows(() => transitions(cosine, { steps }), KinoraError, "steps must be a whole number from 1 to 1000");
  }
  const ten = noiseSchedule({ type: "discrete", beta_schedule: "linear", num_train_timesteps: 10 });
  assertThrows(() => transitions(ten, { steps: 11 }), KinoraError, "from 1 to 10");
  assertThrows(() => transitions(cosine, { steps: 2, start: 0 }), KinoraError, "start must be");
  assertThrows(() => transitions(discrete, { steps: 1000, offset: 1 }), KinoraError, "visits timestep 1000");
  assertThrows(() => transitions(discrete, { steps: 9, spacing: [4, 4] }), KinoraError, "with the sum 9");
});
