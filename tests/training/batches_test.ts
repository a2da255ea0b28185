import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { noiseSchedule } from "../../lib/diffusion/noise_schedule.ts";
import { convertPrediction } from "../../lib/diffusion/prediction.ts";
import { augmentedPictures, drawAffine, noisyEmbeddings } from "../../lib/training/augmentation.ts";
import { drawTimes, noisyBatch, snrWeights } from "../../lib/training/diffusion_batch.ts";
import {
  meanCosine,
  motionOf,
  PictureBank,
  psnr,
  rankShares,
  recall,
  rmsDifference,
} from "../../lib/training/measures.ts";
import { Draws } from "../../lib/training/random.ts";

await libraryInfo();

const COSINE = { schedule: { type: "cosine", shift: 2 } } as const;

Deno.test("drawTimes() leaves the first part of the schedule out when asked to", () => {
  const { timesteps } = drawTimes(COSINE, 8, new Draws(1, 0, 0), 0.8);
  const sorted = timesteps.toSorted((a, b) => a - b);
  for (const [at, timestep] of sorted.entries()) {
    const least = 0.002 + 0.996 * (0.8 + 0.2 * at / 8);
    assert(timestep / 1000 >= least - 1e-9 && timestep / 1000 <= least + 0.996 * 0.2 / 8 + 1e-9, `${timestep}`);
  }
});

