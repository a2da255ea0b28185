/**
 * `kinora parity`: verifies recorded runs of other projects.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo, whyNoGpu } from "../../ffi/library.ts";
import { kindNames } from "../parity/kinds.ts";
import { answerQuestion, fixtureFiles, type FixtureReport, verifyFixture } from "../parity/verify.ts";
import type { Command, CommandIo } from "./command.ts";
import { helpText, type Options, parseOptions } from "./options.ts";
import { checkWritable } from "./output_path.ts";

const OPTIONS = {
  device: { type: "choice", choices: ["cpu", "cuda"], help: "where native layers are computed; default cpu" },
  dtype: { type: "choice", choices: ["f32", "bf16"], help: "arithmetic of native layers; default f32" },
  "max-params": {
    type: "whole",
    value: "N",
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    help: "skip fixtures with more weights",
  },
  answer: { type: "text", value: "OUT", help: "only compute, and write the answers to this file" },
  list: { type: "flag", help: "name the kinds of fixtures that can be answered" },
  json: { type: "flag", help: "print one JSON object a fixture" },
} as const satisfies Options;

/** More arguments than a shell passes on. */
const MOST_PATHS = 1_000_000;

/** Exit codes. */
const [PASSED, OUTSIDE, MALFORMED, UNSUPPORTED] = [0, 1, 2, 3] as const;

/** The verb. */
export const command: Command = {
  name: "parity",
  summary: "verify recorded runs of other projects",
  help: helpText({
    usage: "parity [OPTION]... FIXTURE|FOLDER...\n       kinora parity --answer OUT QUESTION",
    about:
      "Computes what recorded runs of other projects computed (files of the format parity-1), and says how far the\n" +
      "numbers are from theirs, in units of each fixture's own tolerance. A folder stands for the fixtures that its\n" +
      "manifest.json lists, or else for all below it.",
    options: OPTIONS,
    notes:
      "Samplers, losses and rules are computed in f64 on the CPU, whatever --dtype and --device say. With bf16 numbers\n" +
      "may be off by 3 % of their tensor's largest; fixtures with an exact tolerance are skipped as f32-only.\n" +
      "A difference that has no measure (another shape, NaN) is 1.7976931348623157e308 in JSON.\n\n" +
      "Exit codes: 0 all passed or answered; 1 outside tolerance; 2 unreadable or malformed; 3 kind or configuration not\n" +
      "supported, or nothing but skipped fixtures. Of several fixtures the first of 1, 2, 3 that is true of any; skipped\n" +
      "ones count neither way.",
  }),
  async run(args, io): Promise<number> {
    const { values, positionals } = parseOptions("parity", OPTIONS, args, {
      positionals: MOST_PATHS,
      called: "fixture",
    });
    if (values.list) {
      const kinds = await kindNames();
      for (const line of values.json ? [JSON.stringify(kinds)] : kinds) io.out(line);
      return PASSED;
    }
    if (positionals.length === 0) {
      throw new KinoraError("refused", "The fixture is missing: kinora parity FIXTURE|FOLDER...");
    }
    const { device } = values;
    if (device === "cuda") {
      const info = await libraryInfo();
      if (info.gpu === null) {
        io.note(`kinora: --device cuda is not supported: ${whyNoGpu(info)}`);
        return UNSUPPORTED;
      }
    }
    const options = { precision: values.dtype ?? "f32", device, signal: io.signal };
    if (values.answer !== undefined) {
      if (positionals.length > 1) throw new KinoraError("refused", "--answer takes one question at a time");
      return await answered(positionals[0] ?? "", values.answer, options, io);
    }
    const reports: FixtureReport[] = [];
    const files = await fixtureFiles(positionals);
    for (const file of files) {
      io.signal.throwIfAborted();
      const report = await verifyFixture(file, { ...options, maxParams: values["max-params"] });
      reports.push(report);
      for (const line of values.json ? [JSON.stringify(report)] : rows(report)) io.out(line);
      const message = oneLine(report.error?.message ?? "");
      if (message !== "") {
        io.note(message.includes(report.name) ? `kinora: ${message}` : `kinora: ${report.name}: ${message}`);
      }
    }
    if (!values.json && files.length > 1) io.out(summary(reports));
    return exitCode(reports);
  },
};

async function answered(
  question: string,
  out: string,
  options: Parameters<typeof answerQuestion>[2],
  io: CommandIo,
): Promise<number> {
  await checkWritable(out);
  try {
    const answers = await answerQuestion(question, out, options);
    io.note(`Wrote ${out}: ${[...answers.keys()].join(", ")}`);
    return PASSED;
  } catch (error) {
    if (!(error instanceof KinoraError) || codeOf(error) === OUTSIDE) throw error;
    io.note(`kinora: ${oneLine(error.message)}`);
    return codeOf(error);
  }
}

function exitCode(reports: readonly FixtureReport[]): number {
  const codes = new Set(reports.filter(({ skipped }) => skipped === undefined).map(reportCode));
  return [OUTSIDE, MALFORMED, UNSUPPORTED].find((code) => codes.has(code)) ?? (codes.size === 0 ? UNSUPPORTED : PASSED);
}

function reportCode(report: FixtureReport): number {
  return report.error === undefined ? (report.pass ? PASSED : OUTSIDE) : codeOf(report.error);
}

function codeOf({ code }: Pick<KinoraError, "code">): number {
  switch (code) {
    case "unsupported":
      return UNSUPPORTED;
    case "bad-file":
    case "not-found":
    case "io":
    case "permission":
      return MALFORMED;
    default:
      return OUTSIDE;
  }
}

/** The lines of one fixture, and of each of its tensors that is not met. */
function rows(report: FixtureReport): string[] {
  const { name, kind, worst, seconds, tensors, skipped, error } = report;
  const codes = ["pass", "FAIL", "malformed", "unsupported"];
  const verdict = skipped === undefined ? codes[reportCode(report)] ?? "" : "skipped";
  const told = skipped ?? (error === undefined ? `${figure(worst)} of tolerance, ${seconds.toFixed(2)} s` : "");
  const row = `${verdict.padEnd(11)} ${name.padEnd(44)} ${kind.padEnd(38)} ${told}`.trimEnd();
  const off = Object.entries(tensors).filter(([, { pass }]) => !pass).map(([name, verdict]) =>
    `${" ".repeat(12)}${name}: ${
      verdict.problem ?? `off by ${figure(verdict.max_abs)}, tolerance ${figure(verdict.tolerance)}`
    }`
  );
  return [row, ...off];
}

function summary(reports: readonly FixtureReport[]): string {
  const count = (code: number): number =>
    reports.filter((report) => report.skipped === undefined && reportCode(report) === code).length;
  const worst = Math.max(0, ...reports.filter(({ error }) => error === undefined).map(({ worst }) => worst));
  const skipped = reports.filter((report) => report.skipped !== undefined).length;
  return `${count(PASSED)} passed, ${count(OUTSIDE)} failed, ${count(MALFORMED)} malformed, ` +
    `${count(UNSUPPORTED)} not supported, ${skipped} skipped; the worst at ${figure(worst)} of its tolerance`;
}

/** A number in three digits. */
function figure(value: number): string {
  return value > 1e300 ? "without measure" : String(Number(value.toPrecision(3)));
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, " ");
}
