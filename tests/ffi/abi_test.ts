/** The C ABI as it is, without the classes around it: whatever is handed over, it answers with a status. */
import { assert, assertEquals } from "@std/assert";
import { libraryInfo } from "../../ffi/library.ts";
import { library } from "../../ffi/library.ts";

const { symbols } = await library();
const encoder = new TextEncoder();

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly needed: number;
}

function ask(bytes: Uint8Array<ArrayBuffer> | null, capacity = 1 << 16, length = bytes?.length ?? 0): Answer {
  const [reply, needed] = [new Uint8Array(capacity), new Uint32Array(1)];
  const status = symbols.kinora_call(bytes, length, reply, capacity, needed);
  const text = new TextDecoder().decode(reply.subarray(0, Math.min(capacity, needed[0] ?? 0)));
  return { status, text, needed: needed[0] ?? 0 };
}

function askJson(request: unknown): Answer {
  return ask(encoder.encode(JSON.stringify(request)));
}

/** A generator of the same numbers on every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x297a2d39 | 0;
    return (state >>> 8) % below;
  };
}

/** Frees what a reply names. */
function freeReply({ status, text }: Answer): void {
  if (status !== 0) return;
  const free = (value: unknown): void => {
    if (typeof value === "number") symbols.kinora_release(value);
    else if (typeof value === "object" && value !== null) Object.values(value).forEach(free);
  };
  const { tensor, tensors, network, store, tokenizer } = JSON.parse(text);
  [tensor, tensors, network, store, tokenizer].forEach(free);
}

Deno.test("null pointers are refused", () => {
  assertEquals(ask(null).status, 1);
  assertEquals(ask(null, 1 << 10, 5).status, 1);
  const request = encoder.encode('{"verb":"info"}');
  assertEquals(symbols.kinora_call(request, request.length, null, 0, null), 5);
  assertEquals(symbols.kinora_call(request, request.length, null, 100, new Uint32Array(1)), 5);
  assertEquals(symbols.kinora_job_start(null, 0, null, 0, null), 1);
  assertEquals(symbols.kinora_job_result(0, null, 0, null), 4);
  assertEquals(symbols.kinora_tensor_create(null, 2, null, 0, null, null, 0, null), 1);
  assertEquals(symbols.kinora_tensor_create(null, 2, null, 0, new Uint32Array(1), null, 0, null), 1);
  assertEquals(symbols.kinora_tensor_read(0, null, 0, null, 0, null), 4);
});

Deno.test("a reply that does not fit gives the length that it needs, and makes nothing", async () => {
  const before = (await libraryInfo()).handles;
  const request = encoder.encode(JSON.stringify({ verb: "tensor.noise", shape: [1, 4], seeds: [1] }));
  for (const capacity of [0, 1, 5]) {
    const { status, needed } = ask(request, capacity);
    assertEquals(status, 5);
    assert(needed > capacity);
  }
  assertEquals((await libraryInfo()).handles, before);
  const exact = ask(request, ask(request, 0).needed + 8);
  assertEquals(exact.status, 0);
  freeReply(exact);
});

Deno.test("tensors of wrong lengths are refused, and nothing is written", () => {
  const [handle, reply, length] = [new Uint32Array(1), new Uint8Array(1000), new Uint32Array(1)];
  const create = (shape: number[], bytes: number): number =>
    symbols.kinora_tensor_create(
      new Uint32Array(shape),
      shape.length,
      new Uint8Array(bytes),
      bytes,
      handle,
      reply,
      reply.length,
      length,
    );
  for (const bytes of [0, 4, 23, 25, 28]) assertEquals(create([2, 3], bytes), 1);
  assertEquals(create([], 0), 1);
  assertEquals(create([1, 1, 1, 1, 1, 1, 1], 4), 1);
  assertEquals(create([0xffff_ffff, 0xffff_ffff, 0xffff_ffff], 4), 1);
  assertEquals(create([0, 3], 0), 1);
  assertEquals(handle[0], 0);
  assertEquals(create([2, 3], 24), 0);
  const tensor = handle[0] ?? 0;
  const read = (bytes: number): number =>
    symbols.kinora_tensor_read(tensor, new Uint8Array(bytes), bytes, reply, reply.length, length);
  assertEquals([read(0), read(23), read(24), read(25)], [5, 5, 0, 1]);
  for (let i = 0; i < 3; i++) assertEquals(symbols.kinora_release(tensor), 0);
  assertEquals(read(24), 4);
});

Deno.test("handles that name nothing, or something else, are told apart", () => {
  const { tensor } = JSON.parse(askJson({ verb: "tensor.noise", shape: [1, 4], seeds: [1] }).text);
  assertEquals(askJson({ verb: "network.info", network: tensor }).status, 4);
  assertEquals(symbols.kinora_job_cancel(tensor), 4);
  symbols.kinora_release(tensor);
  const random = numbers(1);
  for (let i = 0; i < 1000; i++) {
    const handle = random(2 ** 24) * 256 + random(256);
    const { status } = askJson({ verb: "tensor.info", tensor: handle });
    assert(status === 4 || status === 0);
    if (i % 10 === 0) assertEquals(symbols.kinora_job_cancel(handle), 4);
  }
  for (const handle of [-1, 1.5, 2 ** 32, 1e300, "1", null, [], {}]) {
    assertEquals(askJson({ verb: "tensor.info", tensor: handle }).status, 1);
  }
});

