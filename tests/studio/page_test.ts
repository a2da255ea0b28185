import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { Browser, Page } from "playwright-core";
import { libraryInfo } from "../../ffi/library.ts";
import { openStudio, type Studio } from "../../lib/studio/studio.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";
import { browserOrSkip, launch } from "./browser.ts";
import { plainPng } from "./plain_pictures.ts";

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

/** Keeps every picture that the page puts in the middle from now on. */
async function watchPicture(page: Page): Promise<void> {
  // deno-lint-ignore no-explicit-any
  await page.locator("#picture").evaluate((image: any) => {
    const { MutationObserver } = image.ownerDocument.defaultView;
    new MutationObserver(() => {
      image.dataset.seen = `${image.dataset.seen ?? ""} ${image.getAttribute("src")}`;
    }).observe(image, { attributeFilter: ["src"] });
  });
}

/** The different pictures that were kept. */
async function picturesSeen(page: Page): Promise<Set<string>> {
  return new Set((await page.locator("#picture").getAttribute("data-seen"))?.trim().split(" "));
}

/** Drags files of the disk over the page as a user does, and drops them. */
async function drag(page: Page, files: readonly string[]): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [...files], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver"] as const) {
    await session.send("Input.dispatchDragEvent", { type, x: 300, y: 200, data });
  }
  await page.locator("body[data-drag]").waitFor();
  await session.send("Input.dispatchDragEvent", { type: "drop", x: 300, y: 200, data });
  await page.locator("body:not([data-drag])").waitFor();
  await session.detach();
}

/** Files to bring: two pictures, named after their colours, one that moves, and what is none. */
type Brought = Readonly<Record<"dark" | "light" | "moving" | "notes", string>>;

