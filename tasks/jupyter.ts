/**
 * Running Deno's kernel from a script: a Python that can, and a folder with the kernel's description.
 *
 * @module
 */

/** How to get what is missing. */
export const GET_NBCLIENT = "no Python with nbclient (apt-get install python3-nbclient, or set KINORA_PYTHON)";

/** A Python that has nbclient: `KINORA_PYTHON`, else the one on the path, else the system's. */
export async function findJupyterPython(): Promise<string | undefined> {
  const given = Deno.env.get("KINORA_PYTHON");
  for (const python of given ? [given] : ["python3", "/usr/bin/python3"]) {
    if (await hasNbclient(python)) return python;
  }
  return undefined;
}

async function hasNbclient(python: string): Promise<boolean> {
  try {
    const probe = new Deno.Command(python, { args: ["-c", "import nbclient"], stdout: "null", stderr: "null" });
    return (await probe.output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Makes a folder for `JUPYTER_PATH` with Deno's kernel in it, so that the user's Jupyter stays as it is.
 *
 * @returns The folder, which is the caller's to remove.
 */
export async function makeJupyterPath(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-jupyter-" });
  const kernel = `${folder}/kernels/deno`;
  await Deno.mkdir(kernel, { recursive: true });
  const argv = [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"];
  const spec = { argv, display_name: "Deno", language: "typescript" };
  await Deno.writeTextFile(`${kernel}/kernel.json`, JSON.stringify(spec));
  return folder;
}
