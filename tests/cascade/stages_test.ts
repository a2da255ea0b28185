import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { trainedFps } from "../../lib/cascade/decoder.ts";
import { Interpolation } from "../../lib/cascade/interpolation.ts";
import { blendedFrames, KnownFrames, knownFrames, knownMotion, maskedInput } from "../../lib/cascade/known_frames.ts";
import { parseModelIndex } from "../../lib/cascade/model_index.ts";
import { AUGMENTATION_STEP, noiseStream, STAGES } from "../../lib/cascade/stage.ts";
import { enlargedFrames } from "../../lib/cascade/super_resolution.ts";
import { frameWindows } from "../../lib/cascade/windows.ts";
import { withTinyModel } from "./tiny_model.ts";

await libraryInfo();

/** Frames of plain colour: frame k has the value (k + 1) / 100. */
async function plainFrames(count: number, size = 2): Promise<Tensor> {
  const pixels = size * size * 3;
  const values = new Float32Array(count * pixels).map((_, index) => (Math.floor(index / pixels) + 1) / 100);
  return await Tensor.create([1, count, size, size, 3], values);
}

/** The first number of each frame. */
async function firsts(frames: Tensor): Promise<number[]> {
  const [, count = 0] = frames.shape;
  const values = await frames.read();
  const pixels = values.length / count;
  return Array.from({ length: count }, (_, frame) => Math.round((values[frame * pixels] ?? NaN) * 100));
}

Deno.test("the random streams of all stages and steps differ", () => {
  const streams = new Set<number>();
  const steps = [0, 1, 1000, AUGMENTATION_STEP];
  for (const stage of STAGES) for (const step of steps) streams.add(noiseStream(stage, step));
  assertEquals(streams.size, STAGES.length * steps.length);
  for (const stream of streams) assert(stream > 0 && stream < 2 ** 32);
});

Deno.test("knownFrames() puts the known frames in their places and zeros elsewhere", async () => {
  using frames = await plainFrames(16);
  const [first, second] = frameWindows(16, 2);
  assert(first !== undefined && second !== undefined);
  using one = await knownFrames(frames, undefined, first);
  assertEquals(await firsts(one), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0]);
  using end = await plainFrames(1);
  using marked = await Tensor.combine([{ tensor: end, scale: 77 }]);
  using two = await knownFrames(frames, marked, second);
  assertEquals(await firsts(two), [77, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15, 0, 16]);
  await assertRejects(() => knownFrames(frames, undefined, second), KinoraError, "needs the end");
});

Deno.test("blendedFrames() mixes the known frames beside, and holds the outermost", async () => {
  const window = {
    known: [9, 2, 4].map((position) => ({ position, source: "key", frame: position } as const)),
  };
  const values = new Float32Array(2 * 11 * 2).fill(7);
  // Two samples of 11 frames of 1x2 grey pixels; known frames of the second are ten times as bright.
  const set = (sample: number, frame: number, value: number): void => {
    values.fill(value, (sample * 11 + frame) * 2, (sample * 11 + frame + 1) * 2);
  };
  for (const sample of [0, 1]) {
    for (const [frame, value] of [[2, 0.25], [4, 0.75], [9, -0.5]] as const) {
      set(sample, frame, value * (1 + 9 * sample));
    }
  }
  using known = await Tensor.create([2, 11, 1, 2, 1], values);
  using blend = await blendedFrames(known, window);
  const wanted = [0.25, 0.25, 0.25, 0.5, 0.75, 0.5, 0.25, 0, -0.25, -0.5, -0.5];
  const all = [...wanted, ...wanted.map((value) => 10 * value)].flatMap((value) => [value, value]);
  const made = await blend.read();
  assertEquals(made.length, all.length);
  for (const [at, value] of all.entries()) assertAlmostEquals(made[at] ?? NaN, value, 1e-5);
});

Deno.test("maskedInput() adds a channel that is 1 where a frame is masked", async () => {
  using frames = await plainFrames(16);
  const [window] = frameWindows(16, 5);
  assert(window !== undefined);
  using known = await knownFrames(frames, undefined, window);
  using input = await maskedInput(known, window);
  assertEquals(input.shape, [1, 16, 2, 2, 4]);
  using mask = await input.gather(4, [3]);
  const masked = [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0];
  assertEquals([...await mask.read()], masked.flatMap((value) => [value, value, value, value]));
  using colours = await input.gather(4, [0, 1, 2]);
  assertEquals(await colours.read(), await known.read());
});

