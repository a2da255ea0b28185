import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { findJupyterPython, GET_NBCLIENT, makeJupyterPath } from "../../tasks/jupyter.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();
const python = await findJupyterPython();
if (python === undefined) {
  if (Deno.env.get("KINORA_REQUIRE_ALL") === "1") throw new Error(`The kernel cannot be tested: ${GET_NBCLIENT}`);
  // deno-lint-ignore no-console
  console.error(`skipped: the test of Interrupt, ${GET_NBCLIENT}`);
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SCRIPT = fileURLToPath(new URL("interrupt_kernel.py", import.meta.url));

/** Runs cells in a kernel, the second of which is interrupted once it shows something. */
async function cells(...code: string[]): Promise<Record<string, unknown>[]> {
  const jupyter = await makeJupyterPath();
  try {
    const { stdout, stderr } = await new Deno.Command(python ?? "", {
      args: [SCRIPT, ROOT, ...code],
      stdin: "null",
      env: { JUPYTER_PATH: jupyter },
    }).output();
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    assert(lines.length === code.length, new TextDecoder().decode(stderr));
    return lines.map((line) => JSON.parse(line));
  } finally {
    await Deno.remove(jupyter, { recursive: true });
  }
}

Deno.test({
  name: "Interrupt cancels the run in a notebook, and the kernel goes on",
  ignore: python === undefined,
  fn: () =>
    withTinyModel(async (model) => {
      const [opened, interrupted, after] = await cells(
        `import { loadCascade, show, watch } from "@kinora/kinora";
         const cascade = await loadCascade({ model: ${JSON.stringify(model)} });`,
        `await watch(cascade.stream("a butterfly", { steps: 1000 }));`,
        `using video = await cascade.generate("a butterfly", { size: 8 });
         await show(video);`,
      );
      assertEquals(opened?.["status"], "ok");
      assertEquals([interrupted?.["status"], interrupted?.["shown"]], ["error", true]);
      assertEquals([interrupted?.["ename"], interrupted?.["evalue"]], ["KinoraError", "interrupted"]);
      assertEquals([after?.["status"], after?.["shown"]], ["ok", true]);
    }),
});
