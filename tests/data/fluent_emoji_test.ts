import { assert, assertEquals, assertRejects } from "@std/assert";
import { fileURLToPath } from "node:url";
import { distinctPictures, frameCounts, packPictures } from "../../ffi/dataset.ts";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { encodeMedia } from "../../ffi/media.ts";
import { Store } from "../../ffi/store.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { readIndex } from "../../lib/data/dataset_index.ts";
import { completeIndex, makeFluentEmoji, packFluentEmoji } from "../../lib/data/fluent_emoji.ts";
import type { EmojiSources } from "../../lib/data/fluent_emoji_rows.ts";
import { sourceConfig, sourceLock, SOURCES } from "../../lib/data/fluent_emoji_sources.ts";
import { withPackages } from "../../lib/data/source_packages.ts";

await libraryInfo();

const WEBP = fileURLToPath(new URL("../media/fixtures/webp_lossless.webp", import.meta.url));

/** Writes a picture of flat frames; the levels are in [-1, 1]. */
async function picture(path: string, levels: readonly number[], size = 64): Promise<string> {
  const frame = size * size * 3;
  const values = Float32Array.from({ length: levels.length * frame }, (_, at) => levels[Math.floor(at / frame)] ?? 0);
  using tensor = await Tensor.create([levels.length, size, size, 3], values);
  await encodeMedia(tensor, path, { fps: 10 });
  return path;
}

/** Four named things: two look the same, one has a clip of three frames, one a "clip" of one. */
async function tinySources(folder: string): Promise<EmojiSources> {
  const file = (name: string, levels: readonly number[]) => picture(`${folder}/${name}.png`, levels);
  return {
    stills: new Map([
      ["1f400.png", await file("rat", [-0.5])],
      ["1f401.png", await file("mouse", [0])],
      ["1f402.png", await file("ox", [0.001])],
      ["1f403.png", await file("buffalo", [0.5])],
    ]),
    clips: new Map([
      ["1f400.png", await file("rat-clip", [-1, 0, 1])],
      ["1f401.png", await file("mouse-clip", [0])],
      ["1f403.png", WEBP],
    ]),
    unicode: Object.fromEntries(
      ["rat", "mouse", "ox", "water buffalo"].map((name, at) => [
        String.fromCodePoint(0x1f400 + at),
        { name, group: "Animals & Nature" },
      ]),
    ),
    emojibase: [],
    emojilib: {},
  };
}