async function withPictures(test: (files: Brought) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kinora-test-" });
  try {
    const files = {
      dark: `${folder}/Dark.png`,
      light: `${folder}/light.png`,
      moving: `${folder}/moving.png`,
      notes: `${folder}/notes.png`,
    };
    await Deno.writeTextFile(files.notes, "no picture");
    await Deno.writeFile(files.dark, await plainPng(24, 16, [-0.5]));
    await Deno.writeFile(files.light, await plainPng(16, 16, [0.5]));
    await Deno.writeFile(files.moving, await plainPng(16, 16, [-0.5, 0.5]));
    await test(files);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

pageTest("the page makes a video, and its picture changes on the way", async (studio, browser) => {
  const page = await opened(browser, studio);
  assertEquals(await page.locator("#runs li").count(), 0);
  await page.getByLabel("What is to be seen").fill("a butterfly");
  await page.getByText("Sampling").click();
  await page.getByLabel("Steps").fill("200");
  await watchPicture(page);
  // By the keyboard alone.
  await page.getByLabel("What is to be seen").press("Enter");
  await page.locator('#stages [data-stage="decoder"] img').waitFor();
  await said(page, "Done: seed 0, 16×16, 16 frames, 8 fps.");
  // At least the first step of the decoder, what it made, what the super-resolution made, and the file.
  const seen = await picturesSeen(page);
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

pageTest(
  "a picture that is dragged in starts to move, and what was made is varied",
  (studio, browser) =>
    withPictures(async ({ dark }) => {
      const page = await opened(browser, studio);
      await drag(page, [dark]);
      const given = page.locator("#given li");
      await given.getByRole("img", { name: "dark.png" }).waitFor();
      assertEquals(await given.locator(".facts").textContent(), "24×16");
      assert(!await page.getByLabel("What is to be seen").isVisible());
      assert(await page.getByRole("radio", { name: "It starts to move" }).isChecked());
      await page.getByLabel("What is not square").selectOption("contain");
      await watchPicture(page);
      await page.getByRole("button", { name: "Make it move" }).click();
      await said(page, "Done: seed 0, 16×16, 16 frames, 8 fps.");
      // The first step of the interpolation, what it made, what the super-resolution made, and the file.
      const seen = await picturesSeen(page);
      assert(seen.size >= 4, `${seen.size} different pictures`);
      assertEquals(await source(page), "runs/dark-animated-seed-0.png");
      assertEquals(await page.locator('#stages li[data-state="done"]').count(), 2);

      // Another picture, another of what it shows, by the gallery alone.
      await page.getByRole("button", { name: "Vary: dark.png, moving" }).click();
      await page.locator("#runs li").nth(1).waitFor({ timeout: 240_000 });
      const varied = page.locator("#runs li", { hasText: "A variation of dark-animated-seed-0.png" });
      await varied.waitFor();
      // The animation again, from the picture that was kept, as it was asked for.
      await page.getByRole("button", { name: "Again: dark.png, moving" }).click();
      await page.locator('#picture[src="runs/dark-animated-seed-0-2.png"]').waitFor({ timeout: 240_000 });
      assertEquals(await page.getByLabel("What is not square").inputValue(), "contain");
      const files = ["dark-animated-seed-0.png", "dark-animated-seed-0-2.png"];
      const [one, other] = await Promise.all(
        files.map(async (file) => await (await fetch(`${studio.url}runs/${file}`)).bytes()),
      );
      assertEquals(one, other);
    }),
);

pageTest(
  "two pictures are chosen by the keyboard, and one leads to the other",
  (studio, browser) =>
    withPictures(async ({ dark, light }) => {
      const page = await opened(browser, studio);
      // The browser is told of it at once and takes its time: a chooser that opens before is missed.
      const opens = page.waitForEvent("filechooser");
      await page.getByLabel("What is to be seen").focus();
      await page.keyboard.press("Tab");
      const [chooser] = await Promise.all([opens, page.keyboard.press("Space")]);
      assert(chooser.isMultiple());
      await chooser.setFiles([dark, light]);
      const names = page.locator("#given .called");
      await names.nth(1).waitFor();
      assert(!await page.locator("#drop").isVisible());
      await page.getByRole("button", { name: "Swap" }).click();
      assertEquals(await names.allTextContents(), ["light.png", "dark.png"]);
      // A single frame leads nowhere.
      assert(await page.locator('#frames option[value="1"]').isDisabled());
      await page.getByText("Sampling").click();
      await page.getByLabel("Steps").fill("1000");
      const make = page.getByRole("button", { name: "Make the frames between" });
      await make.click();
      await said(page, "interpolation: step");
      await page.keyboard.press("Escape");
      await said(page, "Stopped.");
      await page.getByLabel("Steps").fill("2");
      await make.click();
      await said(page, "Done");
      await page.locator("#runs li", { hasText: "From light.png to dark.png" }).waitFor();
      // Taken away, the prompt is back, and who used the keyboard is where pictures are chosen.
      await page.getByRole("button", { name: "Take light.png away" }).click();
      assert(await page.getByRole("radio", { name: "It starts to move" }).isVisible());
      await page.getByRole("button", { name: "Take dark.png away" }).click();
      assert(await page.getByLabel("What is to be seen").isVisible());
      assert(await page.locator("#choose").evaluate((input) => input === input.ownerDocument.activeElement));
    }),
);

pageTest(
  "a picture that cannot be used is refused with its reason, before anything is queued",
  (studio, browser) =>
    withPictures(async ({ dark, light, moving, notes }) => {
      const page = await opened(browser, studio);
      const alert = page.getByRole("alert");
      await drag(page, [notes]);
      await alert.getByText("notes.png: bad media file: it is not a PNG, GIF, WebP, JPEG, MP4 or Y4M file").waitFor();
      assertEquals(await page.locator("#given li").count(), 0);
      await drag(page, [dark, light, moving]);
      await alert.getByText("A video starts from two pictures at most").waitFor();
      await drag(page, [dark]);
      await page.locator("#given li").waitFor();
      assert(!await alert.isVisible());
      await drag(page, [moving]);
      await page.locator("#given li").nth(1).waitFor();
      await page.getByRole("button", { name: "Make the frames between" }).click();
      await alert.getByText("picture 2 is moving; one still picture is taken").waitFor();
      assertEquals(await page.locator("#stages li").count(), 0);
      assertEquals(await page.locator("#runs li").count(), 0);
    }),
);

pageTest("with pictures the page fits a phone", (studio, browser) =>
  withPictures(async ({ dark, light }) => {
    const page = await opened(browser, studio);
    await page.setViewportSize({ width: 320, height: 640 });
    for (const files of [[dark], [light]]) {
      await page.locator("#choose").setInputFiles(files);
      await page.locator("#given li").nth(files[0] === dark ? 0 : 1).waitFor();
      assertEquals(await page.locator("html").evaluate((root) => root.scrollWidth), 320);
      for (const button of await page.locator("#form button:visible").all()) {
        const box = await button.boundingBox();
        assert(box !== null && box.height >= 36 && box.x >= 0 && box.x + box.width <= 320);
      }
    }
  }));
