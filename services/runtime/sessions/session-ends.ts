import type { ClientDuplex, Outbound } from "#channel/call.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { withTimeout } from "#runtime/clock.ts";
import type { Envelope, Frame } from "./session-codec.ts";
import { acceptedHalf, type DialSecond, dialledHalf } from "./session-half.ts";
import { CLOSE_TIMEOUT_MS, Stream } from "./session-stream.ts";
import type { SessionHandlers, SessionStream, SessionStreamOptions } from "./session-stream-api.ts";

/** dialSession runs the dialer's end over an open call. `dialSecond` opens another one, on a connection of its own, if the acceptor can have two. */
export function dialSession<F extends Frame>(
  duplex: ClientDuplex<Envelope<F>, Envelope<F>>,
  handlers: SessionHandlers<F>,
  options: SessionStreamOptions<F>,
  dialSecond?: () => ClientDuplex<Envelope<F>, Envelope<F>>,
): SessionStream<F> {
  const stream = new Stream(
    dialledHalf(duplex as ClientDuplex<Envelope, Envelope>),
    handlers,
    options,
    dialSecond as DialSecond | undefined,
  );
  void stream.read(duplex.responses);
  return stream;
}

/**
 * acceptSession runs the acceptor's end. `done` is what the RPC's handler returns: it settles when the call may end, which
 * is when the dialer has finished or gave up, and everything that was said was handed to the transport, or was not taken within
 * `closeTimeoutMs` (DEADLINE_EXPIRED).
 */
export function acceptSession<F extends Frame>(
  requests: AsyncIterable<Envelope<F>>,
  out: Outbound<Envelope<F>>,
  handlers: SessionHandlers<F>,
  options: SessionStreamOptions<F>,
): { readonly stream: SessionStream<F>; readonly done: Promise<void> } {
  const done = Promise.withResolvers<void>();
  const abort = (failure: Failure): void => done.reject(new FoedusError(failure));
  const stream = new Stream(acceptedHalf(out as Outbound<Envelope>, abort), handlers, options);
  const { clock, closeTimeoutMs = CLOSE_TIMEOUT_MS } = options;
  void stream.read(requests);
  void stream.finished
    // A dialer that has finished and does not read would keep the call for as long as it likes, with nothing that counts it.
    .then(() => withTimeout(clock, closeTimeoutMs, () => out.drained()))
    .then(done.resolve, done.reject);
  return { stream, done: done.promise };
}
