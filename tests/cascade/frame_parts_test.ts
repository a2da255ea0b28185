import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import {
  averagedParts,
  type FramePart,
  frameParts,
  noiseFrames,
  turned,
  wayOf,
} from "../../lib/cascade/frame_parts.ts";

await libraryInfo();

Deno.test("up to the network's length there is one part, beyond it parts overlap by half and cover all", () => {
  const options = { length: 16, loop: false, travel: false };
  assertEquals(frameParts(16, options).map(({ frames }) => frames.length), [16]);
  assertEquals(frameParts(3, options).map(({ frames }) => frames), [[0, 1, 2]]);
  assertEquals(frameParts(40, options).map(({ frames }) => [frames[0], frames.at(-1)]), [[0, 15], [8, 23], [16, 31], [
    24,
    39,
  ]]);
  assertEquals(frameParts(20, options).map(({ frames }) => [frames[0], frames.at(-1)]), [[0, 15], [4, 19]]);
  for (const loop of [false, true]) {
    for (let count = 1; count <= 70; count++) {
      const parts = frameParts(count, { ...options, loop });
      const seen = new Set(parts.flatMap(({ frames }) => frames));
      assertEquals(seen.size, count);
      for (const { frames, weights, place } of parts) {
        assertEquals(weights.length, frames.length);
        assertEquals(new Set(frames).size, frames.length);
        assert(weights.every((weight) => weight > 0) && place >= 0 && place <= 1);
      }
    }
  }
});

Deno.test("every part of a long video starts from the same noise, in another order", () => {
  for (const length of [2, 4, 6, 16, 24]) {
    const frames = 5 * length;
    const numbers = noiseFrames(frames, length);
    assertEquals(numbers.slice(0, length), Array.from({ length }, (_, frame) => frame));
    for (const part of frameParts(frames, { length, loop: false, travel: false })) {
      const own = part.frames.map((frame) => numbers[frame] ?? -1);
      assertEquals(own.toSorted((a, b) => a - b), numbers.slice(0, length), `${length}`);
      if (length > 6 && part.frames[0] !== 0) assert(own.some((number, at) => number !== own[0] as number + at));
    }
  }
  assertEquals(noiseFrames(3, 16), [0, 1, 2]);
});

Deno.test("round a loop the last parts go on at the start", () => {
  const parts = frameParts(24, { length: 16, loop: true, travel: false });
  assertEquals(parts.map(({ frames }) => [frames[0], frames.at(-1)]), [[0, 15], [8, 23], [16, 7]]);
  const [part] = frameParts(5, { length: 16, loop: true, travel: false });
  const starts = new Set<number>();
  for (let step = 0; step < 8; step++) {
    const { frames } = turned(part as FramePart, step);
    assertEquals(frames.toSorted(), [0, 1, 2, 3, 4]);
    frames.forEach((frame, at) => assertEquals(frame, ((frames[0] ?? 0) + at) % 5));
    starts.add(frames[0] ?? -1);
  }
  assertEquals(starts.size, 5);
});

Deno.test("an embedding's way leads from the first frame to the last, and round a loop there and back", () => {
  assertEquals([0, 5, 10].map((frame) => wayOf(frame, 11, false)), [0, 0.5, 1]);
  assertEquals([0, 4, 8, 12].map((frame) => wayOf(frame, 16, true)), [0, 0.5, 1, 0.5]);
  const parts = frameParts(9, { length: 16, loop: false, travel: true });
  assertEquals(parts.map(({ place }) => place), [0, 0.5, 1]);
  // At each frame the embeddings' places, mixed by weight, are the way.
  for (let frame = 0; frame < 9; frame++) {
    const mixed = parts.reduce((sum, { weights, place }) => sum + (weights[frame] ?? 0) * place, 0);
    assertAlmostEquals(mixed, frame / 8, 1e-12);
    assertAlmostEquals(parts.reduce((sum, { weights }) => sum + (weights[frame] ?? 0), 0), 1, 1e-12);
  }
  const long = frameParts(64, { length: 16, loop: false, travel: true }).map(({ place }) => place);
  assertEquals(long, long.toSorted((a, b) => a - b));
});

Deno.test("averagedParts() gives each frame the weighted mean of what its parts say", async () => {
  using sample = await Tensor.create([2, 5, 1, 1, 1], [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
  const parts: FramePart[] = [
    { frames: [0, 1, 2], weights: [1, 1, 1], place: 0 },
    { frames: [2, 3, 4, 0], weights: [3, 1, 1, 1], place: 0 },
  ];
  // The first part says the frame itself, the second 100 more.
  using mean = await averagedParts(sample, parts, async (seen, part) => {
    return await Tensor.combine([{ tensor: seen, scale: 1 }], { offset: 100 * part });
  });
  assertEquals([...await mean.read()], [50, 1, 77, 103, 104, 60, 11, 87, 113, 114]);
  await assertRejects(
    () => averagedParts(sample, parts.slice(1), (seen) => seen.reshape(seen.shape)),
    KinoraError,
    "no part has frame 1",
  );
});
