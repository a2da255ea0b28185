import { assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { withoutCuda } from "../../tasks/build.ts";
import { findLibraryToolkit } from "../../tasks/cuda_toolkit.ts";

Deno.test("what is asked for GPUs is told from what is for cargo", () => {
  assertEquals(withoutCuda(["--features", "cuda", "--locked"]), { rest: ["--locked"], cuda: true });
  assertEquals(withoutCuda(["--locked", "--features=cuda"]), { rest: ["--locked"], cuda: true });
  assertEquals(withoutCuda(["--features", "other"]), { rest: ["--features", "other"], cuda: false });
  assertEquals(withoutCuda([]), { rest: [], cuda: false });
});

Deno.test({
  name: "a build for GPUs without CUDA says what to do",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64" ||
    await Deno.stat("/usr/local/cuda/bin/nvcc").then(() => true, () => false),
  fn: async () => {
    const nothing = await Deno.makeTempDir();
    try {
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", fileURLToPath(new URL("../../tasks/build.ts", import.meta.url)), "--features", "cuda"],
        env: { KINORA_CUDA_TOOLKIT: nothing, CUDA_HOME: nothing },
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).output();
      const said = new TextDecoder().decode(stderr);
      assertEquals(code, 1);
      assertStringIncludes(said, "deno task cuda:build");
      assertStringIncludes(said, "export CUDA_HOME=");
      assertStringIncludes(said, "deno task build --features cuda");
    } finally {
      await Deno.remove(nothing, { recursive: true });
    }
  },
});

Deno.test({
  name: "a toolkit of CUDA 13 is found by CUDA_HOME, an older one is not taken",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const home = await Deno.makeTempDir();
    const before = { home: Deno.env.get("CUDA_HOME"), wheels: Deno.env.get("KINORA_CUDA_TOOLKIT") };
    try {
      await Deno.mkdir(`${home}/bin`);
      Deno.env.set("CUDA_HOME", home);
      Deno.env.set("KINORA_CUDA_TOOLKIT", `${home}/wheels`);
      const nvcc = async (release: string): Promise<string | undefined> => {
        await Deno.writeTextFile(
          `${home}/bin/nvcc`,
          `#!/bin/sh\necho "Cuda compilation tools, release ${release}, V"\n`,
        );
        await Deno.chmod(`${home}/bin/nvcc`, 0o755);
        const found = await findLibraryToolkit();
        return found?.home === home ? found.env["CUDARC_CUDA_VERSION"] : undefined;
      };
      assertEquals(await nvcc("13.0"), "13000");
      assertEquals(await nvcc("13.2"), "13020");
      assertEquals(await nvcc("13.9"), "13040");
      assertEquals(await nvcc("12.9"), undefined);
    } finally {
      for (const [name, value] of [["CUDA_HOME", before.home], ["KINORA_CUDA_TOOLKIT", before.wheels]] as const) {
        if (value === undefined) Deno.env.delete(name);
        else Deno.env.set(name, value);
      }
      await Deno.remove(home, { recursive: true });
    }
  },
});
