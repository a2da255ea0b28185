// deno-lint-ignore-file no-console
/**
 * Makes the moving pictures that the README shows, with the default model and fixed seeds:
 *
 *     deno run -A tasks/readme_pictures.ts             # all
 *     deno run -A tasks/readme_pictures.ts loop grid   # some
 *
 * Each is made once, and shown whatever comes out. They are made smaller than what the verbs write, so that the page loads
 * fast: `docs/a-butterfly.gif` alone is what its command gives.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import type { Cascade } from "../lib/cascade/cascade.ts";
import { loadCascade } from "../lib/load_cascade.ts";
import { Video } from "../lib/video.ts";
import { videoGrid } from "../lib/video_grid.ts";

/** Side of one video among others, in pixels. */
const SIDE = 96;

/** Side that everything is made at. */
const SIZE = 256;

/** Frees what is made while a picture is put together. */
type Keep = (video: Promise<Video>) => Promise<Video>;

/** The pictures by the names of their files in `docs/`; what is made is freed, the videos they give too. */
const PICTURES: Readonly<Record<string, (cascade: Cascade, keep: Keep) => Promise<Video>>> = {
  "a-butterfly": (cascade) => cascade.generate("a butterfly"),
  "animate": async (cascade, keep) => {
    const given = await keep(cascade.generate("a rocket", { seed: 1, frames: 1, size: SIZE }));
    return await beside(keep, given, await keep(cascade.animate(given, { seed: 1, size: SIZE })));
  },
  "interpolate-pictures": async (cascade, keep) => {
    const first = await keep(cascade.generate("a full moon", { seed: 1, frames: 1, size: SIZE }));
    const last = await keep(cascade.generate("the sun", { seed: 1, frames: 1, size: SIZE }));
    const between = await keep(cascade.interpolate([first, last], { seed: 1, size: SIZE }));
    return await beside(keep, first, between, last);
  },
  "interpolate-video": async (cascade, keep) => {
    const given = await keep(cascade.generate("a butterfly", { seed: 1, size: SIZE }));
    return await beside(keep, given, await keep(cascade.interpolate(given, { seed: 1, skip: 2, size: SIZE })));
  },
  "extend": async (cascade, keep) => {
    const given = await keep(cascade.generate("a waving hand", { seed: 1, size: SIZE }));
    return await beside(keep, given, await keep(cascade.extend(given, { seed: 1, after: 16, size: SIZE })));
  },
  "vary": async (cascade, keep) => {
    const given = await keep(cascade.generate("a red fox", { seed: 1, size: SIZE }));
    return await beside(keep, given, await keep(cascade.vary(given, { seed: 2, size: SIZE })));
  },
  "mix": async (cascade, keep) => {
    const to = "a sunflower";
    const first = await keep(cascade.generate("a rose", { seed: 1, size: SIZE }));
    const mixed = await keep(cascade.generate("a rose", { seed: 1, to, mix: 0.5, size: SIZE }));
    return await beside(keep, first, mixed, await keep(cascade.generate(to, { seed: 1, size: SIZE })));
  },
  "travel": async (cascade, keep) =>
    await beside(
      keep,
      await keep(cascade.generate("a rose", { seed: 1, to: "a sunflower", travel: true, frames: 31, size: SIZE })),
    ),
  "negative": async (cascade, keep) => {
    const first = await keep(cascade.generate("cat face", { seed: 1, size: SIZE }));
    const negative = "a happy face";
    return await beside(keep, first, await keep(cascade.generate("cat face", { seed: 1, negative, size: SIZE })));
  },
  "strength": async (cascade, keep) => {
    const image = await keep(cascade.generate("green apple", { seed: 1, frames: 1, size: SIZE }));
    const made = await keep(cascade.generate("red apple", { seed: 1, image, strength: 0.7, size: SIZE }));
    return await beside(keep, image, made);
  },
  "samples": async (cascade, keep) => {
    const one = await keep(cascade.generate("a penguin", { seed: 1, size: SIZE }));
    return await beside(keep, one, await keep(cascade.generate("a penguin", { seed: 1, samples: 4, size: SIZE })));
  },
  "loop": async (cascade, keep) =>
    await beside(keep, await keep(cascade.generate("fire", { seed: 1, loop: true, size: SIZE }))),
  "grid": async (cascade, keep) => {
    const cells: Video[] = [];
    for (const seed of [1, 2]) {
      for (const guidance of [1, 2, 4]) {
        cells.push(await keep(small(await keep(cascade.generate("a snail", { seed, guidance, size: SIZE })))));
      }
    }
    return await videoGrid(cells, 3);
  },
};

/** A video at the size it has among others. */
async function small(video: Video): Promise<Video> {
  return new Video(await video.tensor.resize({ height: SIDE, width: SIDE, filter: "area" }), { fps: video.fps });
}

/** Videos side by side, each frame for as long as in its own, at the rate of the fastest. */
async function beside(keep: Keep, ...videos: readonly Video[]): Promise<Video> {
  const moving = videos.filter(({ frames }) => frames > 1);
  const fps = Math.max(...moving.map((video) => video.fps));
  const cells: Video[] = [];
  for (const video of videos) {
    const { tensor, frames } = await keep(small(video));
    const each = frames === 1 ? 1 : Math.max(1, Math.round(fps / video.fps));
    const places = Array.from({ length: frames * each }, (_, frame) => Math.floor(frame / each));
    cells.push(await keep(tensor.gather(0, places).then((slower) => new Video(slower, { fps }))));
  }
  return await videoGrid(cells, cells.length);
}

const unknown = Deno.args.find((name) => !Object.hasOwn(PICTURES, name));
if (unknown !== undefined) {
  console.error(`There is no picture "${unknown}"; there are ${Object.keys(PICTURES).join(", ")}`);
  Deno.exit(2);
}
using cascade = await loadCascade();
for (const name of Deno.args.length > 0 ? Deno.args : Object.keys(PICTURES)) {
  const kept: Video[] = [];
  const keep: Keep = async (made) => {
    const video = await made;
    kept.push(video);
    return video;
  };
  try {
    const made = await keep(PICTURES[name]?.(cascade, keep) as Promise<Video>);
    // Without its manifest, which is not for one picture of several videos.
    const picture = new Video(made.tensor, { fps: made.fps });
    const path = fileURLToPath(new URL(`../docs/${name}.gif`, import.meta.url));
    await picture.save(path);
    const { size } = await Deno.stat(path);
    console.log(`docs/${name}.gif: ${picture}, ${Math.round(size / 1000)} kB`);
  } finally {
    for (const video of kept) video.dispose();
  }
}
