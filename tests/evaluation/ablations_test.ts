import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { loadTensors, Tensor } from "../../ffi/tensor.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { fileSha256, WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { ablate, ABLATION_GROUPS, type AblationOptions } from "../../lib/evaluation/ablations/ablate.ts";
import { AblationFile } from "../../lib/evaluation/ablations/ablation_file.ts";
import { writeStartNetwork } from "../../lib/evaluation/ablations/start_network.ts";
import { TrainingData } from "../../lib/training/training_data.ts";
import { tinyRecipe } from "../training/tiny_training.ts";
import { withTrainedModel } from "./trained_model.ts";

await libraryInfo();

const RECIPE = { ...tinyRecipe(2) };

/** Runs a test on a tiny cascade and its data set. */
async function withCascade(
  test: (cascade: Cascade, options: AblationOptions, folder: string) => Promise<void>,
): Promise<void> {
  await withTrainedModel(async (model, folder) => {
    using cascade = await Cascade.load(model, { precision: "f32" });
    using data = await TrainingData.open(folder);
    const run = `${folder}/ablations`;
    await test(cascade, { data, recipe: RECIPE, run, trainingSteps: 3, batch: 2, samples: 2 }, folder);
  });
}

Deno.test("ablate() measures every arm once, says all that decided it, and leaves nothing behind", () =>
  withCascade(async (cascade, options, folder) => {
    const before = (await libraryInfo()).handles;
    const file = await AblationFile.open(`${folder}/rows/ablations.json`);
    const steps = new Map<string, number>();
    const rows = await ablate(cascade, {
      ...options,
      onProgress: ({ group, arm, step, total }) => {
        const key = `${group}, ${arm}`;
        assert(step > (steps.get(key) ?? 0) && step <= total, `${key} ${step}/${total}`);
        steps.set(key, step);
      },
      onRow: (row, frames) => file.add(row, frames),
    });
    const named = ABLATION_GROUPS.map((group) => rows.filter((row) => row.group === group.name).length);
    assert(named.every((count) => count >= 2), `${named}`);
    assertEquals(new Set(rows.map(({ group, arm }) => `${group} ${arm}`)).size, rows.length);
    assertEquals(steps.size, rows.length);
    const decoder = await fileSha256(`${cascade.index.folder}/decoder/${WEIGHTS_FILE}`);
    for (const row of rows) {
      const name = `${row.group}, ${row.arm}`;
      assert(Object.keys(row.figures).length >= 4, name);
      for (const [key, value] of Object.entries(row.figures)) assert(Number.isFinite(value), `${name} ${key}`);
      const group = ABLATION_GROUPS.find((group) => group.name === row.group);
      assertEquals(Object.keys(row.weights), [...group?.stages ?? []], name);
      if ("decoder" in row.weights) assertEquals(row.weights["decoder"], decoder);
      assertEquals(row.data, group?.needsData ? options.data?.index.hash ?? "" : null, name);
      assert(row.seeds.length > 0 && row.seconds > 0 && row.cpu_seconds > 0, name);
      assert((await Deno.stat(file.picturePath(row))).size > 60, name);
    }
    // What is left is the cascade's and the data set's.
    cascade.dispose();
    options.data?.dispose();
    await new Promise((resolve) => setTimeout(resolve, 0));
    assert((await libraryInfo()).handles <= before);
    assertEquals(await Array.fromAsync(Deno.readDir(options.run ?? ""), ({ name }) => name), []);
    assertEquals((await AblationFile.open(file.path)).rows, rows);
  }));

