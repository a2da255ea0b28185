// deno-lint-ignore-file no-console
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia, encodeMedia } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { ffmpegIsThere } from "../../lib/media/ffmpeg.ts";
import { numberedPictures } from "../../lib/media/numbered_pictures.ts";
import { openMedia } from "../../lib/media/open_media.ts";
import { placeBack } from "../../lib/media/place_back.ts";

await libraryInfo();

const FIXTURES = fileURLToPath(new URL("fixtures", import.meta.url));

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-open-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Frames of one grey level each, in levels of 255. */
async function greys(levels: readonly number[], height = 4, width = 4): Promise<Tensor> {
  const values = levels.flatMap((level) => new Array(height * width * 3).fill(level / 127.5 - 1));
  return await Tensor.create([levels.length, height, width, 3], values);
}

/** The level of each frame's first pixel. */
async function levels(tensor: Tensor): Promise<number[]> {
  const values = await tensor.read();
  const frame = values.length / (tensor.shape[0] ?? 1);
  return Array.from({ length: tensor.shape[0] ?? 0 }, (_, i) => Math.round(((values[i * frame] ?? 0) + 1) * 127.5));
}

/** A picture that is smooth, so that resizing it there and back changes little. */
async function slope(height: number, width: number): Promise<Tensor> {
  const values = new Float32Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      values.set([x / width - 0.5, y / height - 0.5, (x + y) / (width + height) - 0.5], (y * width + x) * 3);
    }
  }
  return await Tensor.create([1, height, width, 3], values);
}

Deno.test("any aspect comes to the wanted size, and back", () =>
  withFolder(async (folder) => {
    const path = `${folder}/wide.png`;
    using wide = await slope(60, 100);
    await encodeMedia(wide, path, { fps: 1 });
    const size = { width: 32, height: 32 };
    {
      using media = await openMedia(path, { size, fit: "contain" });
      assertEquals(media.tensor.shape, [1, 32, 32, 3]);
      assertEquals([media.sourceWidth, media.sourceHeight, media.format, media.fps], [100, 60, "png", undefined]);
      assertEquals(media.placement?.content, { x: 0, y: 6, width: 32, height: 19 });
      const values = await media.tensor.read();
      assert(values.subarray(0, 6 * 32 * 3).every((v) => v === 1), "the rest is white");
      // A result of twice the size goes back as well.
      using double = await media.tensor.resize({ height: 64, width: 64, filter: "nearest" });
      for (const result of [media.tensor, double]) {
        using back = await placeBack(result, media);
        assertEquals(back.shape, wide.shape);
        const [got, wanted] = [await back.read(), await wide.read()];
        assert(got.every((v, at) => Math.abs(v - (wanted[at] ?? 0)) < 0.06));
      }
    }
    using media = await openMedia(path, { size });
    assertEquals(media.placement?.crop, { x: 20, y: 0, width: 60, height: 60 });
    using grey = await greys([0], 60, 100);
    using back = await placeBack(media.tensor, media, { background: grey });
    const [got, wanted] = [await back.read(), await wide.read()];
    for (let pixel = 0; pixel < 60 * 100; pixel++) {
      const inside = pixel % 100 >= 20 && pixel % 100 < 80;
      const value = got[pixel * 3] ?? 0;
      assert(inside ? Math.abs(value - (wanted[pixel * 3] ?? 0)) < 0.06 : value === -1, `${pixel}: ${value}`);
    }
    using white = await placeBack(media.tensor, media);
    assertEquals((await white.read())[0], 1);
    await assertRejects(() => placeBack(media.tensor, media, { background: media.tensor }), KinoraError, "background");
  }));

Deno.test("frames are taken at a wanted rate, and no more than are wanted", () =>
  withFolder(async (folder) => {
    const path = `${folder}/a.png`;
    using frames = await greys([0, 10, 20, 30, 40, 50]);
    await encodeMedia(frames, path, { fps: 24 });
    const taken = async (options: { fps?: number; frames?: number }): Promise<number[]> => {
      using media = await openMedia(path, options);
      assertEquals(media.fps, options.fps ?? 24);
      return await levels(media.tensor);
    };
    assertEquals(await taken({}), [0, 10, 20, 30, 40, 50]);
    assertEquals(await taken({ fps: 8 }), [0, 30]);
    assertEquals(await taken({ fps: 48, frames: 5 }), [0, 0, 10, 10, 20]);
    assertEquals(await taken({ frames: 2 }), [0, 10]);
    using still = await openMedia(`${FIXTURES}/png_palette.png`, { fps: 30 });
    assertEquals(still.frames, 1);
  }));

