import { assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { REAL, withTinyModel } from "../cascade/tiny_model.ts";
import { runCli } from "./cli_run.ts";

await libraryInfo();

Deno.test("--grid shows an option's values from left to right, --by another's from top to bottom", () =>
  withTinyModel(async (model) => {
    const out = `${model}/../grid.png`;
    const small = ["--frames", "2", "--until", "decoder", "--steps", "2", "--model", model, "--out", out];
    const made = await runCli("generate", "a butterfly", "--grid", "guidance=1,4", "--by", "seed=0,7,3", ...small);
    assertEquals([made.code, made.notes, made.out], [0, [], `Wrote ${out}: 2 x 3 videos side by side`]);
    const { tensor, width, height } = await decodeMedia(out, { background: "white" });
    using grid = tensor;
    assertEquals([grid.shape[0], height, width], [2, 3 * 64 + 2 * 4, 2 * 64 + 4]);
    const manifest = JSON.parse(await Deno.readTextFile(`${out}.json`));
    assertEquals([manifest.format, manifest.columns], ["kinora-grid-1", 2]);
    assertEquals(
      manifest.cells.map(({ task }: { task: { options: Record<string, unknown> } }) => [
        task.options["seed"],
        task.options["guidance"],
      ]),
      [[0, 1], [0, 4], [7, 1], [7, 4], [3, 1], [3, 4]],
    );
    // The cell in the second row and column is what its options make alone.
    using cascade = await Cascade.load(model);
    const options = { seed: 7, guidance: 4, frames: 2, until: "decoder", steps: 2 } as const;
    using alone = await cascade.generate("a butterfly", options);
    using cell = await grid.crop({ top: 68, left: 68, height: 64, width: 64 });
    const bytes = Uint8ClampedArray.from(await cell.read(), (value) => (value + 1) * 127.5);
    assertEquals(bytes, await alone.bytes());
  }, REAL));

Deno.test("grids that cannot be made are refused in one line", () =>
  withTinyModel(async (model) => {
    const refused: [string[], string][] = [
      [["--grid", "size=64,256"], "--grid must be a number of seeds or NAME=VALUE"],
      [["--grid", "colour=red"], "--grid must be"],
      [["--grid", "0"], "--grid must be"],
      [["--grid", "guidance=1,x"], "--guidance must be a number"],
      [["--grid", "guidance=1,2", "--by", "guidance=3"], "of different options"],
      [["--grid", "99"], "at most 64"],
      [["--by", "2"], "--by needs --grid"],
      [["--grid", "2", "--until", "prior"], "not --until prior"],
      [["--grid", "2", "--out", "a.avi"], "must end with"],
      [["--grid", "negative=|two birds"], "needs a value"],
    ];
    for (const [args, message] of refused) {
      const { code, out, notes } = await runCli("generate", "a butterfly", ...args, "--model", model);
      assertEquals([code, out, notes.length], [2, "", 1], args.join(" "));
      assertStringIncludes(notes[0] ?? "", message);
    }
  }, REAL));
