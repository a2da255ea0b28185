import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo, whyNoGpu } from "../../ffi/library.ts";
import { Tensor } from "../../ffi/tensor.ts";
import { Video } from "../../lib/video.ts";
import { REAL, withTinyModel } from "../cascade/tiny_model.ts";
import { runCli } from "./cli_run.ts";

const info = await libraryInfo();

Deno.test("every choice of generate reaches the library by its name there", () =>
  withTinyModel(async (model) => {
    const folder = `${model}/..`;
    using picture = new Video(await Tensor.create([1, 6, 9, 3], new Float32Array(162).fill(0.5)), { fps: 1 });
    await picture.save(`${folder}/wide.png`);
    const texts = ["--negative", "two birds", "--to", "the sun", "--mix", "0.25"];
    const sampling = [
      "--sampler",
      "ddpm",
      "--rescale",
      "0.5",
      "--threshold",
      "0.9",
      "--common-noise",
      "0.3",
      "--noise-seconds",
      "0.2",
    ];
    const start = ["--image", `${folder}/wide.png`, "--strength", "0.5", "--fit", "contain"];
    const rest = ["--candidates", "2", "--samples", "2", "--loop", "--steps", "2", "--until", "decoder", "--fps", "12"];
    const place = ["--model", model, "--out", `${folder}/a.gif`, "--json"];
    const made = await runCli("generate", "a butterfly", ...texts, ...sampling, ...start, ...rest, ...place);
    assertEquals([made.code, made.notes], [0, []]);
    const report = JSON.parse(made.out);
    assertEquals([report.frames, report.width, report.fps, report.ranking.scores.length], [16, 64, 12, 2]);
    const { task, given, ranking, seed } = JSON.parse(await Deno.readTextFile(report.manifest));
    assertEquals(task, {
      verb: "generate",
      options: {
        seed: 0,
        negative: "two birds",
        to: "the sun",
        mix: 0.25,
        sampler: "ddpm",
        rescale: 0.5,
        threshold: 0.9,
        commonNoise: 0.3,
        noiseSeconds: 0.2,
        strength: 0.5,
        fit: "contain",
        candidates: 2,
        samples: 2,
        loop: true,
        steps: 2,
        until: "decoder",
        fps: 12,
      },
    });
    assertEquals([given[0].width, given[0].height, given[0].fit], [9, 6, "contain"]);
    assertEquals([ranking.scores.length, seed], [2, report.ranking.seed]);
    const long = await runCli(
      "generate",
      "a butterfly",
      "--key-frames",
      "20",
      "--frames",
      "39",
      "--size",
      "64",
      ...place,
    );
    assertEquals(JSON.parse(long.out).frames, 39);
    const travel = await runCli(
      "generate",
      "a butterfly",
      "--to",
      "the sun",
      "--travel",
      "--size",
      "64",
      ...place.slice(0, -1),
    );
    assertEquals(travel.out, `Wrote ${folder}/a.gif: 16 frames, 64x64, 8 fps`);
    const ranked = await runCli("generate", "a butterfly", "--samples", "2", "--size", "64", ...place.slice(0, -1));
    assert(/64x64, 8 fps, the best of 2 samples \(seed [01]\)$/.test(ranked.out), ranked.out);
  }, REAL));

Deno.test("choices of generate that do not go together are refused in one line", () =>
  withTinyModel(async (model) => {
    const refused: [string[], string][] = [
      [["--mix", "0.5"], 'mix needs another prompt as "to"'],
      [["--travel"], 'travel needs another prompt as "to"'],
      [["--strength", "0.5"], "strength needs an image"],
      [["--image", "nothing.png"], "nothing.png"],
      [["--image", "nothing.png", "--strength", "0"], "strength must be more than 0"],
      [["--loop", "--frames", "76"], "32, 48, 64, 80"],
      [["--frames", "17"], "frames must be 1 to 16"],
      [["--samples", "65"], "--samples must be"],
      [["--until", "prior", "--loop"], 'loop cannot be given with until "prior"'],
    ];
    for (const [args, message] of refused) {
      const { code, out, notes } = await runCli("generate", "a butterfly", ...args, "--model", model);
      assertEquals([code, out, notes.length], [2, "", 1], args.join(" "));
      assertStringIncludes(notes[0] ?? "", message);
    }
  }, REAL));

Deno.test({
  name: "a device that is not there is refused before anything is loaded",
  ignore: info.gpu !== null,
  fn: () =>
    withTinyModel(async (model) => {
      const place = ["--model", model, "--out", `${model}/../a.gif`, "--json"];
      const asked = await runCli("generate", "a butterfly", "--device", "cuda", ...place);
      assertEquals([asked.code, asked.out], [2, ""]);
      assertStringIncludes(asked.notes.join(), `device cannot be "cuda": ${whyNoGpu(info)}`);
      const unknown = await runCli("generate", "a butterfly", "--device", "gpu", ...place);
      assertEquals([unknown.code, unknown.out], [2, ""]);
      assertStringIncludes(unknown.notes.join(), "--device must be cpu or cuda");
    }),
});
