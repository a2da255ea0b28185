/**
 * Trains the tokenizer on a data set's captions.
 *
 * @module
 */
import { Tokenizer } from "../../../ffi/tokenizer.ts";
import { parentFolder } from "../../cli/output_path.ts";
import type { ModelFolder } from "../model_folder.ts";
import type { TokenizerRecipe } from "../recipe.ts";
import type { TrainingData } from "../training_data.ts";

/**
 * Trains the tokenizer and writes it into the model.
 *
 * @param data The data set.
 * @param model The model.
 * @param recipe How many tokens.
 * @returns How many tokens it knows.
 */
export async function trainTokenizer(
  data: TrainingData,
  model: ModelFolder,
  recipe: TokenizerRecipe,
): Promise<number> {
  const path = model.tokenizer;
  await Deno.mkdir(parentFolder(path), { recursive: true });
  using tokenizer = await Tokenizer.train(data.captions.corpus(), { vocabulary: recipe.vocabulary, path });
  return tokenizer.vocabulary;
}
