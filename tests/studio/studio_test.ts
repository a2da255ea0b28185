import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { DISPLAY } from "../../lib/notebook/media_bundle.ts";
import { openStudio, type Studio } from "../../lib/studio/studio.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

/** An event of a run. */
interface StudioEvent {
  readonly event: string;
  // deno-lint-ignore no-explicit-any
  readonly data: any;
}

/** Opens a studio with a tiny model, its videos beside the model. */
function withStudio(test: (studio: Studio, folder: string) => Promise<void>): Promise<void> {
  return withTinyModel(async (model) => {
    const folder = `${model}/../out`;
    await using studio = await openStudio({ model, folder });
    await test(studio, folder);
  });
}

function ask(studio: Studio, body: unknown): Promise<Response> {
  const text = typeof body === "string" ? body : JSON.stringify({ tab: "t", ...body as object });
  return fetch(`${studio.url}generate`, { method: "POST", body: text });
}

async function* events(response: Response): AsyncGenerator<StudioEvent, void, void> {
  assert(response.ok && response.body !== null, `${response.status}`);
  let rest = "";
  // A break out of this loop cancels the body.
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const [, event = "", data = "null"] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
      if (event !== "") yield { event, data: JSON.parse(data) };
    }
  }
}

Deno.test("a run tells its stages, keeps its video, and is listed with what makes it again", () =>
  withStudio(async (studio, folder) => {
    assertEquals(await (await fetch(`${studio.url}runs`)).json(), []);
    const heard = await Array.fromAsync(
      events(
        await ask(studio, { prompt: " a butterfly ", seed: 7, frames: 31, size: 16, fps: 4, steps: 2, guidance: 2 }),
      ),
    );
    assertEquals(heard[0], {
      event: "begun",
      data: {
        stages: [
          { stage: "prior", steps: 2 },
          { stage: "decoder", steps: 2 },
          { stage: "interpolation", steps: 2 },
          { stage: "sr-low", steps: 2 },
        ],
        fps: 8,
        frames: 31,
        size: 16,
      },
    });
    const made = heard.filter(({ event }) => event === "stage").map(({ data }) => data);
    assertEquals(made.map(({ stage }) => stage), ["prior", "decoder", "interpolation", "sr-low"]);
    assert(made.slice(1).every(({ image }) => image.startsWith("data:image/png;base64,")));
    assert(heard.some(({ event }) => event === "step"));
    const last = heard.at(-1);
    assertEquals(last?.event, "done");
    const { made: when, ...run } = last?.data.run;
    assertEquals(run, {
      file: "a-butterfly-seed-7.png",
      model: "tiny",
      prompt: "a butterfly",
      seed: 7,
      frames: 31,
      size: 16,
      fps: 8,
      keyFps: 4,
      steps: 2,
      guidance: 2,
    });
    assert(Math.abs(Date.now() - when) < 60_000);
    assertEquals(await (await fetch(`${studio.url}runs`)).json(), [last?.data.run]);
    const file = await fetch(`${studio.url}runs/${run.file}`);
    assertEquals(file.headers.get("content-type"), "image/png");
    const bytes = await file.bytes();
    assertEquals(bytes, await Deno.readFile(`${folder}/${run.file}`));

    // What the list says makes the same bytes again, in a file of its own.
    const { prompt, seed, frames, size, keyFps: fps, steps, guidance } = run;
    const again = await Array.fromAsync(
      events(await ask(studio, { prompt, seed, frames, size, fps, steps, guidance })),
    );
    assertEquals(again.at(-1)?.data.run.file, "a-butterfly-seed-7-2.png");
    assertEquals(await Deno.readFile(`${folder}/a-butterfly-seed-7-2.png`), bytes);

    for (const [still, count] of [["", 16], ["?still", 1]] as const) {
      const path = `${folder}/thumb.png`;
      await Deno.writeFile(path, await (await fetch(`${studio.url}thumbs/${run.file}${still}`)).bytes());
      using thumb = (await decodeMedia(path)).tensor;
      assertEquals(thumb.shape.slice(0, 3), [count, 16, 16]);
    }
  }));

