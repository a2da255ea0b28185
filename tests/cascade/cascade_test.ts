import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import type { VideoOptions } from "../../lib/cascade/cascade_options.ts";
import { WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import type { RunRequest } from "../../lib/cascade/run_plan.ts";
import type { Video } from "../../lib/video.ts";
import { withTinyModel } from "./tiny_model.ts";

await libraryInfo();

/** Runs a test on a tiny cascade, and checks that it leaves nothing behind in native memory. */
async function withCascade(test: (cascade: Cascade, folder: string) => Promise<void>): Promise<void> {
  await withTinyModel(async (folder) => {
    const before = (await libraryInfo()).handles;
    {
      using cascade = await Cascade.load(folder, { precision: "f32" });
      await test(cascade, folder);
    }
    // Networks are freed a moment after the cascade is disposed.
    await new Promise((resolve) => setTimeout(resolve, 0));
    assertEquals((await libraryInfo()).handles, before);
  });
}

function shape(video: Video): number[] {
  return [video.frames, video.height, video.width];
}

Deno.test("Cascade.generate() makes every length at the size of every stage", () =>
  withCascade(async (cascade) => {
    const requests: [VideoOptions, number[], number][] = [
      [{ size: 16 }, [16, 16, 16], 8],
      [{ frames: 1, size: 8 }, [1, 8, 8], 8],
      [{ frames: 31, size: 8 }, [31, 8, 8], 16],
      [{ frames: 76, size: 8, fps: 3 }, [76, 8, 8], 15],
      [{ frames: 76, size: 48 }, [76, 48, 48], 40],
      [{ frames: 46, size: 32 }, [46, 32, 32], 24],
      [{ until: "decoder" }, [16, 8, 8], 8],
      [{ until: "interpolation" }, [76, 8, 8], 40],
      [{ until: "sr-low", frames: 31 }, [31, 16, 16], 16],
      [{ until: "sr-high", frames: 1 }, [1, 48, 48], 8],
    ];
    for (const [request, wanted, fps] of requests) {
      using video = await cascade.generate("a butterfly", request);
      assertEquals(shape(video), wanted, JSON.stringify(request));
      assertEquals(video.fps, fps);
      const { min, max, finite } = await video.tensor.stats();
      assert(finite && min >= -1 && max <= 1 && min < max);
    }
  }));

Deno.test("the same seed gives the same bytes, another seed or prompt others", () =>
  withCascade(async (cascade) => {
    const bytes = async (prompt: string, seed: number): Promise<Uint8ClampedArray> => {
      using video = await cascade.generate(prompt, { seed, frames: 31, size: 48 });
      return await video.bytes();
    };
    const first = await bytes("a butterfly", 7);
    assertEquals(await bytes(" a butterfly\n", 7), first);
    assertNotEquals(await bytes("a butterfly", 8), first);
    assertNotEquals(await bytes("two birds", 7), first);
  }));

Deno.test("the frames of the decoder are there unchanged in the interpolated video", () =>
  withCascade(async (cascade) => {
    using few = await cascade.generate("two birds", { until: "decoder" });
    for (const [frames, skip] of [[31, 2], [76, 5]] as const) {
      using many = await cascade.generate("two birds", { until: "interpolation", frames });
      using known = await many.tensor.gather(0, Array.from({ length: 16 }, (_, frame) => frame * skip));
      assertEquals(await known.read(), await few.tensor.read());
      using between = await many.tensor.gather(0, Array.from({ length: 15 }, (_, frame) => frame * skip + 1));
      assertNotEquals((await between.read()).slice(0, 100), (await few.tensor.read()).slice(0, 100));
    }
  }));

Deno.test("Cascade.stream() yields each step of each stage, then its result", () =>
  withCascade(async (cascade) => {
    const seen: Record<string, number[]> = {};
    const done: [string, number[]][] = [];
    for await (const preview of cascade.stream("a butterfly", { frames: 31, size: 48 })) {
      if (!preview.done) (seen[preview.stage] ??= []).push(preview.step);
      switch (preview.stage) {
        case "prior":
          assertEquals(preview.embedding === undefined, !preview.done);
          if (preview.embedding !== undefined) done.push(["prior", [...preview.embedding.shape]]);
          preview.embedding?.dispose();
          break;
        case "sr-low":
        case "sr-high":
          if (preview.finished && !preview.done) assert(preview.firstFrame % 5 === 0);
          /* falls through */
        default:
          if (!preview.done) continue;
          done.push([preview.stage, shape(preview.video)]);
          preview.video.dispose();
      }
    }
    const count = (total: number): number[] => Array.from({ length: total }, (_, step) => step + 1);
    assertEquals(seen, {
      prior: count(2),
      decoder: count(3),
      interpolation: count(2 * 2),
      "sr-low": count(2),
      "sr-high": count(7 * 2),
    });
    assertEquals(done, [
      ["prior", [1, 8]],
      ["decoder", [16, 8, 8]],
      ["interpolation", [31, 8, 8]],
      ["sr-low", [31, 16, 16]],
      ["sr-high", [31, 48, 48]],
    ]);
  }));

Deno.test("Cascade.embed() gives the unit embedding that the decoder is conditioned on", () =>
  withCascade(async (cascade) => {
    using embedding = await cascade.embed("a butterfly", { seed: 3 });
    const length = Math.hypot(...await embedding.read());
    assert(Math.abs(length - 1) < 1e-5);
    const decoder = await cascade.stage("decoder");
    using frames = await decoder.sample(embedding, { seeds: [3], guidance: 1.5 });
    using video = await cascade.generate("a butterfly", { seed: 3, until: "decoder" });
    assertEquals(await frames.read(), await video.tensor.read());
  }));

Deno.test("a manifest names what the video was made from", () =>
  withCascade(async (cascade) => {
    using video = await cascade.generate("a butterfly", { seed: 5, frames: 31, steps: 2, guidance: 3, size: 16 });
    const manifest = video.manifest;
    assertEquals(manifest?.stages.map(({ stage }) => stage), ["text", "prior", "decoder", "interpolation", "sr-low"]);
    assertEquals([manifest?.prompt, manifest?.seed, manifest?.skip, manifest?.fps], ["a butterfly", 5, 2, 16]);
    const decoder = manifest?.stages[2];
    assertEquals([decoder?.sampling?.steps, decoder?.sampling?.guidance], [2, 3]);
    for (const { weights } of manifest?.stages ?? []) assert(/^[0-9a-f]{64}$/.test(weights));
    using again = await cascade.generate("a butterfly", { seed: 5, frames: 31, steps: 2, guidance: 3, size: 16 });
    assertEquals(JSON.stringify(again.manifest), JSON.stringify(manifest));
  }));

Deno.test("a run stops soon after its signal, at any stage, and frees what it made", () =>
  withCascade(async (cascade) => {
    for (const stage of ["prior", "decoder", "interpolation", "sr-low", "sr-high"]) {
      const controller = new AbortController();
      const onProgress = (progress: { stage: string }): void => {
        if (progress.stage === stage) controller.abort(new KinoraError("cancelled", "enough"));
      };
      const { signal } = controller;
      const error = await assertRejects(
        () => cascade.generate("two birds", { frames: 31, size: 48, signal, onProgress }),
        KinoraError,
      );
      assertEquals(error.code, "cancelled", stage);
    }
    const signal = AbortSignal.abort(new KinoraError("cancelled", "before it began"));
    await assertRejects(() => cascade.generate("two birds", { signal }), KinoraError, "before it began");
  }));

Deno.test("bad requests are refused before any work", () =>
  withCascade(async (cascade) => {
    const bad: [string, VideoOptions, string][] = [
      ["", {}, "prompt is empty"],
      [" \n\t", {}, "prompt is empty"],
      ["x".repeat(1001), {}, "has 1001 characters; at most 1000"],
      ["x", { seed: -1 }, "seed must be a whole number from 0 to 2^53-1, not -1"],
      ["x", { seed: 1.5 }, "seed must be"],
      ["x", { seed: 2 ** 53 }, "seed must be"],
      ["x", { frames: 17 }, "frames must be"],
      ["x", { size: 100 }, "size must be one of 8, 16, 32, 48"],
      ["x", { fps: 0 }, "fps must be"],
    ];
    for (const [prompt, options, message] of bad) {
      const error = await assertRejects(() => cascade.generate(prompt, options), KinoraError, message);
      assertEquals(error.code, "refused");
    }
    using video = await cascade.generate("😀".repeat(1000), { until: "decoder", frames: 1 });
    assertEquals(video.frames, 1);
  }));

Deno.test("damaged models are refused before any work, unless the damaged stage is not needed", () =>
  withTinyModel(async (folder) => {
    const run = async (request: RunRequest): Promise<void> => {
      using cascade = await Cascade.load(folder);
      for await (const preview of cascade.stream("two birds", request)) {
        if (preview.stage !== "prior") preview.video.dispose();
        else preview.embedding?.dispose();
      }
    };
    const refused = async (code: string, message: string): Promise<void> => {
      const error = await assertRejects(() => run({ size: 16 }), KinoraError, message);
      assertEquals(error.code, code);
      await run({ size: 8, frames: 1 });
    };
    const weights = `${folder}/sr_low/${WEIGHTS_FILE}`;
    const whole = await Deno.readFile(weights);
    await Deno.writeFile(weights, whole.subarray(0, whole.length - 1));
    await refused("bad-file", "is truncated");
    await Deno.writeTextFile(weights, "version https://git-lfs.github.com/spec/v1\n".repeat(10));
    await refused("bad-file", "is not a safetensors file");
    await Deno.remove(weights);
    await refused("not-found", "is missing");
    await Deno.copyFile(`${folder}/prior/${WEIGHTS_FILE}`, weights);
    await Deno.copyFile(`${folder}/prior/config.json`, `${folder}/sr_low/config.json`);
    await refused("bad-file", "of a PriorTransformer, not of a UNetPseudo3DModel");
    await Deno.remove(`${folder}/sr_low`, { recursive: true });
    await refused("not-found", "config.json");
  }));

Deno.test("a disposed cascade says so", () =>
  withTinyModel(async (folder) => {
    const cascade = await Cascade.load(folder);
    cascade.dispose();
    cascade.dispose();
    const error = await assertRejects(() => cascade.generate("two birds"), KinoraError);
    assertEquals(error.code, "disposed");
  }));
