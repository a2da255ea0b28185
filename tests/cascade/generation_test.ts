import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import type { GenerateOptions, VideoOptions } from "../../lib/cascade/cascade_options.ts";
import { slerp } from "../../lib/cascade/image_tower.ts";
import { Video } from "../../lib/video.ts";
import { withTinyModel } from "./tiny_model.ts";

await libraryInfo();

/** Runs a test on a tiny cascade, and checks that it leaves nothing behind in native memory. */
async function withCascade(test: (cascade: Cascade) => Promise<void>): Promise<void> {
  await withTinyModel(async (folder) => {
    const before = (await libraryInfo()).handles;
    {
      using cascade = await Cascade.load(folder, { precision: "f32" });
      await test(cascade);
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
    assertEquals((await libraryInfo()).handles, before);
  });
}

/** The numbers of a small video. */
async function frames(cascade: Cascade, options: VideoOptions = {}, prompt = "a butterfly"): Promise<Float32Array> {
  using video = await cascade.generate(prompt, { size: 8, ...options });
  return await video.tensor.read();
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += Math.abs((a[at] ?? 0) - (b[at] ?? 0));
  return sum / a.length;
}

Deno.test("every choice of sampling changes the video, and is in its manifest", () =>
  withCascade(async (cascade) => {
    const plain = await frames(cascade);
    const choices: GenerateOptions[] = [
      { sampler: "dpm-solver++" },
      { sampler: "ddpm" },
      { rescale: 0.7, guidance: 5 },
      { threshold: 0.9 },
      { commonNoise: 0.5 },
      { noiseSeconds: 0.3 },
      { candidates: 4 },
      { negative: "two birds" },
    ];
    for (const choice of choices) {
      using video = await cascade.generate("a butterfly", { size: 8, ...choice } as VideoOptions);
      assertNotEquals(await video.tensor.read(), plain, JSON.stringify(choice));
      assertEquals(video.manifest?.task.options, { seed: 0, size: 8, ...choice });
      const { task, prompt = "" } = JSON.parse(JSON.stringify(video.manifest)) as NonNullable<typeof video.manifest>;
      using again = await cascade.generate(prompt, task.options);
      assertEquals(await again.tensor.read(), await video.tensor.read());
      const { min, max, finite } = await video.tensor.stats();
      assert(finite && min >= -1 && max <= 1);
    }
    assertEquals(await frames(cascade, { sampler: "ddim" }), plain);
    using scaled = await cascade.generate("a butterfly", { size: 8, guidance: 5, rescale: 0.7 });
    assertEquals(scaled.manifest?.stages.at(-1)?.sampling?.rescale, 0.7);
    assertNotEquals(await scaled.tensor.read(), await frames(cascade, { guidance: 5 }));
  }));

Deno.test("the decoder is sampled with the noise that it was trained with", () =>
  withTinyModel(async (folder) => {
    const path = `${folder}/model_index.json`;
    using plain = await Cascade.load(folder, { precision: "f32" });
    const asked = await frames(plain, { commonNoise: 0.5, noiseSeconds: 0.3 });
    const json = JSON.parse(await Deno.readTextFile(path));
    Object.assign(json.stages.decoder, { common_noise: 0.5, noise_seconds: 0.3 });
    await Deno.writeTextFile(path, JSON.stringify(json));
    using trained = await Cascade.load(folder, { precision: "f32" });
    using video = await trained.generate("a butterfly", { size: 8 });
    assertEquals(await video.tensor.read(), asked);
    const sampling = (video: Video) => video.manifest?.stages.find(({ stage }) => stage === "decoder")?.sampling;
    assertEquals([sampling(video)?.commonNoise, sampling(video)?.noiseSeconds], [0.5, 0.3]);
    // What is asked for goes first, none at all too.
    assertEquals(await frames(trained, { commonNoise: 0, noiseSeconds: 0 }), await frames(plain));
    const decoder = await trained.stage("decoder");
    using embedding = await trained.embed("a butterfly");
    using one = await decoder.sample(embedding, { seeds: [0], frames: 3 });
    using other = await decoder.sample(embedding, { seeds: [0], frames: 3, commonNoise: 0.5, noiseSeconds: 0.3 });
    assertEquals(await one.read(), await other.read());
  }));

Deno.test("a prompt to lead away from takes the place of none, in the prior and in the decoder", () =>
  withCascade(async (cascade) => {
    const [prior, decoder] = [await cascade.stage("prior"), await cascade.stage("decoder")];
    const tower = await cascade.stage("text");
    using text = await tower.encode(["a butterfly"]);
    using same = await prior.sample(text, { seeds: [1], guidance: 3, negative: text });
    using plain = await prior.sample(text, { seeds: [1], guidance: 1 });
    // Led away from itself by any strength, a text is where it was without guidance.
    assert(distance(await same.read(), await plain.read()) < 1e-5);
    using video = await decoder.sample(plain, { seeds: [1], guidance: 4, frames: 2, negative: plain });
    using unguided = await decoder.sample(plain, { seeds: [1], guidance: 1, frames: 2 });
    assert(distance(await video.read(), await unguided.read()) < 1e-5);
  }));

Deno.test("mix lies on the arc between two prompts", () =>
  withCascade(async (cascade) => {
    const embed = async (options: GenerateOptions = {}, prompt = "a butterfly"): Promise<Float32Array> => {
      using embedding = await cascade.embed(prompt, { seed: 3, ...options });
      return await embedding.read();
    };
    const [from, to] = [await embed(), await embed({}, "two birds")];
    const inner = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
      Array.from(a).reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
    const angle = Math.acos(inner(from, to));
    assert(angle > 0.01);
    for (const mix of [0, 0.25, 0.5, 1]) {
      const mixed = await embed({ to: "two birds", mix });
      assert(Math.abs(Math.hypot(...mixed) - 1) < 1e-5);
      assert(Math.abs(Math.acos(Math.min(1, inner(from, mixed))) - mix * angle) < 2e-3, `${mix}`);
      assert(Math.abs(Math.acos(Math.min(1, inner(mixed, to))) - (1 - mix) * angle) < 2e-3, `${mix}`);
    }
    using one = await Tensor.create([1, 2], [1, 0]);
    using opposite = await Tensor.create([1, 2], [-1, 0]);
    await assertRejects(() => slerp(one, opposite, 0.5), KinoraError, "opposite");
  }));

Deno.test("travel begins with the one prompt and ends with the other", () =>
  withCascade(async (cascade) => {
    // Without temporal layers' help: the first frame of the way is made with the first embedding alone.
    const [decoder, wanted] = [await cascade.stage("decoder"), { seeds: [0], guidance: 1, frames: 16, steps: 1 }];
    using from = await cascade.embed("a butterfly");
    using to = await cascade.embed("two birds");
    using travelled = await decoder.sample((place) => slerp(from, to, place), wanted);
    for (const [embedding, frame] of [[from, 0], [to, 15]] as const) {
      using whole = await decoder.sample(embedding, wanted);
      using one = await whole.gather(1, [frame]);
      using other = await travelled.gather(1, [frame]);
      assert(distance(await one.read(), await other.read()) < 1e-5, `frame ${frame}`);
    }
    const shared = { to: "two birds", travel: true };
    assertEquals((await frames(cascade, { ...shared, frames: 31 })).length, 31 * 8 * 8 * 3);
    assertEquals((await frames(cascade, { ...shared, keyFrames: 40 })).length, 40 * 8 * 8 * 3);
    assertNotEquals(await frames(cascade, shared), await frames(cascade, { to: "two birds" }));
  }));

Deno.test("of several samples the best is kept, and is what its seed makes alone", () =>
  withCascade(async (cascade) => {
    using best = await cascade.generate("a butterfly", { seed: 5, samples: 3, size: 16 });
    const { manifest } = best;
    const scores = manifest?.ranking?.scores ?? [];
    assertEquals([scores.length, manifest?.ranking?.firstSeed], [3, 5]);
    const place = scores.indexOf(Math.max(...scores));
    assertEquals(manifest?.seed, 5 + place);
    using alone = await cascade.generate("a butterfly", { seed: 5 + place, size: 16 });
    assertEquals(await alone.tensor.read(), await best.tensor.read());
    const [tower, image] = [await cascade.stage("text"), await cascade.stage("image")];
    using text = await tower.encode(["a butterfly"]);
    for (const [sample, score] of scores.entries()) {
      using video = await cascade.generate("a butterfly", { seed: 5 + sample, until: "decoder" });
      using embeddings = await image.encode(video.tensor);
      using cosines = await Tensor.matmul(text.embedding, embeddings);
      const values = await cosines.read();
      assert(Math.abs(values.reduce((sum, value) => sum + value, 0) / values.length - score) < 1e-5);
    }
    const steps: string[] = [];
    for await (const preview of cascade.stream("a butterfly", { samples: 2, until: "decoder" })) {
      steps.push(`${preview.stage} ${preview.step}/${preview.total}${preview.done ? " done" : ""}`);
      if (preview.done) preview.stage === "prior" ? preview.embedding?.dispose() : preview.video.dispose();
    }
    assertEquals(steps.at(-1), "decoder 6/6 done");
    assertEquals(steps.filter((step) => step.includes("done")).length, 2);
    assertEquals(steps.slice(0, 3), ["prior 1/4", "prior 2/4", "decoder 1/6"]);
  }));

Deno.test("the less of an image is made anew, the closer the video is to it", () =>
  withCascade(async (cascade) => {
    const values = new Float32Array(8 * 8 * 3).map((_, at) => Math.cos(at / 9));
    using image = new Video(await Tensor.create([1, 8, 8, 3], values), { fps: 1 });
    const repeated = new Float32Array(16 * values.length).map((_, at) => values[at % values.length] ?? 0);
    const distances: number[] = [];
    for (const strength of [0.1, 0.5, 1]) {
      distances.push(distance(await frames(cascade, { image, strength, steps: 10 }), repeated));
    }
    assertEquals(distances, distances.toSorted((a, b) => a - b));
    assert((distances[0] ?? 1) < (distances[2] ?? 0) / 2, `${distances}`);
    using moving = new Video(await Tensor.create([3, 8, 8, 3], repeated.slice(0, 3 * values.length)), { fps: 8 });
    using video = await cascade.generate("two birds", { image: moving, strength: 0.5, size: 16 });
    assertEquals([video.frames, video.manifest?.given?.[0]?.frames], [16, 3]);
  }));

Deno.test("loops have frames between their last and their first one too", () =>
  withCascade(async (cascade) => {
    const plain = await frames(cascade);
    const loop = await frames(cascade, { loop: true });
    assertEquals(loop.length, plain.length);
    assertNotEquals(loop, plain);
    using many = await cascade.generate("a butterfly", { loop: true, frames: 80, size: 8 });
    assertEquals([many.frames, many.fps], [80, 40]);
    using known = await many.tensor.gather(0, Array.from({ length: 16 }, (_, frame) => 5 * frame));
    assertEquals(await known.read(), loop);
    using large = await cascade.generate("a butterfly", { loop: true, keyFrames: 20, size: 48 });
    assertEquals([large.frames, large.height], [20, 48]);
    const error = await assertRejects(() => cascade.generate("a", { loop: true, frames: 76 }), KinoraError);
    assert(error.message.includes("frames must be 1 to 16, or with interpolation 32, 48, 64, 80"), error.message);
  }));

Deno.test("more key frames than the decoder knows are made in parts, and interpolated as any others", () =>
  withCascade(async (cascade) => {
    using long = await cascade.generate("a butterfly", { keyFrames: 30, size: 8 });
    assertEquals([long.frames, long.fps], [30, 8]);
    using more = await cascade.generate("a butterfly", { keyFrames: 30, frames: 59, size: 8 });
    assertEquals([more.frames, more.fps], [59, 16]);
    using known = await more.tensor.gather(0, Array.from({ length: 30 }, (_, frame) => 2 * frame));
    assertEquals(await known.read(), await long.tensor.read());
  }));

Deno.test("choices that do not go together are refused before any work", () =>
  withCascade(async (cascade) => {
    const refused: [GenerateOptions, string][] = [
      [{ mix: 0.5 }, 'mix needs another prompt as "to"'],
      [{ travel: true }, 'travel needs another prompt as "to"'],
      [{ to: "two birds", mix: 2 }, "mix must be a number from 0 to 1"],
      [{ to: "two birds", mix: 0.5, travel: true }, "do not go together"],
      [{ to: " " }, "prompt is empty"],
      [{ negative: "" }, "prompt is empty"],
      [{ samples: 0 }, "samples must be a whole number from 1 to 64"],
      [{ samples: 2, seed: Number.MAX_SAFE_INTEGER }, "seed must be"],
      [{ strength: 0.5 }, "strength needs an image"],
      [{ fit: "cover" }, "fit needs an image"],
      [{ image: "nothing.png", strength: 0 }, "strength must be more than 0"],
      [{ image: "nothing.png", strength: 2 }, "strength must be more than 0 and at most 1"],
      [{ keyFrames: 1 }, "keyFrames must be a whole number from 2 to 256"],
      [{ candidates: 65 }, "candidates must be"],
      [{ rescale: 2 }, "rescale must be"],
      [{ sampler: "euler" as "ddim" }, "sampler must be"],
      [{ until: "prior", samples: 2 }, 'samples cannot be given with until "prior"'],
      [{ until: "prior", loop: true }, 'loop cannot be given with until "prior"'],
    ];
    for (const [options, message] of refused) {
      const error = await assertRejects(
        () => cascade.generate("two birds", options as VideoOptions),
        KinoraError,
        message,
      );
      assertEquals(error.code, "refused");
    }
    const missing = await assertRejects(() => cascade.generate("two birds", { image: "nothing.png" }), KinoraError);
    assertEquals(missing.code, "not-found");
  }));