Deno.test("drawTimes() takes one time from each part of the schedule", () => {
  const { timesteps, levels } = drawTimes(COSINE, 8, new Draws(1, 0, 0));
  const parts = timesteps.map((timestep) => Math.floor((timestep / 1000 - 0.002) / 0.996 * 8));
  assertEquals(parts.toSorted(), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert(parts.some((part, index) => part !== index));
  const schedule = noiseSchedule(COSINE.schedule);
  for (const [index, timestep] of timesteps.entries()) {
    assertAlmostEquals(levels[index]?.alpha ?? NaN, schedule.level(timestep / 1000).alpha, 1e-12);
  }
  const table = { schedule: { type: "discrete", beta_schedule: "linear", num_train_timesteps: 40 } } as const;
  for (const timestep of drawTimes(table, 100, new Draws(2, 0, 0)).timesteps) {
    assert(Number.isInteger(timestep) && timestep >= 0 && timestep < 40);
  }
});

Deno.test("noisyBatch() makes targets that give the clean samples back", async () => {
  using clean = await Tensor.noise({ shape: [3, 2, 4, 4, 3], seeds: [1, 2, 3] });
  const times = drawTimes(COSINE, 3, new Draws(3, 0, 0));
  for (const frames of [2, 1]) {
    using noise = await Tensor.noise({ shape: [3, frames, 4, 4, 3], seeds: [4, 5, 6] });
    for (const prediction of ["epsilon", "v_prediction", "sample"] as const) {
      const { noisy, target, levels } = await noisyBatch(clean, noise, times, prediction);
      assertEquals([noisy.shape, target.shape], [clean.shape, clean.shape]);
      const pairs = levels.map((level) => convertPrediction(prediction, "sample", level));
      using back = await Tensor.combine([
        { tensor: noisy, scale: pairs.map(({ sample }) => sample) },
        { tensor: target, scale: pairs.map(({ prediction }) => prediction) },
      ]);
      assertAlmostEquals(await rmsDifference(back, clean), 0, 1e-4);
      noisy.dispose();
      target.dispose();
    }
  }
});

Deno.test("snrWeights() are bounded", () => {
  const levels = [{ alpha: 1, sigma: 1 }, { alpha: 1, sigma: 0.1 }, { alpha: 0, sigma: 1 }, { alpha: 1, sigma: 0 }];
  assertEquals(snrWeights(levels, [0.5, 5]), [1, 5, 0.5, 5]);
});

Deno.test("augmentedPictures() keeps white ground nearly white and changes each picture its own way", async () => {
  using white = await Tensor.create([2, 8, 8, 3], new Float32Array(2 * 8 * 8 * 3).fill(1));
  for (let step = 0; step < 8; step++) {
    using changed = await augmentedPictures(white, new Draws(1, 0, step));
    assertEquals(changed.shape, white.shape);
    const { min, max, finite } = await changed.stats();
    assert(finite && min > 0.3 && max < 1.7);
    const values = await changed.read();
    assert(Math.abs((values[0] ?? 0) - (values[8 * 8 * 3] ?? 0)) > 1e-4);
  }
  const draws = new Draws(5, 0, 0);
  for (let round = 0; round < 500; round++) {
    const [a, b, , d, e] = drawAffine(draws);
    const area = Math.abs(a * e - b * d);
    assert(area > 0.7 && area < 1.45);
  }
});

Deno.test("noisyEmbeddings() have unit length and stay near", async () => {
  using raw = await Tensor.noise({ shape: [64, 256], seeds: Array.from({ length: 64 }, (_, index) => index) });
  using embeddings = await raw.normalize(1);
  using noisy = await noisyEmbeddings(embeddings, 0.5, new Draws(1, 0, 0));
  assertAlmostEquals((await noisy.stats()).rms * 16, 1, 1e-4);
  const cosine = await meanCosine(noisy, embeddings);
  // Of a length from 0 to 0.5: between 1 and cos(atan 0.5) = 0.894.
  assert(cosine > 0.93 && cosine < 0.99, `${cosine}`);
  using same = await noisyEmbeddings(embeddings, 0, new Draws(1, 0, 0));
  assertAlmostEquals(await rmsDifference(same, embeddings), 0, 1e-6);
});

Deno.test("rankShares() counts right rows among the first and the first five", () => {
  const scores = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
  assertEquals(rankShares(scores, 7, [[0]]), { r1: 1, r5: 1 });
  assertEquals(rankShares(scores, 7, [[3]]), { r1: 0, r5: 1 });
  assertEquals(rankShares(scores, 7, [[2]]), { r1: 0, r5: 0 });
  assertEquals(rankShares(scores, 7, [[2, 6]]), { r1: 0, r5: 1 });
  assertEquals(rankShares([...scores, ...scores], 7, [[0], [1]]), { r1: 0.5, r5: 0.5 });
});

Deno.test("recall() and PictureBank find what is nearest", async () => {
  using bank = await Tensor.create([3, 2], [1, 0, 0, 1, -1, 0]);
  using queries = await Tensor.create([2, 2], [0.8, 0.6, -0.6, 0.8]);
  assertEquals(await recall(queries, bank, [[0], [2]]), { r1: 0.5, r5: 1 });
  using pictures = await Tensor.noise({ shape: [6, 16, 16, 3], seeds: [1, 2, 3, 4, 5, 6] });
  using stills = await PictureBank.create(pictures, 8);
  using some = await pictures.gather(0, [4, 2]);
  assertEquals(await stills.recall(some, [4, 2]), { r1: 1, r5: 1 });
  assertEquals((await stills.recall(some, [2, 4])).r1, 0);
});

Deno.test("psnr() is that of the mean square", async () => {
  using a = await Tensor.create([1, 4], [0, 0, 0, 0]);
  using b = await Tensor.create([1, 4], [0.2, -0.2, 0.2, -0.2]);
  assertAlmostEquals(await psnr(a, b), 20, 1e-4);
});

Deno.test("motionOf() tells grain from motion", async () => {
  const frames = 12;
  using noise = await Tensor.noise({ shape: [4, frames, 16, 16, 3], seeds: [1, 2, 3, 4] });
  assertAlmostEquals((await motionOf(noise)).acceleration, Math.sqrt(3), 0.05);
  const drift = new Float32Array(frames * 16 * 16 * 3).map((_, at) => Math.floor(at / 768) * 0.02);
  using steady = await Tensor.create([1, frames, 16, 16, 3], drift);
  const { motion, acceleration, border } = await motionOf(steady);
  assertAlmostEquals(motion, 0.01, 1e-5);
  assertAlmostEquals(acceleration, 0, 1e-3);
  assertAlmostEquals(border, 0.01, 1e-5);
  // Only the middle moves: no border.
  const middle = drift.map((value, at) => {
    const [y, x] = [Math.floor(at / 48) % 16, Math.floor(at / 3) % 16];
    return y >= 4 && y < 12 && x >= 4 && x < 12 ? value : 0;
  });
  using inner = await Tensor.create([1, frames, 16, 16, 3], middle);
  assertEquals((await motionOf(inner)).border, 0);
});
