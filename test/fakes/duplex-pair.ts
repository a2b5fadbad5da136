import type { DescMessage, DescMethodBiDiStreaming, Message } from "@bufbuild/protobuf";
import { type ClientDuplex, type Outbound, RawMessage } from "#channel/call.ts";
import { decodeMessage, encodeMessage } from "#channel/messages.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";

const DRAIN_MARK_BYTES = 256 * 1024;

/** Pipe is one direction: messages are encoded on the way in and decoded on the way out, as on a wire. */
class Pipe<T extends Message> implements Outbound<T>, AsyncIterable<T> {
  /** Nothing arrives any more, and nobody is told. */
  silent = false;
  /** Nothing leaves: what is sent stays in the buffer. */
  stuck = false;
  closed = false;
  readonly #schema: DescMessage;
  readonly #queue: Buffer[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  #drain: (() => void)[] = [];

  constructor(schema: DescMessage) {
    this.#schema = schema;
  }

  get bufferedBytes(): number {
    return this.#queue.reduce((sum, { length }) => sum + length, 0);
  }

  send(message: T | RawMessage): boolean {
    if (this.closed) return false;
    const bytes = message instanceof RawMessage ? message.bytes : encodeMessage(this.#schema, message);
    if (!this.silent) this.#queue.push(Buffer.from(bytes));
    this.#wake?.();
    return true;
  }

  drained(): Promise<void> {
    if (this.closed || this.bufferedBytes < DRAIN_MARK_BYTES) return Promise.resolve();
    return new Promise((resolve) => this.#drain.push(resolve));
  }

  /** unstick lets what was held back go. */
  unstick(): void {
    this.stuck = false;
    this.#wake?.();
  }

  /** end is the orderly end: what was sent arrives first. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.closed = true;
    this.#ended = true;
    this.#error = error;
    if (!this.silent) this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const bytes = this.stuck ? undefined : this.#queue.shift();
      if (bytes !== undefined) {
        if (this.bufferedBytes < DRAIN_MARK_BYTES) for (const resolve of this.#drain.splice(0)) resolve();
        yield decodeMessage(this.#schema, bytes) as T;
        continue;
      }
      if (this.#ended && !this.silent) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** DuplexPair is a bidi call in memory, both ends. */
export interface DuplexPair<Req extends Message, Res extends Message> {
  readonly client: ClientDuplex<Req, Res>;
  readonly requests: Pipe<Req>;
  readonly out: Pipe<Res>;
  /** serve ends the call when the handler's promise settles, as a server does. */
  serve(handler: Promise<void>): void;
  /** cut breaks the connection; both ends learn of it. */
  cut(): void;
  /** silence makes the link half-open: nobody learns of anything. */
  silence(): void;
}

const GONE: Failure = { reason: "PEER_UNREACHABLE", message: "the connection is gone" };

/** duplexPair joins a client's and a server's end of one call. `opened` resolves at once, or when `answer` does. */
export function duplexPair<Req extends Message, Res extends Message>(
  method: DescMethodBiDiStreaming,
  answer: Promise<void> = Promise.resolve(),
): DuplexPair<Req, Res> {
  const requests = new Pipe<Req>(method.input);
  const out = new Pipe<Res>(method.output);
  const over = (failure: Failure): void => {
    requests.end(new FoedusError(failure));
    out.end(new FoedusError(failure));
  };
  answer.catch(() => over(GONE));
  return {
    requests,
    out,
    client: {
      send: (message) => requests.send(message),
      get bufferedBytes() {
        return requests.bufferedBytes;
      },
      get closed() {
        return requests.closed;
      },
      drained: () => requests.drained(),
      responses: out,
      opened: answer,
      end: () => requests.end(),
      cancel: () => over({ reason: "CANCELLED", message: "the call was cancelled" }),
    },
    serve: (handler) =>
      void handler.then(
        () => {
          out.end();
          requests.end();
        },
        (error) => {
          out.end(error as Error);
          requests.end();
        },
      ),
    cut: () => over(GONE),
    silence: () => {
      requests.silent = true;
      out.silent = true;
    },
  };
}