Deno.test("a running job's result is not there yet, an ended job's stays", async () => {
  const [reply, length] = [new Uint8Array(1000), new Uint32Array(1)];
  const request = encoder.encode(JSON.stringify({ verb: "tensor.noise", shape: [1, 4_000_000], seeds: [1] }));
  assertEquals(symbols.kinora_job_start(request, request.length, reply, reply.length, length), 0);
  const { job } = JSON.parse(new TextDecoder().decode(reply.subarray(0, length[0])));
  const first = symbols.kinora_job_result(job, reply, reply.length, length);
  assert(first === 7 || first === 0);
  const out = new Uint32Array(6);
  for (let version = 0; out[0] === 0; version = out[4] ?? 0) {
    assertEquals(await symbols.kinora_job_wait(job, version, 1000, out), 0);
  }
  for (let i = 0; i < 2; i++) assertEquals(symbols.kinora_job_result(job, reply, reply.length, length), 0);
  const { tensor } = JSON.parse(new TextDecoder().decode(reply.subarray(0, length[0])));
  symbols.kinora_release(job);
  symbols.kinora_release(job);
  assertEquals(symbols.kinora_job_result(job, reply, reply.length, length), 4);
  assertEquals(askJson({ verb: "tensor.info", tensor }).status, 0);
  symbols.kinora_release(tensor);
});

Deno.test("bytes that are no request are refused", () => {
  const requests = ["", "{", "[]", "null", "1", '"info"', "{}", '{"verb":1}', '{"verb":"x"}', '{"verb":"info","x":1}'];
  for (const text of requests) {
    const { status, text: reply } = ask(encoder.encode(text));
    assertEquals(status, 1, text);
    assertEquals(JSON.parse(reply).code, "refused");
  }
  assertEquals(ask(encoder.encode("[".repeat(100_000))).status, 1);
  assertEquals(ask(encoder.encode('{"verb":"tensor.info","tensor":' + "[".repeat(100_000))).status, 1);
  const random = numbers(2);
  for (let i = 0; i < 2000; i++) {
    const bytes = Uint8Array.from({ length: random(64) }, () => random(256));
    assert(ask(bytes).status !== 0);
  }
});

Deno.test("requests with anything in any field are answered, and leave nothing behind", async () => {
  const before = await libraryInfo();
  const { tensor } = JSON.parse(askJson({ verb: "tensor.noise", shape: [1, 2, 4, 4, 3], seeds: [1] }).text);
  const valid: Record<string, unknown>[] = [
    { verb: "tensor.noise", shape: [1, 2, 4], seeds: [1], stream: 3, frames: [0, 1] },
    { verb: "tensor.combine", terms: [{ tensor, scale: 1 }, { tensor, scale: [2] }], offset: 0, clamp: [-1, 1] },
    { verb: "tensor.cat", tensors: [tensor, tensor], axis: 1 },
    { verb: "tensor.gather", tensor, axis: 1, indices: [0, 1, 1] },
    { verb: "tensor.reshape", tensor, shape: [96] },
    { verb: "tensor.normalize", tensor, length: 2 },
    { verb: "tensor.matmul", a: tensor, b: tensor },
    { verb: "tensor.stats", tensor },
    { verb: "tensor.crop", tensor, top: [0], left: [1], height: 2, width: 2 },
    { verb: "tensor.resize", tensor, height: 3, width: 5, filter: "bicubic" },
    { verb: "tensor.affine", tensor, matrices: [[1, 0, 0, 0, 1, 0]], fill: 0 },
    { verb: "tensor.between", from: tensor, to: tensor, shares: [0.2, 0.5], reach: 2 },
    { verb: "network.create", config: { _class_name: "PriorTransformer" }, seed: 1 },
    { verb: "network.forward", network: tensor, inputs: { sample: tensor }, precision: "f32" },
    { verb: "trainer.create", networks: [tensor], workers: 1 },
    { verb: "tokenizer.encode", tokenizer: tensor, texts: ["a"], length: 4 },
    { verb: "store.gather", store: tensor, name: "a", rows: [0] },
    { verb: "info" },
  ];
  const odd = [
    -1,
    0,
    1.5,
    7,
    2 ** 32,
    1e300,
    "x",
    "",
    null,
    true,
    [],
    {},
    [[]],
    [null],
    [-1],
    [1e300],
    { a: 1 },
    tensor,
  ];
  const random = numbers(3);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  for (let i = 0; i < 3000; i++) {
    const request = structuredClone(pick(valid));
    for (let changes = 1 + random(2); changes > 0; changes--) {
      const key = pick([...Object.keys(request), "extra"]);
      if (key === "verb") continue;
      if (random(4) === 0) delete request[key];
      else request[key] = pick(odd);
    }
    // Networks of any size are not what is asked about here.
    if (request["verb"] === "network.create") request["seed"] = -1;
    const answer = askJson(request);
    assert(answer.status >= 0 && answer.status <= 4, `${answer.status} ${JSON.stringify(request)}: ${answer.text}`);
    if (answer.status !== 0) assert(JSON.parse(answer.text).message.length > 0);
    freeReply(answer);
  }
  symbols.kinora_release(tensor);
  assertEquals((await libraryInfo()).handles, before.handles);
});