Deno.test("what cannot be done is refused with the reason, before it is queued", () =>
  withStudio(async (studio) => {
    const cases: readonly (readonly [body: unknown, why: string])[] = [
      [{ prompt: "" }, "prompt"],
      [{ prompt: "x".repeat(1001) }, "at most 1000"],
      [{ prompt: 7 }, "prompt must be a text"],
      [{ prompt: "a", seed: -3 }, "seed must be a whole number"],
      [{ prompt: "a", seed: "7" }, "seed must be a whole number"],
      [{ prompt: "a", size: 100 }, "size must be one of 8, 16, 32, 48, not 100"],
      [{ prompt: "a", frames: 17 }, "frames must be"],
      [{ prompt: "a", fps: 31 }, "fps must be a number from 1 to 30, not 31"],
      [{ prompt: "a", steps: "many" }, 'steps must be a number, not "many"'],
      [{ prompt: "a", guidance: 51 }, "guidance"],
      [{ prompt: "a", stepz: 3 }, 'Unknown field "stepz"'],
      [{ prompt: "a", tab: "../" }, "tab must be"],
      ["{", "not JSON"],
      ["[]", "must be an object"],
      ["x".repeat(70_000), "more than 65536 bytes"],
    ];
    for (const [body, why] of cases) {
      const response = await ask(studio, body);
      assertEquals(response.status, 400, why);
      assertStringIncludes((await response.json()).error, why);
    }
  }));

