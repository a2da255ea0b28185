import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { decodeMedia } from "../../ffi/media.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { DISPLAY } from "../../lib/notebook/media_bundle.ts";
import { openStudio, type Studio } from "../../lib/studio/studio.ts";
import { readBody } from "../../lib/studio/studio_request.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";
import { plainPng } from "./plain_pictures.ts";

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
      verb: "generate",
      given: [],
      asked: { frames: 31, size: 16, fps: 4, steps: 2, guidance: 2 },
      repeatable: true,
    });
    assert(Math.abs(Date.now() - when) < 60_000);
    assertEquals(await (await fetch(`${studio.url}runs`)).json(), [last?.data.run]);
    const file = await fetch(`${studio.url}runs/${run.file}`);
    assertEquals(file.headers.get("content-type"), "image/png");
    const bytes = await file.bytes();
    assertEquals(bytes, await Deno.readFile(`${folder}/${run.file}`));

    // What the list says makes the same bytes again, in a file of its own.
    const { prompt, seed, asked } = run;
    const again = await Array.fromAsync(events(await ask(studio, { prompt, seed, ...asked })));
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
      [{ verb: "extend", given: ["0".repeat(64)] }, "verb must be generate, animate, interpolate or vary"],
      [{ verb: "animate" }, "animate needs one picture"],
      [{ verb: "animate", given: [7] }, "animate needs one picture"],
      [{ verb: "interpolate", given: ["0".repeat(64)] }, "interpolate needs two pictures"],
      [{ verb: "animate", given: ["0".repeat(64)] }, "The picture is not there any more"],
      [{ verb: "animate", given: ["../../secret"] }, "The picture is not there any more"],
      [{ verb: "animate", given: ["0".repeat(64)], fit: "stretch" }, "fit must be cover or contain"],
      [{ verb: "animate", given: ["0".repeat(64)], prompt: "a" }, 'Unknown field "prompt"'],
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

