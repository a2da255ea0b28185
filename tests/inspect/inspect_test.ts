import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import { inspectConfig, inspectMedia, inspectWeights } from "../../ffi/inspect.ts";
import { libraryInfo } from "../../ffi/library.ts";
import { Network } from "../../ffi/network.ts";
import { runCommand } from "../../lib/cli/main.ts";
import { withTinyModel } from "../cascade/tiny_model.ts";

await libraryInfo();

const FIXTURES = fileURLToPath(new URL("fixtures", import.meta.url));
const MEDIA = fileURLToPath(new URL("../media/fixtures", import.meta.url));

/** A damaged or unusual file, and what is to be said of it. */
interface Case {
  readonly file: string;
  readonly what: string;
  readonly expect: "ok" | "error" | "any";
  readonly network?: { readonly class: string; readonly config: Record<string, unknown> };
  readonly message_names?: string;
}

const { limits, cases }: { limits: { seconds: number }; cases: Case[] } = JSON.parse(
  await Deno.readTextFile(`${FIXTURES}/cases.json`),
);

async function inspect(...args: string[]): Promise<{ code: number; out: string[]; notes: string[] }> {
  const [out, notes]: [string[], string[]] = [[], []];
  const streams = {
    out: (line: string): void => void out.push(line),
    note: (line: string): void => void notes.push(line),
    interactive: false,
  };
  const code = await runCommand(["inspect", ...args], streams, new AbortController().signal);
  return { code, out, notes };
}

async function withFile(
  bytes: Uint8Array | string,
  ending: string,
  test: (path: string) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ending });
  try {
    await Deno.writeFile(path, typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    await test(path);
  } finally {
    await Deno.remove(path);
  }
}

