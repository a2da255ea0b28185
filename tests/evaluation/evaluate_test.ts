import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { fileSha256, WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import { BARS } from "../../lib/evaluation/bars.ts";
import { evaluateModel, MEASURE_NAMES } from "../../lib/evaluation/evaluate.ts";
import { meets } from "../../lib/evaluation/figure.ts";
import { Bench } from "../../lib/evaluation/measure.ts";
import { promptSet } from "../../lib/evaluation/prompts.ts";
import { TrainingData } from "../../lib/training/training_data.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { withTrainedModel } from "./trained_model.ts";

await libraryInfo();

async function cli(signal: AbortSignal, ...args: string[]): Promise<{ code: number; out: string[]; notes: string[] }> {
  const [out, notes]: [string[], string[]] = [[], []];
  const streams = {
    out: (line: string): void => void out.push(line),
    note: (line: string): void => void notes.push(line),
    interactive: false,
  };
  return { code: await runCommand(["evaluate", ...args], streams, signal), out, notes };
}

const going = new AbortController().signal;

Deno.test("evaluateModel() measures everything, and every figure says how", () =>
  withTrainedModel(async (model, folder) => {
    using cascade = await Cascade.load(model, { precision: "f32" });
    using data = await TrainingData.open(folder);
    const steps = new Map<string, [number, number]>();
    const evaluation = await evaluateModel(cascade, data, {
      concepts: 6,
      seed: 7,
      onProgress: ({ measure, step, total }) => {
        assert(step > (steps.get(measure)?.[0] ?? 0) && step <= total, `${measure} ${step}/${total}`);
        steps.set(measure, [step, total]);
      },
    });
    assertEquals([...steps.keys()], [...MEASURE_NAMES]);
    for (const [measure, [step, total]] of steps) assertEquals(step, total, measure);
    const { figures, ...head } = evaluation;
    assertEquals([head.format, head.model, head.seed, head.concepts], ["kinora-evaluation-1", "tiny", 7, 6]);
    assertEquals(head.data, { name: "tiny", hash: data.index.hash });
    const names = figures.map(({ name }) => name);
    assertEquals(new Set(names).size, names.length);
    for (const name of Object.keys(BARS)) assert(names.includes(name), name);
    const hash = await fileSha256(`${model}/decoder/${WEIGHTS_FILE}`);
    for (const { name, value, unit, bar, met, protocol } of figures) {
      assert(protocol.count > 0 && protocol.what !== "" && protocol.seeds !== "", name);
      assert(value !== null && Number.isFinite(value), name);
      if (unit === "share") assert(value >= 0 && value <= 1, name);
      if (bar !== undefined) assertEquals(met, meets(value, bar), name);
      const decoder = protocol.stages.find(({ stage }) => stage === "decoder");
      if (/^(retrieval|likeness)/.test(name)) {
        assertEquals(decoder, { stage: "decoder", weights: hash, steps: 2, guidance: 1.5 });
      }
    }
    const of = (name: string): number => figures.find((figure) => figure.name === name)?.value ?? NaN;
    assertAlmostEquals(
      of("interpolation.gain"),
      of("interpolation.psnr") - of("interpolation.psnr_blend"),
      1e-9,
    );
    // The same again to the bit, of one measure alone.
    const again = await evaluateModel(cascade, data, { concepts: 6, seed: 7, only: ["likeness"] });
    assertEquals(again.figures, figures.filter(({ name }) => name.startsWith("likeness")));
    const other = await evaluateModel(cascade, data, { concepts: 6, seed: 8, only: ["likeness"] });
    assert(other.figures[0]?.value !== again.figures[0]?.value);
  }));

Deno.test("the figures of one concept are those of its samples, computed by hand", () =>
  withTrainedModel(async (model, folder) => {
    using cascade = await Cascade.load(model, { precision: "f32" });
    using data = await TrainingData.open(folder);
    const { figures } = await evaluateModel(cascade, data, {
      concepts: 1,
      seed: 3,
      only: ["likeness", "prior", "retrieval"],
    });
    const of = (name: string): number => figures.find((figure) => figure.name === name)?.value ?? NaN;
    const [concept = 0] = promptSet(data, "names", 1)[0]?.concepts ?? [];
    using bench = new Bench(cascade, data);
    const { bank } = await bench.images();
    using embedding = await bank.gather(0, [concept]);
    using drawn = await (await cascade.stage("decoder")).sample(embedding, { seeds: [3], frames: 1 });
    using still = await data.rows("stills64", [concept]);
    const [made, truth] = [await drawn.read(), await still.read()];
    const square = made.reduce((sum, value, at) => sum + ((value - (truth[at] ?? 0)) / 2) ** 2, 0) / made.length;
    assertAlmostEquals(of("likeness.rmse"), Math.sqrt(square), 1e-5);

    using text = await (await cascade.stage("text")).encode([data.captions.names[concept] ?? ""]);
    using prior = await (await cascade.stage("prior")).sample(text, { seeds: [3] });
    const [a, b] = [await prior.read(), await embedding.read()];
    assertAlmostEquals(of("prior.names.cosine"), a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0), 1e-5);

    // The nearest picture to the first frame, by the plain distance.
    using video = await cascade.generate(data.captions.names[concept] ?? "", { seed: 3 });
    using large = await video.tensor.resize({ height: 32, width: 32, filter: "area" });
    using first = await large.gather(0, [0]);
    using stills = await data.rows("stills64", data.concepts.map(({ still }) => still));
    using candidates = await stills.resize({ height: 32, width: 32, filter: "area" });
    const [query, all] = [await first.read(), await candidates.read()];
    const distances = data.concepts.map((_, row) =>
      query.reduce((sum, value, at) => sum + (value - (all[row * query.length + at] ?? 0)) ** 2, 0)
    );
    const rank = distances.filter((distance) => distance < (distances[concept] ?? 0)).length;
    assertEquals(of("retrieval.names.first.r1"), Number(rank === 0));
    assertEquals(of("retrieval.names.first.r5"), Number(rank < 5));
  }));

