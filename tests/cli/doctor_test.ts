import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

async function doctor(
  ...args: string[]
): Promise<{ code: number; out: string }> {
  const lines: string[] = [];
  const out = (line: string): void => void lines.push(line);
  const streams = { out, note: out, interactive: false };
  const code = await runCommand(
    ["doctor", ...args],
    streams,
    new AbortController().signal,
  );
  return { code, out: lines.join("\n") };
}

Deno.test("doctor says what the machine can do and which models there are", () =>
  withTinyModel(async (model) => {
    const text = await doctor("--model", model);
    assertEquals(text.code, 0);
    assertStringIncludes(text.out, Deno.version.deno);
    const json = await doctor("--model", model, "--json");
    const report = JSON.parse(json.out);
    assertEquals([json.code, report.ok, report.deno], [
      0,
      true,
      Deno.version.deno,
    ]);
    assert(report.library.threads >= 1);
    assertEquals(report.device.chosen, "cpu");
    assertStringIncludes(text.out, report.device.reason);
    assertEquals(report.model.name, "tiny");
    for (const stage of report.model.stages) {
      assert(
        stage.parameters > 0 && stage.bytes > 0 &&
          /^[0-9a-f]{64}$/.test(stage.sha256),
      );
    }
  }));

Deno.test("doctor names what is wrong and exits with 1", () =>
  withTinyModel(async (model) => {
    await Deno.remove(`${model}/prior/${WEIGHTS_FILE}`);
    const { code, out } = await doctor("--model", model, "--json");
    assertEquals([code, JSON.parse(out).ok], [1, false]);
    const { problem } = JSON.parse(out).model.stages.find((
      { stage }: { stage: string },
    ) => stage === "prior");
    assertStringIncludes(problem, "is missing");
    assertEquals((await doctor("--model", "/nowhere")).code, 1);
  }));

Deno.test("doctor --fix installs Deno's kernel for Jupyter where it is missing", () =>
  withTinyModel(async (model) => {
    const home = await Deno.makeTempDir({ prefix: "kinora-jupyter-" });
    const before = Deno.env.get("XDG_DATA_HOME");
    // Where Deno looks for it on Linux; elsewhere this test would touch the user's own Jupyter.
    if (Deno.build.os !== "linux") return await Deno.remove(home);
    Deno.env.set("XDG_DATA_HOME", home);
    try {
      assertStringIncludes((await doctor("--model", model)).out, "kinora doctor --fix installs it");
      assertEquals(JSON.parse((await doctor("--model", model, "--fix", "--json")).out).jupyter, true);
      const kernel = JSON.parse(await Deno.readTextFile(`${home}/jupyter/kernels/deno/kernel.json`));
      assertEquals([kernel.argv[1], kernel.language], ["jupyter", "typescript"]);
      assertStringIncludes((await doctor("--model", model)).out, "has Deno's kernel");
    } finally {
      if (before === undefined) Deno.env.delete("XDG_DATA_HOME");
      else Deno.env.set("XDG_DATA_HOME", before);
      await Deno.remove(home, { recursive: true });
    }
  }));