/** The beginning of a safetensors file. */
function header(entries: unknown): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(entries));
  const bytes = new Uint8Array(8 + json.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

for (const folder of ["safetensors", "media", "configs", "checkpoints"]) {
  Deno.test(`damaged files are refused with one line that says where: ${folder}`, async () => {
    const chosen = cases.filter(({ file }) => file.startsWith(`${folder}/`));
    assert(chosen.length > 10);
    for (const { file, expect, network, message_names: name } of chosen) {
      const since = performance.now();
      const path = `${FIXTURES}/${file}`;
      const more = network === undefined ? [] : ["--network", JSON.stringify(network)];
      const { code, out, notes } = await inspect(...more, path);
      assert(performance.now() - since < limits.seconds * 1000, file);
      assert(code === 0 || code === 2, file);
      if (expect !== "any") assertEquals(code, expect === "ok" ? 0 : 2, `${file}: ${notes}`);
      assertEquals(notes.length, code === 0 ? 0 : 1, file);
      assertEquals(out.length > 0, code === 0, file);
      assert(!notes.some((line) => line.includes("\n") || line.includes("panicked")), file);
      if (name !== undefined) assertStringIncludes(notes[0] ?? "", `"${name}"`, file);
    }
  });
}

Deno.test("whole pictures are described by their content", async () => {
  const media = async (name: string): Promise<unknown[]> => {
    const { format, width, height, frames, durationMs, decoded } = await inspectMedia(`${MEDIA}/${name}`);
    return [format, width, height, frames, durationMs, decoded];
  };
  assertEquals(await media("gif_delays.gif"), ["gif", 40, 30, 6, 500, true]);
  assertEquals(await media("apng.png"), ["apng", 32, 24, 5, 320, true]);
  assertEquals(await media("png_palette.png"), ["png", 30, 20, 1, null, true]);
  assertEquals(await media("webp_lossy.webp"), ["webp", 64, 48, 5, 205, true]);
  // The content counts, not the name.
  await withFile(await Deno.readFile(`${MEDIA}/gif_delays.gif`), ".safetensors", async (path) => {
    assertStringIncludes((await inspect(path)).out[0] ?? "", ": gif, 40x30, 6 frames, 0.50 s");
    const { code, out } = await inspect(path, "--json");
    assertEquals([code, JSON.parse(out[0] ?? "").format], [0, "gif"]);
    assertEquals((await assertRejects(() => inspectWeights(path), KinoraError, path)).code, "bad-file");
  });
});

Deno.test("films that are not decoded are described where their structure tells, or refused by their kind", async () => {
  const [line] = (await inspect(`${MEDIA}/foreign/high_10.mp4`)).out;
  assertStringIncludes(line ?? "", ": mp4 (avc1), 80x64, 12 frames, ");
  assertStringIncludes(line ?? "", "its pixels were not decoded");
  assertEquals((await inspectMedia(`${MEDIA}/foreign/high_10.mp4`)).decoded, false);
  for (const name of ["default_base", "no_base", "index_too"]) {
    const { frames, decoded } = await inspectMedia(`${MEDIA}/fragmented/${name}.mp4`);
    assertEquals([frames, decoded], [12, true], name);
  }
  const { code, out, notes } = await inspect(`${MEDIA}/foreign/vp9.webm`);
  assertEquals([code, out, notes.length], [2, [], 1]);
  assertStringIncludes(notes[0] ?? "", "this Matroska or WebM file cannot be decoded here");
});

Deno.test("weights are compared with a network of this project, which is not made", () =>
  withTinyModel(async (model) => {
    const weights = `${model}/prior/diffusion_pytorch_model.safetensors`;
    const config = JSON.parse(await Deno.readTextFile(`${model}/prior/config.json`));
    const network = { class: "PriorTransformer", config };
    using loaded = await Network.load(`${model}/prior`);
    const found = await inspectWeights(weights, { network });
    assertEquals([found.numbers, found.tensors.length], [loaded.parameters, found.count]);
    assertEquals((await inspectConfig(`${model}/prior/config.json`)).numbers, loaded.parameters);
    const other = { ...network, config: { ...config, num_layers: config.num_layers + 1 } };
    assertStringIncludes(
      (await assertRejects(() => inspectWeights(weights, { network: other }), KinoraError)).message,
      "is missing",
    );
    for (const stage of ["clip_text", "decoder"]) {
      const json = JSON.parse(await Deno.readTextFile(`${model}/${stage}/config.json`));
      const network = { class: json["_class_name"], config: json };
      const { code } = await inspect(
        `${model}/${stage}/diffusion_pytorch_model.safetensors`,
        "--network",
        JSON.stringify(network),
      );
      assertEquals(code, 0, stage);
    }
  }));

Deno.test("a file is not read where its header is enough, and nothing is made of what it claims", async () => {
  const size = 3 * 2 ** 32;
  const entry = { dtype: "F16", shape: [size / 2], data_offsets: [0, size] };
  await withFile(header({ large: entry }), ".safetensors", async (path) => {
    const { size: start } = await Deno.stat(path);
    assertEquals((await inspect(path)).code, 2);
    // Sparse: it takes no room on disk.
    await Deno.truncate(path, start + size);
    const since = performance.now();
    const { code, out } = await inspect(path, "--json");
    const { numbers, tensors } = JSON.parse(out[0] ?? "");
    assertEquals([code, numbers, tensors[0].name], [0, size / 2, "large"]);
    assert(performance.now() - since < 1000);
  });
  // A network of some hundred million weights, of which only the names are needed.
  const network = { class: "SpaceTimeUnet", config: { dim: 1024 } };
  const { code, notes } = await inspect(
    `${FIXTURES}/checkpoints/good.safetensors`,
    "--network",
    JSON.stringify(network),
  );
  assertEquals(code, 2);
  assertStringIncludes(notes[0] ?? "", "is missing");
});

Deno.test("what is said to be inspected must be a file, and a network one that is known", async () => {
  const refused = async (message: string, ...args: string[]): Promise<void> => {
    const { code, notes } = await inspect(...args);
    assertEquals([code, notes.length], [2, 1], message);
    assertStringIncludes(notes[0] ?? "", message);
  };
  const good = `${FIXTURES}/checkpoints/good.safetensors`;
  await refused("The file is missing");
  await refused("takes one file", good, good);
  await refused("is not there", `${FIXTURES}/none`);
  await refused("is not a file", FIXTURES);
  await refused("--network", good, "--network", "{");
  await refused("--network", good, "--network", "3");
  await refused("--network", good, "--network", '{"class": 3}');
  await refused("modules", good, "--network", '{"class": "PseudoConv3d", "modules": {}}');
  await refused("PseudoConv9d", good, "--network", '{"class": "PseudoConv9d", "config": {}}');
  await refused("dim", good, "--network", '{"class": "PseudoConv3d"}');
  await refused("dim", good, "--network", '{"class": "PseudoConv3d", "config": {"dim": 1e9}}');
  await withFile("{}", ".json", (path) => refused("_class_name", path));
  await withFile(header({}), "", async (path) => assertEquals((await inspect(path)).code, 0));
  if (Deno.build.os === "linux") await refused("is not a file", "/dev/zero");
});
