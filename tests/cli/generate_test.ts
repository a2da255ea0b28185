import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { libraryInfo } from "../../ffi/library.ts";
import { Cascade } from "../../lib/cascade/cascade.ts";
import { WEIGHTS_FILE } from "../../lib/cascade/model_files.ts";
import { REAL, withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

const MAIN = fileURLToPath(new URL("../../lib/cli/main.ts", import.meta.url));

interface Result {
  readonly code: number;
  readonly out: string;
  readonly notes: string;
}

function spawn(folder: string, args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-prompt", MAIN, ...args],
    cwd: folder,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function finished(child: Deno.ChildProcess): Promise<Result> {
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), notes: text(stderr) };
}

/** Runs the command line as a process of its own in a folder. */
async function kinora(folder: string, ...args: string[]): Promise<Result> {
  return await finished(spawn(folder, args));
}

/** Runs a test with a tiny model and an empty folder. */
async function withFolder(
  test: (folder: string, model: string) => Promise<void>,
): Promise<void> {
  await withTinyModel(async (model) => {
    const folder = `${model}/../work`;
    await Deno.mkdir(folder);
    await test(folder, model);
  }, REAL);
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Width and height in a PNG's or GIF's header. */
async function pictureSize(path: string): Promise<number[]> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  return bytes[0] === 0x47
    ? [view.getUint16(6, true), view.getUint16(8, true)]
    : [view.getUint32(16), view.getUint32(20)];
}

Deno.test("generate writes a GIF named after the prompt, says so, and does it again to the bit", () =>
  withFolder(async (folder, model) => {
    const first = await kinora(
      folder,
      "generate",
      "a butterfly",
      "--seed",
      "1",
      "--model",
      model,
    );
    assertEquals(first, {
      code: 0,
      out: "Wrote a-butterfly.gif: 16 frames, 256x256, 8 fps\n",
      notes: "",
    });
    assertEquals(names(folder), ["a-butterfly.gif", "a-butterfly.gif.json"]);
    assertEquals(await pictureSize(`${folder}/a-butterfly.gif`), [256, 256]);
    const read = (name: string): Promise<Uint8Array> => Deno.readFile(`${folder}/${name}`);
    const again = ["--seed", "1", "--model", model, "--out", "again.gif"];
    assertEquals(
      (await kinora(folder, "generate", "a butterfly", ...again)).code,
      0,
    );
    assertEquals(await read("again.gif"), await read("a-butterfly.gif"));
    assertEquals(
      await read("again.gif.json"),
      await read("a-butterfly.gif.json"),
    );
    const other = ["--seed", "2", "--model", model, "--out", "other.gif"];
    assertEquals(
      (await kinora(folder, "generate", "a butterfly", ...other)).code,
      0,
    );
    assertNotEquals(await read("other.gif"), await read("a-butterfly.gif"));
  }));

