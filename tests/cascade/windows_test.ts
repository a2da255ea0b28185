import { assert, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import {
  extensionLayout,
  frameWindows,
  interpolatedLength,
  interpolationLayout,
  windowLayout,
} from "../../lib/cascade/windows.ts";

Deno.test("16 frames at skip 5 are five windows that share their ends, each with frames 0, 5, 10 and 15 known", () => {
  const windows = frameWindows(16, 5);
  assertEquals(interpolatedLength(16, 5), 76);
  assertEquals(windows.map(({ start }) => start), [0, 15, 30, 45, 60]);
  for (const { start, length, known } of windows) {
    assertEquals(length, 16);
    assertEquals(known.map(({ position }) => position), [0, 5, 10, 15]);
    assertEquals(known.map(({ source }) => source), ["key", "key", "key", "key"]);
    assertEquals(known.map(({ position, frame }) => start + position === 5 * frame), [true, true, true, true]);
  }
});

Deno.test("16 frames at skip 2 are two windows, of which the second is given the first's generated end", () => {
  const [first, second, ...more] = frameWindows(16, 2);
  assertEquals(more, []);
  assertEquals(first?.known.map(({ position }) => position), [0, 2, 4, 6, 8, 10, 12, 14]);
  assertEquals(second?.start, 15);
  assertEquals(second?.known[0], { position: 0, source: "generated", frame: 15 });
  assertEquals(second?.known.slice(1).map(({ position, frame }) => [position, frame]), [
    [1, 8],
    [3, 9],
    [5, 10],
    [7, 11],
    [9, 12],
    [11, 13],
    [13, 14],
    [15, 15],
  ]);
});

Deno.test("at every skip and length the windows cover each frame, share ends, and know every given frame", () => {
  for (let skip = 1; skip <= 15; skip++) {
    for (const frames of [2, 3, 5, 16, 17]) {
      const windows = frameWindows(frames, skip);
      const total = interpolatedLength(frames, skip);
      const keys = new Set<number>();
      let end = 0;
      for (const { start, length, known } of windows) {
        assertEquals(start, end, `skip ${skip}, ${frames} frames`);
        assertEquals(start % 15, 0);
        assert(length >= 2 && length <= 16);
        end = start + length - 1;
        assert(known.some(({ position }) => position === 0), "a window needs something to start from");
        for (const { position, source, frame } of known) {
          assert(position >= 0 && position < length);
          if (source === "key") {
            assertEquals(start + position, frame * skip);
            keys.add(frame);
          } else {
            assertEquals([position, frame], [0, start]);
            assert(start > 0 && start % skip !== 0);
          }
        }
      }
      assertEquals(end, total - 1);
      assertEquals(keys.size, frames);
    }
  }
});

Deno.test("windows refuse what they cannot cover", () => {
  for (const skip of [0, 16, 2.5, NaN]) assertThrows(() => frameWindows(16, skip), KinoraError, "from 1 to 15");
  for (const frames of [0, 1, 1.5]) assertThrows(() => frameWindows(frames, 5), KinoraError, "at least 2 frames");
});

Deno.test("an extension's windows know only frames that are there, and make all others once", () => {
  for (const given of [1, 2, 7, 16, 40]) {
    for (const [before, after] of [[0, 1], [0, 8], [0, 50], [1, 0], [33, 0], [20, 20]] as const) {
      for (const overlap of [1, 8, 15]) {
        const { total, places, windows } = extensionLayout(given, { before, after, overlap });
        assertEquals(total, before + given + after);
        assertEquals(places, Array.from({ length: given }, (_, frame) => before + frame));
        const there = new Set(places);
        for (const { start, length, known } of windows) {
          assert(start >= 0 && start + length <= total && length >= 2 && length <= 16);
          const expected = Array.from({ length }, (_, position) => position).filter((at) => there.has(start + at));
          assertEquals(known.map(({ position }) => position), expected);
          assert(known.length > 0 && known.length <= overlap && known.length < length);
          // At one end of the window, as the network is trained.
          assert(known[0]?.position === 0 || known.at(-1)?.position === length - 1);
          assertEquals(
            known.map(({ position }) => position).filter((at, index) => at !== (known[0]?.position ?? 0) + index),
            [],
          );
          for (const { position, source, frame } of known) {
            const place = start + position;
            const own = place >= before && place < before + given;
            assertEquals([source, frame], own ? ["key", place - before] : ["generated", place]);
          }
          for (let place = start; place < start + length; place++) there.add(place);
        }
        assertEquals(there.size, total);
      }
    }
  }
});

Deno.test("a window with given frames, and what layouts refuse", () => {
  const { windows, places, total } = windowLayout(16, [0, 15]);
  assertEquals([total, places], [16, [0, 15]]);
  assertEquals(windows.map(({ known }) => known.map(({ position, frame }) => [position, frame])), [[[0, 0], [15, 1]]]);
  const layout = interpolationLayout(16, 5);
  assertEquals([layout.total, layout.places.at(-1), layout.windows], [76, 75, frameWindows(16, 5)]);
  assertThrows(() => windowLayout(17, [0]), KinoraError, "from 2 to 16");
  for (const wrong of [[], [16], [-1], [3, 3], [4, 2]]) {
    assertThrows(() => windowLayout(16, wrong), KinoraError, "places");
  }
  const options = { before: 0, after: 1, overlap: 8 };
  assertThrows(() => extensionLayout(0, options), KinoraError, "at least 1 frame");
  assertThrows(() => extensionLayout(4, { ...options, before: -1 }), KinoraError, "before must be");
  assertThrows(() => extensionLayout(4, { ...options, after: 0 }), KinoraError, "before or after");
  assertThrows(() => extensionLayout(4, { ...options, overlap: 0 }), KinoraError, "overlap must be");
});