Deno.test("durations of their own are kept from file to file", () =>
  withFolder(async (folder) => {
    using media = await openMedia(`${FIXTURES}/gif_delays.gif`);
    assertEquals([media.steady, media.duration], [false, 0.5]);
    using video = await media.video();
    for (const name of ["a.gif", "a.png"]) {
      await video.save(`${folder}/${name}`);
      const { tensor, delaysMs } = await decodeMedia(`${folder}/${name}`);
      tensor.dispose();
      assertEquals(delaysMs, media.durations.map(([ticks, of]) => ticks * 1000 / of));
    }
    const error = await assertRejects(() => video.save(`${folder}/a.y4m`), KinoraError, "one rate");
    assertEquals(error.code, "refused");
    using steady = await openMedia(`${FIXTURES}/gif_delays.gif`, { fps: 29.97 });
    using film = await steady.video();
    await film.save(`${folder}/a.y4m`);
    using back = await openMedia(`${folder}/a.y4m`);
    assertEquals(back.durations[0], [1001, 30000]);
    assertEquals(back.frames, steady.frames);
    const [got, wanted] = [await back.tensor.read(), await steady.tensor.read()];
    // Luma of 219 levels and chroma of 224: within two levels of 255.
    assert(got.every((v, at) => Math.abs(v - (wanted[at] ?? 0)) < 2.6 / 127.5));
  }));

Deno.test("a folder of numbered pictures is a film", () =>
  withFolder(async (folder) => {
    for (const [number, level] of [[2, 20], [10, 100], [1, 10]] as const) {
      using picture = await greys([level]);
      await encodeMedia(picture, `${folder}/shot7-${number}.png`, { fps: 1 });
    }
    await Deno.writeTextFile(`${folder}/notes-3.txt`, "");
    await Deno.writeTextFile(`${folder}/.4.png`, "");
    assertEquals((await numberedPictures(`${folder}/`)).map((path) => path.slice(folder.length)), [
      "/shot7-1.png",
      "/shot7-2.png",
      "/shot7-10.png",
    ]);
    {
      using media = await openMedia(folder, { sequenceFps: 12 });
      assertEquals([media.format, media.fps, await levels(media.tensor)], ["sequence", 12, [10, 20, 100]]);
      using half = await openMedia(folder, { sequenceFps: 12, fps: 6 });
      assertEquals(await levels(half.tensor), [10, 100]);
    }
    using large = await greys([5], 6, 6);
    await encodeMedia(large, `${folder}/11.png`, { fps: 1 });
    assertEquals((await assertRejects(() => openMedia(folder), KinoraError, "11.png")).code, "refused");
    await encodeMedia(large, `${folder}/b10.png`, { fps: 1 });
    await assertRejects(() => openMedia(folder), KinoraError, "same number");
    const animated = `${folder}/animated`;
    await Deno.mkdir(animated);
    await assertRejects(() => openMedia(animated), KinoraError, "no numbered pictures");
    await Deno.copyFile(`${FIXTURES}/apng.png`, `${animated}/1.png`);
    await assertRejects(() => openMedia(animated), KinoraError, "stills");
  }));

Deno.test("what is too much is refused before it is decoded", () =>
  withFolder(async (folder) => {
    using frames = await greys([0, 255], 512, 512);
    const path = `${folder}/a.png`;
    await encodeMedia(frames, path, { fps: 0.1 });
    const since = performance.now();
    const error = await assertRejects(() => openMedia(path, { fps: 1000 }), KinoraError, "2048 MiB");
    assertEquals(error.code, "refused");
    assert(performance.now() - since < 2000);
    const cases: [Parameters<typeof openMedia>[1], string][] = [
      [{ size: { width: 0, height: 4 } }, "width"],
      [{ size: { width: 4, height: 8193 } }, "height"],
      [{ size: { width: 4, height: 4 }, fit: "fill" as "cover" }, "fit"],
      [{ fps: 0 }, "fps"],
      [{ frames: 0 }, "frames"],
    ];
    for (const [options, field] of cases) {
      assertEquals((await assertRejects(() => openMedia(path, options), KinoraError, field)).code, "refused");
    }
    assertEquals((await assertRejects(() => openMedia(`${folder}/none.png`), KinoraError)).code, "not-found");
  }));

/** EXIF orientation 6 in the order of bytes of Motorola: turned to the right. */
const EXIF = [
  ...new TextEncoder().encode("MM\0*"),
  0,
  0,
  0,
  8,
  0,
  1,
  1,
  0x12,
  0,
  3,
  0,
  0,
  0,
  1,
  0,
  6,
  0,
  0,
  0,
  0,
  0,
  0,
];

Deno.test("a photograph is turned as its EXIF orientation says", () =>
  withFolder(async (folder) => {
    const jpeg = await Deno.readFile(`${FIXTURES}/jpeg.jpg`);
    const body = [...new TextEncoder().encode("Exif\0\0"), ...EXIF];
    const segment = [0xff, 0xe1, 0, body.length + 2, ...body];
    await Deno.writeFile(`${folder}/a.jpg`, Uint8Array.from([...jpeg.subarray(0, 2), ...segment, ...jpeg.subarray(2)]));
    using stored = await openMedia(`${FIXTURES}/jpeg.jpg`);
    using turned = await openMedia(`${folder}/a.jpg`);
    const { width, height } = stored;
    assert(width !== height);
    assertEquals([turned.width, turned.height, turned.sourceWidth], [height, width, height]);
    const [from, to] = [await stored.tensor.read(), await turned.tensor.read()];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        assertEquals(to[(x * height + height - 1 - y) * 3], from[(y * width + x) * 3]);
      }
    }
  }));

