import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { galleryPage } from "../../lib/cli/gallery_page.ts";
import { galleryItems } from "../../lib/cli/gallery_plan.ts";
import { REAL, withTinyModel } from "../cascade/tiny_model.ts";
import { runCli, runCliUntil } from "./cli_run.ts";

await libraryInfo();

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("a gallery is 60 prompts and 12 applications of different names", () => {
  const items = galleryItems();
  const applications = items.filter(({ group }) => group === "applications");
  assertEquals([items.length, applications.length], [72, 12]);
  assertEquals(new Set(items.map(({ id }) => id)).size, 72);
  assertEquals(new Set(items.map(({ title }) => title)).size, 72);
  for (const verb of ["animate", "interpolate", "extend", "vary"]) {
    assert(applications.some(({ apply }) => apply?.verb === verb), verb);
  }
  for (const { generate, apply } of items) assert((generate === undefined) !== (apply === undefined));
});

Deno.test("a page shows everything, failures included, and nothing of it is read as HTML", () => {
  const page = galleryPage({
    model: "<model>",
    seed: 3,
    missing: 69,
    entries: [
      {
        id: "p01",
        group: "animals",
        title: 'a "fox" & <b>hound</b>',
        given: [],
        file: "p01.gif",
        manifest: "p01.gif.json",
        seed: 4,
      },
      { id: "a01", group: "applications", title: "animate", given: ["a01-given.png"], error: "no <reason>" },
    ],
  });
  for (
    const part of ["a &quot;fox&quot; &amp; &lt;b&gt;hound&lt;/b&gt;", "seed 4", 'src="p01.gif"', 'src="a01-given.png"']
  ) {
    assertStringIncludes(page, part);
  }
  assertStringIncludes(page, "no &lt;reason&gt;");
  assertStringIncludes(page, "1 videos, 1 that failed, 69 still to be made");
  assert(!page.includes("<model>") && !page.includes("<script"));
});

Deno.test("a gallery is made, goes on where it stopped, and keeps what failed", () =>
  withTinyModel(async (model) => {
    const folder = `${model}/../gallery`;
    const args = ["gallery", "--out", folder, "--size", "64", "--model", model];
    const first = await runCli(...args, "--only", "p01,a02,a10", "--json");
    assertEquals([first.code, first.notes], [0, []]);
    assertEquals(JSON.parse(first.out), { out: `${folder}/index.html`, made: 3, shown: 3, failed: 0 });
    const files = ["a02", "a10", "p01"].flatMap((id) => [`${id}.gif`, `${id}.gif.json`]);
    const given = ["a02-given-1", "a02-given-2", "a10-given"].flatMap((id) => [`${id}.png`, `${id}.png.json`]);
    assertEquals(names(folder), [...files, ...given, "gallery.json", "index.html"].sort());
    const joined = JSON.parse(await Deno.readTextFile(`${folder}/a02.gif.json`));
    assertEquals([joined.task.verb, joined.given.length, joined.seed], ["interpolate", 2, 1]);
    // From here on the model has no interpolation.
    const index = JSON.parse(await Deno.readTextFile(`${model}/model_index.json`));
    delete index.stages.interpolation;
    await Deno.writeTextFile(`${model}/model_index.json`, JSON.stringify(index));
    const second = await runCli(...args, "--only", "p01,p02,a01");
    assertEquals(second.code, 0);
    assertStringIncludes(second.out, "5 items, 2 new, 1 failed");
    assertStringIncludes(second.notes.join("\n"), "a01 (animate: a picture of a rocket): ");
    const page = await Deno.readTextFile(`${folder}/index.html`);
    for (const part of ["p01.gif", "p02.gif", "a02.gif", "has no stage interpolation", "67 still to be made"]) {
      assertStringIncludes(page, part);
    }
    for (
      const [wrong, message] of [[["--seed", "2"], "another model or other options"], [
        ["--only", "p99"],
        'not "p99"',
      ]] as const
    ) {
      const refused = await runCli(...args, ...wrong);
      assertEquals([refused.code, refused.out], [2, ""]);
      assertStringIncludes(refused.notes[0] ?? "", message);
    }
  }, REAL));

Deno.test("an interrupted gallery ends with code 130, and goes on with what is missing", () =>
  withTinyModel(async (model) => {
    const folder = `${model}/../gallery`;
    const args = ["gallery", "--out", folder, "--size", "64", "--model", model, "--only", "p01,p02,p03,p04,a01"];
    const controller = new AbortController();
    const running = runCliUntil(controller.signal, ...args);
    while (!await Deno.stat(`${folder}/p01.gif.json`).then(() => true, () => false)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    controller.abort();
    const { code, out, notes } = await running;
    assertEquals([code, out, notes.at(-1)], [130, "", "kinora: interrupted"]);
    const kept = await Deno.readFile(`${folder}/p01.gif`);
    const again = JSON.parse((await runCli(...args, "--json")).out);
    assertEquals([again.shown, again.failed], [5, 0]);
    assert(again.made < 5, `${again.made} made`);
    assertEquals(await Deno.readFile(`${folder}/p01.gif`), kept);
    assertEquals(names(folder).filter((name) => name.includes(".tmp") || name.startsWith(".")), []);
  }, REAL));