Deno.test("knownMotion() is the difference of the known frames on both sides, in units of its own size", async () => {
  const window = { known: [1, 4].map((position) => ({ position, source: "key", frame: position } as const)) };
  // Two samples of 6 frames of 1x2 grey pixels, of which the second moves ten times as much.
  const values = new Float32Array(2 * 6 * 2);
  for (const sample of [0, 1]) {
    values.set([0.1, 0.2], (sample * 6 + 1) * 2);
    values.set([0.1 + 0.03 * (1 + 9 * sample), 0.2 - 0.04 * (1 + 9 * sample)], (sample * 6 + 4) * 2);
  }
  using known = await Tensor.create([2, 6, 1, 2, 1], values);
  const { difference, size, between } = await knownMotion(known, window);
  using kept = difference;
  assertEquals(between, [false, false, true, true, false, false]);
  const rms = Math.sqrt((0.03 ** 2 + 0.04 ** 2) / 2);
  for (const [sample, factor] of [[0, 1], [1, 10]] as const) assertAlmostEquals(size[sample] ?? 0, rms * factor, 1e-6);
  const once = [0, 0, 0, 0, 0.03 / rms, -0.04 / rms, 0.03 / rms, -0.04 / rms, 0, 0, 0, 0];
  const made = await kept.read();
  for (const [at, value] of [...once, ...once].entries()) assertAlmostEquals(made[at] ?? NaN, value, 1e-4);
});

Deno.test("KnownFrames: what it says the network should give becomes the frames again", async () => {
  const [window] = frameWindows(14, 5);
  assert(window !== undefined);
  using clean = await Tensor.noise({ shape: [2, window.length, 2, 2, 3], seeds: [1, 2], stream: 3 });
  const key = { ...window, known: window.known.map((known) => ({ ...known, frame: known.position })) };
  using known = await knownFrames(clean, undefined, key);
  for (const settings of [{ residual_scale: 0.25 }, { residual_scale: 0.25, known_motion: true }]) {
    using given = await KnownFrames.of(known, key, settings);
    assertEquals(given.channels.shape, [2, window.length, 2, 2, settings.known_motion === true ? 7 : 4]);
    const target = await given.target(clean);
    assert(target !== undefined);
    using frames = await given.frames(target);
    const [made, wanted] = [await frames.read(), await clean.read()];
    for (const [at, value] of wanted.entries()) assertAlmostEquals(made[at] ?? NaN, value, 1e-5);
  }
  using plain = await KnownFrames.of(known, key, {});
  assertEquals(await plain.target(clean), undefined);
  using colours = await plain.channels.gather(4, [0, 1, 2]);
  assertEquals(await colours.read(), await known.read());
});

Deno.test("KnownFrames: what does not move is not moved by the network", async () => {
  using frames = await plainFrames(16);
  const [window] = frameWindows(16, 5);
  assert(window !== undefined);
  using first = await frames.gather(1, [3, 3, 3, 3]);
  using known = await knownFrames(first, undefined, window);
  using given = await KnownFrames.of(known, window, { residual_scale: 0.25, known_motion: true });
  using noise = await Tensor.noise({ shape: known.shape, seeds: [1], stream: 3 });
  using made = await given.frames(await Tensor.combine([{ tensor: noise, scale: 1 }]));
  const middle = await (await made.gather(1, [1, 2, 3, 4])).read();
  for (const value of middle) assertAlmostEquals(value, 0.04, 0.01);
});

Deno.test("trainedFps() is the nearest rate the network knows", () => {
  const range = { least: 4, most: 24 };
  assertEquals([1, 4, 8.5, 24, 40].map((fps) => trainedFps(fps, range)), [4, 4, 8.5, 24, 24]);
  for (const fps of [0, -1, NaN, Infinity]) assertThrows(() => trainedFps(fps, range), KinoraError, "above 0");
});

Deno.test("enlargedFrames() adds the same noise to all frames, in range", async () => {
  using frames = await plainFrames(3, 4);
  using still = await frames.gather(1, [0, 0, 0]);
  const options = { size: 8, seeds: [3], stream: 9 };
  using noisy = await enlargedFrames(still, { ...options, level: 0.5 });
  assertEquals(noisy.shape, [1, 3, 8, 8, 3]);
  const values = await noisy.read();
  assertEquals(values.slice(0, 192), values.slice(192, 384));
  assert(values.every((value) => Math.abs(value) <= 1));
  using clean = await enlargedFrames(still, { ...options, level: 0 });
  assertNotEquals(await clean.read(), values);
  for (const value of await clean.read()) assert(Math.abs(value - 0.01) < 1e-6);
  await assertRejects(() => enlargedFrames(still, { ...options, level: 2 }), KinoraError, "from 0 to 1");
});

Deno.test("an interpolation that learns the difference starts as a linear blend", async () => {
  const network = await Network.create({
    _class_name: "UNetPseudo3DModel",
    in_channels: 7,
    patch_size: 1,
    block_out_channels: [8],
    attention: [false],
    norm_num_groups: 2,
    time_embedding_dim: 8,
    temporal: true,
  }, { seed: 1 });
  const { interpolation: settings } = parseModelIndex({
    _class_name: "MakeAVideoCascade",
    name: "one",
    stages: {
      interpolation: {
        folder: "interpolation",
        schedule: { type: "cosine" },
        prediction: "sample",
        residual_scale: 0.25,
        steps: 3,
        fps_range: { least: 4, most: 24 },
      },
    },
  }, "one").stages;
  assert(settings !== undefined);
  using stage = new Interpolation(network, settings);
  using frames = await plainFrames(4, 4);
  using embedding = await Tensor.create([1, 1], new Float32Array([1]));
  using made = await stage.sample(frames, embedding, { seeds: [5], skip: 5, fps: 8 });
  const values = await made.read();
  assertEquals(made.shape, [1, 16, 4, 4, 3]);
  for (let frame = 0; frame < 16; frame++) {
    assertAlmostEquals(values[frame * 48] ?? NaN, (1 + frame / 5) / 100, 1e-5, `frame ${frame}`);
  }
});

