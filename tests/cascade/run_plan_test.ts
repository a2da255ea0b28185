import { assertEquals, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { type ModelIndex, readModelIndex } from "../../lib/cascade/model_index.ts";
import { planRun, type RunRequest } from "../../lib/cascade/run_plan.ts";

const folder = new URL("../../models/default", import.meta.url).pathname;
const index = await readModelIndex(folder);

Deno.test("without a request the plan is 16 frames of 256 pixels", () => {
  const plan = planRun(index);
  assertEquals(plan.stages, ["prior", "decoder", "sr-low"]);
  assertEquals([plan.frames, plan.keyFrames, plan.skip, plan.size, plan.madeSize], [16, 16, 1, 256, 256]);
  assertEquals([plan.fps, plan.outputFps], [8, 8]);
});

Deno.test("the whole of Eq. 1 runs for 76 frames of 768 pixels", () => {
  const plan = planRun(index, { frames: 76, size: 768 });
  assertEquals(plan.stages, ["prior", "decoder", "interpolation", "sr-low", "sr-high"]);
  assertEquals([plan.keyFrames, plan.skip, plan.frames], [16, 5, 76]);
});

Deno.test("the rate of the video is the decoder's times the skip", () => {
  const rates = [[16, 8], [31, 16], [76, 40]] as const;
  for (const [frames, rate] of rates) assertEquals(planRun(index, { frames, fps: 8 }).outputFps, rate);
  assertEquals(planRun(index, { frames: 76, fps: 3 }).outputFps, 15);
});

Deno.test("512 pixels are the 768 of the last stage made smaller", () => {
  const plan = planRun(index, { size: 512 });
  assertEquals(plan.stages.at(-1), "sr-high");
  assertEquals([plan.madeSize, plan.size], [768, 512]);
  assertEquals(planRun(index, { size: 512, until: "sr-high" }).size, 512);
});

Deno.test("until ends the run after a stage, and brings the frames that the stage makes", () => {
  const stages = (request: RunRequest): readonly string[] => planRun(index, request).stages;
  assertEquals(stages({ until: "prior" }), ["prior"]);
  assertEquals(stages({ until: "decoder" }), ["prior", "decoder"]);
  assertEquals(stages({ until: "interpolation" }), ["prior", "decoder", "interpolation"]);
  assertEquals(planRun(index, { until: "interpolation" }).frames, 76);
  assertEquals(planRun(index, { until: "interpolation", frames: 31 }).skip, 2);
  assertEquals(stages({ until: "sr-low" }), ["prior", "decoder", "sr-low"]);
  assertEquals(stages({ until: "sr-high", frames: 31 }), ["prior", "decoder", "interpolation", "sr-low", "sr-high"]);
});

Deno.test("steps and guidance go to the stages they are meant for", () => {
  const plan = planRun(index, { frames: 76, steps: 3, guidance: 4 });
  const model = planRun(index, { frames: 76 });
  assertEquals([plan.steps.decoder, plan.steps.interpolation], [3, 3]);
  assertEquals([plan.steps.prior, plan.steps["sr-low"]], [model.steps.prior, model.steps["sr-low"]]);
  assertEquals(plan.guidance.decoder, 4);
  assertEquals(plan.guidance.prior, model.guidance.prior);
});

Deno.test("a plan that cannot be met is refused, and the message says what can", () => {
  const refused: [RunRequest, string][] = [
    [{ frames: 17 }, "frames must be 1 to 16, or with interpolation 31, 46, 61, 76"],
    [{ frames: 0 }, "not 0"],
    [{ frames: 2.5 }, "not 2.5"],
    [{ frames: 241 }, "not 241"],
    [{ size: 100 }, "size must be one of 64, 256, 512, 768, not 100"],
    [{ fps: 0 }, "fps must be a number from 1 to 30, not 0"],
    [{ fps: 31 }, "not 31"],
    [{ steps: 0 }, "steps must be a whole number from 1 to 1000"],
    [{ guidance: -1 }, "guidance must be a number from 0 to 50"],
    [{ until: "decoder", size: 256 }, 'until "decoder" makes 64 pixels, not 256'],
    [{ until: "sr-low", size: 512 }, "makes 256 pixels"],
    [{ until: "sr-high", size: 256 }, "makes 768 pixels (or 512)"],
    [{ until: "decoder", frames: 76 }, "at most 16 frames"],
    [{ until: "interpolation", frames: 16 }, "needs more than 16 frames"],
    [{ until: "prior", frames: 16 }, 'frames cannot be given with until "prior"'],
  ];
  for (const [request, message] of refused) {
    const error = assertThrows(() => planRun(index, request), KinoraError, message);
    assertEquals(error.code, "refused");
  }
});

Deno.test("a stage that the model does not have is named, with those it has", () => {
  const { "sr-high": _, interpolation: __, ...rest } = index.stages;
  const small: ModelIndex = { ...index, stages: rest };
  assertEquals(planRun(small).stages, ["prior", "decoder", "sr-low"]);
  for (const request of [{ frames: 31 }, { until: "sr-high" }] satisfies RunRequest[]) {
    const error = assertThrows(() => planRun(small, request), KinoraError, "it has text, prior, decoder, sr-low");
    assertEquals(error.code, "not-found");
  }
  assertThrows(() => planRun(small, { size: 768 }), KinoraError, "size must be one of 64, 256");
});
