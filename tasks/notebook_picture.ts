// deno-lint-ignore-file no-console
/**
 * Takes the README's picture of a notebook, as it is committed, in JupyterLab in a real browser.
 *
 *     deno run -A tasks/notebook_picture.ts [NOTEBOOK] [FILE]     # default 04_motion_and_fps.ipynb and docs/notebook.jpg
 *
 * It needs what the browser tests need, and JupyterLab: `jupyter-lab` on the path, or its place in `KINORA_JUPYTER_LAB`.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { findBrowser, launch } from "../tests/studio/browser.ts";
import { makeJupyterPath } from "./jupyter.ts";

/** How long JupyterLab may take to show the notebook, in milliseconds. */
const MOST_MS = 120_000;

const [notebook = "04_motion_and_fps.ipynb", file = fileURLToPath(new URL("../docs/notebook.jpg", import.meta.url))] =
  Deno.args;
const folder = fileURLToPath(new URL("../notebooks", import.meta.url));
const browserPath = await findBrowser();
if (browserPath === undefined) {
  console.error("There is no Chromium on the path: install it, or set KINORA_BROWSER");
  Deno.exit(1);
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

// A copy, for JupyterLab saves what it opens.
const copy = await Deno.makeTempDir({ prefix: "kinora-lab-" });
const jupyterPath = await makeJupyterPath();
const [port, token] = [freePort(), crypto.randomUUID()];
await Deno.copyFile(`${folder}/${notebook}`, `${copy}/${notebook}`);
let lab: Deno.ChildProcess;
try {
  lab = new Deno.Command(Deno.env.get("KINORA_JUPYTER_LAB") ?? "jupyter-lab", {
    args: [
      "--no-browser",
      "--allow-root",
      "--ServerApp.ip=127.0.0.1",
      `--ServerApp.port=${port}`,
      `--IdentityProvider.token=${token}`,
      `--ServerApp.root_dir=${copy}`,
    ],
    env: { JUPYTER_PATH: jupyterPath },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
} catch (error) {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
  console.error("There is no JupyterLab: install it with pip install jupyterlab, or set KINORA_JUPYTER_LAB");
  Deno.exit(1);
}
try {
  const url = `http://127.0.0.1:${port}`;
  for (let waited = 0;; waited += 500) {
    const answer = await fetch(`${url}/api?token=${token}`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) break;
    if (waited > MOST_MS) throw new Error("JupyterLab does not answer");
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const browser = await launch(browserPath);
  try {
    const page = await browser.newPage({ viewport: { width: 1180, height: 1360 } });
    page.setDefaultTimeout(MOST_MS);
    await page.goto(`${url}/lab/tree/${notebook}?token=${token}`);
    await page.locator(".jp-OutputArea-output img").first().waitFor();
    await page.waitForTimeout(4_000);
    // It asks whether it may show news.
    await page.getByRole("button", { name: "No", exact: true }).click({ timeout: 3_000 }).catch(() => {});
    // Pictures need the place that the list of files has.
    const files = page.locator(".jp-DirListing");
    if (await files.isVisible()) await page.locator(".jp-SideBar .lm-TabBar-tab.lm-mod-current").first().click();
    await page.waitForTimeout(1_500);
    await page.screenshot({ path: file, type: "jpeg", quality: 82 });
    console.log(file);
  } finally {
    await browser.close();
  }
} finally {
  lab.kill("SIGTERM");
  await lab.status;
  for (const path of [copy, jupyterPath]) await Deno.remove(path, { recursive: true });
}
