import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia, decodePlanes, encodeMedia } from "../../ffi/media.ts";
import { loadTensors, Tensor } from "../../ffi/tensor.ts";
import { Video } from "../../lib/video.ts";

await libraryInfo();

const FIXTURES = fileURLToPath(new URL("fixtures", import.meta.url));

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-media-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A coloured square that moves over white. */
async function moving(frames: number, size = 24): Promise<Tensor> {
  const values = new Float32Array(frames * size * size * 3).fill(1);
  for (let frame = 0; frame < frames; frame++) {
    for (let y = 6; y < 18; y++) {
      for (let x = 4; x < 12; x++) {
        const at = ((frame * size + y) * size + (x + frame) % size) * 3;
        values.set([y / 12 - 1, x / 12 - 1, -0.5], at);
      }
    }
  }
  return await Tensor.create([frames, size, size, 3], values);
}

async function bytesOf(tensor: Tensor): Promise<number[]> {
  return Array.from(await tensor.read(), (value) => Math.round((value + 1) * 127.5));
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}

/** Where a fixture has planes, they must be the file's, bit for bit. */
async function comparePlanes(name: string, wanted: Readonly<Record<string, Tensor>>): Promise<void> {
  if (wanted["out/y"] === undefined) return;
  const { y, chroma } = await decodePlanes(`${FIXTURES}/${name}`);
  for (const [plane, tensor] of [["y", y], ["u", chroma?.[0]], ["v", chroma?.[1]]] as const) {
    assert(tensor !== undefined);
    assertEquals(tensor.shape, wanted[`out/${plane}`]?.shape);
    assertEquals(await tensor.read(), await wanted[`out/${plane}`]?.read(), `${name} ${plane}`);
    tensor.dispose();
  }
}

Deno.test("files of other programs are decoded to their exact bytes", async () => {
  let files = 0;
  for (const name of await names(FIXTURES)) {
    if (!/\.(gif|png|webp|jpg|y4m|mp4)$/.test(name)) continue;
    files++;
    const { tensor, delaysMs } = await decodeMedia(`${FIXTURES}/${name}`);
    const { tensors } = await loadTensors(`${FIXTURES}/${name.replace(/\.\w+$/, ".safetensors")}`);
    const [frames, delays] = [tensors["out/frames"], tensors["out/delays_ms"]];
    assert(frames !== undefined && delays !== undefined);
    assertEquals(tensor.shape, frames.shape, name);
    const [got, wanted] = [await bytesOf(tensor), await frames.read()];
    assertEquals(got.findIndex((byte, at) => byte !== wanted[at]), -1, name);
    for (const [at, delay] of (await delays.read()).entries()) {
      assert(Math.abs(delay - (delaysMs[at] ?? 0)) < 0.01, name);
    }
    await comparePlanes(name, tensors);
    tensor.dispose();
    for (const made of Object.values(tensors)) made.dispose();
  }
  assertEquals(files, 23);
});

Deno.test("a white background goes under a transparent animation", async () => {
  const path = `${FIXTURES}/webp_lossless_alpha.webp`;
  using glass = (await decodeMedia(path)).tensor;
  using white = (await decodeMedia(path, { background: "white" })).tensor;
  assertEquals(white.shape, [...glass.shape.slice(0, 3), 3]);
  const [with_, without] = [await bytesOf(glass), await bytesOf(white)];
  for (let pixel = 0; pixel < without.length / 3; pixel++) {
    const alpha = with_[pixel * 4 + 3] ?? 0;
    const wanted = ((with_[pixel * 4] ?? 0) * alpha + 255 * (255 - alpha)) / 255;
    assert(Math.abs(wanted - (without[pixel * 3] ?? 0)) <= 1);
  }
});

Deno.test("a GIF has every frame, and its delays add up", () =>
  withFolder(async (folder) => {
    using frames = await moving(16);
    for (const [fps, total] of [[8, 2000], [10, 1600], [24, 660], [30, 530]] as const) {
      const path = `${folder}/a.gif`;
      const { bytes } = await encodeMedia(frames, path, { fps });
      assertEquals(bytes, (await Deno.stat(path)).size);
      const { tensor, delaysMs } = await decodeMedia(path, { background: "white" });
      using back = tensor;
      assertEquals(back.shape, [16, 24, 24, 3]);
      assertEquals(delaysMs.length, 16);
      assertEquals(delaysMs.reduce((sum, delay) => sum + delay, 0), total);
      if (fps === 8) assertEquals(delaysMs.slice(0, 4), [120, 130, 120, 130]);
      // Fewer than 256 colours in all: they are kept as they are.
      assertEquals(await bytesOf(back), await bytesOf(frames));
    }
    assertEquals(await names(folder), ["a.gif"]);
  }));

