import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { LibraryInfo } from "../../ffi/library.ts";
import { deviceReport, driverVersion } from "../../lib/cli/graphics_card.ts";

const CLOSED =
  "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:12:31 UTC 2025\nGCC version:\n";
const OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.51  Release Build  (root@host)\n";

Deno.test("the driver's version is read from either kind of module", () => {
  assertEquals(driverVersion(CLOSED), "580.65.06");
  assertEquals(driverVersion(OPEN), "575.51");
  assertEquals(driverVersion("something else 1.2.3\n"), null);
});

const PLAIN: LibraryInfo = {
  path: "/k/libkinora.so",
  version: "0.1.0",
  abi: 1,
  isa: "avx2",
  precisions: ["f32", "bf16", "bf16x3"],
  fastBf16: false,
  threads: 2,
  cuda: false,
  gpu: null,
  noGpu: "this native library was built without CUDA",
  handles: {},
  tensorBytes: 0,
};
const none = (): Promise<string> => Promise.reject(new Deno.errors.NotFound());

Deno.test("the report says what was found, what was chosen and why", async () => {
  const found = await deviceReport(PLAIN, () => Promise.resolve(CLOSED));
  assertEquals([found.chosen, found.usable, found.nvidiaDriver], ["cpu", ["cpu"], "580.65.06"]);
  assertStringIncludes(found.reason, "580.65.06");
  assertStringIncludes(found.reason, "deno task build --features cuda");
  const without = await deviceReport(undefined, none);
  assertEquals([without.chosen, without.usable, without.nvidiaDriver], ["cpu", ["cpu"], null]);
  assertStringIncludes(without.reason, "no NVIDIA driver was found; there is no native library");
  const hidden = await deviceReport(PLAIN, () => Promise.reject(new Deno.errors.NotCapable()));
  assertStringIncludes(hidden.reason, "may not be looked for");
  await assertRejects(() => deviceReport(PLAIN, () => Promise.reject(new TypeError("other"))), TypeError);
});

Deno.test("the report names the GPU, or why the library for it is not used", async () => {
  const { noGpu: _, ...rest } = PLAIN;
  const cudnn = { version: "9.28.1" };
  const gpu = { name: "NVIDIA H100", capability: [9, 0], memory: 80 * 2 ** 30, cudnn } as const;
  const used = await deviceReport({ ...rest, cuda: true, gpu }, () => Promise.resolve(OPEN));
  assertEquals(used.usable, ["cpu", "cuda"]);
  assertStringIncludes(used.reason, "--device cuda computes on NVIDIA H100 (compute capability 9.0, 80 GiB)");
  assertStringIncludes(
    used.reason,
    "convolutions over pixels by cuDNN 9.28.1 in f32 and by Kinora's kernels in bf16 unless",
  );
  const own = { ...gpu, cudnn: { unused: "libcudnn.so.9 does not open" } };
  const without = await deviceReport({ ...rest, cuda: true, gpu: own }, none);
  assertStringIncludes(without.reason, "convolutions over pixels by Kinora's kernels (libcudnn.so.9 does not open)");
  const passedOver = { path: "/k/libkinora_cuda.so", reason: "it does not open" };
  const over = await deviceReport({ ...PLAIN, passedOver }, none);
  assertStringIncludes(over.reason, "/k/libkinora_cuda.so was not taken: it does not open");
  const broken = await deviceReport({ ...PLAIN, cuda: true, noGpu: "NVIDIA's driver opens no GPU (no device)" }, none);
  assertStringIncludes(broken.reason, "no GPU is used: NVIDIA's driver opens no GPU (no device)");
});
