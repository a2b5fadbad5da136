import type { ClientDuplex, Outbound } from "#channel/call.ts";
import { failureFromProto } from "#channel/failure.ts";
import type { Terminated } from "#gen/foedus/common/v1/session_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Envelope } from "./session-codec.ts";

/** Half is one stream that carries a session, or a half of one; it is also what differs between dialer and acceptor. */
export interface Half {
  readonly out: Outbound<never>;
  /** Nothing more arrives on it. */
  ended: boolean;
  /** Something malformed arrived on it, and nothing behind that is read: whether it has ended cannot be seen. */
  malformed: boolean;
  /** What was said on it before `abort` still goes out. */
  readonly flushes: boolean;
  /** finish says that we send no more. */
  finish(): void;
  abort(failure: Failure): void;
}

/** DialSecond is what the dialer does to open the second stream. */
export type DialSecond = () => ClientDuplex<Envelope, Envelope>;

/** dialledHalf is the half of who dialled. */
export function dialledHalf(duplex: ClientDuplex<Envelope, Envelope>): Half {
  return {
    out: duplex as Outbound<never>,
    ended: false,
    malformed: false,
    flushes: false,
    finish: () => duplex.end(),
    abort: () => duplex.cancel(),
  };
}

/** acceptedHalf is the half of who was called. `abort` ends the call. */
export function acceptedHalf(out: Outbound<Envelope>, abort: (failure: Failure) => void): Half {
  return { out: out as Outbound<never>, ended: false, malformed: false, flushes: true, finish: () => undefined, abort };
}

/** failureIn makes a Failure of what a transport threw. */
export function failureIn(error: unknown): Failure {
  return error instanceof FoedusError ? error.failure : { reason: "INTERNAL", message: "the stream failed in this process" };
}

/** SILENT_END is why a session ended of which the other side said nothing. */
export const SILENT_END: Failure = { reason: "PEER_UNREACHABLE", message: "the peer ended the stream without saying why" };

/** statedFailure is why the other side ended a session. */
export function statedFailure({ failure }: Terminated): Failure {
  return failure === undefined ? SILENT_END : failureFromProto(failure);
}
