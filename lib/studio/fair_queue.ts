/**
 * Who is next where one works at a time: callers take turns, however much one of them asks for.
 *
 * @module
 */
import { KinoraError } from "../../ffi/errors.ts";

/** Most that may wait, in all and of one caller. */
const [MOST_WAITING, MOST_OF_ONE] = [32, 4];

/** A place in the queue. */
interface Ticket {
  readonly caller: string;
  readonly number: number;
  admit(): void;
  tell(): void;
}

/** A queue that takes the callers in turns. */
export class FairQueue {
  readonly #waiting: Ticket[] = [];
  /** When each caller was last let in; forgotten when nobody waits. */
  readonly #served = new Map<string, number>();
  #numbers = 0;
  #busy = false;

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Waits for a turn.
   *
   * @param caller Who asks.
   * @param options `signal` gives the place up; `onAhead` is told how many are let in before, at first and whenever that
   * changes, the one who is inside among them.
   * @returns The turn, which ends when it is disposed.
   * @throws {KinoraError} `refused` when too many wait. When `signal` is aborted, its reason.
   */
  async enter(
    caller: string,
    options: { readonly signal: AbortSignal; readonly onAhead?: (ahead: number) => void },
  ): Promise<Disposable> {
    const { signal, onAhead } = options;
    signal.throwIfAborted();
    if (this.#busy) await this.#wait(caller, signal, onAhead);
    this.#busy = true;
    this.#served.set(caller, this.#numbers++);
    let ended = false;
    return {
      [Symbol.dispose]: (): void => {
        if (ended) return;
        ended = true;
        this.#next();
      },
    };
  }

  async #wait(caller: string, signal: AbortSignal, onAhead: ((ahead: number) => void) | undefined): Promise<void> {
    const own = this.#waiting.filter((ticket) => ticket.caller === caller).length;
    if (own >= MOST_OF_ONE || this.#waiting.length >= MOST_WAITING) {
      throw new KinoraError(
        "refused",
        own >= MOST_OF_ONE
          ? `${MOST_OF_ONE} runs of this page wait already: stop one, or wait`
          : `${MOST_WAITING} runs wait already: try again later`,
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let told = -1;
    const ticket: Ticket = {
      caller,
      number: this.#numbers++,
      admit: resolve,
      tell: () => {
        const ahead = this.#order().indexOf(ticket) + 1;
        if (ahead !== told) onAhead?.(told = ahead);
      },
    };
    const leave = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(ticket), 1);
      for (const other of this.#waiting) other.tell();
      reject(signal.reason);
    };
    this.#waiting.push(ticket);
    signal.addEventListener("abort", leave, { once: true });
    for (const other of [...this.#waiting]) other.tell();
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** Those who wait, in the order they will be let in. */
  #order(): Ticket[] {
    const served = new Map(this.#served);
    const left = [...this.#waiting];
    const order: Ticket[] = [];
    for (let now = this.#numbers; left.length > 0; now++) {
      const last = (ticket: Ticket): number => served.get(ticket.caller) ?? -1;
      const next = left.reduce((a, b) => last(b) < last(a) || (last(b) === last(a) && b.number < a.number) ? b : a);
      left.splice(left.indexOf(next), 1);
      served.set(next.caller, now);
      order.push(next);
    }
    return order;
  }

  #next(): void {
    const [next] = this.#order();
    if (next === undefined) {
      this.#busy = false;
      this.#served.clear();
      return;
    }
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    // Let in before anything else runs, so that nobody slips in between.
    this.#served.set(next.caller, this.#numbers++);
    next.admit();
    for (const other of this.#waiting) other.tell();
  }
}
