import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { loadCascade } from "../../lib/load_cascade.ts";
import { live, type LiveTarget } from "../../lib/notebook/live.ts";
import type { MediaBundle } from "../../lib/notebook/media_bundle.ts";
import { watch, watchSteps } from "../../lib/notebook/watch.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

/** A target whose time passes only when it is told to. */
class Recorder implements LiveTarget {
  readonly drawn: { readonly at: number; readonly bundle: MediaBundle }[] = [];
  time = 0;
  #step: number;

  /** @param step Milliseconds that pass with each look at the clock. */
  constructor(step = 0) {
    this.#step = step;
  }

  draw(bundle: MediaBundle): Promise<void> {
    this.drawn.push({ at: this.time, bundle });
    return Promise.resolve();
  }

  now(): number {
    this.time += this.#step;
    return this.time;
  }

  sleep(milliseconds: number): Promise<void> {
    this.time += milliseconds;
    return Promise.resolve();
  }

  get texts(): string[] {
    return this.drawn.map(({ bundle }) => bundle["text/plain"]);
  }
}

Deno.test("a live line is drawn at most 4 times a second, and its end stays", async () => {
  const target = new Recorder();
  const made = await live("work", async ({ report }) => {
    for (let step = 1; step <= 100; step++) {
      target.time += 20;
      await report({ stage: "steps", step, total: 100 });
    }
    return 7;
  }, { target });
  assertEquals(made, 7);
  for (const [index, { at }] of target.drawn.entries()) assert(at - (target.drawn[index - 1]?.at ?? -1000) >= 250);
  assert(target.drawn.length >= 8 && target.drawn.length <= 10, String(target.drawn.length));
  assertEquals(target.texts[1], "work: steps 13/100, 2 s left");
  assertEquals(target.texts.at(-1), "work: done in 2.0 s");
  assertStringIncludes(target.drawn[1]?.bundle["text/html"] ?? "", '<progress max="100" value="13"></progress>');
});

Deno.test("work that fails or is stopped says where", async () => {
  const target = new Recorder();
  await assertRejects(
    () =>
      live("work", async ({ report }) => {
        await report({ stage: "steps", step: 3, total: 9 });
        throw new Error("no");
      }, { target }),
    Error,
    "no",
  );
  assertEquals(target.texts.at(-1), "work: failed at steps 3/9 after 0.0 s");
  const stop = new AbortController();
  await assertRejects(() =>
    live("work", ({ signal }) => {
      stop.abort(new Error("enough"));
      signal.throwIfAborted();
      return Promise.resolve();
    }, { target, signal: stop.signal })
  );
  assertEquals(target.texts.at(-1), "work: stopped after 0.0 s");
});

Deno.test("a run is watched stage by stage, and its video stands in the line's place", () =>
  withTinyModel(async (model) => {
    using cascade = await loadCascade({ model });
    const target = new Recorder(100);
    using video = await watch(cascade.stream("a butterfly", { frames: 31, size: 16 }), {
      label: "a <butterfly>",
      target,
    });
    assertEquals([video.frames, video.width], [31, 16]);
    for (const stage of ["decoder", "interpolation"]) {
      assert(target.texts.some((text) => text.includes(stage)), target.texts.join("\n"));
    }
    assert(target.drawn.slice(0, -1).some(({ bundle }) => bundle["text/html"].includes("data:image/png")));
    const last = target.drawn.at(-1)?.bundle;
    assertStringIncludes(last?.["text/plain"] ?? "", "Video 16x16, 31 frames");
    assertStringIncludes(last?.["text/plain"] ?? "", "done in");
    assertStringIncludes(last?.["text/html"] ?? "", "a &lt;butterfly&gt;");
    assert(last?.["image/png"] !== undefined);
  }));

Deno.test("a stage alone is watched too, and gives what it makes", () =>
  withTinyModel(async (model) => {
    using cascade = await loadCascade({ model });
    const target = new Recorder(100);
    using embedding = await cascade.embed("a butterfly");
    const decoder = await cascade.stage("decoder");
    using frames = await watchSteps("decoder", decoder.stream(embedding, { seeds: [1] }), { target });
    assertEquals(frames.shape, [1, 16, 8, 8, 3]);
    assertStringIncludes(target.texts.at(-1) ?? "", "decoder: done in");
  }));
