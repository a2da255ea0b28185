import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { meanEmbedding } from "../../lib/cascade/image_tower.ts";
import { Video } from "../../lib/video.ts";
import { withTinyModel } from "./tiny_model.ts";

await libraryInfo();

/** Runs a test on a tiny cascade, and checks that it leaves nothing behind in native memory. */
async function withCascade(test: (cascade: Cascade, folder: string) => Promise<void>): Promise<void> {
  await withTinyModel(async (folder) => {
    const before = (await libraryInfo()).handles;
    {
      using cascade = await Cascade.load(folder, { precision: "f32" });
      await test(cascade, folder);
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
    assertEquals((await libraryInfo()).handles, before);
  });
}

/** A video of frames that differ everywhere. */
async function pattern(frames: number, size = 8, fps = 6): Promise<Video> {
  const pixels = size * size * 3;
  const values = new Float32Array(frames * pixels).map((_, index) =>
    Math.sin(index * 0.7 + Math.floor(index / pixels))
  );
  return new Video(await Tensor.create([frames, size, size, 3], values), { fps });
}

async function rows(video: Video, places: readonly number[]): Promise<Float32Array> {
  using some = await video.tensor.gather(0, places);
  return await some.read();
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

function shape(video: Video): number[] {
  return [video.frames, video.height, video.width, video.fps];
}

Deno.test("animate() starts with the picture, at every length and size", () =>
  withCascade(async (cascade) => {
    using picture = await pattern(1);
    for (
      const [frames, size, wanted] of [[16, 8, [16, 8, 8, 8]], [5, 8, [5, 8, 8, 8]], [31, 8, [31, 8, 8, 16]]] as const
    ) {
      using video = await cascade.animate(picture, { frames, size });
      assertEquals(shape(video), [...wanted]);
      assertEquals(await rows(video, [0]), await picture.tensor.read());
      assertNotEquals(await rows(video, [1]), await picture.tensor.read());
    }
    using large = await cascade.animate(picture, { size: 48, fps: 4, steps: 1 });
    assertEquals(shape(large), [16, 48, 48, 4]);
    assertEquals(large.manifest?.stages.map(({ stage }) => stage), ["image", "interpolation", "sr-low", "sr-high"]);
  }));

Deno.test("what a picture shows matters beyond its first frame", () =>
  withCascade(async (cascade) => {
    const interpolation = await cascade.stage("interpolation");
    const tower = await cascade.stage("image");
    using picture = await pattern(1);
    using video = await cascade.animate(picture, { seed: 4, size: 8 });
    using encoded = await tower.encode(picture.tensor);
    assert(Math.abs(Math.hypot(...await encoded.read()) - 1) < 1e-5);
    // Brought to unit length again, which may change the last bits.
    using embedding = await meanEmbedding(encoded);
    using frames = await picture.tensor.reshape([1, 1, 8, 8, 3]);
    const layout = {
      total: 16,
      places: [0],
      windows: [{ start: 0, length: 16, known: [{ position: 0, source: "key" as const, frame: 0 }] }],
    };
    using same = await interpolation.sampleLayout(frames, embedding, layout, { seeds: [4], rate: 8 });
    assertEquals(await same.read(), await video.tensor.read());
    using away = await Tensor.combine([{ tensor: embedding, scale: -1 }]);
    using other = await interpolation.sampleLayout(frames, away, layout, { seeds: [4], rate: 8 });
    assertNotEquals(await other.read(), await video.tensor.read());
  }));

Deno.test("a picture's loop starts with it, and leads back to it", () =>
  withCascade(async (cascade) => {
    using picture = await pattern(1);
    for (const [frames, fps] of [[15, 8], [7, 8], [30, 16]] as const) {
      using video = await cascade.animate(picture, { frames, size: 8, loop: true });
      assertEquals(shape(video), [frames, 8, 8, fps]);
      assertEquals(await rows(video, [0]), await picture.tensor.read());
      assertNotEquals(await rows(video, [frames - 1]), await picture.tensor.read());
      assertEquals(video.manifest?.given?.length, 1);
    }
    // The network sees the picture at both ends.
    using loop = await cascade.animate(picture, { size: 8, loop: true });
    using joined = await cascade.interpolate([picture, picture], { size: 8 });
    assertEquals(await loop.tensor.read(), await rows(joined, range(0, 15)));
    using varied = await cascade.vary(picture, { frames: 32, size: 16, loop: true });
    assertEquals(shape(varied), [32, 16, 16, 16]);
    const error = await assertRejects(() => cascade.animate(picture, { frames: 16, loop: true }), KinoraError);
    assert(error.message.includes("frames must be 1 to 15, or with interpolation 30, 45"), error.message);
  }));

Deno.test("interpolate() leads from one picture to another", () =>
  withCascade(async (cascade) => {
    using pictures = await pattern(2);
    using first = new Video(await pictures.tensor.gather(0, [0]), { fps: 1 });
    using last = new Video(await pictures.tensor.gather(0, [1]), { fps: 1 });
    for (const frames of [3, 16, 76]) {
      using video = await cascade.interpolate([first, last], { frames, size: 8 });
      assertEquals(video.frames, frames);
      assertEquals(await rows(video, [0, frames - 1]), await pictures.tensor.read());
    }
  }));

Deno.test("interpolate() gives a video of any length more frames, between those it has", () =>
  withCascade(async (cascade) => {
    for (const [count, skip] of [[2, 2], [7, 3], [20, 5]] as const) {
      using given = await pattern(count);
      using video = await cascade.interpolate(given, { skip, size: 8 });
      assertEquals(shape(video), [(count - 1) * skip + 1, 8, 8, 6 * skip]);
      assertEquals(await rows(video, range(0, count).map((frame) => frame * skip)), await given.tensor.read());
    }
  }));

Deno.test("extend() puts frames on either side, and a longer extension begins as a shorter one", () =>
  withCascade(async (cascade) => {
    using given = await pattern(10);
    using both = await cascade.extend(given, { before: 11, after: 21, size: 8 });
    assertEquals(shape(both), [42, 8, 8, 6]);
    assertEquals(await rows(both, range(11, 21)), await given.tensor.read());
    using shorter = await cascade.extend(given, { after: 8, size: 8 });
    using longer = await cascade.extend(given, { after: 24, size: 8 });
    assertEquals(await rows(longer, range(0, 18)), await shorter.tensor.read());
    assertNotEquals(await rows(longer, range(18, 26)), await rows(longer, range(10, 18)));
    using common = await cascade.extend(given, { after: 8, size: 8, commonNoise: 1 });
    assertNotEquals(await common.tensor.read(), await shorter.tensor.read());
  }));

Deno.test("vary() conditions the decoder on the mean of the frames' embeddings", () =>
  withCascade(async (cascade) => {
    using given = await pattern(3);
    using video = await cascade.vary(given, { seed: 2, size: 8 });
    assertEquals(shape(video), [16, 8, 8, 8]);
    const [tower, decoder] = [await cascade.stage("image"), await cascade.stage("decoder")];
    using embeddings = await tower.encode(given.tensor);
    using mean = await meanEmbedding(embeddings);
    const values = await embeddings.read();
    const sums = range(0, 8).map((at) => (values[at] ?? 0) + (values[at + 8] ?? 0) + (values[at + 16] ?? 0));
    (await mean.read()).forEach((value, at) => assert(Math.abs(value - (sums[at] ?? 0) / Math.hypot(...sums)) < 1e-6));
    using frames = await decoder.sample(mean, { seeds: [2], guidance: 1.5 });
    assertEquals(await frames.read(), await video.tensor.read());
    using more = await cascade.vary(given, { frames: 31, size: 8 });
    assertEquals(shape(more), [31, 8, 8, 16]);
  }));

Deno.test("files are read, and made square as asked", () =>
  withCascade(async (cascade, folder) => {
    // Left red, middle white, right blue.
    const values = new Float32Array(8 * 24 * 3);
    for (let at = 0; at < 8 * 24; at++) {
      const third = Math.floor(at % 24 / 8);
      values.set([third === 2 ? -1 : 1, third === 1 ? 1 : -1, third === 0 ? -1 : 1], at * 3);
    }
    using wide = new Video(await Tensor.create([1, 8, 24, 3], values), { fps: 1 });
    const path = `${folder}/wide.png`;
    await wide.save(path);
    using cover = await cascade.animate(path, { size: 8, steps: 1 });
    const first = await rows(cover, [0]);
    assert(first.every((value) => value === 1), "the middle is white");
    using contain = await cascade.animate(path, { size: 8, steps: 1, fit: "contain" });
    const pixels = await rows(contain, [0]);
    const pixel = (
      row: number,
      column: number,
    ): number[] => [...pixels.subarray((row * 8 + column) * 3, (row * 8 + column) * 3 + 3)];
    assertEquals(pixel(0, 0), [1, 1, 1]);
    assertEquals(pixel(4, 0).map(Math.round), [1, -1, -1]);
    assertEquals(pixel(4, 7).map(Math.round), [-1, -1, 1]);
    const given = cover.manifest?.given?.[0];
    assertEquals([given?.frames, given?.width, given?.height, given?.fit], [1, 24, 8, "cover"]);
    using moving = await pattern(5, 8, 10);
    await moving.save(`${folder}/moving.gif`);
    using faster = await cascade.interpolate(`${folder}/moving.gif`, { skip: 2, size: 8, steps: 1 });
    assertEquals(shape(faster), [9, 8, 8, 20]);
  }));

Deno.test("a manifest says what was asked for, from which the same bytes are made again", () =>
  withCascade(async (cascade) => {
    using given = await pattern(4);
    const options = { seed: 9, after: 5, size: 16, steps: 2, sampler: "dpm-solver++", commonNoise: 0.5 } as const;
    using video = await cascade.extend(given, options);
    const { manifest } = video;
    assertEquals(manifest?.task, { verb: "extend", options });
    assertEquals(manifest?.prompt, undefined);
    assertEquals(manifest?.given?.[0]?.frames, 4);
    assert(/^[0-9a-f]{64}$/.test(manifest?.given?.[0]?.sha256 ?? ""));
    assertEquals(manifest?.stages[1]?.sampling?.sampler, { type: "dpmsolver++" });
    assertEquals(manifest?.stages[1]?.sampling?.commonNoise, 0.5);
    const again = JSON.parse(JSON.stringify(manifest)) as NonNullable<typeof manifest>;
    using same = await cascade.extend(given, again.task.options);
    assertEquals(await same.tensor.read(), await video.tensor.read());
    assertEquals(JSON.stringify(same.manifest), JSON.stringify(manifest));
  }));

Deno.test("applications yield steps and results, and stop at their signal", () =>
  withCascade(async (cascade) => {
    using given = await pattern(1);
    const seen: string[] = [];
    for await (const preview of cascade.streamAnimation(given, { frames: 31, size: 16 })) {
      seen.push(`${preview.stage} ${preview.step}/${preview.total}${preview.done ? " done" : ""}`);
      if (preview.done && preview.stage !== "prior") preview.video.dispose();
    }
    // One window for the key frames and two between them, of two steps each.
    const steps = range(1, 7).map((step) => `interpolation ${step}/6`);
    assertEquals(seen, [...steps, "interpolation 6/6 done", "sr-low 1/2", "sr-low 2/2", "sr-low 2/2 done"]);
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new KinoraError("cancelled", "enough"));
    const stopped = await assertRejects(
      () => cascade.vary(given, { signal: controller.signal, onProgress }),
      KinoraError,
    );
    assertEquals(stopped.code, "cancelled");
  }));

Deno.test("applications refuse what they cannot do, before any work", () =>
  withCascade(async (cascade, folder) => {
    using one = await pattern(1);
    using two = await pattern(2);
    await Deno.writeTextFile(`${folder}/text.png`, "no picture");
    const refused: [() => Promise<Video>, string, string][] = [
      [() => cascade.animate(two), "refused", "the image is moving; one still picture is taken"],
      [() => cascade.animate(one, { frames: 1 }), "refused", "frames must be at least 2"],
      [() => cascade.animate(one, { frames: 17 }), "refused", "frames must be 1 to 16, or with interpolation 31"],
      [() => cascade.animate(one, { size: 100 }), "refused", "size must be one of"],
      [() => cascade.animate(one, { seed: -1 }), "refused", "seed must be"],
      [() => cascade.animate(one, { fps: 31 }), "refused", "fps must be a number from 1 to 30"],
      [() => cascade.animate(one, { sampler: "euler" as "ddim" }), "refused", 'sampler must be "ddim" or'],
      [() => cascade.animate(one, { threshold: 0.1 }), "refused", "threshold must be a number from 0.5 to 1"],
      [() => cascade.animate(one, { commonNoise: 2 }), "refused", "commonNoise must be a number from 0 to 1"],
      [() => cascade.animate(one, { noiseSeconds: -1 }), "refused", "noiseSeconds must be a number from 0 to 60"],
      [
        () => cascade.interpolate(two, { skip: 2, noiseSeconds: 1 }),
        "refused",
        "noiseSeconds is for the decoder's noise",
      ],
      [() => cascade.animate(one, { fit: "stretch" as "cover" }), "refused", 'fit must be "cover" or "contain"'],
      [() => cascade.animate(`${folder}/nothing.png`), "not-found", "nothing.png"],
      [() => cascade.animate(`${folder}/text.png`), "bad-file", "text.png"],
      [() => cascade.animate(new URL("https://example.org/a.png")), "refused", "read from files"],
      [() => cascade.interpolate(one), "refused", "nothing between"],
      [() => cascade.interpolate(two, { skip: 1 }), "refused", "skip must be a whole number from 2 to 15"],
      [() => cascade.interpolate(two, { frames: 16 }), "refused", "frames is for two pictures"],
      [() => cascade.interpolate([one, one], { skip: 2 }), "refused", "skip is for videos"],
      [() => cascade.interpolate([one, two]), "refused", "picture 2 is moving"],
      [() => cascade.extend(two, {}), "refused", "before or after must be at least 1"],
      [() => cascade.extend(two, { after: 1.5 }), "refused", "after must be a whole number"],
      [() => cascade.extend(two, { after: 2000 }), "refused", "at most 1024"],
      [() => cascade.extend(two, { after: 1, overlap: 16 }), "refused", "overlap must be a whole number from 1 to 15"],
    ];
    for (const [run, code, message] of refused) {
      const error = await assertRejects(run, KinoraError, message);
      assertEquals(error.code, code);
    }
  }));
