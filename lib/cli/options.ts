/**
 * The options of a verb: described once, from which the arguments are read, checked and typed, and `--help` is written.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { KinoraError } from "../../ffi/errors.ts";

/** What every option has. */
interface OptionBase {
  /** What it does, for `--help`; one clause, without a full stop. */
  readonly help: string;
}

/** An option without a value. */
export interface FlagOption extends OptionBase {
  /** Says which kind of option this is. */
  readonly type: "flag";
}

/** An option with any text as its value. */
export interface TextOption extends OptionBase {
  /** Says which kind of option this is. */
  readonly type: "text";
  /** What stands for the value in `--help`, for example `FILE`. */
  readonly value: string;
}

/** An option with a number as its value. */
export interface NumberOption extends OptionBase {
  /** `whole` for whole numbers only. */
  readonly type: "whole" | "number";
  /** What stands for the value in `--help`, for example `N`. */
  readonly value: string;
  /** The least accepted value. */
  readonly least: number;
  /** The greatest accepted value. */
  readonly most: number;
}

/** An option with one of a few words or numbers as its value. */
export interface ChoiceOption<Choice extends string | number = string | number> extends OptionBase {
  /** Says which kind of option this is. */
  readonly type: "choice";
  /** The accepted values. */
  readonly choices: readonly Choice[];
}

/** One option. */
export type Option = FlagOption | TextOption | NumberOption | ChoiceOption;

/** The options of a verb by their name without the two dashes. */
export type Options = Readonly<Record<string, Option>>;

/** The type of an option's value. */
export type OptionValue<O extends Option> = O extends FlagOption ? boolean
  : O extends NumberOption ? number
  : O extends ChoiceOption<infer Choice> ? Choice
  : string;

/** The values that were given: flags are always there, everything else only when it was given. */
export type OptionValues<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends FlagOption ? boolean : OptionValue<O[Name]> | undefined;
};

/** What the arguments said. */
export interface ParsedArguments<O extends Options> {
  /** The options. */
  readonly values: OptionValues<O>;
  /** The arguments that are not options. */
  readonly positionals: readonly string[];
}

/**
 * Reads the arguments of a verb.
 *
 * @param verb The verb, for the messages.
 * @param options The verb's options; `help` is known to every verb.
 * @param args The arguments after the verb.
 * @param limits How many arguments that are not options are accepted (default none), and what they are called.
 * @throws {KinoraError} `refused` for an unknown option, a missing, superfluous or unacceptable value, an option given
 * twice, or too many arguments.
 */
export function parseOptions<const O extends Options>(
  verb: string,
  options: O,
  args: readonly string[],
  limits: { readonly positionals?: number; readonly called?: string } = {},
): ParsedArguments<O> {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(options).map((
        [name, option],
      ) => [name, { type: option.type === "flag" ? "boolean" as const : "string" as const }]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, string | number | boolean | undefined> = {};
  for (const [name, option] of Object.entries(options)) if (option.type === "flag") values[name] = false;
  const given = new Set<string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const option = options[token.name];
    if (option === undefined || !token.rawName.startsWith("--")) {
      throw new KinoraError("refused", `Unknown option ${token.rawName}${hint(token.rawName, options)}`);
    }
    if (given.has(token.name)) throw new KinoraError("refused", `${token.rawName} is given twice`);
    given.add(token.name);
    values[token.name] = optionValue(token.rawName, option, token.value, token.inlineValue === true);
  }
  const { positionals: most = 0, called = "argument" } = limits;
  if (positionals.length > most) {
    throw new KinoraError(
      "refused",
      most === 0
        ? `Unexpected argument "${clip(positionals[0] ?? "")}": "kinora ${verb}" takes options only`
        : `Unexpected argument "${clip(positionals[most] ?? "")}": "kinora ${verb}" takes ${
          most === 1 ? `one ${called}` : `${most} ${called}s`
        }, so put quotes around one with spaces`,
    );
  }
  return { values: values as unknown as OptionValues<O>, positionals };
}

/**
 * The text of `--help`.
 *
 * @param parts `usage` is the line after "Usage: kinora"; `about` what the verb does; `options` as given to
 * {@linkcode parseOptions}; `notes` goes last.
 */
export function helpText(
  parts: { readonly usage: string; readonly about: string; readonly options: Options; readonly notes?: string },
): string {
  const rows = Object.entries(parts.options).map(([name, option]): [string, string] => {
    switch (option.type) {
      case "flag":
        return [`--${name}`, option.help];
      case "choice":
        return [`--${name} ${option.choices.join("|")}`, option.help];
      case "text":
        return [`--${name} ${option.value}`, option.help];
      default:
        return [`--${name} ${option.value}`, `${option.help} (${range(option)})`];
    }
  });
  rows.push(["--help", "show this text"]);
  const width = Math.min(30, Math.max(...rows.map(([left]) => left.length)));
  const lines = rows.map(([left, right]) =>
    left.length > width ? `  ${left}\n  ${" ".repeat(width)}  ${right}` : `  ${left.padEnd(width)}  ${right}`
  );
  return [
    `Usage: kinora ${parts.usage}`,
    "",
    parts.about,
    "",
    "Options:",
    ...lines,
    ...parts.notes === undefined ? [] : ["", parts.notes],
  ].join("\n");
}

/** The word of a list that a mistyped one was probably meant to be. */
export function nearest(word: string, words: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of words) {
    const distance = editDistance(word, candidate);
    if (distance < least) [least, best] = [distance, candidate];
  }
  return best;
}

function optionValue(
  name: string,
  option: Option,
  value: string | undefined,
  inline: boolean,
): string | number | boolean {
  if (option.type === "flag") {
    if (inline) throw new KinoraError("refused", `${name} takes no value`);
    return true;
  }
  // "--out --json" would make a file called --json.
  if (value === undefined || value === "" || (!inline && value.startsWith("--"))) {
    throw new KinoraError("refused", `${name} needs a value: ${accepted(option)}`);
  }
  switch (option.type) {
    case "text":
      return value;
    case "choice": {
      const choice = option.choices.find((choice) => String(choice) === value);
      if (choice === undefined) {
        throw new KinoraError("refused", `${name} must be ${accepted(option)}, not "${clip(value)}"`);
      }
      return choice;
    }
    default: {
      const plain = option.type === "whole" ? /^[+-]?\d+$/ : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
      const number = plain.test(value) ? Number(value) : NaN;
      if (!(number >= option.least && number <= option.most)) {
        throw new KinoraError("refused", `${name} must be ${accepted(option)}, not "${clip(value)}"`);
      }
      return number;
    }
  }
}

function accepted(option: Option): string {
  switch (option.type) {
    case "choice":
      return alternatives(option.choices.map(String));
    case "whole":
      return `a whole number from ${range(option)}`;
    case "number":
      return `a number from ${range(option)}`;
    default:
      return option.type === "text" ? `a ${option.value.toLowerCase()}` : "nothing";
  }
}

/** `a, b or c`. */
function alternatives(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function range(option: NumberOption): string {
  const written = (value: number): string => value === Number.MAX_SAFE_INTEGER ? "2^53-1" : String(value);
  return `${written(option.least)} to ${written(option.most)}`;
}

function hint(raw: string, options: Options): string {
  const known = nearest(raw.replace(/^-+/, ""), [...Object.keys(options), "help"]);
  return known === undefined ? "; --help lists the options" : `; did you mean --${known}?`;
}

function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
