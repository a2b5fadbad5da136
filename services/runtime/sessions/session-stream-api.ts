import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import type { SessionControl, SessionControlSchema } from "#gen/foedus/common/v1/session_pb.ts";
import type { Failure } from "#kernel/error.ts";
import type { Logger } from "#runtime/log/log.ts";
import type { Frame, SessionCodec } from "./session-codec.ts";

/** ControlInit is a common frame to be sent. */
export type ControlInit = NonNullable<MessageInitShape<typeof SessionControlSchema>["frame"]>;

/** SessionHandlers are told what arrives. */
export interface SessionHandlers<F> {
  /** A common frame other than credit. */
  onControl(control: SessionControl): void;
  /** check decides whether a frame may come in, before it is queued; a failure ends the stream. */
  check(frame: F): Failure | undefined;
  /** pace is told of each frame that came; while the promise is pending the stream is not read further. */
  pace?(frame: F, bytes: number): Promise<void> | undefined;
  /**
   * A frame of the service, in order, one at a time: the next comes when the promise is settled, and the sender gets
   * credit for `bytes` then. Meanwhile at most a window of frames waits, and common frames still come through.
   */
  onFrame(frame: F, bytes: number): void | Promise<void>;
  /** The stream became writable again. */
  onCredit(): void;
  /** The other side broke the rules; `close` should follow. */
  onViolation(failure: Failure): void;
  /** Called once, at the very end. */
  onEnd(failure: Failure): void;
}

/** SessionStreamOptions shape a stream. */
export interface SessionStreamOptions<F extends Frame> {
  readonly codec: SessionCodec<F>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Bytes of own frames that the other side may have under way to us. Default 4 MiB. */
  readonly windowBytes?: number;
  /** How long `close` waits for the other side. Default 5 s. */
  readonly closeTimeoutMs?: number;
  /** True if a session may have a second stream. */
  readonly two?: boolean;
}

/** SessionStream is one session's stream, the same for both ends. */
export interface SessionStream<F> {
  /**
   * send takes a frame of the service, or its encoded envelope. It waits here while the other side gives no credit; false
   * when the stream is over, the waiting room (one window) is full or the frame is too large. It never throws (S0-9).
   */
  send(frame: F | RawMessage): boolean;
  /** sendControl sends a common frame past the credit; false when the stream is over or hopelessly stuck. */
  sendControl(frame: ControlInit): boolean;
  /** writable: the next frame would leave at once. `onCredit` says when it became true. */
  readonly writable: boolean;
  /** aheadBytes is how many bytes of frames may be under way now: what is sent beyond that waits. Infinity if that is not known of the peer. */
  readonly aheadBytes: number;
  readonly counters: Readonly<StreamCounters>;
  /** waiting: the opens agreed on a second stream, and the dialer has not opened it yet. */
  readonly waiting: boolean;
  /** unpaired: we dialled it, the opens agreed on a second stream, and that did not come to stand although the first one did. */
  readonly unpaired: boolean;
  /** Streams that carry it: 1 or 2. */
  readonly streams: number;
  /** join makes another accepted stream the second one of this session. Both are one from then on. */
  join(second: SessionStream<F>): void;
  /** close says TERMINATED, unless the other side said it, and finishes: within `closeTimeoutMs` at the latest. */
  close(failure: Failure, reconnect: boolean): void;
  /** abort ends it without a word. */
  abort(failure: Failure): void;
}

/** StreamCounters count both directions, common frames included. */
export interface StreamCounters {
  framesIn: number;
  framesOut: number;
  bytesIn: number;
  bytesOut: number;
  /** How often a frame had to wait for credit, and how often the stream became writable again. */
  stalls: number;
  resumes: number;
}
