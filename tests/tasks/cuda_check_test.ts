import { assertEquals, assertStringIncludes } from "@std/assert";
import { complaints, type Limits, usages } from "../../tasks/cuda_check.ts";
import { noGpu } from "../../tasks/cuda_gpu.ts";

const LOG = `ptxas info    : Compiling entry function 'one' for 'sm_80'
ptxas info    : Function properties for one
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 8448 bytes smem, 460 bytes cmem[0]
ptxas info    : Compiling entry function 'two' for 'sm_80'
    16 bytes stack frame, 20 bytes spill stores, 68 bytes spill loads
ptxas info    : Used 64 registers
`;

Deno.test("what kernels use is read from a log of ptxas", () => {
  assertEquals([...usages(LOG)], [
    ["one", { registers: 48, shared: 8448, stack: 0, spills: 0 }],
    ["two", { registers: 64, shared: 0, stack: 16, spills: 88 }],
  ]);
});

Deno.test("kernels over their limits, unknown kernels and warnings are complained of", () => {
  const limits: Limits = {
    default: { registers: 168, shared: 49152, stack: 0, spills: 0 },
    kernels: { one: { registers: 48 }, two: { registers: 64, stack: 16, spills: 88 } },
  };
  assertEquals(complaints(LOG, limits), []);
  const strict: Limits = { default: limits.default, kernels: { one: { registers: 47 } } };
  assertEquals(complaints(`${LOG}ptxas warning : late\n`, strict), [
    "ptxas warning : late",
    "one: registers 48, at most 47",
    "two is not in limits.json",
    "two: stack 16, at most 0",
    "two: spills 88, at most 0",
  ]);
});

Deno.test({
  name: "a driver that does not open is a reason to skip",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  fn: () => assertStringIncludes(noGpu("/nowhere/libcuda.so.1") ?? "", "no NVIDIA driver"),
});
