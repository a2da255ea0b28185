/**
 * The folder of the model that is trained: its index grows with what is there.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { CONFIG_FILE, WEIGHTS_FILE } from "../cascade/model_files.ts";
import {
  CASCADE_CLASS,
  type ModelIndex,
  type ModelStages,
  parseModelIndex,
  readModelIndex,
  stageSettings,
} from "../cascade/model_index.ts";
import { writeTextWhole } from "../video.ts";

/** What `model_index.json` holds. */
interface IndexJson {
  readonly name: string;
  readonly stages: Readonly<Record<string, unknown>>;
}

type JsonRecord = Readonly<Record<string, unknown>>;

/** The model that is trained. */
export class ModelFolder {
  /** The folder. */
  readonly folder: string;
  readonly #index: ModelIndex;
  readonly #recipe: ModelIndex;
  readonly #json: IndexJson;

  private constructor(folder: string, index: ModelIndex, recipe: ModelIndex, json: IndexJson) {
    this.folder = folder;
    this.#index = index;
    this.#recipe = recipe;
    this.#json = json;
  }

  /**
   * Opens a folder, which need not be there yet. Settings of stages that its index has hold, for its weights were trained
   * with them; those of the others are the recipe's.
   *
   * @param folder The folder.
   * @param recipe The contents of `model_index.json` as the recipe has them.
   * @param anew Stages that are trained from the start: the recipe's settings hold.
   * @throws {KinoraError} `bad-file` when the folder's index is damaged.
   */
  static async open(
    folder: string,
    recipe: Readonly<Record<string, unknown>>,
    anew: readonly (keyof ModelStages)[] = [],
  ): Promise<ModelFolder> {
    let there: IndexJson | undefined;
    try {
      await readModelIndex(folder);
      there = JSON.parse(await Deno.readTextFile(`${folder}/model_index.json`));
    } catch (error) {
      if (!(error instanceof KinoraError && error.code === "not-found")) throw error;
    }
    const own = recipe as unknown as IndexJson;
    const old = Object.entries(there?.stages ?? {}).filter(([name]) => !anew.includes(name as keyof ModelStages));
    const json = { name: there?.name ?? own.name, stages: { ...own.stages, ...Object.fromEntries(old) } };
    const index = parseModelIndex({ _class_name: CASCADE_CLASS, ...json }, folder);
    return new ModelFolder(folder, index, parseModelIndex({ _class_name: CASCADE_CLASS, ...own }, "the recipe"), json);
  }

  /**
   * How a stage is trained and sampled.
   *
   * @throws {KinoraError} `not-found` when neither folder nor recipe says so.
   */
  settings<Name extends keyof ModelStages>(name: Name): NonNullable<ModelStages[Name]> {
    return stageSettings(this.#index, name);
  }

  /** The folder of a stage's network. */
  networkFolder(name: keyof ModelStages): string {
    return `${this.folder}/${this.settings(name).folder}`;
  }

  /** The tokenizer's file. */
  get tokenizer(): string {
    return `${this.folder}/${this.settings("text").tokenizer}/tokenizer.json`;
  }

  /** Whether a stage's network is there. */
  async has(name: keyof ModelStages): Promise<boolean> {
    const files = [CONFIG_FILE, WEIGHTS_FILE].map((file) => `${this.networkFolder(name)}/${file}`);
    return (await Promise.all(files.map(exists))).every((there) => there);
  }

  /**
   * The settings of a stage that hold although the recipe has others, as sentences end: `noise_seconds 0.3 (the recipe: 0)`.
   *
   * @param name The stage.
   */
  differences(name: keyof ModelStages): string[] {
    const [own, recipe] = [this.#index, this.#recipe].map(({ stages }) => stages[name] as JsonRecord | undefined);
    if (own === undefined || recipe === undefined) return [];
    const text = (value: unknown): string => JSON.stringify(value) ?? "none";
    // Words are not of the training: `evaluate --calibrate` writes them.
    return [...new Set([...Object.keys(own), ...Object.keys(recipe)])].filter((field) =>
      field !== "words" && text(own[field]) !== text(recipe[field])
    ).map((field) => `${field} ${text(own[field])} (the recipe: ${text(recipe[field])})`);
  }

  /** Writes `model_index.json`: the stages whose networks are there. */
  async writeIndex(): Promise<void> {
    const stages: Record<string, unknown> = {};
    for (const [name, settings] of Object.entries(this.#json.stages)) {
      if (await this.has(name as keyof ModelStages)) stages[name] = settings;
    }
    const json = { _class_name: CASCADE_CLASS, name: this.#json.name, stages };
    await writeTextWhole(`${this.folder}/model_index.json`, `${JSON.stringify(json, undefined, 2)}\n`);
  }
}

/** Whether there is a file. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(({ isFile }) => isFile, () => false);
}
