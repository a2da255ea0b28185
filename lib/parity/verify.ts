/**
 * Verifying fixtures: finding them, computing what they want, and judging it.
 *
 * @module
 */
import { KinoraError, type KinoraErrorCode } from "../../ffi/errors.ts";
import { type Fixture, FIXTURE_FORMAT, readFixture } from "./fixture.ts";
import { BOUNDLESS, isExact, judge, type Verdict } from "./judge.ts";
import type { AnswerOptions, Answers } from "./kind.ts";
import { answerOf } from "./kinds.ts";
import { readSafetensorsMetadata, writeSafetensors } from "./safetensors.ts";

/** How fixtures are verified. */
export interface VerifyOptions extends AnswerOptions {
  /** Fixtures with more weights than this are skipped. */
  readonly maxParams?: number | undefined;
}

/** What became of one fixture. */
export interface FixtureReport extends Verdict {
  /** Its own name, or its file where it has none that can be read. */
  readonly name: string;
  /** Its kind; empty where it has none that can be read. */
  readonly kind: string;
  /** Seconds that its answers took. */
  readonly seconds: number;
  /** Why it was not run; then `pass` is `false` and says nothing. */
  readonly skipped?: string;
  /** Why there are no answers. */
  readonly error?: { readonly code: KinoraErrorCode; readonly message: string };
}

/**
 * The fixtures that paths stand for: a file stands for itself; a folder for those that its `manifest.json` lists, or, where
 * it lists none, for every `.safetensors` file below that is marked as a fixture or cannot be read.
 *
 * @param paths Files and folders.
 * @throws {KinoraError} `not-found` when a path is not there, or a folder has no fixtures.
 */
export async function fixtureFiles(paths: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const path of paths) {
    const stat = await Deno.stat(path).catch(() => undefined);
    if (stat === undefined) throw new KinoraError("not-found", `"${path}" is not there`);
    if (!stat.isDirectory) {
      files.push(path);
      continue;
    }
    const folder = path.replace(/(?<=.)\/+$/, "");
    const found = await listed(folder) ?? await marked(folder);
    if (found.length === 0) throw new KinoraError("not-found", `The folder "${path}" has no fixtures`);
    files.push(...found);
  }
  return files;
}

/**
 * Verifies one fixture. Whatever is wrong with it is in the report.
 *
 * @param path The file.
 * @param options Arithmetic, and what to skip.
 * @throws Only what `signal` stops it with.
 */
export async function verifyFixture(path: string, options: VerifyOptions): Promise<FixtureReport> {
  const nothing = { pass: false, worst: 0, tensors: {}, seconds: 0 };
  let fixture: Fixture | undefined;
  const since = performance.now();
  try {
    fixture = await readFixture(path);
    const { name, kind, parameters } = fixture;
    if (!fixture.answered) {
      throw new KinoraError("bad-file", `"${path}" is a question: it has no answers to compare with; see --answer`);
    }
    const { maxParams = Infinity, precision } = options;
    if (parameters > maxParams) {
      return { name, kind, ...nothing, skipped: `${parameters} weights are more than --max-params ${maxParams}` };
    }
    const answer = await answerOf(kind);
    if (precision !== "f32" && isExact(fixture)) {
      return { name, kind, ...nothing, skipped: "f32-only: it wants an exact answer" };
    }
    const answers = await answer(fixture, options);
    return { name, kind, ...judge(fixture, answers, precision), seconds: secondsSince(since) };
  } catch (cause) {
    options.signal?.throwIfAborted();
    const { code, message } = errorOf(cause);
    const { name = path, kind = "" } = fixture ?? {};
    return { name, kind, ...nothing, worst: BOUNDLESS, seconds: secondsSince(since), error: { code, message } };
  }
}

/**
 * Computes what a question wants.
 *
 * @param path The question; a fixture is one as well.
 * @param out Where the answers go, by their full names.
 * @param options Arithmetic.
 * @throws {KinoraError} `bad-file` and others when the question cannot be read, `unsupported` when it cannot be answered.
 */
export async function answerQuestion(path: string, out: string, options: AnswerOptions): Promise<Answers> {
  const fixture = await readFixture(path);
  const answer = await answerOf(fixture.kind);
  let answers: Answers;
  try {
    answers = await answer(fixture, options);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw errorOf(cause);
  }
  const chosen: Answers = new Map();
  for (const name of fixture.wanted) {
    const tensor = answers.get(name);
    if (tensor === undefined) {
      throw new KinoraError(
        "unsupported",
        `The kind ${fixture.kind} has no answer ${JSON.stringify(name.slice(0, 80))}`,
      );
    }
    chosen.set(name, tensor);
  }
  await writeSafetensors(out, chosen, { format: FIXTURE_FORMAT, name: fixture.name, kind: fixture.kind });
  return chosen;
}

/** An error that says what a fixture's own numbers led to. */
function errorOf(cause: unknown): KinoraError {
  if (cause instanceof KinoraError) {
    // What a schedule or a sampler refuses is a configuration that this kit does not know; layers tell the two apart.
    return cause.code === "refused" ? new KinoraError("unsupported", cause.message, { cause }) : cause;
  }
  // Shapes that no memory holds, or JSON nested too deeply.
  if (cause instanceof RangeError) {
    return new KinoraError("bad-file", `The fixture asks for the impossible: ${cause.message}`, { cause });
  }
  return new KinoraError("failed", cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause), {
    cause,
  });
}

/** What the `manifest.json` of a collection lists. */
async function listed(folder: string): Promise<string[] | undefined> {
  let fixtures: unknown;
  try {
    const manifest = JSON.parse(await Deno.readTextFile(`${folder}/manifest.json`)) as { fixtures?: unknown } | null;
    fixtures = manifest?.fixtures;
  } catch {
    return undefined;
  }
  if (!Array.isArray(fixtures)) return undefined;
  return fixtures.map((row: { file?: unknown } | null) => {
    const file = row?.file;
    if (typeof file !== "string" || file === "" || /^\/|(^|\/)\.\.(\/|$)/.test(file)) {
      throw new KinoraError("bad-file", `"${folder}/manifest.json" lists a fixture that is not a file below it`);
    }
    return `${folder}/${file}`;
  });
}

async function marked(folder: string): Promise<string[]> {
  const found: string[] = [];
  const entries = await Array.fromAsync(Deno.readDir(folder));
  for (const { name, isDirectory, isFile } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const path = `${folder}/${name}`;
    if (isDirectory) found.push(...await marked(path));
    if (!isFile || !name.endsWith(".safetensors")) continue;
    // The weights of a pipeline may lie beside its fixture.
    const format = await readSafetensorsMetadata(path).then((words) => words.get("format"), () => FIXTURE_FORMAT);
    if (format === FIXTURE_FORMAT) found.push(path);
  }
  return found;
}

function secondsSince(since: number): number {
  return Math.round(performance.now() - since) / 1000;
}