Deno.test("--json prints one object with exactly the promised keys", () =>
  withFolder(async (folder, model) => {
    const rest = ["--model", model, "--json"];
    const runs: [string[], Record<string, unknown>][] = [
      [["--size", "64"], {
        out: "two-birds.gif",
        frames: 16,
        width: 64,
        height: 64,
        fps: 8,
      }],
      [["--frames", "1", "--size", "64"], {
        out: "two-birds.png",
        frames: 1,
        width: 64,
        height: 64,
        fps: 8,
      }],
      [["--frames", "1", "--size", "512"], {
        out: "two-birds.png",
        frames: 1,
        width: 512,
        height: 512,
        fps: 8,
      }],
      [["--frames", "1", "--size", "768"], {
        out: "two-birds.png",
        frames: 1,
        width: 768,
        height: 768,
        fps: 8,
      }],
      [["--frames", "31", "--size", "64", "--fps", "12"], {
        out: "two-birds.gif",
        frames: 31,
        width: 64,
        height: 64,
        fps: 24,
      }],
      [["--until", "interpolation"], {
        out: "two-birds.gif",
        frames: 76,
        width: 64,
        height: 64,
        fps: 40,
      }],
      [["--until", "decoder", "--out", "x.png"], {
        out: "x.png",
        frames: 16,
        width: 64,
        height: 64,
        fps: 8,
      }],
      [["--until", "prior"], {
        out: "two-birds.safetensors",
        frames: 0,
        width: 0,
        height: 0,
        fps: 0,
      }],
      [["--until", "decoder", "--frames", "1", "--out", "pngs/"], {
        out: "pngs/",
        frames: 1,
        width: 64,
        height: 64,
        fps: 8,
      }],
    ];
    for (const [args, wanted] of runs) {
      const { code, out, notes } = await kinora(
        folder,
        "generate",
        "two birds",
        ...args,
        ...rest,
      );
      assertEquals([code, notes], [0, ""]);
      const { seconds, manifest, warnings, ...found } = JSON.parse(out);
      assertEquals(found, wanted, args.join(" "));
      assertEquals(warnings, []);
      assertEquals(Object.keys(JSON.parse(out)), [
        "out",
        "frames",
        "width",
        "height",
        "fps",
        "seconds",
        "manifest",
        "warnings",
      ]);
      for (const time of Object.values(seconds)) {
        assert(typeof time === "number" && time >= 0);
      }
      assertEquals(
        JSON.parse(await Deno.readTextFile(`${folder}/${manifest}`)).prompt,
        "two birds",
      );
      if (!found.out.endsWith("/")) {
        assert((await Deno.stat(`${folder}/${found.out}`)).size > 0);
      }
    }
    assertEquals(await pictureSize(`${folder}/two-birds.png`), [768, 768]);
    assertEquals(names(`${folder}/pngs`), ["0000.png", "manifest.json"]);
  }));

Deno.test("generate refuses models and folders that do not do, and writes nothing", () =>
  withFolder(async (folder, model) => {
    const refused = async (
      code: number,
      message: string,
      ...args: string[]
    ): Promise<void> => {
      const before = names(folder);
      const result = await kinora(folder, "generate", "two birds", ...args);
      assertEquals([result.code, result.out], [code, ""], result.notes);
      assertStringIncludes(result.notes, message);
      assertEquals(result.notes.split("\n").length, 2, result.notes);
      assertEquals(names(folder), before);
    };
    await refused(2, "has no model_index.json", "--model", "nowhere");
    await Deno.writeTextFile(`${folder}/file`, "");
    await refused(
      2,
      "is not a folder",
      "--model",
      model,
      "--out",
      "file/a.gif",
    );
    await refused(2, "does not exist", "--model", model, "--out", "none/a.gif");
    await refused(
      2,
      "is not writable",
      "--model",
      model,
      "--out",
      "/proc/self/a.gif",
    );
    const weights = `${model}/sr_low/${WEIGHTS_FILE}`;
    const whole = await Deno.readFile(weights);
    await Deno.truncate(weights, whole.length - 4);
    await refused(2, "is truncated", "--model", model);
    await Deno.writeTextFile(weights, "<html>".repeat(100));
    await refused(2, "is not a safetensors file", "--model", model);
    await Deno.remove(weights);
    await refused(2, "is missing", "--model", model);
    // Whole and a network, but not one of this configuration.
    await Deno.copyFile(`${model}/sr_high/${WEIGHTS_FILE}`, weights);
    await refused(2, "", "--model", model);
  }));

