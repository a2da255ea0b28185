import { assert, assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { frameWindows, interpolatedLength } from "../../lib/cascade/windows.ts";

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
