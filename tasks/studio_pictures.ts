// deno-lint-ignore-file no-console
/**
 * Takes the README's pictures of the studio, with the default model, in a real browser: a prompt at work, and two pictures
 * that are interpolated, on a light, a dark and a narrow page.
 *
 *     deno run -A tasks/studio_pictures.ts [FOLDER]       # default docs/
 *
 * It needs what the browser tests need: Chromium, by `KINORA_BROWSER` or on the path.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { loadCascade } from "../lib/load_cascade.ts";
import { openStudio } from "../lib/studio/studio.ts";
import { findBrowser, launch } from "../tests/studio/browser.ts";

/** How long a run may take, in milliseconds. */
const MOST_MS = 900_000;

/** Past runs that the page shows, and one that is at work when its picture is taken. */
const [PAST, AT_WORK] = [["a red apple", "a yellow star"], "a butterfly"] as const;

const folder = (Deno.args[0] ?? fileURLToPath(new URL("../docs", import.meta.url))).replace(/\/+$/, "");
const browserPath = await findBrowser();
if (browserPath === undefined) {
  console.error("There is no Chromium on the path: install it, or set KINORA_BROWSER");
  Deno.exit(1);
}

async function opened(
  browser: Browser,
  url: string,
  options: { readonly colorScheme: "light" | "dark"; readonly width: number; readonly height: number },
): Promise<Page> {
  const { colorScheme, width, height } = options;
  const context = await browser.newContext({ colorScheme, viewport: { width, height } });
  const page = await context.newPage();
  page.setDefaultTimeout(MOST_MS);
  await page.goto(url);
  await page.locator("#size option").first().waitFor({ state: "attached" });
  return page;
}

async function make(page: Page): Promise<void> {
  await page.locator("#make").click();
  await page.locator("#status", { hasText: "Done" }).waitFor();
}

async function photograph(page: Page, name: string): Promise<void> {
  // Pictures further down are loaded when they come into view.
  await page.waitForTimeout(500);
  await page.screenshot({ path: `${folder}/${name}`, type: "jpeg", quality: 82 });
  console.log(`${folder}/${name}`);
}

const out = await Deno.makeTempDir({ prefix: "kinora-studio-" });
const browser = await launch(browserPath);
try {
  using cascade = await loadCascade();
  // Named as a user's files would be.
  for (const [name, prompt] of [["sun.png", "a sun"], ["moon.png", "a full moon"]] as const) {
    using picture = await cascade.generate(prompt, { seed: 7, frames: 1 });
    await picture.save(`${out}/${name}`);
    await Deno.remove(`${out}/${name}.json`);
  }
  await using studio = await openStudio({ cascade, folder: `${out}/videos` });
  const light = await opened(browser, studio.url, { colorScheme: "light", width: 1240, height: 900 });
  for (const prompt of PAST) {
    await light.locator("#prompt").fill(prompt);
    await light.locator("#seed").fill("7");
    await make(light);
  }
  await light.locator("#prompt").fill(AT_WORK);
  await light.locator("#make").click();
  await light.locator("#status", { hasText: /decoder: step (9|1[0-5])/ }).waitFor();
  await photograph(light, "studio-light.jpg");
  await light.locator("#stop").click();

  const dark = await opened(browser, studio.url, { colorScheme: "dark", width: 1240, height: 900 });
  await dark.locator("#choose").setInputFiles([`${out}/sun.png`, `${out}/moon.png`]);
  await dark.locator("#given li").nth(1).waitFor();
  await make(dark);
  await photograph(dark, "studio-dark.jpg");

  const phone = await opened(browser, studio.url, { colorScheme: "light", width: 390, height: 844 });
  await phone.locator("#choose").setInputFiles(`${out}/sun.png`);
  await phone.locator("#given li").waitFor();
  await photograph(phone, "studio-phone.jpg");
} finally {
  await browser.close();
  await Deno.remove(out, { recursive: true });
}
