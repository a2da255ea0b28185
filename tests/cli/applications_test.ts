import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Video } from "../../lib/video.ts";
import { REAL, withTinyModel } from "../cascade/tiny_model.ts";
import { runCli, runCliUntil } from "./cli_run.ts";

await libraryInfo();

/** Runs a test with a tiny model, and a folder with a picture and a video of five frames. */
async function withFiles(test: (folder: string, model: string) => Promise<void>): Promise<void> {
  await withTinyModel(async (model) => {
    const folder = `${model}/../work`;
    await Deno.mkdir(folder);
    const values = new Float32Array(5 * 20 * 20 * 3).map((_, index) => Math.sin(index / 50));
    using video = new Video(await Tensor.create([5, 20, 20, 3], values), { fps: 10 });
    await video.save(`${folder}/moving.gif`);
    using picture = new Video(await video.tensor.gather(0, [2]), { fps: 1 });
    await picture.save(`${folder}/still.png`);
    await test(folder, model);
  }, REAL);
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("each verb writes a video, named after its input unless asked otherwise, with its manifest", () =>
  withFiles(async (folder, model) => {
    const [still, moving] = [`${folder}/still.png`, `${folder}/moving.gif`];
    const runs: [string[], string, number, number, number][] = [
      [["animate", still, "--size", "256", "--out", `${folder}/a.gif`], "animate", 16, 256, 8],
      [
        ["animate", still, "--size", "64", "--frames", "31", "--fps", "4", "--out", `${folder}/a.png`],
        "animate",
        31,
        64,
        8,
      ],
      [
        ["interpolate", still, still, "--size", "64", "--frames", "9", "--out", `${folder}/b.gif`],
        "interpolate",
        9,
        64,
        8,
      ],
      [["interpolate", moving, "--size", "64", "--skip", "4", "--out", `${folder}/c.gif`], "interpolate", 17, 64, 40],
      [
        ["extend", moving, "--size", "64", "--after", "3", "--before", "2", "--out", `${folder}/d/`],
        "extend",
        10,
        64,
        10,
      ],
      [["vary", moving, "--size", "64", "--fps", "12", "--out", `${folder}/e.gif`], "vary", 16, 64, 12],
    ];
    for (const [args, verb, frames, size, fps] of runs) {
      const { code, out, notes } = await runCli(...args, "--steps", "1", "--model", model, "--json");
      assertEquals([code, notes], [0, []], args.join(" "));
      const report = JSON.parse(out);
      assertEquals([report.frames, report.width, report.height, report.fps], [frames, size, size, fps]);
      const manifest = JSON.parse(await Deno.readTextFile(report.manifest));
      assertEquals([manifest.task.verb, manifest.task.options.steps, manifest.frames], [verb, 1, frames]);
      assertEquals(manifest.given.length, args[2] === still ? 2 : 1);
    }
    assertEquals(names(`${folder}/d`).length, 11);
    // A wide picture: the video is put back where it was cut out.
    using picture = new Video(await Tensor.create([1, 10, 30, 3], new Float32Array(900).fill(0.6)), { fps: 1 });
    await picture.save(`${folder}/wide.png`);
    const wide = ["animate", `${folder}/wide.png`, "--place-back", "--size", "64", "--steps", "1", "--model", model];
    const back = await runCli(...wide, "--out", `${folder}/f.png`);
    assertEquals(back.out, `Wrote ${folder}/f.png: 16 frames, 30x10, 8 fps`);
    const { placedBack, width } = JSON.parse(await Deno.readTextFile(`${folder}/f.png.json`));
    assertEquals([placedBack, width], [true, 30]);
    const { tensor } = await decodeMedia(`${folder}/f.png`, { background: "white" });
    using put = tensor;
    const column = async (left: number): Promise<number[]> => {
      using some = await put.gather(0, [15]);
      using pixels = await some.crop({ top: 0, left, height: 10, width: 1 });
      return [...await pixels.read()];
    };
    for (const left of [0, 9, 20, 29]) {
      assert((await column(left)).every((value) => Math.abs(value - 0.6) < 0.01), `column ${left} is the picture's`);
    }
    assert((await column(15)).some((value) => Math.abs(value - 0.6) > 0.05), "the middle is the video's");
    const here = Deno.cwd();
    Deno.chdir(folder);
    try {
      const { out } = await runCli("animate", "still.png", "--size", "64", "--steps", "1", "--model", model);
      assertEquals(out, "Wrote still-animated.gif: 16 frames, 64x64, 8 fps");
    } finally {
      Deno.chdir(here);
    }
  }));

Deno.test("what the verbs cannot do is refused in one line, and nothing is written", () =>
  withFiles(async (folder, model) => {
    const [still, moving] = [`${folder}/still.png`, `${folder}/moving.gif`];
    await Deno.writeTextFile(`${folder}/text.gif`, "no picture");
    const before = names(folder);
    const refused: [string[], string][] = [
      [["animate"], "The picture is missing"],
      [["animate", moving], "the image is moving"],
      [["animate", `${folder}/none.png`], "none.png"],
      [["animate", `${folder}/text.gif`], "text.gif"],
      [["animate", still, still], "takes one picture"],
      [["animate", still, "--out", "a.avi"], "must end with"],
      [["animate", still, "--out", `${folder}/none/a.gif`], "does not exist"],
      [["animate", still, "--frames", "1"], "--frames must be a whole number from 2"],
      [["animate", still, "--frames", "20"], "frames must be 1 to 16"],
      [["animate", still, "--sampler", "euler"], "--sampler must be ddim, ddpm or dpm-solver++"],
      [["animate", still, "--fit", "stretch"], "--fit must be cover or contain"],
      [["animate", still, "--prompts", "x"], "Unknown option --prompts"],
      [["interpolate"], "The video is missing"],
      [["interpolate", still], "nothing between"],
      [["interpolate", still, still, still], "takes 2 pictures"],
      [["interpolate", moving, "--skip", "1"], "--skip must be"],
      [["interpolate", moving, "--skip", "15"], "A GIF plays at most 100"],
      [["extend", moving], "--after N or --before N"],
      [["extend", moving, "--after", "x"], "--after must be"],
      [["vary"], "The video is missing"],
      [["vary", moving, "--size", "100"], "--size must be"],
    ];
    for (const [args, message] of refused) {
      const { code, out, notes } = await runCli(...args, "--model", model);
      assertEquals([code, out, notes.length], [2, "", 1], args.join(" "));
      assertStringIncludes(notes[0] ?? "", message);
    }
    assertEquals(names(folder), before);
  }));

Deno.test("an interrupted verb ends with code 130 and leaves nothing half written", () =>
  withFiles(async (folder, model) => {
    const before = names(folder);
    const [still, moving] = [`${folder}/still.png`, `${folder}/moving.gif`];
    for (
      const args of [
        ["animate", still],
        ["interpolate", still, still],
        ["interpolate", moving],
        ["extend", moving, "--after", "8"],
        ["vary", moving],
      ]
    ) {
      const controller = new AbortController();
      const options = ["--steps", "1000", "--size", "64", "--model", model, "--out", `${folder}/a.gif`];
      const running = runCliUntil(controller.signal, ...args, ...options);
      setTimeout(() => controller.abort(), 300);
      const { code, out, notes } = await running;
      assertEquals([code, out], [130, ""], args.join(" "));
      assertEquals(notes.at(-1), "kinora: interrupted");
      assertEquals(names(folder), before);
    }
  }));

Deno.test("the help of each verb names its options", async () => {
  for (const verb of ["animate", "interpolate", "extend", "vary"]) {
    const { code, out } = await runCli(verb, "--help");
    assertEquals(code, 0);
    assertStringIncludes(out, `Usage: kinora ${verb} `);
    for (const option of ["--sampler ddim|ddpm|dpm-solver++", "--fit cover|contain", "--fps N", "--seed N"]) {
      assertStringIncludes(out, option);
    }
    assert(out.split("\n").every((line) => line.length <= 160), verb);
  }
});
