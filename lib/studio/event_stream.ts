/**
 * Server-sent events as the answer to one request: the work lives as long as somebody reads.
 *
 * @module
 */

/** Milliseconds from one sign of life to the next: by them it is noticed that nobody reads any more. */
const HEARTBEAT_MS = 1000;

/** Sends one event. */
export interface EventSender {
  /**
   * @param event The kind of event.
   * @param data What it says, as JSON.
   */
  (event: string, data: unknown): void;
  /** Whether what was sent is also read: previews that pile up are better left out. */
  readonly ready: () => boolean;
}

/**
 * Answers a request with events.
 *
 * @param work Sends them; its signal is aborted when the reader goes away. It must not throw.
 */
export function eventStream(work: (send: EventSender, signal: AbortSignal) => Promise<void>): Response {
  // Not the request's own signal: that is aborted after a complete answer too.
  const controller = new AbortController();
  const encoder = new TextEncoder();
  let heartbeat: ReturnType<typeof setInterval> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(stream): void {
      const write = (text: string): void => {
        if (!controller.signal.aborted) stream.enqueue(encoder.encode(text));
      };
      heartbeat = setInterval(() => write(":\n\n"), HEARTBEAT_MS);
      const send: EventSender = Object.assign(
        (event: string, data: unknown): void => write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`),
        { ready: (): boolean => (stream.desiredSize ?? 0) > 0 },
      );
      work(send, controller.signal).finally(() => {
        clearInterval(heartbeat);
        if (!controller.signal.aborted) stream.close();
      });
    },
    cancel(): void {
      clearInterval(heartbeat);
      controller.abort(new DOMException("Nobody reads any more", "AbortError"));
    },
  }, { highWaterMark: 8 });
  return new Response(body, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
}