async function withFolder(test: (folder: string, out: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-data-" });
  try {
    await Deno.mkdir(`${folder}/out`);
    await test(folder, `${folder}/out`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a tiny collection becomes stores and an index", () =>
  withFolder(async (folder, out) => {
    const stages = new Set<string>();
    const index = await packFluentEmoji(await tinySources(folder), [], out, {
      onProgress: ({ stage, step, total }) => {
        assert(step <= total);
        stages.add(stage);
      },
    });
    assert(stages.has("packing"));
    assertEquals(index.concepts.map(({ name, still, clip }) => [name, still, clip]), [
      ["rat", 0, 0],
      ["mouse", 1, null],
      ["water buffalo", 2, 1],
    ]);
    assertEquals(index.clips, [
      { concept: 0, start: 0, length: 3, delayMs: 100, large: { start: 0, frames: [0, 1, 2] } },
      { concept: 2, start: 3, length: 6, delayMs: 41, large: null },
    ]);
    assertEquals(index.stores, {
      stills256: [3, 256, 256, 3],
      stills64: [3, 64, 64, 3],
      clips64: [9, 64, 64, 3],
      clips256: [3, 256, 256, 3],
    });
    assertEquals(await readIndex(out), index);
    assertEquals(await completeIndex(out), index);
    for (const [name, shape] of Object.entries(index.stores)) {
      using store = await Store.open(`${out}/${name}.safetensors`);
      assertEquals(store.tensors[name], { dtype: "U8", shape });
    }
    using store = await Store.open(`${out}/clips64.safetensors`);
    using frames = await store.gather("clips64", [0, 1, 2], { crop: { top: [5], left: [7], size: 1 } });
    const bytes = Array.from(await frames.read(), (value) => Math.round((value + 1) * 127.5));
    assertEquals(bytes, [0, 0, 0, 128, 128, 128, 255, 255, 255]);
  }));

Deno.test("without its index, or with a short store, a data set is not whole", () =>
  withFolder(async (folder, out) => {
    const sources = await tinySources(folder);
    await packFluentEmoji(sources, [], out);
    const path = `${out}/clips64.safetensors`;
    await Deno.truncate(path, (await Deno.stat(path)).size - 10_000);
    assertEquals(await completeIndex(out), undefined);
    await packFluentEmoji(sources, [], out);
    assert(await completeIndex(out) !== undefined);
    await Deno.remove(`${out}/index.json`);
    assertEquals(await completeIndex(out), undefined);
    assertEquals(await completeIndex(`${out}/none`), undefined);
  }));

Deno.test("what stops or fails leaves no index and no partial file", () =>
  withFolder(async (folder, out) => {
    const sources = await tinySources(folder);
    const controller = new AbortController();
    const stop = new Error("stop");
    // A tiny packing may be done before it is stopped; the stage before it is not followed by it in any case.
    const onProgress = ({ stage }: { readonly stage: string }): void => {
      if (stage === "counting") controller.abort(stop);
    };
    const work = () => packFluentEmoji(sources, [], out, { signal: controller.signal, onProgress });
    assertEquals(await assertRejects(work), stop);
    await Deno.writeTextFile(`${folder}/bad.png`, "no picture");
    const bad = { ...sources, stills: new Map([...sources.stills, ["1f400.png", `${folder}/bad.png`]]) };
    const error = await assertRejects(() => packFluentEmoji(bad, [], out), KinoraError, "bad.png");
    assertEquals(error.code, "bad-file");
    assertEquals(await Array.fromAsync(Deno.readDir(out)), []);
  }));

Deno.test("distinctPictures(), frameCounts() and packPictures() refuse by name", () =>
  withFolder(async (folder, out) => {
    const code = async (work: () => Promise<unknown>, message: string): Promise<string> =>
      (await assertRejects(work, KinoraError, message)).code;
    const path = await picture(`${folder}/a.png`, [0]);
    assertEquals(await distinctPictures([{ path, group: "a" }, { path, group: "b" }]), [0]);
    assertEquals(await distinctPictures([{ path, group: "a" }, { path, group: "b" }], { threshold: 0 }), [0, 1]);
    assertEquals(await distinctPictures([]), []);
    assertEquals(await frameCounts([path, WEBP]), [1, 6]);
    assertEquals(await code(() => distinctPictures([{ path, group: "a" }], { threshold: 2 }), "threshold"), "refused");
    assertEquals(await code(() => frameCounts([`${folder}/none.png`]), "none.png"), "not-found");
    const plan = { stills: [path], clips: [], largeClips: [], largeFrames: 1, out };
    assertEquals(await code(() => packPictures({ ...plan, stills: [] }), "stills"), "refused");
    assertEquals(await code(() => packPictures({ ...plan, out: `${out}/none` }), "out"), "refused");
    assertEquals(await code(() => packPictures({ ...plan, largeClips: [0] }), "large_clips"), "refused");
    assertEquals(await packPictures(plan), []);
  }));

Deno.test("the scratch project pins every package by version and hash", () => {
  const [config, lock] = [sourceConfig(), sourceLock()];
  const packages = Object.keys(lock["npm"] as Record<string, unknown>);
  assertEquals(packages.length, SOURCES.length);
  for (const specifier of Object.values(config["imports"] as Record<string, string>)) {
    assert((lock["specifiers"] as Record<string, string>)[specifier] !== undefined, specifier);
  }
  for (const { integrity, licence } of SOURCES) {
    assert(/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity));
    assertEquals(licence, "MIT");
  }
});

Deno.test("withPackages() removes its folder when the packages cannot be had", () =>
  withFolder(async (_, out) => {
    // A lock file that does not fit its configuration is refused before anything is fetched.
    const project = {
      config: { nodeModulesDir: "auto", imports: { none: "npm:emojilib@4.0.3" } },
      lock: { version: "5" },
    };
    const work = () => withPackages(project, out, {}, () => Promise.reject(new Error("not reached")));
    assertEquals((await assertRejects(work, KinoraError, "Cannot get the packages")).code, "bad-file");
    assertEquals(await Array.fromAsync(Deno.readDir(out)), []);
  }));

Deno.test("makeFluentEmoji() leaves a whole data set alone and stops when asked to", () =>
  withFolder(async (folder, out) => {
    const provenance = SOURCES.map(({ name, version, licence, integrity }) => ({
      package: name,
      version,
      licence,
      integrity,
    }));
    const index = await packFluentEmoji(await tinySources(folder), provenance, out);
    assertEquals(await makeFluentEmoji(out), { index, made: false });
    const stop = new Error("stop");
    const signal = AbortSignal.abort(stop);
    assertEquals(await assertRejects(() => makeFluentEmoji(`${folder}/other`, { signal })), stop);
    assertEquals(await Array.fromAsync(Deno.readDir(`${folder}/other`)), []);
  }));
