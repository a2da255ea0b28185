/**
 * A tiny model and data set that go together, for tests.
 *
 * @module
 */
import { parseRecipe } from "../../lib/training/recipe.ts";
import { trainRecipe } from "../../lib/training/train_recipe.ts";
import { tinyRecipe, writeTinyData } from "../training/tiny_training.ts";

/**
 * Trains all stages for two steps in a temporary folder, which is there as long as `test` runs.
 *
 * @param test Gets the folders of the model and of the data set.
 */
export async function withTrainedModel(test: (model: string, data: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    await writeTinyData(`${folder}/data`);
    await trainRecipe(parseRecipe(tinyRecipe(2), "tiny.json"), {
      data: `${folder}/data`,
      model: `${folder}/model`,
      run: `${folder}/run`,
      precision: "f32",
      workers: 2,
    });
    await test(`${folder}/model`, `${folder}/data`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
