import type { CallContext, Caller } from "../rpc/call.ts";
import type { MetRun, SessionClient } from "./peer-links-api.ts";
import type { Frame } from "./session-codec.ts";
import type { SessionStream } from "./session-stream.ts";

/** Link is one stream between this hub and a peer, from the dial or the call until it has ended. */
export interface Link<F extends Frame> {
  readonly streamId: number;
  readonly peer: string;
  stream: SessionStream<F> | undefined;
  /** Clients of the connections that we dialled. */
  readonly clients: SessionClient<F>[];
  /** The call, on inbound streams, and who called. */
  readonly context: CallContext | undefined;
  readonly caller: Caller | undefined;
  /** Bytes that had come over its connections when they were last counted. */
  counted: number;
  /** False until a dial was answered. */
  opened: boolean;
  /** Wall ms at which the credentials of the peer were last checked on this stream. */
  checkedAtWall: number;
  /** Process of the peer that opened it or answered, if it said which. */
  run: MetRun | undefined;
  /** A renewed token was refused on it, and that was said. */
  refused: boolean;
  /** It did not come up for want of its second stream. */
  halved: boolean;
}

/** newLink is a stream that was called, with its context, or one that is being dialled. */
export function newLink<F extends Frame>(streamId: number, peer: string, context: CallContext | undefined, checkedAtWall: number): Link<F> {
  return {
    streamId,
    peer,
    context,
    caller: context?.caller,
    opened: context !== undefined,
    stream: undefined,
    clients: [],
    counted: 0,
    checkedAtWall,
    run: undefined,
    refused: false,
    halved: false,
  };
}

/** bytesOf counts what has come over the connections of a link. */
export function bytesOf<F extends Frame>({ context, clients }: Link<F>): number {
  return clients.reduce((sum, client) => sum + (client.bytesRead?.() ?? 0), context?.bytesRead?.() ?? 0);
}

/** endOf is when the first of the connections of a link that we dialled ends with the certificate of the peer, wall ms. */
export function endOf<F extends Frame>({ clients }: Link<F>): number {
  return Math.min(Number.POSITIVE_INFINITY, ...clients.map((client) => client.endsAtWall?.() ?? Number.POSITIVE_INFINITY));
}
