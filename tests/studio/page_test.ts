import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { Browser, Page } from "playwright-core";
import { libraryInfo } from "../../ffi/library.ts";
import { openStudio, type Studio } from "../../lib/studio/studio.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";
import { browserOrSkip, launch } from "./browser.ts";

await libraryInfo();
const path = await browserOrSkip();

/** What a page is watched for: nothing of it may be refused by its own policy or fail. */
const wrong: string[] = [];

function pageTest(name: string, test: (studio: Studio, browser: Browser, folder: string) => Promise<void>): void {
  Deno.test({
    name,
    ignore: path === undefined,
    // playwright-core keeps timers of its own.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () =>
      withTinyModel(async (model) => {
        wrong.length = 0;
        const folder = `${model}/../out`;
        await using studio = await openStudio({ model, folder });
        const browser = await launch(path ?? "");
        try {
          await test(studio, browser, folder);
        } finally {
          await browser.close();
        }
        assertEquals(wrong, []);
      }),
  });
}

async function opened(browser: Browser, studio: Studio, options: { reducedMotion?: "reduce" } = {}): Promise<Page> {
  const page = await (await browser.newContext(options)).newPage();
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => {
    // An answer with status 400 is what a refusal is.
    if (message.type() === "error" && !message.text().includes("400 (Bad Request)")) wrong.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(studio.url) && !request.url().startsWith("data:")) wrong.push(request.url());
  });
  await page.goto(studio.url);
  await page.locator("#size option").first().waitFor({ state: "attached" });
  return page;
}

function said(page: Page, text: string | RegExp): Promise<void> {
  return page.locator("#status", { hasText: text }).waitFor({ timeout: 240_000 });
}

async function source(page: Page): Promise<string> {
  return await page.locator("#picture").getAttribute("src") ?? "";
}

pageTest("the page makes a video, and its picture changes on the way", async (studio, browser) => {
  const page = await opened(browser, studio);
  assertEquals(await page.locator("#runs li").count(), 0);
  await page.getByLabel("What is to be seen").fill("a butterfly");
  await page.getByText("Sampling").click();
  await page.getByLabel("Steps").fill("200");
  // deno-lint-ignore no-explicit-any
  await page.locator("#picture").evaluate((image: any) => {
    // Every picture that is put there, kept where the test finds it.
    const { MutationObserver } = image.ownerDocument.defaultView;
    new MutationObserver(() => {
      image.dataset.seen = `${image.dataset.seen ?? ""} ${image.getAttribute("src")}`;
    }).observe(image, { attributeFilter: ["src"] });
  });
  // By the keyboard alone.
  await page.getByLabel("What is to be seen").press("Enter");
  await page.locator('#stages [data-stage="decoder"] img').waitFor();
  await said(page, "Done: seed 0, 16×16, 16 frames, 8 fps.");
  // At least the first step of the decoder, what it made, what the super-resolution made, and the file.
  const seen = new Set((await page.locator("#picture").getAttribute("data-seen"))?.trim().split(" "));
  assert(seen.size >= 4, `${seen.size} different pictures`);
  assertEquals(await source(page), "runs/a-butterfly-seed-0.png");
  assertEquals(
    await page.locator("#picture").evaluate((image: unknown) => Reflect.get(Object(image), "naturalWidth")),
    16,
  );
  assertEquals(await page.locator('#stages li[data-state="done"]').count(), 3);

  // A past run fills the form and makes the same again; another seed another.
  const card = page.locator("#runs li");
  await card.waitFor();
  await page.getByLabel("What is to be seen").fill("something else");
  await page.getByRole("button", { name: "Again: a butterfly" }).click();
  await page.locator('#picture[src="runs/a-butterfly-seed-0-2.png"]').waitFor({ timeout: 240_000 });
  await card.nth(1).waitFor();
  for (const box of await page.locator(".pick input").all()) await box.check();
  await page.getByRole("button", { name: "Compare" }).click();
  assertEquals(await page.locator("dialog dl").count(), 2);
  assertEquals(await page.locator("dialog .differs").count(), 0);
  await page.keyboard.press("Escape");
  assert(!await page.locator("dialog").isVisible());
});

