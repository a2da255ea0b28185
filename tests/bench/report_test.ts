import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { fileURLToPath } from "node:url";
import { KinoraError } from "../../ffi/errors.ts";
import {
  type BenchRecord,
  checkRecord,
  merged,
  readRecord,
  record,
  reportJson,
  reportText,
} from "../../bench/report.ts";

const RECORD = fileURLToPath(new URL("record.json", import.meta.url));
const recorded = await readRecord(RECORD);

Deno.test("the JSON has machine, versions and rows, and of a row eight things", () => {
  const json = JSON.parse(JSON.stringify(reportJson(recorded)));
  assertEquals(Object.keys(json), ["machine", "versions", "rows"]);
  assert(json.rows.length > 0);
  for (const row of json.rows) {
    assertEquals(Object.keys(row), [
      "name",
      "pass",
      "dtype",
      "peer",
      "peer_ms",
      "kinora_ms",
      "ratio",
      "agrees",
    ]);
    assert(["forward", "train"].includes(row.pass) && ["f32", "bf16"].includes(row.dtype));
    assertEquals(row.ratio, row.peer_ms / row.kinora_ms);
    assertEquals(row.agrees, true);
  }
  const main = json.rows.filter((row: { name: string; peer: string }) => row.name === "unet" && row.peer === "eager");
  assertEquals(main.map(({ dtype, pass }: { dtype: string; pass: string }) => `${dtype} ${pass}`), [
    "f32 forward",
    "bf16 forward",
    "f32 train",
  ]);
});

Deno.test("the table has a line a row, and says machine, versions and what was allowed", () => {
  const lines = reportText(recorded);
  const table = lines.filter((line) => line.startsWith("|"));
  assertEquals(table.length, recorded.rows.length + 2);
  assertEquals(new Set(table.map((line) => line.length)).size, 1);
  const [row] = recorded.rows;
  assert(row !== undefined);
  for (const part of [row.name, row.pass, row.dtype, row.peer, row.ratio.toFixed(2)]) {
    assertStringIncludes(table[2] ?? "", part);
  }
  const text = lines.join("\n");
  for (
    const part of [recorded.machine.cpu, "avx512_bf16", "pinned to", "torch 2.15.0", "kinora 0.1.0", "0.0001 (f32"]
  ) {
    assertStringIncludes(text, part);
  }
});

Deno.test("results that differ and rounds that were disturbed stand out", () => {
  const [row] = recorded.rows;
  assert(row !== undefined);
  const text = (change: Partial<typeof row>): string =>
    reportText({ ...recorded, rows: [{ ...row, ...change }] }).join("\n");
  assertStringIncludes(text({ agrees: false, error: 0.5 }), "NO 5.0e-1");
  assertStringIncludes(text({ foreign: 0.21 }), "21 % !");
  assert(!text({ foreign: 0.04 }).includes("!"));
});

/** What a run on a GPU gives. The numbers are made up. */
const onGpu: BenchRecord = {
  ...recorded,
  machine: {
    ...recorded.machine,
    pinned: null,
    gpu: { name: "Some GPU", capability: [9, 0], memory: 80 * 2 ** 30, cudnn: { version: "9.28.1" } },
  },
  rows: recorded.rows.map(({ foreign: _, ...row }, i) => ({ ...row, ...i === 0 ? {} : { share: 0.375 } })),
  peaks: [{ threads: 2, f32: 50_000, bf16: 700_000, memory: 3000 }],
  videos: [{ dtype: "bf16", frames: 16, size: 256, seconds: 2, rounds: [1, 2, 3] }],
};

Deno.test("of a GPU the table says the share of the bound, and under it what that is, and how long a video takes", () => {
  const lines = reportText(onGpu);
  const [head = "", , first = "", second = ""] = lines.filter((line) => line.startsWith("|"));
  assertStringIncludes(head, "| of the bound |");
  assert(!head.includes("others"));
  assert(!first.includes("%"));
  assertStringIncludes(second, "38 % |");
  const text = lines.join("\n");
  for (
    const part of [
      "Some GPU, compute capability 9.0, 80 GiB, cuDNN 9.28.1",
      "50000 GFLOP/s in f32 and 700000 in bf16",
      "3000 GB/s",
      "16 frames of 256x256, bf16: 2.00 s, the median of 3",
    ]
  ) assertStringIncludes(text, part);
  assert(!text.includes("other processes"));
});

Deno.test("the JSON of a GPU has shares, peaks and videos besides", () => {
  const json = JSON.parse(JSON.stringify(reportJson(onGpu)));
  assertEquals(new Set(Object.keys(json)), new Set(["machine", "versions", "rows", "peaks", "videos"]));
  assertEquals(json.machine.gpu.name, "Some GPU");
  assertEquals(json.rows.map(({ share }: { share?: number }) => share), onGpu.rows.map(({ share }) => share));
  assertEquals([json.peaks, json.videos], [onGpu.peaks, onGpu.videos]);
});

Deno.test("a record grows by rows and replaces those of the same name, but not with another machine's", async () => {
  const [first] = recorded.rows;
  assert(first !== undefined);
  const again = { ...first, kinora_ms: 1, ratio: first.peer_ms };
  const added: BenchRecord = { ...recorded, rows: [again, { ...first, name: "norm-64@64" }] };
  const all = merged(recorded, added);
  assertEquals(all.rows.length, recorded.rows.length + 1);
  assertEquals(all.rows[0], again);
  const elsewhere = { ...recorded, machine: { ...recorded.machine, threads: 1 } };
  assertEquals((assertThrows(() => merged(recorded, elsewhere), KinoraError) as KinoraError).code, "refused");
  const newer = { ...recorded, versions: { ...recorded.versions, torch: "3.0.0" } };
  assertThrows(() => merged(recorded, newer), KinoraError);

  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/record.json`;
    await record(path, recorded);
    await record(path, added);
    assertEquals(await readRecord(path), JSON.parse(JSON.stringify(all)));
    await checkRecord(path, recorded.machine);
    assertEquals((await assertRejects(() => checkRecord(path, elsewhere.machine), KinoraError)).code, "refused");
    await checkRecord(`${path}.none`, recorded.machine);
    await Deno.writeTextFile(path, "{}");
    assertEquals((await assertRejects(() => readRecord(path), KinoraError)).code, "bad-file");
    assertEquals((await assertRejects(() => readRecord(`${path}.none`), KinoraError)).code, "not-found");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
