import { assertEquals, assertRejects } from "@std/assert";
import { KinoraError } from "../../ffi/errors.ts";
import { FairQueue } from "../../lib/studio/fair_queue.ts";

const forever = new AbortController().signal;

/** Asks for a turn and says so in `order` when it comes; the turn ends with the returned function. */
function ask(queue: FairQueue, caller: string, order: string[], name = caller): { end: () => Promise<void> } {
  const turn = queue.enter(caller, { signal: forever });
  turn.then(() => order.push(name));
  return { end: async () => (await turn)[Symbol.dispose]() };
}

Deno.test("callers take turns, however much one of them asks for", async () => {
  const queue = new FairQueue();
  const order: string[] = [];
  const turns = ["a1", "a2", "a3", "b1", "b2", "c1"].map((name) => ask(queue, name.charAt(0), order, name));
  for (const name of ["a1", "b1", "c1", "a2", "b2", "a3"]) {
    const turn = turns[["a1", "a2", "a3", "b1", "b2", "c1"].indexOf(name)];
    await turn?.end();
  }
  await Promise.resolve();
  assertEquals(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
  assertEquals(queue.waiting, 0);
});

Deno.test("who waits is told how many are ahead, and who leaves makes room", async () => {
  const queue = new FairQueue();
  const first = await queue.enter("a", { signal: forever });
  const told: Record<string, number[]> = { b: [], c: [] };
  const leave = new AbortController();
  const b = queue.enter("b", { signal: leave.signal, onAhead: (ahead) => told["b"]?.push(ahead) });
  const c = queue.enter("c", { signal: forever, onAhead: (ahead) => told["c"]?.push(ahead) });
  await Promise.resolve();
  assertEquals(told, { b: [1], c: [2] });
  leave.abort(new KinoraError("cancelled", "left"));
  await assertRejects(() => b, KinoraError, "left");
  assertEquals(told["c"], [2, 1]);
  first[Symbol.dispose]();
  (await c)[Symbol.dispose]();
  using _again = await queue.enter("a", { signal: forever });
});

Deno.test("a turn ends once, and too many of one caller are refused", async () => {
  const queue = new FairQueue();
  const order: string[] = [];
  const turn = await queue.enter("a", { signal: forever });
  const four = Array.from({ length: 4 }, (_, at) => ask(queue, "a", order, String(at)));
  await assertRejects(() => queue.enter("a", { signal: forever }), KinoraError, "4 runs of this page wait");
  const other = ask(queue, "b", order);
  turn[Symbol.dispose]();
  turn[Symbol.dispose]();
  await other.end();
  for (const one of four) await one.end();
  assertEquals(order, ["b", "0", "1", "2", "3"]);
});
