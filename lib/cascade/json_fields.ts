/**
 * Reading settings from JSON files: every field is checked and named in the refusal, and none may be left over.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** The fields of one JSON object. */
export class JsonFields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #where: string;
  readonly #read = new Set<string>();

  /**
   * Begins to read an object.
   *
   * @param value The parsed JSON.
   * @param where What it is called in messages, for example `model_index.json stages.prior`.
   * @throws {KinoraError} `bad-file` when the value is not an object.
   */
  constructor(value: unknown, where: string) {
    this.#where = where;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new KinoraError("bad-file", `${where} must be an object, not ${JSON.stringify(value)}`);
    }
    this.#values = value as Record<string, unknown>;
  }

  /** Whether a field is there. */
  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  /** A text that is not empty. */
  text(name: string, otherwise?: string): string {
    const value = this.#take(name) ?? otherwise;
    if (typeof value !== "string" || value === "") this.refuse(name, "must be a text that is not empty", value);
    return value;
  }

  /** One of a few texts. */
  choice<const Choice extends string>(name: string, choices: readonly Choice[], otherwise?: Choice): Choice {
    const value = this.#take(name) ?? otherwise;
    const choice = choices.find((choice) => choice === value);
    if (choice === undefined) this.refuse(name, `must be ${choices.map((c) => `"${c}"`).join(" or ")}`, value);
    return choice;
  }

  /** A number in a range, ends included. */
  number(name: string, least: number, most: number, otherwise?: number): number {
    const value = this.#take(name) ?? otherwise;
    if (typeof value !== "number" || !(value >= least && value <= most)) {
      this.refuse(name, `must be a number from ${least} to ${most}`, value);
    }
    return value;
  }

  /** A whole number in a range, ends included. */
  whole(name: string, least: number, most: number, otherwise?: number): number {
    const value = this.#take(name) ?? otherwise;
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
      this.refuse(name, `must be a whole number from ${least} to ${most}`, value);
    }
    return value;
  }

  /** `true` or `false`. */
  flag(name: string, otherwise?: boolean): boolean {
    const value = this.#take(name) ?? otherwise;
    if (typeof value !== "boolean") this.refuse(name, "must be true or false", value);
    return value;
  }

  /** A list of whole numbers of at least 1, or `undefined` when the field holds something else. */
  wholeList(name: string): readonly number[] | undefined {
    const value = this.#values[name];
    if (!Array.isArray(value)) return undefined;
    this.#read.add(name);
    if (value.length === 0 || value.some((item) => !Number.isInteger(item) || item < 1)) {
      this.refuse(name, "must be a list of whole numbers of at least 1", value);
    }
    return value as number[];
  }

  /** A list of texts that are not empty. */
  texts(name: string): readonly string[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length === 0 || value.some((item) => typeof item !== "string" || item === "")) {
      this.refuse(name, "must be a list of texts that are not empty", value);
    }
    return value as string[];
  }

  /** The name of a folder below the file that is read; a path that leads out of it is refused. */
  folder(name: string): string {
    const value = this.text(name);
    if (/^([/\\]|[a-zA-Z]:)|(^|[/\\])\.\.([/\\]|$)/.test(value)) {
      this.refuse(name, "must be a folder below the model's own", value);
    }
    return value;
  }

  /** A nested object; with `optional`, an empty one where the field is missing. */
  nested(name: string, optional = false): JsonFields {
    const value = this.#take(name) ?? (optional ? {} : undefined);
    return new JsonFields(value, `${this.#where}.${name}`);
  }

  /** A nested object as it is, for whoever checks it elsewhere; `undefined` where the field is missing. */
  object(name: string): Readonly<Record<string, unknown>> | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== "object" || Array.isArray(value)) this.refuse(name, "must be an object", value);
    return value as Record<string, unknown>;
  }

  /** A list of objects; with `optional`, an empty one where the field is missing. */
  objects(name: string, optional = false): JsonFields[] {
    const value = this.#take(name) ?? (optional ? [] : undefined);
    if (!Array.isArray(value)) this.refuse(name, "must be a list of objects", value);
    return value.map((item, index) => new JsonFields(item, `${this.#where}.${name}[${index}]`));
  }

  /** The names of all fields, which are then taken as read. */
  names(): string[] {
    const names = Object.keys(this.#values);
    names.forEach((name) => this.#read.add(name));
    return names;
  }

  /**
   * Ends the reading.
   *
   * @throws {KinoraError} `bad-file` when there is a field that was not asked for. Names that start with an underscore
   * are comments.
   */
  end(): void {
    const left = Object.keys(this.#values).find((name) => !this.#read.has(name) && !name.startsWith("_"));
    if (left !== undefined) {
      throw new KinoraError(
        "bad-file",
        `${this.#where} has an unknown field "${left}"; known are ${[...this.#read].join(", ")}`,
      );
    }
  }

  /**
   * Refuses a field.
   *
   * @param name The field.
   * @param rule What it must be.
   * @param value What it is.
   * @throws {KinoraError} `bad-file`, always.
   */
  refuse(name: string, rule: string, value: unknown): never {
    throw new KinoraError(
      "bad-file",
      value === undefined
        ? `${this.#where}.${name} is missing: it ${rule}`
        : `${this.#where}.${name} ${rule}, not ${JSON.stringify(value)}`,
    );
  }

  #take(name: string): unknown {
    this.#read.add(name);
    const value = this.#values[name];
    return value === null ? undefined : value;
  }
}
