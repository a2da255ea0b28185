import { assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { counts } from "../../tasks/arm_check.ts";
import { newPackages } from "../../tasks/arm_toolchain.ts";

Deno.test("tests are counted over all that ran", () => {
  const out = `running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 11 passed; 3 failed; 1 ignored; 0 measured; 1 filtered out; finished in 1.23s
`;
  assertEquals(counts(out), { passed: 13, failed: 3 });
  assertEquals(counts("error: could not compile\n"), { passed: 0, failed: 0 });
});

Deno.test("new packages are told from newer ones, and from those of another processor", () => {
  const simulation = `Inst liblzma5 [5.4.1-1] (5.4.1-1+deb12u2 Debian:12.15/oldstable [amd64])
Inst libc6:arm64 (2.36-9+deb12u14 Debian:12.15/oldstable [arm64])
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian:12.15/oldstable [amd64])
Inst libstd-rust-web-dev:arm64 (1.96.0 Debian:12.15/oldstable [arm64])
Inst rustc-web (1.96.0 Debian:12.15/oldstable [amd64])
Conf rustc-web (1.96.0 Debian:12.15/oldstable [amd64])
`;
  const wanted = ["rustc-web", "libstd-rust-web-dev:arm64"];
  assertEquals(newPackages(simulation, wanted), ["libllvm22", "libstd-rust-web-dev:arm64", "rustc-web"]);
});

Deno.test({
  name: "without tools and without apt-get, arm:check says what is missing",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  fn: async () => {
    const nothing = await Deno.makeTempDir();
    try {
      // A cargo, so that it is not Rust itself that is missing.
      await Deno.writeTextFile(`${nothing}/cargo`, "#!/bin/sh\n", { mode: 0o755 });
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", fileURLToPath(new URL("../../tasks/arm_check.ts", import.meta.url))],
        env: { PATH: nothing, KINORA_ARM_TOOLCHAIN: `${nothing}/toolchain`, RUSTC: "rustc" },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      }).output();
      const said = new TextDecoder().decode(stderr);
      assertEquals([code, new TextDecoder().decode(stdout)], [1, "0 passed, 1 failed\n"]);
      for (const part of ["rustup target add aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc", "qemu-aarch64"]) {
        assertStringIncludes(said, part);
      }
    } finally {
      await Deno.remove(nothing, { recursive: true });
    }
  },
});
