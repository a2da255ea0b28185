import { assertEquals } from "@std/assert";
import { ModelFolder } from "../../lib/training/model_folder.ts";

function index(prediction: string): Record<string, unknown> {
  const stage = { folder: "sr_high", schedule: { type: "cosine" }, prediction, steps: 2, size: 48 };
  return { _class_name: "MakeAVideoCascade", name: "tiny", stages: { "sr-high": stage } };
}

Deno.test("a model's settings hold against the recipe's, unless the stage is trained anew", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    const prediction = async (anew?: readonly "sr-high"[]): Promise<string> =>
      (await ModelFolder.open(folder, index("sample"), anew)).settings("sr-high").prediction;
    assertEquals(await prediction(), "sample");
    await Deno.writeTextFile(`${folder}/model_index.json`, JSON.stringify(index("v_prediction")));
    assertEquals(await prediction(), "v_prediction");
    assertEquals(await prediction(["sr-high"]), "sample");
    const differences = async (anew?: readonly "sr-high"[]): Promise<string[]> =>
      (await ModelFolder.open(folder, index("sample"), anew)).differences("sr-high");
    assertEquals(await differences(), ['prediction "v_prediction" (the recipe: "sample")']);
    assertEquals(await differences(["sr-high"]), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the default model has the settings of its recipe", async () => {
  const recipe = JSON.parse(await Deno.readTextFile(new URL("../../recipes/default.json", import.meta.url)));
  const folder = await ModelFolder.open(new URL("../../models/default", import.meta.url).pathname, recipe.model);
  for (const name of ["text", "image", "prior", "decoder", "interpolation", "sr-low", "sr-high"] as const) {
    assertEquals(folder.differences(name), [], name);
  }
});