Deno.test("a file of prompts is made into a folder, and a second run goes on where the first stopped", () =>
  withFolder(async (folder, model) => {
    await Deno.writeTextFile(
      `${folder}/prompts.txt`,
      "a butterfly\n\ntwo birds\r\nthe sun\n",
    );
    const args = [
      "generate",
      "--prompts",
      "prompts.txt",
      "--out",
      "out",
      "--size",
      "64",
      "--model",
      model,
    ];
    const first = await kinora(folder, ...args);
    assertEquals([first.code, first.notes], [0, ""]);
    const files = [
      "0000.gif",
      "0000.gif.json",
      "0001.gif",
      "0001.gif.json",
      "0002.gif",
      "0002.gif.json",
      "batch.json",
    ];
    assertEquals(names(`${folder}/out`), files);
    assertEquals(first.out.split("\n").length, 4);
    const second = await Deno.readFile(`${folder}/out/0001.gif`);
    await Deno.remove(`${folder}/out/0001.gif.json`);
    const resumed = await kinora(folder, ...args, "--json");
    assertEquals(JSON.parse(resumed.out).made, 1);
    assertEquals(await Deno.readFile(`${folder}/out/0001.gif`), second);
    using cascade = await Cascade.load(model);
    using video = await cascade.generate("two birds", { size: 64 });
    await video.save(`${folder}/alone.gif`);
    assertEquals(await Deno.readFile(`${folder}/alone.gif`), second);
    const other = await kinora(folder, ...args, "--seed", "3");
    assertEquals(other.code, 2);
    assertStringIncludes(
      other.notes,
      "holds videos of other prompts or options",
    );
    await Deno.writeTextFile(
      `${folder}/prompts.txt`,
      `a butterfly\n${"x".repeat(2000)}\n`,
    );
    const bad = await kinora(folder, ...args.with(4, "fresh"));
    assertEquals(bad.code, 2);
    assertStringIncludes(bad.notes, "Line 2 of");
    assert(!names(folder).includes("fresh"));
  }));

Deno.test("when a later stage fails the finished frames are kept and named", () =>
  withFolder(async (folder, model) => {
    // Weights so large that what comes out is not a number: only a run shows that.
    const weights = `${model}/sr_low/${WEIGHTS_FILE}`;
    const bytes = await Deno.readFile(weights);
    const header = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const view = new DataView(bytes.buffer, header);
    for (let at = 0; at < view.byteLength; at += 4) view.setFloat32(at, 1e30, true);
    await Deno.writeFile(weights, bytes);
    const { code, out, notes } = await kinora(
      folder,
      "generate",
      "two birds",
      "--model",
      model,
    );
    assertEquals([code, out], [1, ""]);
    const [kept = "", why = ""] = notes.split("\n");
    assertEquals(
      kept,
      "kinora: kept 16 finished frames of decoder (64x64) in two-birds-frames/decoder/",
    );
    assertStringIncludes(why, "sr-low made numbers that are not finite");
    assertEquals(names(folder), ["two-birds-frames"]);
    const pictures = Array.from(
      { length: 16 },
      (_, frame) => `${String(frame).padStart(4, "0")}.png`,
    );
    assertEquals(names(`${folder}/two-birds-frames/decoder`), [
      ...pictures,
      "manifest.json",
    ]);
  }));

Deno.test({
  name: "an interrupt ends with code 130 and keeps the finished frames",
  ignore: Deno.build.os === "windows",
  fn: () =>
    withFolder(async (folder, model) => {
      const path = `${model}/model_index.json`;
      const index = JSON.parse(await Deno.readTextFile(path));
      index.stages.interpolation.steps = 1000;
      await Deno.writeTextFile(path, JSON.stringify(index));
      // How long the stages before take depends on the machine; wait longer if the interrupt came too soon.
      for (let wait = 2000;; wait *= 2) {
        const child = spawn(folder, [
          "generate",
          "two birds",
          "--frames",
          "76",
          "--size",
          "64",
          "--model",
          model,
        ]);
        await new Promise((resolve) => setTimeout(resolve, wait));
        child.kill("SIGINT");
        const { code, out, notes } = await finished(child);
        assertEquals(out, "");
        if (!notes.includes("kept 16 finished frames") && wait < 16_000) {
          continue;
        }
        assertEquals(code, 130);
        assertEquals(
          notes,
          "kinora: kept 16 finished frames of decoder (64x64) in two-birds-frames/decoder/\nkinora: interrupted\n",
        );
        assertEquals(names(folder), ["two-birds-frames"]);
        assertEquals(names(`${folder}/two-birds-frames/decoder`).length, 17);
        return;
      }
    }),
});
