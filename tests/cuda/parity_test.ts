// Recorded layers of other projects on a GPU, with their gradients. See networks_test.ts.
import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { fixtureFiles, verifyFixture } from "../../lib/parity/verify.ts";

const ignore = (await libraryInfo()).gpu === null;
const FOLDER = fileURLToPath(new URL("../parity/fixtures/lucidrains", import.meta.url));

for (const precision of ["f32", "bf16"] as const) {
  Deno.test({
    name: `recorded layers are met on the GPU in ${precision}`,
    ignore,
    fn: async () => {
      const missed: string[] = [];
      let met = 0;
      for (const file of await fixtureFiles([FOLDER])) {
        const { name, pass, worst, skipped, error } = await verifyFixture(file, { precision, device: "cuda" });
        if (skipped !== undefined) continue;
        if (pass) met++;
        else missed.push(`${name}: ${error?.message ?? `${worst} of the tolerance`}`);
      }
      assertEquals(missed, []);
      assert(met >= 40, `${met} are met`);
    },
  });
}