Deno.test("what is not decoded here is named, and left to ffmpeg where that is there", () =>
  withFolder(async (folder) => {
    const film = await Deno.readFile(`${FIXTURES}/mp4_high_bframes.mp4`);
    const text = new TextDecoder("latin1").decode(film);
    film.set(new TextEncoder().encode("hvc1"), text.lastIndexOf("avc1"));
    await Deno.writeFile(`${folder}/a.mp4`, film);
    const error = await assertRejects(() => decodeMedia(`${folder}/a.mp4`), KinoraError, "HEVC (hvc1)");
    assertEquals(error.code, "unsupported");
    // An ffmpeg that writes down what it is asked for, and gives a film of its own.
    await Deno.copyFile(`${FIXTURES}/y4m.y4m`, `${folder}/film.y4m`);
    const script = `#!/bin/sh\n[ "$1" = -version ] && exit 0\necho "$@" > ${folder}/asked\n` +
      `for last; do :; done\ncp ${folder}/film.y4m "$last"\n`;
    await Deno.writeTextFile(`${folder}/ffmpeg`, script, { mode: 0o755 });
    const path = Deno.env.get("PATH") ?? "";
    try {
      Deno.env.set("PATH", folder);
      await assertRejects(() => openMedia(`${folder}/none.mp4`), KinoraError, "none.mp4");
      Deno.env.set("PATH", `${folder}:${path}`);
      using media = await openMedia(`${folder}/a.mp4`, { fps: 4, size: { width: 8, height: 8 } });
      assertEquals([media.format, media.tensor.shape], ["ffmpeg", [2, 8, 8, 3]]);
      const asked = await Deno.readTextFile(`${folder}/asked`);
      assert(asked.includes(`-i file:${folder}/a.mp4 `) && asked.includes("-r 4 "), asked);
      Deno.env.set("PATH", `${folder}/none`);
      const without = await assertRejects(() => openMedia(`${folder}/a.mp4`), KinoraError, "with ffmpeg on the path");
      assertEquals(without.code, "unsupported");
    } finally {
      Deno.env.set("PATH", path);
    }
  }));

Deno.test("films that only ffmpeg decodes are refused by what they are", async () => {
  const kinds: Readonly<Record<string, string>> = {
    "hevc.mp4": "HEVC (hev1)",
    "high_10.mp4": "High 10 (profile_idc 110), 10 bits",
    "high_422.mp4": "High 4:2:2 (profile_idc 122), 8 bits, 4:2:2",
    "interlaced.mp4": "interlaced (MBAFF)",
    "vp9.webm": "Matroska or WebM",
  };
  const names = (await Array.fromAsync(Deno.readDir(`${FIXTURES}/foreign`), ({ name }) => name)).sort();
  assertEquals(names, Object.keys(kinds));
  for (const [name, kind] of Object.entries(kinds)) {
    const error = await assertRejects(() => decodeMedia(`${FIXTURES}/foreign/${name}`), KinoraError, kind);
    assertEquals(error.code, "unsupported", name);
  }
});

const noFfmpeg = await ffmpegIsThere() ? undefined : "ffmpeg is not on the path (apt-get install ffmpeg)";
if (noFfmpeg !== undefined) console.error(`skipped: films that only ffmpeg decodes, ${noFfmpeg}`);

Deno.test({
  name: "the machine's own ffmpeg decodes them",
  ignore: noFfmpeg !== undefined && Deno.env.get("KINORA_REQUIRE_ALL") !== "1",
  fn: async () => {
    assertEquals(noFfmpeg, undefined);
    // What all of them were made of.
    using original = await openMedia(`${FIXTURES}/mp4_high_bframes.mp4`);
    const wanted = await original.tensor.read();
    for (const name of ["hevc.mp4", "high_10.mp4", "high_422.mp4", "interlaced.mp4", "vp9.webm"]) {
      using media = await openMedia(`${FIXTURES}/foreign/${name}`);
      assertEquals(
        [media.format, media.tensor.shape, media.fps],
        ["ffmpeg", original.tensor.shape, original.fps],
        name,
      );
      const values = await media.tensor.read();
      const squares = values.reduce((sum, value, at) => sum + (value - (wanted[at] ?? 0)) ** 2, 0);
      const psnr = -10 * Math.log10(squares / values.length / 4);
      assert(psnr > 28, `${name}: ${psnr} dB`);
      using some = await openMedia(`${FIXTURES}/foreign/${name}`, {
        fps: 12,
        frames: 3,
        size: { width: 16, height: 16 },
      });
      assertEquals([some.tensor.shape, some.fps], [[3, 16, 16, 3], 12], name);
    }
    const broken = await Deno.makeTempFile({ suffix: ".webm" });
    try {
      const film = await Deno.readFile(`${FIXTURES}/foreign/vp9.webm`);
      await Deno.writeFile(broken, film.subarray(0, 40));
      const error = await assertRejects(() => openMedia(broken), KinoraError, "ffmpeg cannot decode");
      assertEquals(error.code, "bad-file");
    } finally {
      await Deno.remove(broken);
    }
  },
});