Deno.test("a GIF has one palette for all frames", () =>
  withFolder(async (folder) => {
    using noise = await Tensor.noise({ shape: [4, 32, 32, 3], seeds: [1, 2, 3, 4] });
    await encodeMedia(noise, `${folder}/a.gif`, { fps: 8 });
    const file = await Deno.readFile(`${folder}/a.gif`);
    assertEquals(new TextDecoder().decode(file.subarray(0, 6)), "GIF89a");
    // The global table has 2^(n + 1) colours; no image descriptor of a frame may ask for a table of its own.
    assertEquals((file[10] ?? 0) & 0x87, 0x87);
    let [at, frames] = [13 + 3 * 256, 0];
    while (file[at] !== 0x3b) {
      if (file[at] === 0x2c) {
        assertEquals((file[at + 9] ?? 0) & 0x80, 0);
        frames++;
        at += 11;
      } else at += 2;
      while (file[at] !== 0) at += (file[at] ?? 0) + 1;
      at++;
    }
    assertEquals(frames, 4);
  }));

Deno.test("a PNG, still or animated, holds exactly the bytes of the video", () =>
  withFolder(async (folder) => {
    for (const frames of [1, 5]) {
      using video = new Video(await moving(frames), { fps: 8 });
      await video.save(`${folder}/a.png`);
      const { tensor, delaysMs } = await decodeMedia(`${folder}/a.png`, { background: "white" });
      using back = tensor;
      assertEquals(delaysMs, frames === 1 ? [0] : Array(5).fill(125));
      assertEquals(await bytesOf(back), [...await video.bytes()]);
    }
    using picture = await Tensor.create([2, 2, 3], [-1, 0, 1, 0.5, -0.5, 7, -7, NaN, 0.1, -0.1, 1 / 255, -1 / 255]);
    await encodeMedia(picture, `${folder}/b.png`, { fps: 1 });
    using back = (await decodeMedia(`${folder}/b.png`, { background: "white" })).tensor;
    using video = new Video(await picture.reshape([1, 2, 2, 3]), { fps: 1 });
    assertEquals(await bytesOf(back), [...await video.bytes()]);
  }));

Deno.test("WebP holds exactly the bytes of the video, MP4 and Y4M nearly", () =>
  withFolder(async (folder) => {
    // Even places and a smooth picture, which 4:2:0 does not smear.
    using small = await moving(6);
    using frames = await small.resize({ height: 96, width: 96, filter: "bilinear" });
    using video = new Video(frames, { fps: 12.5 });
    const wanted = await video.bytes();
    for (const [name, most] of [["a.webp", 0], ["a.mp4", 8], ["a.y4m", 1.5]] as const) {
      await video.save(`${folder}/${name}`);
      const { tensor, durations, format } = await decodeMedia(`${folder}/${name}`, { background: "white" });
      using back = tensor;
      assertEquals(format, name.slice(2));
      assert(durations.every(([ticks, perSecond]) => ticks * 25 === perSecond * 2));
      const got = await bytesOf(back);
      const squares = got.reduce((sum, byte, at) => sum + (byte - (wanted[at] ?? 0)) ** 2, 0);
      assert(Math.sqrt(squares / got.length) <= most, `${name}: ${Math.sqrt(squares / got.length)}`);
    }
    await video.save(`${folder}/a.sheet.png`);
    using sheet = (await decodeMedia(`${folder}/a.sheet.png`)).tensor;
    assertEquals(sheet.shape, [1, 192, 288, 4]);
    assertEquals((await names(folder)).length, 4);
  }));

