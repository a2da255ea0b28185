// deno-lint-ignore-file no-console
/**
 * Checks the types of all notebooks, lints them, executes them with Deno's kernel, and compares what their cells show with
 * what is committed, kind by kind. A line each with its seconds; exit code 1 on any error, missing or other output.
 *
 *     deno task notebooks                 # all
 *     deno task notebooks --write 01      # those with 01 in their name; keeps their outputs
 *     deno task notebooks --no-run        # types and lints only
 *
 * It needs nbclient (apt-get install python3-nbclient, or pip install nbclient), by `KINORA_PYTHON` or the python3 on the
 * path. Without it executing is skipped with a printed reason, unless KINORA_REQUIRE_ALL is 1.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { build } from "./build.ts";
import { findJupyterPython, GET_NBCLIENT, makeJupyterPath } from "./jupyter.ts";

/** Seconds that a cell may take; with `KINORA_FULL` one measures for a long time. */
const CELL_SECONDS = Deno.env.get("KINORA_FULL") === "1" ? 7200 : 600;

/** Most bytes of a committed notebook. */
const MOST_BYTES = 1_500_000;

/** An output of a cell. */
interface Output {
  readonly output_type: string;
  readonly name?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** A cell of a notebook. */
interface Cell {
  readonly cell_type: string;
  readonly source: string | readonly string[];
  readonly outputs?: readonly Output[];
}

/** A notebook, as far as it is looked at. */
interface Notebook {
  readonly cells: readonly Cell[];
}

const FOLDER = fileURLToPath(new URL("../notebooks", import.meta.url));
const RUNNER = fileURLToPath(new URL("run_notebook.py", import.meta.url));

async function run(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<boolean> {
  const command = new Deno.Command(program, { args: [...args], stdin: "null", cwd: FOLDER, env });
  return (await command.spawn().status).success;
}

/** Checks the types of the code cells, which the kernel never does, and lints them. */
async function checkCells(names: readonly string[]): Promise<boolean> {
  const files: string[] = [];
  try {
    for (const name of names) {
      const { cells } = await read(`${FOLDER}/${name}`);
      const code = cells.map(({ cell_type, source }, index) =>
        cell_type === "code" ? `// cell ${index + 1}\n${[source].flat().join("")}\n` : ""
      );
      // Beside the notebook, so that imports are resolved as in the kernel.
      const file = `${FOLDER}/${name.replace(/\.ipynb$/, ".cells.ts")}`;
      files.push(file);
      await Deno.writeTextFile(file, `${code.join("\n")}\nexport {};\n`);
    }
    const deno = Deno.execPath();
    const checked = await run(deno, ["check", "--quiet", ...files]);
    const linted = await run(deno, ["lint", "--quiet", "--rules-exclude=no-console,no-import-prefix", ...files]);
    return checked && linted;
  } finally {
    for (const file of files) await Deno.remove(file).catch(() => {});
  }
}

async function read(path: string): Promise<Notebook> {
  return JSON.parse(await Deno.readTextFile(path));
}

/** What a cell's outputs are, without their contents. */
function kinds(cell: Cell): string[] {
  return (cell.outputs ?? []).map(({ output_type, name, data }) =>
    [output_type, name ?? "", ...Object.keys(data ?? {}).sort()].join(" ").trim()
  );
}

/** What is wrong with outputs, cell by cell. */
function problems(made: Notebook, committed: Notebook | undefined): string[] {
  const found: string[] = [];
  const code = made.cells.filter(({ cell_type }) => cell_type === "code");
  const before = committed?.cells.filter(({ cell_type }) => cell_type === "code");
  for (const [index, cell] of code.entries()) {
    const [now, then] = [kinds(cell), before?.[index] === undefined ? undefined : kinds(before[index])];
    const where = `code cell ${index + 1}`;
    if (then !== undefined && now.join("; ") !== then.join("; ")) {
      found.push(`${where} shows [${now.join("; ")}], committed is [${then.join("; ")}]`);
    }
    for (const { data, output_type } of cell.outputs ?? []) {
      if (output_type === "error") found.push(`${where} fails`);
      // The kernel may lose a cell's value, or show it under another cell.
      if (output_type === "execute_result") found.push(`${where} ends with a value: end it with await show(value)`);
      for (const problem of formProblems(data ?? {})) found.push(`${where}: ${problem}`);
    }
  }
  return found;
}

/** Only forms that are shown before a notebook is trusted, and pictures that are some. */
function formProblems(data: Readonly<Record<string, unknown>>): string[] {
  const found: string[] = [];
  if (Object.keys(data).some((type) => !["text/plain", "text/html", "image/png"].includes(type))) {
    found.push(`the forms ${Object.keys(data).join(", ")} are not all shown by every front end`);
  }
  const html = [data["text/html"] ?? ""].flat().join("");
  if (/<(script|iframe|svg|video)\b/i.test(html)) found.push("its HTML has a tag that is removed before it is trusted");
  if (new RegExp(FOLDER).test(html)) found.push("its HTML has a path of this machine");
  const pictures = Array.from(html.matchAll(/src="data:image\/png;base64,([^"]+)"/g), ([, base64]) => base64);
  for (const picture of [...pictures, [data["image/png"] ?? []].flat().join("")]) {
    if (picture === undefined || picture === "") continue;
    const bytes = Uint8Array.fromBase64(picture.trim());
    const text = new TextDecoder("latin1").decode(bytes);
    if (bytes[0] !== 0x89 || !text.startsWith("PNG", 1) || !text.slice(-12).includes("IEND")) {
      found.push("a picture is not a whole PNG");
    }
  }
  return found;
}

/** Executes one notebook, and says what came of it in a line. */
async function execute(name: string, python: string, jupyter: string, write: boolean): Promise<boolean> {
  const since = performance.now();
  const out = `${jupyter}/out.ipynb`;
  const path = `${FOLDER}/${name}`;
  const done = await run(python, [RUNNER, path, out, String(CELL_SECONDS)], { JUPYTER_PATH: jupyter, NO_COLOR: "1" });
  const seconds = `${((performance.now() - since) / 1000).toFixed(1)} s`;
  if (!done) {
    console.log(`${name}: failed after ${seconds}`);
    return false;
  }
  const found = problems(await read(out), write ? undefined : await read(path));
  const committed = write ? out : path;
  const { size } = await Deno.stat(committed);
  if (size > MOST_BYTES) found.push(`it has ${size} bytes, more than ${MOST_BYTES}`);
  for (const problem of found) console.log(`${name}: ${problem}`);
  console.log(`${name}: ${found.length === 0 ? "ok" : "wrong"}, ${seconds}, ${Math.round(size / 1000)} kB`);
  if (found.length === 0 && write) await Deno.writeTextFile(path, await formatted(await Deno.readTextFile(out)));
  return found.length === 0;
}

/** A notebook as `deno fmt` writes it, cells too. `deno fmt --check` finds fault with any notebook, also with this one. */
async function formatted(text: string): Promise<string> {
  const args = ["fmt", "--ext", "ipynb", "--line-width", "120", "-"];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped" }).spawn();
  const written = new Blob([text]).stream().pipeTo(child.stdin);
  const { success, stdout } = await child.output();
  await written;
  if (!success) throw new Error("deno fmt could not read a notebook");
  return new TextDecoder().decode(stdout);
}

/** Checks that notebooks are as `deno fmt` writes them. */
async function checkFormat(names: readonly string[]): Promise<boolean> {
  let ok = true;
  for (const name of names) {
    const text = await Deno.readTextFile(`${FOLDER}/${name}`);
    if (text === await formatted(text)) continue;
    console.log(`${name}: not formatted; deno task notebooks --write ${name} does that`);
    ok = false;
  }
  return ok;
}

const words = Deno.args.filter((arg) => !arg.startsWith("--"));
const names = (await Array.fromAsync(Deno.readDir(FOLDER), ({ name }) => name)).filter((name) =>
  name.endsWith(".ipynb") && (words.length === 0 || words.some((word) => name.includes(word)))
).sort();
if (names.length === 0) {
  console.error(`There is no notebook ${words.join(" or ")} in ${FOLDER}`);
  Deno.exit(1);
}
const write = Deno.args.includes("--write");
let ok = await checkCells(names) && (write || await checkFormat(names));
console.log(`types, lints and format: ${ok ? "ok" : "wrong"}`);
const python = Deno.args.includes("--no-run") ? undefined : await findJupyterPython();
if (python !== undefined) {
  if (Deno.env.get("KINORA_LIBRARY") === undefined && await build() !== 0) Deno.exit(1);
  const jupyter = await makeJupyterPath();
  try {
    for (const name of names) ok = await execute(name, python, jupyter, write) && ok;
  } finally {
    await Deno.remove(jupyter, { recursive: true });
  }
} else if (!Deno.args.includes("--no-run")) {
  if (Deno.env.get("KINORA_REQUIRE_ALL") === "1") {
    console.error(`The notebooks cannot be executed: ${GET_NBCLIENT}`);
    ok = false;
  } else console.error(`skipped: executing the notebooks, ${GET_NBCLIENT}`);
}
Deno.exit(ok ? 0 : 1);