Deno.test("what was measured is not measured again, unless something that decided it is different", () =>
  withCascade(async (cascade, options) => {
    const wanted = { ...options, groups: ["guidance"], arms: ["1", "5"] };
    const rows = await ablate(cascade, wanted);
    assertEquals(rows.map(({ arm }) => arm), ["1", "5"]);
    assertNotEquals(rows[0]?.figures, rows[1]?.figures);
    let measured = 0;
    const onRow = (): void => void measured++;
    assertEquals(await ablate(cascade, { ...wanted, known: rows, onRow }), rows);
    assertEquals(measured, 0);
    const [first, other] = await ablate(cascade, { ...wanted, known: rows.slice(1), onRow });
    assertEquals(measured, 1);
    assertEquals([first?.figures, other], [rows[0]?.figures, rows[1]]);
    await ablate(cascade, { ...wanted, samples: 1, known: rows, onRow });
    assertEquals(measured, 3);
    const stale = rows.map((row) => ({ ...row, weights: { ...row.weights, decoder: "0" } }));
    await ablate(cascade, { ...wanted, known: stale, onRow });
    assertEquals(measured, 5);
  }));

Deno.test("the arm that is the model's own way gives what the model gives", () =>
  withCascade(async (cascade, options) => {
    const groups = ["guidance", "sampler", "common-noise"];
    const rows = await ablate(cascade, { ...options, groups, arms: ["1.5", "ddim 2", "0"] });
    assertEquals(rows.length, 3);
    // The tiny model's own guidance, sampler, steps and share.
    for (const row of rows) assertEquals(row.figures, rows[0]?.figures, row.group);
  }));

Deno.test("frames at rest flicker only where they start from noise of their own", () =>
  withCascade(async (cascade, options) => {
    const rows = await ablate(cascade, { ...options, groups: ["sr-high-noise", "sr-low-time"] });
    const flicker = Object.fromEntries(rows.map(({ arm, figures }) => [arm, figures["flicker"] ?? NaN]));
    assertEquals(flicker["shared"], 0);
    assertEquals(flicker["frame by frame"], 0);
    assert((flicker["independent"] ?? 0) > 1e-4);
    assert((flicker["frame by frame, own noise"] ?? 0) > 1e-4);
  }));

Deno.test("a mask changes what the interpolation makes, and the skip what is hidden", () =>
  withCascade(async (cascade, options) => {
    const rows = await ablate(cascade, { ...options, groups: ["frame-skip"] });
    const of = (arm: string): Readonly<Record<string, number>> => rows.find((row) => row.arm === arm)?.figures ?? {};
    assertNotEquals(of("skip 5")["psnr"], of("skip 5, no mask")["psnr"]);
    assertEquals(of("skip 5")["psnr_blend"], of("skip 5, no mask")["psnr_blend"]);
    assertNotEquals(of("skip 2")["psnr_blend"], of("skip 15")["psnr_blend"]);
  }));

Deno.test("arms of a training differ in what they vary, and an interrupted one goes on", () =>
  withCascade(async (cascade, options) => {
    const groups = ["temporal-training"];
    const rows = await ablate(cascade, { ...options, groups });
    const losses = rows.map(({ figures }) => figures["loss"]);
    assertEquals(new Set(losses).size, losses.length, `${losses}`);
    const controller = new AbortController();
    const stop = new KinoraError("cancelled", "enough");
    const one = { ...options, groups, arms: ["random start"] };
    await assertRejects(
      () =>
        ablate(cascade, {
          ...one,
          signal: controller.signal,
          onProgress: ({ step }) => step === 2 && controller.abort(stop),
        }),
      KinoraError,
      "enough",
    );
    const seen: number[] = [];
    const [resumed] = await ablate(cascade, { ...one, onProgress: ({ step }) => void seen.push(step) });
    assertEquals(seen, [3, 4]);
    assertEquals(resumed?.figures, rows[1]?.figures);
  }));