Deno.test("a folder gets one PNG a frame", () =>
  withFolder(async (folder) => {
    using video = new Video(await moving(3), { fps: 8 });
    await video.save(`${folder}/frames/`);
    assertEquals(await names(`${folder}/frames`), ["0000.png", "0001.png", "0002.png"]);
    using second = (await decodeMedia(`${folder}/frames/0001.png`, { background: "white" })).tensor;
    assertEquals(await bytesOf(second), [...await video.bytes()].slice(24 * 24 * 3, 2 * 24 * 24 * 3));
  }));

Deno.test("what cannot be written is refused by name and leaves nothing", () =>
  withFolder(async (folder) => {
    using frames = await moving(2);
    using flat = await Tensor.create([2, 4, 4, 4], new Float32Array(128));
    const path = `${folder}/a.gif`;
    const cases: [Tensor, string, number, string][] = [
      [frames, `${folder}/a.avi`, 8, "a.avi"],
      [frames, `${folder}/a`, 8, ".gif"],
      [frames, path, 0, "fps"],
      [frames, path, 1001, "fps"],
      [frames, path, 101, "fps"],
      [flat, path, 8, "tensor"],
    ];
    for (const [tensor, path, fps, message] of cases) {
      const error = await assertRejects(() => encodeMedia(tensor, path, { fps }), KinoraError, message);
      assertEquals(error.code, "refused", message);
    }
    await Deno.mkdir(`${folder}/folder.png`);
    const folderError = await assertRejects(() => encodeMedia(frames, `${folder}/folder.png`, { fps: 8 }), KinoraError);
    assertEquals(folderError.code, "refused");
    const missing = await assertRejects(() => encodeMedia(frames, `${folder}/none/a.gif`, { fps: 8 }), KinoraError);
    assertEquals(missing.code, "not-found");
    assertStringIncludes(missing.message, "none/a.gif");
    assertEquals(await names(folder), ["folder.png"]);
  }));

Deno.test("a stopped encoding leaves the old file", () =>
  withFolder(async (folder) => {
    using few = await moving(6, 256);
    using frames = await few.gather(0, Array.from({ length: 120 }, (_, frame) => frame % 6));
    for (const path of ["gif", "png", "mp4", "webp", "y4m"].map((ending) => `${folder}/a.${ending}`)) {
      await Deno.writeTextFile(path, "old");
      const controller = new AbortController();
      const stop = new Error("stop");
      const rejected = assertRejects(() => encodeMedia(frames, path, { fps: 8, signal: controller.signal }));
      // It has begun, and 120 frames take longer than getting here.
      controller.abort(stop);
      assertEquals(await rejected, stop);
      assertEquals(await Deno.readTextFile(path), "old");
    }
    assertEquals((await names(folder)).length, 5);
  }));

Deno.test("damaged files are bad-file with their name", () =>
  withFolder(async (folder) => {
    // What these files claim, an accepting reader may ignore.
    const harmless = new Set(["actl_zero.png", "frame_outside.gif"]);
    for (const name of await names(`${FIXTURES}/bad`)) {
      if (harmless.has(name)) {
        (await decodeMedia(`${FIXTURES}/bad/${name}`)).tensor.dispose();
        continue;
      }
      const error = await assertRejects(() => decodeMedia(`${FIXTURES}/bad/${name}`), KinoraError, name);
      assertEquals(error.code, "bad-file", name);
    }
    for (
      const name of [
        "gif_delays.gif",
        "apng.png",
        "webp_lossy.webp",
        "webp_lossless.webp",
        "mp4_baseline.mp4",
        "jpeg.jpg",
      ]
    ) {
      const whole = await Deno.readFile(`${FIXTURES}/${name}`);
      for (let part = 0; part < 20; part++) {
        const path = `${folder}/${part}-${name}`;
        await Deno.writeFile(path, whole.subarray(0, Math.floor(whole.length * part / 20)));
        const error = await assertRejects(() => decodeMedia(path), KinoraError, path);
        assertEquals(error.code, "bad-file", path);
      }
    }
  }));

Deno.test("what is not there is not-found, a folder is bad-file", async () => {
  const missing = await assertRejects(() => decodeMedia(`${FIXTURES}/none.png`), KinoraError, "none.png");
  assertEquals(missing.code, "not-found");
  assertEquals((await assertRejects(() => decodeMedia(FIXTURES), KinoraError, FIXTURES)).code, "bad-file");
});
