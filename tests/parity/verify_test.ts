import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { readFixture } from "../../lib/parity/fixture.ts";
import { judge } from "../../lib/parity/judge.ts";
import { plainTensor, readSafetensors } from "../../lib/parity/safetensors.ts";
import { answerQuestion, fixtureFiles, verifyFixture } from "../../lib/parity/verify.ts";
import { type FixtureParts, FIXTURES, strip, withChanged } from "./collections.ts";

await libraryInfo();

const F32 = { precision: "f32" } as const;

for (const path of await fixtureFiles([FIXTURES])) {
  const name = path.slice(FIXTURES.length + 1).replace(/\.safetensors$/, "");
  Deno.test(`a recorded run is met, with half the tolerance to spare: ${name}`, async () => {
    const { pass, worst, error, tensors } = await verifyFixture(path, F32);
    assertEquals(error, undefined);
    assert(pass && worst < 0.5, `${worst}: ${JSON.stringify(tensors)}`);
    // The same by way of a question and a file of answers.
    await withChanged(name, strip, async (question) => {
      const out = `${question}.out`;
      await answerQuestion(question, out, F32);
      const answers = (await readSafetensors(out)).tensors;
      const fixture = await readFixture(path);
      assertEquals([...answers.keys()].sort(), [...fixture.wanted].sort());
      assertEquals(judge(fixture, answers, "f32").worst, worst);
    });
  });
}

// They are so small that nothing of them is rounded to bf16: what this shows is that small layers keep their digits.
Deno.test("recorded layers keep their digits when bf16 is asked for", async () => {
  for (const path of await fixtureFiles([`${FIXTURES}/lucidrains`])) {
    const { pass, worst, tensors } = await verifyFixture(path, { precision: "bf16" });
    assert(pass, `${path}: ${worst}: ${JSON.stringify(tensors)}`);
  }
});

/** Puts a tensor of zeros in a place. */
function set(name: string, shape: readonly number[]): (parts: FixtureParts) => void {
  const count = shape.reduce((product, length) => product * length, 1);
  return ({ tensors }) => void tensors.set(name, plainTensor(shape, new Float32Array(count)));
}

/** What becomes of a changed fixture. */
async function outcome(name: string, change: (parts: FixtureParts) => void): Promise<[string, string]> {
  return await withChanged(name, change, async (path) => {
    const { pass, error } = await verifyFixture(path, F32);
    return [error?.code ?? (pass ? "pass" : "fail"), error?.message ?? ""];
  });
}

Deno.test("a wrong number fails", async () => {
  const nudge = (name: string, by: number) => ({ tensors }: FixtureParts): void => {
    const { shape, values } = tensors.get(name) ?? { shape: [0], values: new Float32Array() };
    const changed = Float64Array.from(values as Float32Array);
    changed[0] = (changed[0] ?? 0) + by;
    tensors.set(name, plainTensor(shape, changed));
  };
  assertEquals((await outcome("samplers/ddim_eps_linear", nudge("out/samples", 1e-4)))[0], "fail");
  assertEquals((await outcome("samplers/ddim_eps_linear", nudge("in/sample", 1e-3)))[0], "fail");
  assertEquals((await outcome("rule/splitmix24", nudge("out/a", 1e-7)))[0], "fail");
  assertEquals((await outcome("losses/hybrid_x0_cosine", nudge("grad/in/model_output", 1e-6)))[0], "fail");
});