Deno.test("writeStartNetwork() takes the temporal layers out; identities change nothing, random ones do", () =>
  withCascade(async (cascade, _, folder) => {
    const from = `${cascade.index.folder}/decoder`;
    const config = JSON.parse(await Deno.readTextFile(`${from}/config.json`));
    const output = async (start: "identity" | "random", temporal: boolean): Promise<Float32Array> => {
      const to = `${folder}/start-${start}`;
      await writeStartNetwork(from, to, { start, seed: 3 });
      using network = await Network.grow(to, { ...config, temporal, fps_conditioning: false }, { seed: 1 });
      using sample = await Tensor.noise({ shape: [1, 4, 8, 8, 3], seeds: [1] });
      using image_embedding = await Tensor.noise({ shape: [1, 8], seeds: [2] });
      const { sample: made } = await network.forward({ sample, timestep: [500], image_embedding, drop: [0] });
      using result = made as Tensor;
      return await result.read();
    };
    const image = await output("identity", false);
    assertEquals(await output("identity", true), image);
    assertNotEquals(await output("random", true), image);
    const names = async (start: string): Promise<string[]> => {
      const { tensors } = await loadTensors(`${folder}/start-${start}/${WEIGHTS_FILE}`);
      for (const tensor of Object.values(tensors)) tensor.dispose();
      return Object.keys(tensors);
    };
    assert(!(await names("identity")).some((name) => /temporal|fps/.test(name)));
    assert((await names("random")).includes("conv_in.temporal_conv.weight"));
  }));

Deno.test("what cannot be measured is refused before any work", () =>
  withCascade(async (cascade, options, folder) => {
    const refused = async (change: AblationOptions, message: string): Promise<void> => {
      const error = await assertRejects(() => ablate(cascade, { ...options, ...change }), KinoraError, message);
      assertEquals(error.code, "refused");
    };
    await refused({ groups: ["speed"] }, 'There is no ablation "speed"; there are sr-high-noise,');
    await refused({ groups: ["guidance"], arms: ["9"] }, 'There is no arm "9"; there are "1", "1.5"');
    await refused({ data: undefined }, "is measured on the data set");
    await refused({ recipe: undefined }, "Short trainings follow a recipe");
    await refused({ recipe: { ...RECIPE, stages: [] } }, "no stage decoder-video");
    await refused({ samples: 0 }, "samples must be a whole number from 1 to 64, not 0");
    await refused({ trainingSteps: 1.5 }, "trainingSteps must be");
    const bad = `${folder}/bad.json`;
    for (
      const [text, message] of [
        ["{", "is not JSON"],
        ["null", "holds no ablations"],
        ['{"format":"kinora-ablations-1","rows":[{"group":"a"}]}', "row 1 has no arm"],
      ] as const
    ) {
      await Deno.writeTextFile(bad, text);
      await assertRejects(() => AblationFile.open(bad), KinoraError, message);
    }
    await assertRejects(() => AblationFile.open(`${folder}/rows.txt`), KinoraError, ".json");
  }));

Deno.test("kinora ablate writes rows, and goes on where it was", () =>
  withCascade(async (cascade, _, folder) => {
    const run = async (...args: string[]): Promise<{ code: number; out: string[] }> => {
      const out: string[] = [];
      const streams = { out: (line: string): void => void out.push(line), note: (): void => {}, interactive: false };
      const common = ["--model", cascade.index.folder, "--out", `${folder}/out.json`, "--samples", "1"];
      const code = await runCommand(["ablate", ...common, ...args], streams, new AbortController().signal);
      return { code, out };
    };
    const first = await run("--only", "common-noise", "--arm", "0.5");
    assertEquals([first.code, first.out.length], [0, 2]);
    assert(first.out[0]?.startsWith("common-noise, 0.5: agreement "));
    const again = await run("--only", "common-noise", "--json");
    const { rows } = JSON.parse(again.out[0] ?? "");
    assertEquals(rows.length, 7);
    const file = await AblationFile.open(`${folder}/out.json`);
    assertEquals(file.rows.map(({ arm }) => arm), ["0.5", "0", "0.1", "0.2", "0.3", "0.8", "1"]);
    assertEquals((await run("--only", "nothing")).code, 2);
  }));
