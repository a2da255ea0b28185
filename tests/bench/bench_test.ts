import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { checkPeer, onOwnKernels, ownKernels } from "../../bench/gpu.ts";
import { layerCase } from "../../bench/cases.ts";
import { pinnedPackages } from "../../bench/python.ts";
import { coresOf, Side } from "../../bench/side.ts";
import { timeOfVideo } from "../../bench/video.ts";
import { noGpu } from "../../tasks/cuda_gpu.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

// The library stays open.
await libraryInfo();

const BENCH = fileURLToPath(new URL("../../bench/bench.ts", import.meta.url));

/** Runs the bench where the path holds no more than `python3` with this content. */
async function bench(args: readonly string[], python?: string): Promise<{ code: number; out: string; err: string }> {
  const path = await Deno.makeTempDir();
  try {
    if (python !== undefined) {
      await Deno.writeTextFile(`${path}/python3`, `#!/bin/sh\n${python}\n`, { mode: 0o755 });
    }
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", BENCH, ...args],
      env: { PATH: path },
      stdin: "null",
    }).output();
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), err: text(stderr) };
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

Deno.test("without Python the bench says how to get it, and that it was refused", async () => {
  const { code, out, err } = await bench([]);
  assertEquals([code, out], [2, ""]);
  for (const part of ["python3 is not on the path", "-m venv", "bin/pip install -r", "requirements.txt"]) {
    assertStringIncludes(err, part);
  }
});

Deno.test({
  name: "with other packages than the pinned ones it names each",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const found = `echo '{"python": "3.12.0", "torch": "2.0.1+cpu", "einops": "0.8.2"}'`;
    const { code, err } = await bench(["--only", "unet"], found);
    assertEquals(code, 2);
    assertStringIncludes(err, "torch is 2.0.1+cpu, not 2.15.0; make-a-video-pytorch 0.4.0 is missing. To get them");
  },
});

Deno.test("bad options are refused before anything is looked for", async () => {
  for (
    const [args, part] of [
      [["--only", "unit"], "--only must name some of unet"],
      [["--threads", "100000"], "--threads"],
      [["--rounds", "0"], "--rounds"],
      [["--dtype", "f16"], "--dtype"],
    ] as const
  ) {
    const { code, err } = await bench(args);
    assertEquals(code, 2);
    assertStringIncludes(err, part);
    assertEquals(err.includes("python3"), false);
  }
});

Deno.test({
  name: "on a machine without a GPU it says why nothing is measured there, and that is no failure",
  ignore: noGpu() === undefined,
  fn: async () => {
    const { code, out, err } = await bench(["--device", "cuda"]);
    assertEquals([code, out], [0, ""]);
    assertEquals(err.trim(), `bench: skipped, ${noGpu()}`);
  },
});

Deno.test("what is not measured on a GPU is refused there", async () => {
  const { code, err } = await bench(["--device", "cuda", "--only", "memory"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "--only memory is not measured on a GPU");
});

Deno.test("products and convolutions are measured on a GPU with Kinora's own kernels as well", () => {
  const of = layerCase("conv3x3", [64, 32]);
  const again = onOwnKernels({ of, pass: "train", dtype: "f32" });
  assertEquals(again, { of: { ...of, name: `${of.name}, own kernels` }, pass: "train", dtype: "f32" });
  assertEquals(onOwnKernels({ of: layerCase("norm", [64, 32]), pass: "train", dtype: "f32" }), undefined);
  const { path, env } = ownKernels({ path: "/k/kinora-bench", env: { LD_LIBRARY_PATH: "/k" } });
  assertEquals([path, env], ["/k/kinora-bench", { LD_LIBRARY_PATH: "/k", KINORA_CUDA_PRODUCTS: "own" }]);
});

Deno.test({
  name: "a PyTorch that sees no GPU is refused",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const path = await Deno.makeTempDir({ prefix: "kinora-test-" });
    try {
      const says = (gpu: string): Promise<void> =>
        Deno.writeTextFile(`${path}/python3`, `#!/bin/sh\nread line\necho '{"threads": 1, "gpu": ${gpu}}'\n`, {
          mode: 0o755,
        });
      // The program is looked for on this process's path.
      const before = Deno.env.get("PATH") ?? "";
      Deno.env.set("PATH", `${path}:${before}`);
      try {
        await says("null");
        const options = { threads: 1, cores: undefined };
        const error = await assertRejects(() => checkPeer(options), KinoraError, "PyTorch finds no GPU");
        assertEquals(error.code, "refused");
        await says('"a GPU"');
        await checkPeer(options);
      } finally {
        Deno.env.set("PATH", before);
      }
    } finally {
      await Deno.remove(path, { recursive: true });
    }
  },
});

Deno.test("the time of a video is the median of the rounds after one", () =>
  withTinyModel(async (model) => {
    const { dtype, frames, size, seconds, rounds } = await timeOfVideo("cpu", 3, model);
    assert(["f32", "bf16"].includes(dtype) && frames > 1 && size > 1);
    assertEquals(rounds.length, 3);
    assertEquals(seconds, rounds.toSorted((a, b) => a - b)[1]);
  }));

Deno.test("--help names the rows", async () => {
  const { code, out } = await bench(["--help"]);
  assertEquals(code, 0);
  for (const part of ["deno task bench", "conv3x3", "--json", "roofline"]) assertStringIncludes(out, part);
});

Deno.test("the pinned packages are those of the peer", async () => {
  assertEquals(await pinnedPackages(), { torch: "2.15.0", "make-a-video-pytorch": "0.4.0", einops: "0.8.2" });
});

Deno.test("a list of cores", () => {
  assertEquals(coresOf("0-3,6,9-10"), [0, 1, 2, 3, 6, 9, 10]);
  assertEquals(coresOf(""), []);
});

Deno.test("a side is asked line by line; what it refuses and its end are failures", async () => {
  const program = `
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of Deno.stdin.readable) {
      const lines = (rest + decoder.decode(bytes)).split("\\n");
      rest = lines.pop();
      for (const line of lines) {
        const request = JSON.parse(line);
        if (request.do === "end") Deno.exit(0);
        console.log(JSON.stringify(request.do === "fail" ? { error: "no such case" } : { error: 0.5, of: request }));
      }
    }`;
  await using side = new Side("Nobody", Deno.execPath(), ["eval", program], { threads: 3, cores: undefined });
  const request = { do: "time", text: "a\nb", long: "x".repeat(100_000) };
  assertEquals(await side.ask(request), { error: 0.5, of: request });
  const error = await assertRejects(() => side.ask({ do: "fail" }), KinoraError);
  assertEquals([error.code, error.message], ["failed", 'Nobody failed at "fail": no such case']);
  assertStringIncludes((await assertRejects(() => side.ask({ do: "end" }), KinoraError)).message, "it ended");
});
