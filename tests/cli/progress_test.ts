import { assertEquals } from "@std/assert";
import { type ProgressLine, progressLine } from "../../lib/cli/progress.ts";

/** A progress line on a target that remembers. */
function recorded(
  interactive: boolean,
): { line: ProgressLine; written: string[]; time: { now: number } } {
  const written: string[] = [];
  const time = { now: 0 };
  const line = progressLine({
    interactive,
    write: (text) => written.push(text),
    now: () => time.now,
  });
  return { line, written, time };
}

Deno.test("the line names stage, step and seconds left, and is redrawn in place", () => {
  const { line, written, time } = recorded(true);
  line.show({ stage: "decoder", step: 0, total: 16 });
  time.now = 2000;
  line.show({ stage: "decoder", step: 4, total: 16 });
  time.now = 8000;
  line.show({ stage: "decoder", step: 16, total: 16 });
  line.show({ stage: "sr-low", step: 0, total: 2 });
  line.clear();
  line.clear();
  assertEquals(written, [
    "\r\x1b[Kdecoder 0/16",
    "\r\x1b[Kdecoder 4/16, 6 s left",
    "\r\x1b[Kdecoder 16/16",
    "\r\x1b[Ksr-low 0/2",
    "\r\x1b[K",
  ]);
});

Deno.test("nothing is written where there is no terminal", () => {
  const { line, written } = recorded(false);
  line.show({ stage: "decoder", step: 1, total: 16 });
  line.clear();
  assertEquals(written, []);
});
