// Training on a GPU beside the same on the CPU. See networks_test.ts.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { type Device, Network } from "../../ffi/network.ts";
import { loadTensors } from "../../ffi/tensor.ts";
import { type MuonSettings, Trainer, type TrainerStepResult } from "../../ffi/trainer.ts";
import { parseRecipe } from "../../lib/training/recipe.ts";
import { trainRecipe } from "../../lib/training/train_recipe.ts";
import { tinyRecipe, writeTinyData } from "../training/tiny_training.ts";
import { IMAGE, noise, saved } from "./networks.ts";

const ignore = (await libraryInfo()).gpu === null;

/** The largest difference of two lists, as a share of the largest number. */
function difference(one: Float32Array, other: Float32Array): number {
  assertEquals(one.length, other.length);
  const largest = one.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const apart = one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] ?? NaN))), 0);
  return apart === 0 ? 0 : apart / largest;
}

/** The numbers of a file by name. */
async function numbers(path: string): Promise<Map<string, Float32Array>> {
  const { tensors } = await loadTensors(path);
  const read = new Map<string, Float32Array>();
  for (const [name, tensor] of Object.entries(tensors)) {
    read.set(name, await tensor.read());
    tensor.dispose();
  }
  return read;
}

/** Three steps of the picture tower from a folder; what they saw, and the trainer's checkpoint at `path`. */
async function steps(folder: string, path: string, device: Device, muon?: MuonSettings): Promise<TrainerStepResult[]> {
  using network = await Network.load(folder, { device, trainable: true });
  using trainer = await Trainer.create([network], { ema: true, workers: 2 });
  assertEquals(trainer.workers, device === "cuda" ? 1 : 2);
  using target = await noise([4, 10], 30);
  const seen: TrainerStepResult[] = [];
  for (let step = 0; step < 3; step++) {
    using image = await noise([4, 8, 8, 3], 40 + step);
    seen.push(
      await trainer.step({
        objectives: [{ type: "regression", network: 0, inputs: { image }, output: "embedding", target }],
        // A root mean square of nearly nothing would make a step of rounding errors.
        optimizer: { learningRate: 0.01, epsilon: 0.01, weightDecay: 0.1, muon },
        rates: [{ namesWith: "conv_in", scale: 0.5 }],
        clip: 0.5,
        emaDecay: 0.8,
      }),
    );
  }
  await trainer.save(path, { metadata: { device } });
  using averaged = await trainer.ema(0);
  assertEquals(averaged.device, device);
  await averaged.save(`${folder}/${device}`, { dtype: "f32" });
  return seen;
}

Deno.test({
  name: "steps on the GPU do what they do on the CPU, with AdamW and with Muon, and their states are one",
  ignore,
  fn: () =>
    saved(IMAGE, async (folder) => {
      const untouched = await numbers(`${folder}/diffusion_pytorch_model.safetensors`);
      for (const muon of [undefined, { momentum: 0.9, except: ["conv_in"] }]) {
        const cpu = await steps(folder, `${folder}/cpu.safetensors`, "cpu", muon);
        const cuda = await steps(folder, `${folder}/cuda.safetensors`, "cuda", muon);
        for (const [i, { loss, gradientNorm, skipped }] of cpu.entries()) {
          assert(!skipped && gradientNorm > 0.5, "the gradient is not clipped");
          assert(Math.abs((cuda[i]?.loss ?? NaN) / loss - 1) < 1e-4, `step ${i}: loss ${cuda[i]?.loss}, not ${loss}`);
          assert(Math.abs((cuda[i]?.gradientNorm ?? NaN) / gradientNorm - 1) < 1e-3, `step ${i}`);
        }
        const [expected, got] = [
          await numbers(`${folder}/cpu.safetensors`),
          await numbers(`${folder}/cuda.safetensors`),
        ];
        assertEquals([...got.keys()], [...expected.keys()]);
        for (const [name, values] of expected) {
          const apart = difference(values, got.get(name) ?? new Float32Array());
          assert(apart < 2e-3, `${name} is off by ${apart}`);
        }
        for (const [name, values] of untouched) {
          assert(difference(values, expected.get(`0.weight/${name}`) ?? new Float32Array()) > 1e-3, `${name} stayed`);
        }
        const [mine, theirs] = await Promise.all(
          ["cuda", "cpu"].map((device) => numbers(`${folder}/${device}/diffusion_pytorch_model.safetensors`)),
        );
        for (const [name, values] of mine ?? []) {
          assert(difference(values, theirs?.get(name) ?? new Float32Array()) < 2e-3, `the average of ${name}`);
          assertEquals(difference(values, got.get(`0.ema/${name}`) ?? new Float32Array()), 0);
        }

        // What one device wrote the other goes on from.
        for (const [from, to] of [["cuda", "cpu"], ["cpu", "cuda"], ["cuda", "cuda"]] as const) {
          using network = await Network.load(folder, { device: to, trainable: true });
          using trainer = await Trainer.create([network], { ema: true, workers: 1 });
          const { step, metadata } = await trainer.load(`${folder}/${from}.safetensors`);
          assertEquals([step, metadata["device"]], [3, from]);
          await trainer.save(`${folder}/again.safetensors`);
          assertEquals(await numbers(`${folder}/again.safetensors`), from === "cuda" ? got : expected);
        }
      }
    }),
});

Deno.test({
  name: "networks of one trainer are on one device, and trainable",
  ignore,
  fn: () =>
    saved(IMAGE, async (folder) => {
      using here = await Network.load(folder, { trainable: true });
      using there = await Network.load(folder, { trainable: true, device: "cuda" });
      using fixed = await Network.load(folder, { device: "cuda" });
      const refused = async (networks: Network[], why: string): Promise<void> => {
        const error = await assertRejects(() => Trainer.create(networks, { workers: 1 }), KinoraError, why);
        assertEquals(error.code, "refused");
      };
      await refused([here, there], "on different devices");
      await refused([fixed], "is not trainable");
    }),
});

Deno.test({
  name: "a recipe's stages see on the GPU the losses that they see on the CPU",
  ignore,
  fn: async () => {
    const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
    try {
      await writeTinyData(`${folder}/data`);
      const stages = ["tokenizer", "text-pair", "prior", "decoder-image", "decoder-video", "sr-low-image"] as const;
      const losses = async (device: Device): Promise<number[]> => {
        const run = `${folder}/${device}`;
        const recipe = parseRecipe(tinyRecipe(2), "tiny.json");
        await trainRecipe(recipe, {
          data: `${folder}/data`,
          model: `${run}/model`,
          run,
          stages,
          precision: "f32",
          workers: 1,
          device,
        });
        const found: number[] = [];
        for (const stage of stages.slice(1)) {
          const lines = (await Deno.readTextFile(`${run}/${stage}/log.jsonl`)).trim().split("\n");
          for (const line of lines.map((line) => JSON.parse(line))) if ("loss" in line) found.push(line.loss);
        }
        return found;
      };
      const [cpu, cuda] = [await losses("cpu"), await losses("cuda")];
      assertEquals(cuda.length, cpu.length);
      assert(cpu.length >= 2 * (stages.length - 1));
      for (const [i, loss] of cpu.entries()) {
        const apart = Math.abs((cuda[i] ?? NaN) / loss - 1);
        assert(apart < 5e-3, `loss ${i}: ${cuda[i]} is not ${loss}`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
