// A whole cascade on a GPU beside the same on the CPU, in f32: the same seed gives the same video. See networks_test.ts.
import { assert, assertEquals } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { loadCascade } from "../../lib/load_cascade.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

const { gpu } = await libraryInfo();

Deno.test({
  name: "a cascade makes on the GPU the video that it makes on the CPU",
  ignore: gpu === null,
  fn: () =>
    withTinyModel(async (model) => {
      const made = async (device: "cpu" | "cuda"): Promise<{ isa: string; frames: Float32Array }> => {
        using cascade = await loadCascade({ model, device, precision: "f32" });
        assertEquals(cascade.device, device);
        using video = await cascade.generate("a butterfly", { seed: 3, steps: 2, until: "decoder" });
        return { isa: video.manifest?.arithmetic.isa ?? "", frames: await video.tensor.read() };
      };
      const [cpu, cuda] = [await made("cpu"), await made("cuda")];
      assertEquals(cuda.isa, `${cpu.isa}, sm_${gpu?.capability.join("")}`);
      assertEquals(cuda.frames.length, cpu.frames.length);
      const error = cpu.frames.reduce((most, value, i) => Math.max(most, Math.abs(value - (cuda.frames[i] ?? NaN))), 0);
      assert(error < 1e-3, `off by ${error}, where white is 2 from black`);
      assert(cpu.frames.some((value) => Math.abs(value - (cpu.frames[0] ?? 0)) > 0.1), "the frames say nothing");
    }),
});