Deno.test("stages work alone: batches are the samples one by one, chunks the frames all at once", () =>
  withTinyModel(async (folder) => {
    using cascade = await Cascade.load(folder, { precision: "f32" });
    const [tower, prior] = [await cascade.stage("text"), await cascade.stage("prior")];
    using both = await tower.encode(["two birds", "a butterfly"]);
    using single = await tower.encode(["a butterfly"]);
    using embeddings = await prior.sample(both, { seeds: [1, 2] });
    using embedding = await prior.sample(single, { seeds: [2] });
    assertEquals([...embeddings.shape, ...embedding.shape], [2, 8, 1, 8]);
    const close = (a: Float32Array, b: Float32Array): void => {
      assertEquals(a.length, b.length);
      a.forEach((value, index) => assert(Math.abs(value - (b[index] ?? NaN)) < 1e-4, `number ${index}`));
    };
    close((await embeddings.read()).slice(8), await embedding.read());

    const decoder = await cascade.stage("decoder");
    using videos = await decoder.sample(embeddings, { seeds: [1, 2], frames: 3 });
    using video = await decoder.sample(embedding, { seeds: [2], frames: 3 });
    close((await videos.read()).slice(3 * 8 * 8 * 3), await video.read());

    const interpolation = await cascade.stage("interpolation");
    using many = await interpolation.sample(videos, embeddings, { seeds: [1, 2], skip: 4, fps: 8 });
    assertEquals(many.shape, [2, 9, 8, 8, 3]);

    const high = await cascade.stage("sr-high");
    using whole = await high.sample(many, { seeds: [1, 2], chunk: 0 });
    using parts = await high.sample(many, { seeds: [1, 2], chunk: 2 });
    assertEquals(whole.shape, [2, 9, 48, 48, 3]);
    assertEquals(await parts.read(), await whole.read());

    const low = await cascade.stage("sr-low");
    await assertRejects(() => low.sample(video, { seeds: [1], chunk: 2 }), KinoraError, "sees all frames together");
    await assertRejects(() => low.sample(video, { seeds: [1, 2] }), KinoraError, "one seed for each of 1 samples");
    await assertRejects(() => decoder.sample(embedding, { seeds: [1], frames: 0 }), KinoraError, "frames must be");
  }));

Deno.test("a long video is enlarged in spans that see beyond their ends", () =>
  withTinyModel(async (folder) => {
    using cascade = await Cascade.load(folder, { precision: "f32" });
    const low = await cascade.stage("sr-low");
    const values = new Float32Array(170 * 8 * 8 * 3).map((_, at) => Math.sin(at / 31) * Math.cos(at / 1009));
    using long = await Tensor.create([1, 170, 8, 8, 3], values);
    const seen: [number, number, boolean][] = [];
    const steps = low.stream(long, { seeds: [1] });
    let result;
    while (!(result = await steps.next()).done) {
      const { firstFrame, clean, finished } = result.value;
      seen.push([firstFrame, clean.shape[1] ?? 0, finished]);
    }
    assertEquals(seen, [[0, 112, false], [0, 112, true], [112, 58, false], [112, 58, true]]);
    using whole = result.value;
    assertEquals(whole.shape, [1, 170, 16, 16, 3]);
    // Seen together, the frames on either side of where two spans meet are the same.
    const places = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, at) => from + at);
    using around = await long.gather(1, places(20, 170));
    using together = await low.sample(around, { seeds: [1] });
    using one = await whole.gather(1, places(106, 118));
    using other = await together.gather(1, places(86, 98));
    const [a, b] = [await one.read(), await other.read()];
    a.forEach((value, at) => assert(Math.abs(value - (b[at] ?? NaN)) < 1e-5, `number ${at}`));
  }));

Deno.test("of several candidates the prior keeps the one closest to the text", () =>
  withTinyModel(async (folder) => {
    using cascade = await Cascade.load(folder, { precision: "f32" });
    const [tower, prior] = [await cascade.stage("text"), await cascade.stage("prior")];
    using text = await tower.encode(["two birds", "a butterfly"]);
    const cosines = async (candidates: number): Promise<number[]> => {
      using drawn = await prior.sample(text, { seeds: [4, 5], guidance: 1, candidates });
      using products = await Tensor.matmul(text.embedding, drawn);
      const [a = NaN, , , d = NaN] = await products.read();
      return [a, d];
    };
    const [one, few, many] = [await cosines(1), await cosines(2), await cosines(6)];
    for (const text of [0, 1]) {
      assert((few[text] ?? NaN) >= (one[text] ?? NaN) - 1e-5);
      assert((many[text] ?? NaN) >= (few[text] ?? NaN) - 1e-5);
    }
  }));
