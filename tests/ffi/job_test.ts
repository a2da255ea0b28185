import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { call, runJob } from "../../ffi/job.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { saveTensors, Tensor } from "../../ffi/tensor.ts";

await libraryInfo();

async function handles(): Promise<Readonly<Record<string, number>>> {
  return (await libraryInfo()).handles;
}

/** Runs a test with a network that takes seconds for one run. */
async function withSlowNetwork(test: (run: (signal?: AbortSignal) => Promise<void>) => Promise<void>): Promise<void> {
  const config = {
    _class_name: "UNetPseudo3DModel",
    in_channels: 3,
    block_out_channels: [64, 64],
    layers_per_block: 4,
    attention: [false, false],
    time_embedding_dim: 64,
    temporal: true,
  };
  const before = await handles();
  {
    using network = await Network.create(config, { seed: 1 });
    using sample = await Tensor.noise({ shape: [1, 16, 64, 64, 3], seeds: [1] });
    await test(async (signal) => {
      const outputs = await network.forward({ sample, timestep: [500] }, { signal });
      for (const output of Object.values(outputs)) output.dispose();
    });
  }
  assertEquals(await handles(), before);
}

Deno.test("a job stops soon after its signal, with the signal's reason, and leaves nothing behind", () =>
  withSlowNetwork(async (run) => {
    for (const reason of [new KinoraError("cancelled", "enough"), new Error("my own"), "a word"]) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 30);
      const start = performance.now();
      const thrown = await run(controller.signal).then(() => undefined, (error: unknown) => error);
      assertEquals(thrown, reason);
      assert(performance.now() - start < 3000);
    }
    const aborted = await run(AbortSignal.abort()).then(() => undefined, (error: unknown) => error);
    assert(aborted instanceof DOMException && aborted.name === "AbortError");
  }));

Deno.test("the event loop goes on while jobs run", () =>
  withSlowNetwork(async (run) => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    const controller = new AbortController();
    const jobs = [1, 2, 3].map(() => run(controller.signal).catch(() => {}));
    await new Promise((resolve) => setTimeout(resolve, 400));
    controller.abort();
    await Promise.all(jobs);
    clearInterval(timer);
    assert(ticks >= 10, `only ${ticks} ticks`);
  }));

Deno.test("progress is told up to the last step, and an error in the callback stops the job", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const tensors: Record<string, Tensor> = {};
    for (const name of ["a", "b", "c", "d", "e"]) tensors[name] = await Tensor.noise({ shape: [1, 100], seeds: [1] });
    const told: number[][] = [];
    await saveTensors(tensors, `${folder}/a`, {
      onProgress: ({ step, total, seconds }) => {
        assert(seconds >= 0);
        told.push([step, total]);
      },
    });
    assertEquals(told.at(-1), [5, 5]);
    const failing = (): never => {
      throw new TypeError("in the callback");
    };
    await assertRejects(
      () => saveTensors(tensors, `${folder}/b`, { onProgress: failing }),
      TypeError,
      "in the callback",
    );
    for (const tensor of Object.values(tensors)) tensor.dispose();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("many jobs at once all end", async () => {
  const before = await handles();
  const results = await Promise.all(
    Array.from(
      { length: 64 },
      (_, seed) => runJob<{ tensor: number }>({ verb: "tensor.noise", shape: [1, 1000], seeds: [seed] }),
    ),
  );
  const tensors = results.map(({ tensor }) => new Tensor(tensor));
  assertEquals(new Set(results.map(({ tensor }) => tensor)).size, 64);
  for (const tensor of tensors) tensor.dispose();
  assertEquals(await handles(), before);
});

Deno.test("refusals of calls and of jobs are the same", async () => {
  const requests = [
    { verb: "nonsense" },
    { verb: "tensor.noise", shape: [2], seeds: [1] },
    { verb: "tensor.noise", shape: [2, 2], seeds: [1], colour: "red" },
    { verb: "tensor.reshape", tensor: 12345, shape: [1] },
    { verb: "network.load", folder: "/nowhere" },
  ];
  for (const request of requests) {
    const one = await assertRejects(() => call(request), KinoraError);
    const other = await assertRejects(() => runJob(request), KinoraError);
    assertEquals([one.code, one.message], [other.code, other.message]);
    assert(one.message.length > 10 && !one.message.includes("\n"));
  }
});

Deno.test("replies longer than the first buffer arrive whole", async () => {
  const folder = await Deno.makeTempDir();
  try {
    using tensor = await Tensor.noise({ shape: [1, 1], seeds: [1] });
    const path = `${folder}/many`;
    const names = Array.from({ length: 2000 }, (_, i) => `a_rather_long_name_of_a_tensor_${i}`);
    await saveTensors(Object.fromEntries(names.map((name) => [name, tensor])), path);
    const loaded = await runJob<{ tensors: Record<string, number> }>({ verb: "tensor.load", path });
    assertEquals(Object.keys(loaded.tensors).length, 2000);
    for (const handle of Object.values(loaded.tensors)) new Tensor(handle).dispose();
    const before = await handles();
    assertEquals(before["tensor"], 1);
    const again = await call<{ tensors: Record<string, number> }>({ verb: "tensor.load", path });
    for (const handle of Object.values(again.tensors)) new Tensor(handle).dispose();
    assertEquals(await handles(), before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
