import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { helpText, nearest, type Options, parseOptions } from "../../lib/cli/options.ts";

const OPTIONS = {
  out: { type: "text", value: "FILE", help: "where to" },
  seed: {
    type: "whole",
    value: "N",
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    help: "the seed",
  },
  scale: { type: "number", value: "X", least: 0.5, most: 2, help: "how much" },
  frames: { type: "choice", choices: [1, 16], help: "how many" },
  kind: { type: "choice", choices: ["big", "small"], help: "which" },
  json: { type: "flag", help: "as JSON" },
} as const satisfies Options;

function parse(
  ...args: string[]
): ReturnType<typeof parseOptions<typeof OPTIONS>> {
  return parseOptions("test", OPTIONS, args, {
    positionals: 1,
    called: "prompt",
  });
}

Deno.test("options are read with their types", () => {
  const { values, positionals } = parse(
    "a butterfly",
    "--seed",
    "7",
    "--scale=1.5",
    "--frames",
    "16",
    "--json",
  );
  assertEquals(positionals, ["a butterfly"]);
  assertEquals({ ...values }, { seed: 7, scale: 1.5, frames: 16, json: true });
  const frames: 1 | 16 | undefined = values.frames;
  assertEquals(frames, 16);
  assertEquals({ ...parse().values }, { json: false });
  assertEquals(parse("--", "--seed").positionals, ["--seed"]);
  assertEquals(parse("--out=--strange").values.out, "--strange");
  assertEquals(
    parse("--seed", String(Number.MAX_SAFE_INTEGER)).values.seed,
    Number.MAX_SAFE_INTEGER,
  );
});

Deno.test("what is not accepted is refused by name, with what is", () => {
  const cases: [string[], string][] = [
    [["--sed", "1"], "Unknown option --sed; did you mean --seed?"],
    [["--xyzzy"], "Unknown option --xyzzy; --help lists the options"],
    [["-s", "1"], "Unknown option -s"],
    [["--seed", "-1"], 'whole number from 0 to 2^53-1, not "-1"'],
    [["--seed", "1.5"], 'not "1.5"'],
    [["--seed", "0x10"], 'not "0x10"'],
    [["--seed", ""], "--seed needs a value: a whole number"],
    [["--seed", "9007199254740992"], "--seed must be"],
    [["--seed"], "--seed needs a value"],
    [["--out", "--json"], "--out needs a value: a file"],
    [["--scale", "NaN"], "--scale must be a number from 0.5 to 2"],
    [["--scale", "3"], 'not "3"'],
    [["--frames", "17"], '--frames must be 1 or 16, not "17"'],
    [["--kind", "medium"], "--kind must be big or small"],
    [["--json=yes"], "--json takes no value"],
    [["--seed", "1", "--seed", "2"], "--seed is given twice"],
    [
      ["a", "butterfly"],
      'Unexpected argument "butterfly": "kinora test" takes one prompt, so put quotes around',
    ],
  ];
  for (const [args, message] of cases) {
    const error = assertThrows(() => parse(...args), KinoraError, message);
    assertEquals(error.code, "refused");
    assertEquals(error.message.includes("\n"), false);
  }
  assertThrows(
    () => parseOptions("test", OPTIONS, ["word"]),
    KinoraError,
    "takes options only",
  );
});

Deno.test("helpText() lists every option with its range or choices", () => {
  const help = helpText({
    usage: "test [OPTION]...",
    about: "Tests.",
    options: OPTIONS,
  });
  for (
    const text of [
      "Usage: kinora test",
      "--frames 1|16",
      "--seed N",
      "(0 to 2^53-1)",
      "--kind big|small",
      "--help",
    ]
  ) {
    assertStringIncludes(help, text);
  }
  for (const line of help.split("\n")) assertEquals(line, line.trimEnd());
});

Deno.test("nearest() finds what was meant, or nothing", () => {
  const words = ["generate", "train", "data", "doctor"];
  assertEquals(nearest("genrate", words), "generate");
  assertEquals(nearest("docter", words), "doctor");
  assertEquals(nearest("completely", words), undefined);
});
