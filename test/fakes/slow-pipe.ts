import type { DescMessage, DescMethodBiDiStreaming, Message } from "@bufbuild/protobuf";
import { type ClientDuplex, type Outbound, RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { decodeMessage, encodeMessage } from "#channel/messages.ts";
import { FoedusError } from "#kernel/error.ts";

/** Most that is on the way at a time before a message counts as not yet written, as with the buffers of a kernel. */
const KERNEL_BYTES = 4 * 1024 * 1024;
/** Bytes around each message: of HTTP/2, TLS and TCP. */
const OVERHEAD_BYTES = 100;

/** Pace is what a line carries in one direction. */
export interface Pace {
  readonly bytesPerMs: number;
  readonly latencyMs: number;
}

/** SlowPipe is one direction of a call over a line of some rate and latency, in the time of a clock. */
export class SlowPipe<T extends Message> implements Outbound<T>, AsyncIterable<T> {
  closed = false;
  /** Nothing arrives any more, and nobody is told. */
  silent = false;
  readonly #clock: Clock;
  readonly #pace: Pace;
  readonly #schema: DescMessage;
  readonly #arrived: T[] = [];
  #freeAt = 0;
  #onTheWay: { readonly from: number; readonly to: number; readonly bytes: number }[] = [];
  #read = 0;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(clock: Clock, pace: Pace, schema: DescMessage) {
    this.#clock = clock;
    this.#pace = pace;
    this.#schema = schema;
  }

  send(message: T | RawMessage): boolean {
    if (this.closed) return false;
    const bytes = message instanceof RawMessage ? message.bytes : encodeMessage(this.#schema, message);
    const { bytesPerMs, latencyMs } = this.#pace;
    const from = Math.max(this.#clock.mono(), this.#freeAt);
    const to = from + (bytes.length + OVERHEAD_BYTES) / bytesPerMs;
    this.#freeAt = to;
    const entry = { from, to, bytes: bytes.length };
    this.#onTheWay.push(entry);
    this.#clock.setTimer(to + latencyMs - this.#clock.mono(), () => {
      if (this.silent) return;
      this.#onTheWay = this.#onTheWay.filter((one) => one !== entry);
      this.#read += bytes.length;
      this.#arrived.push(decodeMessage(this.#schema, bytes) as T);
      this.#wake?.();
    });
    return true;
  }

  get bufferedBytes(): number {
    return Math.max(0, this.#onTheWay.reduce((sum, { bytes }) => sum + bytes, 0) - KERNEL_BYTES);
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  /** bytesRead counts what came, also of a message that is not whole yet. */
  bytesRead(): number {
    const now = this.#clock.mono() - this.#pace.latencyMs;
    const part = this.silent ? undefined : this.#onTheWay[0];
    return this.#read + (part === undefined ? 0 : Math.max(0, Math.min(1, (now - part.from) / (part.to - part.from))) * part.bytes);
  }

  end(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.#error = error;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const message = this.#arrived.shift();
      if (message !== undefined) {
        yield message;
        continue;
      }
      if (this.closed) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** slowPair joins both ends of one call over a line. */
export function slowPair<Req extends Message, Res extends Message>(clock: Clock, pace: Pace, method: DescMethodBiDiStreaming) {
  const requests = new SlowPipe<Req>(clock, pace, method.input);
  const out = new SlowPipe<Res>(clock, pace, method.output);
  const client: ClientDuplex<Req, Res> = {
    send: (message) => requests.send(message),
    get bufferedBytes() {
      return requests.bufferedBytes;
    },
    get closed() {
      return requests.closed;
    },
    drained: () => requests.drained(),
    responses: out,
    opened: Promise.resolve(),
    end: () => requests.end(),
    cancel: () => {
      const error = new FoedusError({ reason: "CANCELLED", message: "the call was cancelled" });
      requests.end(error);
      out.end(error);
    },
  };
  return { client, requests, out };
}