function bring(studio: Studio, bytes: Uint8Array<ArrayBuffer>, name: string): Promise<Response> {
  return fetch(`${studio.url}given?name=${encodeURIComponent(name)}`, { method: "POST", body: bytes });
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

Deno.test("pictures are looked at, kept, animated, interpolated and varied, and made again from what is listed", () =>
  withStudio(async (studio, folder) => {
    const [first, second] = [await plainPng(24, 16, [-0.5]), await plainPng(16, 16, [0.5])];
    const [one, other] = [await sha256(first), await sha256(second)];
    const { image, ...taken } = await (await bring(studio, first, "../My Cát.JPG")).json();
    assertEquals(taken, { id: one, name: "my-cat.png", width: 24, height: 16, frames: 1 });
    assertEquals(await Deno.readFile(`${folder}/given/${one}/my-cat.png`), first);
    await Deno.writeFile(`${folder}/shown.png`, Uint8Array.fromBase64(image.replace("data:image/png;base64,", "")));
    using shown = (await decodeMedia(`${folder}/shown.png`, { background: "white" })).tensor;
    // All of it, and nothing beside it.
    assertEquals(shown.shape, [1, 171, 256, 3]);
    assert((await shown.read()).every((value) => Math.abs(value + 0.5) < 0.01));
    assertEquals((await (await bring(studio, second, "b.png")).json()).id, other);
    // Known by what it is, not by its name.
    assertEquals(await (await bring(studio, first, "again.gif")).json(), { image, ...taken });
    assertEquals(await (await fetch(`${studio.url}given/${one}`)).json(), { image, ...taken });

    const made: Record<string, unknown>[] = [];
    const cases = [
      [{ verb: "animate", given: [one], fit: "contain" }, "my-cat-animated-seed-3.png", ["interpolation", "sr-low"]],
      [{ verb: "interpolate", given: [one, other] }, "my-cat-interpolated-seed-3.png", ["interpolation", "sr-low"]],
      [{ verb: "vary", given: [other] }, "b-varied-seed-3.png", ["decoder", "sr-low"]],
    ] as const;
    for (const [task, file, stages] of cases) {
      const heard = await Array.fromAsync(events(await ask(studio, { ...task, seed: 3, frames: 16, steps: 2 })));
      assertEquals(heard.filter(({ event }) => event === "stage").map(({ data }) => data.stage), [...stages]);
      const { run } = heard.at(-1)?.data ?? {};
      assertEquals([run?.file, run?.verb, run?.repeatable, run?.prompt], [file, task.verb, true, ""]);
      assertEquals(run.given, task.given.map((id) => ({ id, name: id === one ? "my-cat.png" : "b.png" })));
      assertEquals(run.asked, { frames: 16, steps: 2, ..."fit" in task ? { fit: task.fit } : {} });
      made.push(run);

      const again = { verb: run.verb, given: run.given.map(({ id }: { id: string }) => id), seed: run.seed };
      const repeated = await Array.fromAsync(events(await ask(studio, { ...again, ...run.asked })));
      const bytes = await Deno.readFile(`${folder}/${file}`);
      assertEquals(await Deno.readFile(`${folder}/${repeated.at(-1)?.data.run.file}`), bytes);
    }

    // A past run is varied as it is.
    const past = String(made[0]?.["file"]);
    const response = await fetch(`${studio.url}given?run=${past}&still`, { method: "POST" });
    const { id, frames, name } = await response.json();
    assertEquals([id, frames, name], [await sha256(await Deno.readFile(`${folder}/${past}`)), 16, past]);
    const heard = await Array.fromAsync(events(await ask(studio, { verb: "vary", given: [id], frames: 4, size: 8 })));
    assertEquals(heard.at(-1)?.data.run.frames, 4);
    // What moves cannot be set in motion.
    const moving = await ask(studio, { verb: "animate", given: [id] });
    assertEquals([moving.status, (await moving.json()).error], [
      400,
      "the image is moving; one still picture is taken",
    ]);
    const short = await ask(studio, { verb: "animate", given: [one], frames: 1 });
    assertEquals([short.status, (await short.json()).error], [400, "frames must be at least 2, not 1"]);

    // A run whose picture is gone is listed, but not as one that can be made again.
    await Deno.remove(`${folder}/given/${other}`, { recursive: true });
    const list: { file: string; repeatable: boolean; given: unknown }[] = await (await fetch(`${studio.url}runs`))
      .json();
    const gone = list.find(({ file }) => file === "b-varied-seed-3.png");
    assertEquals([gone?.repeatable, gone?.given], [false, [{ id: other }]]);
  }));

Deno.test("a file that is no picture is refused with its reason, and not kept", () =>
  withStudio(async (studio, folder) => {
    const whole = await plainPng(16, 16, [0, 1]);
    const heic = new TextEncoder().encode("\0\0\0\x18ftypheic\0\0\0\0heicmif1");
    const cases: readonly (readonly [bytes: Uint8Array<ArrayBuffer>, why: string])[] = [
      [
        new TextEncoder().encode("no picture"),
        "x.png: bad media file: it is not a PNG, GIF, WebP, JPEG, MP4 or Y4M file",
      ],
      [new Uint8Array(), "x.png: bad media file: it is empty"],
      [whole.subarray(0, whole.length - 20), "x.png: bad PNG file: "],
      [heic, "x.png: HEIC and AVIF pictures are not read; save it as JPEG or PNG"],
    ];
    for (const [bytes, why] of cases) {
      const response = await bring(studio, bytes, "x.png");
      assertEquals(response.status, 400, why);
      const { error } = await response.json();
      assertStringIncludes(error, why);
      assert(!error.includes(folder), error);
    }
    assertEquals(await Array.fromAsync(Deno.readDir(`${folder}/given`)), []);
    await assertRejects(
      () => readBody(new Request("http://localhost", { method: "POST", body: whole }), 10, "The picture"),
      KinoraError,
      "The picture has more than 10 bytes",
    );
    const none = await fetch(`${studio.url}given?run=none.png`, { method: "POST" });
    assertEquals([none.status, (await none.json()).error], [404, "There is no run none.png"]);
  }));

Deno.test("a run that this page cannot ask for is not offered to be made again", () =>
  withStudio(async (studio, folder) => {
    await Array.fromAsync(events(await ask(studio, { prompt: "a", frames: 2, size: 8, steps: 1 })));
    const path = `${folder}/a-seed-0.png.json`;
    const manifest = JSON.parse(await Deno.readTextFile(path));
    for (const [changed, repeatable] of [[{}, true], [{ loop: false }, true], [{ loop: true }, false]] as const) {
      const { verb, options } = manifest.task;
      const task = { verb, options: { ...options, ...changed } };
      await Deno.writeTextFile(path, JSON.stringify({ ...manifest, task }));
      const [run] = await (await fetch(`${studio.url}runs`)).json();
      assertEquals(run.repeatable, repeatable, JSON.stringify(changed));
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

    for (const name of ["", "studio.css", "elements.js", "given_pictures.js", "past_runs.js", "studio.js"]) {
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
      task: { verb: "generate", options: {} },
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