pageTest("stopping stops, and the page is ready again", async (studio, browser, folder) => {
  const page = await opened(browser, studio);
  await page.getByLabel("What is to be seen").fill("a butterfly");
  await page.getByText("Sampling").click();
  await page.getByLabel("Steps").fill("1000");
  await page.getByRole("button", { name: "Make a video" }).click();
  await said(page, "decoder: step");
  await page.getByRole("button", { name: "Stop" }).click();
  await said(page, "Stopped.");
  await page.getByLabel("Size").selectOption("8");
  await page.getByLabel("Steps").fill("1");
  await page.getByRole("button", { name: "Make a video" }).click();
  await said(page, "Done");
  const files = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  assertEquals(files.sort(), ["a-butterfly-seed-0.png", "a-butterfly-seed-0.png.json"]);
});

pageTest("what is refused is said beside the field", async (studio, browser) => {
  const page = await opened(browser, studio);
  const alert = page.getByRole("alert");
  await page.getByRole("button", { name: "Make a video" }).click();
  await alert.waitFor();
  assertStringIncludes((await alert.textContent()) ?? "", "prompt");
  await page.getByLabel("What is to be seen").fill("a butterfly");
  await page.getByLabel("Seed", { exact: true }).fill("-3");
  await page.getByRole("button", { name: "Make a video" }).click();
  await page.getByText("seed must be a whole number from 0 to 2^53-1, not -3").waitFor();
  const seed = page.getByLabel("Seed", { exact: true });
  assertEquals(await seed.getAttribute("aria-invalid"), "true");
  assert(await seed.evaluate((input) => input === input.ownerDocument.activeElement));
  await seed.fill("3");
  await page.getByLabel("Size").selectOption("8");
  await page.getByRole("button", { name: "Make a video" }).click();
  await said(page, "Done: seed 3");
  assert(!await alert.isVisible());
});

pageTest("two tabs take turns, and closing one gives its turn to the other", async (studio, browser) => {
  const one = await opened(browser, studio);
  const other = await opened(browser, studio);
  await one.getByText("Sampling").click();
  await one.getByLabel("Steps").fill("1000");
  for (const page of [one, other]) await page.getByLabel("What is to be seen").fill("a butterfly");
  await other.getByLabel("Size").selectOption("8");
  await one.getByRole("button", { name: "Make a video" }).click();
  await said(one, "step");
  await other.getByRole("button", { name: "Make a video" }).click();
  await said(other, "Waiting: one video is made before.");
  await one.close();
  await said(other, "Done");
});

pageTest("with reduced motion nothing moves", async (studio, browser) => {
  const page = await opened(browser, studio, { reducedMotion: "reduce" });
  await page.getByLabel("What is to be seen").fill("a butterfly");
  await page.getByLabel("Size").selectOption("8");
  await page.getByRole("button", { name: "Make a video" }).click();
  await said(page, "Done");
  await page.locator("#runs li img").waitFor();
  const images = await page.locator("img").all();
  assert(images.length >= 3);
  for (const image of images) {
    const bytes = await (await fetch(new URL(await image.getAttribute("src") ?? "", studio.url))).bytes();
    // An animated PNG has a chunk of this name.
    assert(!new TextDecoder("latin1").decode(bytes).includes("acTL"), "a picture moves");
  }
});

pageTest("the page fits a phone", async (studio, browser) => {
  const page = await opened(browser, studio);
  await page.setViewportSize({ width: 360, height: 740 });
  const width = await page.locator("html").evaluate((root) => root.scrollWidth);
  assertEquals(width, 360);
  const box = await page.getByRole("button", { name: "Make a video" }).boundingBox();
  assert(box !== null && box.height >= 40 && box.x >= 0 && box.x + box.width <= 360);
});