Deno.test("a fixture that is malformed is refused with a reason", async () => {
  const cases: [name: string, change: (parts: FixtureParts) => void, why: string][] = [
    ["samplers/ddim_eps_linear", ({ metadata }) => metadata["format"] = "parity-9", "is not a fixture"],
    ["samplers/ddim_eps_linear", ({ metadata }) => metadata["manifest"] = "{", "manifest is not JSON"],
    ["samplers/ddim_eps_linear", ({ metadata }) => metadata["manifest"] = "[]", "manifest is not an object"],
    ["samplers/ddim_eps_linear", ({ manifest }) => delete manifest["kind"], "has no kind"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["name"] = 3, "has no name"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["config"] = [], "config is not an object"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["tolerance"] = {}, "has no tolerance"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["tolerance"] = { a: -1 }, "is not a number of at least 0"],
    ["samplers/ddim_eps_linear", ({ tensors }) => tensors.delete("in/noise"), "has no input in/noise"],
    [
      "samplers/ddpm_eps_linear",
      ({ tensors }) => tensors.set("in/noise", plainTensor([2], new Float32Array(2))),
      "need one row each",
    ],
    ["samplers/ddim_eps_linear", ({ tensors }) => tensors.set("in/s", plainTensor([0], new Float32Array())), "in/s"],
    [
      "samplers/ddim_eps_linear",
      ({ tensors }) => tensors.set("", plainTensor([1], new Float32Array(1))),
      "without a name",
    ],
    [
      "samplers/ddim_eps_linear",
      ({ tensors }) => tensors.set("state/", plainTensor([0], new Float32Array())),
      'without a name: "state/"',
    ],
    ["lucidrains/rms_norm", ({ tensors }) => tensors.delete("state/gamma"), "gamma"],
    ["lucidrains/rms_norm", set("state/gamma", [3]), "gamma"],
    ["lucidrains/rms_norm", set("state/beta", [3]), "beta"],
    ["lucidrains/rms_norm", ({ tensors }) => tensors.delete("in/x"), "in/x"],
    ["lucidrains/rms_norm", ({ tensors }) => {
      const { shape, values } = tensors.get("state/gamma") ?? { shape: [0], values: new Float32Array() };
      tensors.set("state/gamma", plainTensor(shape, Float32Array.from(values as Float32Array).fill(NaN, 1, 2)));
    }, "state/gamma that is not finite"],
    ["lucidrains/upsample_space_time", set("state/up_time.0.weight", [2, 2, 1, 1, 1]), "up_time.0.weight"],
    ["samplers/ddim_eps_linear", strip, "is a question"],
    [
      "samplers/ddim_eps_linear",
      (parts) => (strip(parts), delete parts.manifest["outputs"]),
      "has neither answers nor",
    ],
    ["samplers/ddim_eps_linear", (parts) => (strip(parts), parts.manifest["outputs"] = ["y"]), "neither answers nor"],
    [
      "schedulers/unclip_prior_25",
      ({ tensors }) => tensors.delete("in/model_outputs"),
      "has no input in/model_outputs",
    ],
    ["schedulers/unclip_decoder_25", ({ manifest }) => manifest["call"] = { num_inference_steps: 9 }, "of the shape"],
    [
      "losses/hybrid_x0_cosine",
      ({ tensors }) => tensors.set("in/t", plainTensor([1], BigInt64Array.of(1n))),
      "do not fit",
    ],
    ["rule/splitmix24", ({ manifest }) => delete manifest["rule"], "has no rule"],
    ["rule/splitmix24", ({ manifest }) => manifest["rule"] = { name: "splitmix24" }, "seed is not a text"],
    [
      "rule/splitmix24",
      ({ manifest }) => manifest["rule"] = { name: "splitmix24", seed: "1", tensors: [["a", [1e12], 1, 0]] },
      "tensors[0]",
    ],
  ];
  for (const [name, change, why] of cases) {
    const [code, message] = await outcome(name, change);
    assertEquals(code, "bad-file", `${why}: ${message}`);
    assert(message.includes(why), `${why}: ${message}`);
  }
});

