/**
 * A browser for tests, or the reason why there is none.
 *
 * @module
 */
import { type Browser, chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Where Chrome is installed on systems that do not put it on the path. */
const PLACES = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** The browser to use: `KINORA_BROWSER`, else the first of the usual names on `PATH` or in the usual places. */
export async function findBrowser(): Promise<string | undefined> {
  const given = Deno.env.get("KINORA_BROWSER");
  if (given) return given;
  const folders = Deno.build.os === "windows" ? [] : (Deno.env.get("PATH") ?? "").split(":");
  for (const path of [...folders.flatMap((folder) => NAMES.map((name) => `${folder}/${name}`)), ...PLACES]) {
    if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
  }
  return undefined;
}

/**
 * The browser, or none with the reason printed.
 *
 * @throws {Error} When there is none and `KINORA_REQUIRE_ALL` is 1.
 */
export async function browserOrSkip(): Promise<string | undefined> {
  const path = await findBrowser();
  if (path !== undefined) return path;
  const why = "no Chromium on PATH (apt-get install chromium, or set KINORA_BROWSER)";
  if (Deno.env.get("KINORA_REQUIRE_ALL") === "1") throw new Error(`Browser tests cannot run: ${why}`);
  // deno-lint-ignore no-console
  console.error(`skipped: browser tests, ${why}`);
  return undefined;
}

/** Starts the browser. Root needs `--no-sandbox`; nobody else gets it. */
export async function launch(executablePath: string): Promise<Browser> {
  const args = Deno.build.os !== "windows" && Deno.uid() === 0 ? ["--no-sandbox"] : [];
  return await chromium.launch({ executablePath, args });
}