Deno.test("only who knows the address is answered, and the page may load nothing from elsewhere", () =>
  withStudio(async (studio, folder) => {
    const { origin, pathname } = new URL(studio.url);
    assert(/^\/[\w-]{32}\/$/.test(pathname), pathname);
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${folder}/secret.txt`, "secret");
    const other = pathname.replace(/.\/$/, (end) => end === "A/" ? "B/" : "A/");
    const refused = [
      "/",
      "/runs",
      pathname.slice(0, -1),
      other,
      `${pathname}runs/secret.txt`,
      `${pathname}nothing`,
      `${pathname}runs/..%2fmodel%2fmodel_index.json`,
      `${pathname}thumbs/none.png`,
      `${pathname}runs/.hidden.png`,
    ];
    for (const path of refused) {
      const response = await fetch(origin + path);
      assertEquals(response.status, 404, path);
      await response.body?.cancel();
    }
    // A name of another server that leads here.
    const connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(studio.url).port) });
    await connection.write(
      new TextEncoder().encode(`GET ${pathname} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`),
    );
    assertStringIncludes(await new Response(connection.readable).text(), "403 Forbidden");

    for (const name of ["", "studio.css", "studio.js"]) {
      const response = await fetch(studio.url + name);
      const policy = response.headers.get("content-security-policy") ?? "";
      assertStringIncludes(policy, "default-src 'none'; script-src 'self'; style-src 'self'");
      const text = await response.text();
      assert(!/(src|href|url|import)[\s("'=]+(https?:)?\/\//i.test(text), name);
      assert(!/<script(?![^>]*src=)|<style| style=| on\w+=/.test(text), name);
    }
    const post = await fetch(studio.url, { method: "POST" });
    assertEquals(post.status, 405);
    await post.body?.cancel();
  }));

Deno.test("who goes away stops the run, and leaves no file", () =>
  withStudio(async (studio, folder) => {
    // Breaking off cancels the answer's body, as closing a page does.
    for await (const { event, data } of events(await ask(studio, { prompt: "a", steps: 1000 }))) {
      if (event === "step" && data.stage === "decoder") break;
    }
    // The next one is let in only when the first has stopped, which 1,000 steps would have kept from it.
    const next = await Array.fromAsync(events(await ask(studio, { prompt: "b", frames: 1, size: 8 })));
    assertEquals(next.at(-1)?.event, "done");
    const files = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    assertEquals(files.sort(), ["b-seed-0.png", "b-seed-0.png.json"]);
  }));

Deno.test("two pages take turns", () =>
  withStudio(async (studio) => {
    const order: string[] = [];
    const run = async (tab: string, name: string, steps: number): Promise<void> => {
      const response = await ask(studio, { tab, prompt: name, size: 8, steps });
      for await (const { event, data } of events(response)) {
        if (event === "queued" && order.at(-1) !== `${name} waits for ${data.ahead}`) {
          order.push(`${name} waits for ${data.ahead}`);
        }
        if (event === "begun" || event === "done") order.push(`${name} ${event}`);
      }
    };
    const first = run("one", "a", 60);
    while (!order.includes("a begun")) await new Promise((resolve) => setTimeout(resolve, 5));
    const second = run("one", "b", 1);
    while (!order.includes("b waits for 1")) await new Promise((resolve) => setTimeout(resolve, 5));
    await Promise.all([first, second, run("other", "c", 1)]);
    // c came last, but its page has not had a turn yet.
    assertEquals(order.filter((line) => line.endsWith("begun")), ["a begun", "c begun", "b begun"]);
    assert(order.includes("b waits for 2"), order.join("\n"));
  }));

Deno.test("files that are no manifests are passed over", () =>
  withStudio(async (studio, folder) => {
    await Deno.mkdir(folder, { recursive: true });
    for (const text of ["{", "[]", "null", '{"format":"kinora-manifest-1"}', "x".repeat(2_000_000)]) {
      await Deno.writeTextFile(`${folder}/a.png.json`, text);
      await Deno.writeTextFile(`${folder}/a.png`, "no picture");
      assertEquals(await (await fetch(`${studio.url}runs`)).json(), []);
    }
    const least = {
      format: "kinora-manifest-1",
      model: "m",
      seed: 1,
      frames: 16,
      width: 8,
      fps: 8,
      skip: 1,
      stages: [],
    };
    await Deno.writeTextFile(`${folder}/a.png.json`, JSON.stringify(least));
    const [run] = await (await fetch(`${studio.url}runs`)).json();
    assertEquals([run.file, run.prompt, run.keyFps], ["a.png", "", 8]);
    const response = await fetch(`${studio.url}thumbs/a.png`);
    assertEquals(response.status, 500);
    await response.body?.cancel();
  }));

Deno.test("the studio can be shown in a notebook's frame, and a taken port is refused", () =>
  withStudio(async (studio) => {
    const bundle = studio[DISPLAY]();
    assertStringIncludes(bundle["text/html"], `<iframe src="${studio.url}"`);
    const page = await fetch(studio.url);
    assertStringIncludes(
      page.headers.get("content-security-policy") ?? "",
      "frame-ancestors 'self' http://127.0.0.1:*",
    );
    await page.body?.cancel();
    const port = Number(new URL(studio.url).port);
    await assertRejects(() => openStudio({ port }), KinoraError, `port ${port} is taken`);
    await assertRejects(() => openStudio({ port: -1 }), KinoraError, "port must be");
  }));

Deno.test("kinora studio prints the address, and an interrupt closes it", () =>
  withTinyModel(async (model) => {
    const stop = new AbortController();
    const { promise, resolve } = Promise.withResolvers<string>();
    const streams = { out: resolve, note: () => {}, interactive: false };
    const code = runCommand(["studio", "--model", model, "--folder", `${model}/out`, "--json"], streams, stop.signal);
    const { url } = JSON.parse(await promise);
    const page = await fetch(url);
    assertStringIncludes(await page.text(), "<title>Kinora studio</title>");
    stop.abort();
    assertEquals(await code, 0);
    await assertRejects(() => fetch(url));
  }));