Deno.test("evaluateModel() refuses bad numbers and models without what it needs", () =>
  withTrainedModel(async (model, folder) => {
    using cascade = await Cascade.load(model, { precision: "f32" });
    using data = await TrainingData.open(folder);
    for (const options of [{ concepts: 0 }, { concepts: 1.5 }, { seed: -1 }, { seed: NaN }]) {
      const error = await assertRejects(() => evaluateModel(cascade, data, options), KinoraError);
      assertEquals(error.code, "refused");
    }
    await Deno.remove(`${model}/clip_image/${WEIGHTS_FILE}`);
    const missing = await assertRejects(() => evaluateModel(cascade, data, { concepts: 1 }), KinoraError);
    assertEquals(missing.code, "not-found");
  }));

Deno.test("evaluate prints figures and goals, as JSON with protocols, refuses bad usage, and stops", () =>
  withTrainedModel(async (model, data) => {
    const places = ["tiny", "--model", model, "--data", data];
    const some = [...places, "--only", "likeness,prior", "--concepts", "3"];
    const text = await cli(going, ...some);
    assertEquals([text.code, text.notes], [0, []]);
    assert(
      text.out.some((line) => /^likeness\.rmse +\d\.\d{4} +of 3 +goal at most 0\.08: not met$/.test(line)),
      text.out.join("\n"),
    );
    assertEquals(text.out.at(-1), "0 of 1 goals met");
    const json = await cli(going, ...some, "--json");
    const report = JSON.parse(json.out.join(""));
    assertEquals([json.code, report.concepts, report.model], [0, 3, "tiny"]);
    assertEquals(report.figures.length, text.out.length - 1);
    const wrong: [string[], string][] = [
      [[], "The model is missing: kinora evaluate default"],
      [["no-such-model", "--data", data], "There is no model in"],
      [["tiny", "--data", "no/such"], 'There is no data set in "no/such"'],
      [[...places, "--only", "likenes"], 'There is no measure "likenes"; did you mean likeness?'],
      [[...places, "--concepts", "0"], "--concepts must be a whole number from 1"],
      [[...places, "--seed", "x"], "--seed must be a whole number from 0"],
    ];
    for (const [args, message] of wrong) {
      const { code, out, notes } = await cli(going, ...args);
      assertEquals([code, out], [2, []], args.join(" "));
      assert(notes.join("\n").includes(message), notes.join("\n"));
    }
    const stopped = new AbortController();
    stopped.abort();
    assertEquals(await cli(stopped.signal, ...some), { code: 130, out: [], notes: ["kinora: interrupted"] });
    const help = await cli(going, "--help");
    assert(
      help.out.join("\n").includes(
        "Measures: warnings, prior, likeness, super-resolution, interpolation, retrieval, motion.",
      ),
    );
  }));
