import { assert, assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { Tensor } from "../../ffi/tensor.ts";

await libraryInfo();

async function live(): Promise<number> {
  return (await libraryInfo()).handles["tensor"] ?? 0;
}

Deno.test("`using` frees at the end of its block, and disposing twice does nothing", async () => {
  const before = await live();
  {
    using tensor = await Tensor.noise({ shape: [1, 8], seeds: [1] });
    assertEquals(await live(), before + 1);
    assertEquals(tensor.disposed, false);
    tensor.dispose();
    tensor.dispose();
    assertEquals(tensor.disposed, true);
    // Takes the slot of the one before: disposing that again must not free this one.
    using other = await Tensor.noise({ shape: [1, 8], seeds: [1] });
    tensor.dispose();
    assertEquals((await other.read()).length, 8);
  }
  assertEquals(await live(), before);
});

Deno.test("using what is disposed is an error that says so", async () => {
  const tensor = await Tensor.noise({ shape: [1, 8], seeds: [1] });
  tensor.dispose();
  const uses: (() => Promise<unknown>)[] = [
    () => tensor.read(),
    () => tensor.stats(),
    () => tensor.reshape([8]),
    () => Tensor.cat([tensor], 0),
    () => Tensor.combine([{ tensor, scale: 1 }]),
  ];
  for (const use of uses) {
    const error = await assertRejects(use, KinoraError, "The tensor was disposed");
    assertEquals(error.code, "disposed");
  }
  assertEquals(tensor.shape, [1, 8]);
});

Deno.test("work that was begun is finished when its inputs are disposed meanwhile", async () => {
  const before = await live();
  for (let round = 0; round < 50; round++) {
    const tensor = await Tensor.noise({ shape: [1, 1000], seeds: [round] });
    const work = [tensor.reshape([1000]), tensor.normalize(), Tensor.cat([tensor, tensor], 0)];
    const numbers = tensor.read();
    tensor.dispose();
    for (const result of await Promise.all(work)) result.dispose();
    assertEquals((await numbers).length, 1000);
  }
  assertEquals(await live(), before);
});

Deno.test("a network takes no tensor's place", async () => {
  const config = {
    _class_name: "UNetPseudo3DModel",
    in_channels: 3,
    block_out_channels: [8],
    attention: [false],
    norm_num_groups: 4,
    time_embedding_dim: 16,
  };
  using network = await Network.create(config, { seed: 1 });
  assert(network.parameters > 0);
  const error = await assertRejects(() => network.forward({ sample: [NaN] as unknown as number[] }), KinoraError);
  assertEquals(error.code, "refused");
});

const collect = (globalThis as { gc?: () => void }).gc;

Deno.test({
  name: "what nothing refers to is freed by the garbage collector",
  // Needs --v8-flags=--expose-gc, as `deno task test` has it.
  ignore: collect === undefined && Deno.env.get("KINORA_REQUIRE_ALL") === undefined,
  fn: async () => {
    const before = await live();
    const waste = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) await Tensor.noise({ shape: [1, 100], seeds: [i] });
    };
    await waste();
    assert(collect !== undefined, "run with --v8-flags=--expose-gc");
    for (let tries = 0; await live() > before; tries++) {
      assert(tries < 100, `${await live() - before} tensors are still alive`);
      collect();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  },
});

Deno.test({
  name: "the garbage collector never takes what is at work",
  ignore: collect === undefined && Deno.env.get("KINORA_REQUIRE_ALL") === undefined,
  fn: async () => {
    assert(collect !== undefined, "run with --v8-flags=--expose-gc");
    const collecting = setInterval(() => collect(), 1);
    try {
      const sums = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
        const sum = async (): Promise<Tensor> => {
          const one = await Tensor.create([1, 20_000], new Float32Array(20_000).fill(i));
          return await Tensor.combine([{ tensor: await one.reshape([20_000, 1]), scale: 2 }]);
        };
        using result = await sum();
        return (await result.stats()).mean;
      }));
      assertEquals(sums, sums.map((_, i) => 2 * i));
    } finally {
      clearInterval(collecting);
    }
  },
});