Deno.test("what is not known here is unsupported, and the message says what", async () => {
  const cases: [name: string, change: (parts: FixtureParts) => void, what: string][] = [
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["kind"] = "diffusers.EulerScheduler", "EulerScheduler"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["kind"] = "toString", "toString"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["model"] = "unet", "unet"],
    [
      "samplers/ddim_eps_linear",
      ({ manifest }) => manifest["call"] = { num_inference_steps: 0 },
      "num_inference_steps",
    ],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["call"] = { num_inference_steps: 9, karras: 1 }, "karras"],
    ["samplers/ddim_eps_linear", ({ manifest }) => manifest["config"] = { beta_schedule: "sigmoid" }, "beta_schedule"],
    ["samplers/ddim_eps_linear", ({ manifest }) => {
      manifest["config"] = { beta_schedule: "linear", timestep_spacing: "trailing" };
      manifest["call"] = { num_inference_steps: 61 };
    }, "61 of 1000 steps visits a timestep of -1"],
    ["lucidrains/rms_norm", ({ manifest }) => manifest["kind"] = "lucidrains.LayerNorm", "LayerNorm"],
    ["lucidrains/rms_norm", ({ manifest }) => manifest["config"] = { chan: 5, eps: 1 }, "eps"],
    ["lucidrains/rms_norm", ({ manifest }) => manifest["call"] = { enable_time: true }, "enable_time"],
    ["losses/hybrid_x0_cosine", ({ manifest }) => manifest["config"] = { num_timesteps: 1 }, "num_timesteps"],
    ["losses/hybrid_x0_cosine", ({ tensors, manifest }) => {
      manifest["config"] = { num_timesteps: 10, beta_schedule: "linear", prediction_type: "epsilon" };
      tensors.set("in/t", plainTensor([3], BigInt64Array.of(0n, 1n, 2n)));
    }, "beta_end"],
    ["rule/splitmix24", ({ manifest }) => manifest["rule"] = { name: "xorshift" }, "xorshift"],
  ];
  for (const [name, change, what] of cases) {
    const [code, message] = await outcome(name, change);
    assertEquals(code, "unsupported", `${what}: ${message}`);
    assert(message.includes(what), `${what}: ${message}`);
  }
});

Deno.test("a question may want some of the answers only, and none that there are not", async () => {
  const wanting = (...names: string[]) => (parts: FixtureParts): void => {
    strip(parts);
    parts.manifest["outputs"] = names;
  };
  await withChanged("losses/hybrid_x0_cosine", wanting("grad/in/model_output"), async (question) => {
    await answerQuestion(question, `${question}.out`, F32);
    assertEquals([...(await readSafetensors(`${question}.out`)).tensors.keys()], ["grad/in/model_output"]);
  });
  await withChanged("losses/hybrid_x0_cosine", wanting("out/loss", "out/fid"), async (question) => {
    const error = await assertRejects(() => answerQuestion(question, `${question}.out`, F32), KinoraError, "out/fid");
    assertEquals(error.code, "unsupported");
    await assertRejects(() => Deno.stat(`${question}.out`), Deno.errors.NotFound);
  });
});

Deno.test("fixtureFiles() finds what a folder's manifest lists, else what is marked or cannot be read", async () => {
  const all = await fixtureFiles([FIXTURES]);
  assert(all.length >= 19 && all.every((path) => path.startsWith(`${FIXTURES}/`)));
  assertEquals(await fixtureFiles([`${FIXTURES}/rule/`]), [`${FIXTURES}/rule/splitmix24.safetensors`]);
  const folder = await Deno.makeTempDir();
  try {
    await assertRejects(() => fixtureFiles([folder]), KinoraError, "has no fixtures");
    await Deno.copyFile(`${FIXTURES}/rule/splitmix24.safetensors`, `${folder}/b.safetensors`);
    await Deno.writeTextFile(`${folder}/a.safetensors`, "broken");
    await Deno.writeTextFile(`${folder}/c.txt`, "other");
    assertEquals(await fixtureFiles([folder]), [`${folder}/a.safetensors`, `${folder}/b.safetensors`]);
    const list = (file: unknown): Promise<void> =>
      Deno.writeTextFile(`${folder}/manifest.json`, JSON.stringify({ fixtures: [{ file }] }));
    await list("b.safetensors");
    assertEquals(await fixtureFiles([folder]), [`${folder}/b.safetensors`]);
    for (const outside of ["../b.safetensors", "/etc/passwd", 3]) {
      await list(outside);
      await assertRejects(() => fixtureFiles([folder]), KinoraError, "not a file below it");
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  await assertRejects(() => fixtureFiles(["/nowhere"]), KinoraError, "is not there");
});
