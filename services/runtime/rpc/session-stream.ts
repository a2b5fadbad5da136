import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SessionControl, SessionControlSchema, Terminated } from "#gen/foedus/common/v1/session_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { type Clock, type Timer, withTimeout } from "#runtime/clock.ts";
import type { Logger } from "#runtime/log/log.ts";
import { type ClientDuplex, type Outbound, RawMessage } from "./call.ts";
import { failureFromProto, failureToProto } from "./failure.ts";
import { type Envelope, type Frame, LONGEST_FRAME_BYTES, type SessionCodec } from "./session-codec.ts";

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
}

export const DEFAULT_WINDOW_BYTES = 4 * 1024 * 1024;
const CLOSE_TIMEOUT_MS = 5_000;
/** Transport bytes above which the stream asks for a pause. */
const TRANSPORT_MARK_BYTES = 1024 * 1024;
/** Pings, pongs and refreshes that a peer may send in one period. */
const CONTROL_MAX = 64;
const CONTROL_PERIOD_MS = 10_000;
const U32_MAX = 0xffff_ffff;

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
  readonly counters: Readonly<StreamCounters>;
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

/** Half is what differs between dialer and acceptor. */
interface Half {
  readonly out: Outbound<never>;
  /** finish says that we send no more. */
  finish(): void;
  abort(failure: Failure): void;
}

/** failureIn makes a Failure of what a transport threw. */
export function failureIn(error: unknown): Failure {
  return error instanceof FoedusError ? error.failure : { reason: "INTERNAL", message: "the stream failed in this process" };
}

const SILENT_END: Failure = { reason: "PEER_UNREACHABLE", message: "the peer ended the stream without saying why" };

/** statedFailure is why the other side ended a session. */
export function statedFailure({ failure }: Terminated): Failure {
  return failure === undefined ? SILENT_END : failureFromProto(failure);
}

class Stream<F extends Frame> implements SessionStream<F> {
  readonly counters: StreamCounters = { framesIn: 0, framesOut: 0, bytesIn: 0, bytesOut: 0, stalls: 0, resumes: 0 };
  readonly #o: SessionStreamOptions<F>;
  readonly #half: Half;
  readonly #handlers: SessionHandlers<F>;
  readonly #window: number;
  /** Frames that wait for credit. */
  #outbox: Buffer[] = [];
  #outboxBytes = 0;
  #credit = 0;
  #awaitingDrain = false;
  /** Frames that wait for their consumer. */
  #inbox: { readonly frame: F; readonly bytes: number }[] = [];
  #consuming = false;
  /** What the other side may still send, and what was consumed since it was last told. */
  #allowance = 0;
  #consumed = 0;
  #controls = 0;
  #periodStart = 0;
  /** Why it ends, once that is decided here or was said by the other side. */
  #reason: Failure | undefined;
  #told = false;
  #closing = false;
  #over = false;
  #timer: Timer | undefined;

  constructor(half: Half, handlers: SessionHandlers<F>, options: SessionStreamOptions<F>) {
    this.#half = half;
    this.#handlers = handlers;
    this.#o = options;
    this.#window = options.windowBytes ?? DEFAULT_WINDOW_BYTES;
  }

  get writable(): boolean {
    return (
      !this.#closing && !this.#over && this.#credit > 0 && this.#outbox.length === 0 && this.#half.out.bufferedBytes < TRANSPORT_MARK_BYTES
    );
  }

  send(frame: F | RawMessage): boolean {
    if (this.#closing || this.#over) return false;
    const bytes = this.#encode(frame);
    if (bytes === undefined) return false;
    if (this.#credit > 0 && this.#outbox.length === 0) return this.#transmit(bytes);
    if (this.#outboxBytes + bytes.length > this.#window) return false;
    if (this.#outbox.length === 0) this.counters.stalls++;
    this.#outbox.push(bytes);
    this.#outboxBytes += bytes.length;
    return true;
  }

  sendControl(frame: ControlInit): boolean {
    if (this.#over || this.#closing) return false;
    if (frame.case === "open") {
      this.#allowance = this.#window;
      return this.#control({ case: "open", value: { ...frame.value, credit: this.#window } as never });
    }
    return this.#control(frame);
  }

  close(failure: Failure, reconnect: boolean): void {
    if (this.#closing || this.#over) return;
    this.#reason ??= failure;
    if (!this.#told) this.#control({ case: "terminated", value: { failure: failureToProto(failure), reconnect } });
    this.#closing = true;
    this.#outbox = [];
    this.#outboxBytes = 0;
    this.#timer = this.#o.clock.setTimer(this.#o.closeTimeoutMs ?? CLOSE_TIMEOUT_MS, () => this.abort(failure));
    this.#half.finish();
  }

  abort(failure: Failure): void {
    if (this.#over) return;
    this.#reason ??= failure;
    this.#half.abort(this.#reason);
    this.#finish();
  }

  /** read takes what arrives until the other side ends; it resolves when the end was told. */
  async read(messages: AsyncIterable<Envelope>): Promise<void> {
    try {
      for await (const message of messages) {
        const pause = this.#over ? undefined : this.#receive(message);
        if (pause !== undefined) await pause;
      }
    } catch (error) {
      const failure = failureIn(error);
      // The server shuts down: nothing is read any more, but a goodbye still goes out.
      if (failure.reason === "SHUTTING_DOWN" && !this.#closing) this.close(failure, true);
      this.#reason ??= failure;
    }
    this.#finish();
  }

  #encode(frame: F | RawMessage): Buffer | undefined {
    try {
      const bytes = frame instanceof RawMessage ? frame.bytes : this.#o.codec.encode(frame);
      if (bytes.length <= (frame instanceof RawMessage ? LONGEST_FRAME_BYTES : this.#o.codec.maxBytes(frame))) return bytes;
      this.#o.log.error({ bytes: bytes.length }, "frame is too large and was not sent");
    } catch (err) {
      this.#o.log.error({ err }, "frame could not be encoded");
    }
    return undefined;
  }

  #transmit(bytes: Buffer): boolean {
    this.#credit -= bytes.length;
    const taken = this.#write(bytes);
    if (!this.#awaitingDrain && this.#half.out.bufferedBytes >= TRANSPORT_MARK_BYTES) {
      this.#awaitingDrain = true;
      void this.#half.out.drained().then(() => {
        this.#awaitingDrain = false;
        this.#resume();
      });
    }
    return taken;
  }

  #write(bytes: Buffer): boolean {
    if (!this.#half.out.send(new RawMessage(bytes))) return false;
    this.counters.framesOut++;
    this.counters.bytesOut += bytes.length;
    return true;
  }

  #control(frame: ControlInit): boolean {
    if (this.#half.out.bufferedBytes > this.#window + TRANSPORT_MARK_BYTES) {
      this.abort({ reason: "OVERLOADED", message: "the peer does not read its session" });
      return false;
    }
    return this.#write(this.#o.codec.encode(this.#o.codec.control({ frame })));
  }

  #addCredit(bytes: number): void {
    this.#credit = Math.min(U32_MAX, this.#credit + bytes);
    while (this.#credit > 0 && !this.#closing) {
      const next = this.#outbox.shift();
      if (next === undefined) break;
      this.#outboxBytes -= next.length;
      this.#transmit(next);
    }
    this.#resume();
  }

  #resume(): void {
    if (!this.writable) return;
    this.counters.resumes++;
    this.#handlers.onCredit();
  }

  #receive(message: Envelope): Promise<void> | undefined {
    const opened = this.#o.codec.open(message);
    if (opened === undefined) this.#violate("INVALID_FIELD", "a session message without a frame");
    else this.#take(opened.frame as F, opened.bytes);
    return opened === undefined ? undefined : this.#handlers.pace?.(opened.frame as F, opened.bytes);
  }

  #take(frame: F, bytes: number): void {
    this.counters.framesIn++;
    this.counters.bytesIn += bytes;
    const control = this.#o.codec.unwrap(frame);
    const refused = bytes > this.#o.codec.maxBytes(frame) ? TOO_LARGE : this.#handlers.check(frame);
    if (refused !== undefined) return this.#handlers.onViolation(refused);
    if (control !== undefined) return this.#receiveControl(control);
    if (this.#allowance <= 0) return this.#violate("LIMIT_EXCEEDED", "a frame was sent without credit");
    this.#allowance -= bytes;
    this.#inbox.push({ frame, bytes });
    if (!this.#consuming) this.#consume();
  }

  #receiveControl(control: SessionControl): void {
    const { frame } = control;
    if (frame.case === "credit") return this.#addCredit(frame.value.bytes);
    const now = this.#o.clock.mono();
    if (now - this.#periodStart >= CONTROL_PERIOD_MS) {
      this.#periodStart = now;
      this.#controls = 0;
    }
    if (++this.#controls > CONTROL_MAX)
      return this.#violate("RATE_LIMITED", `more than ${CONTROL_MAX} common frames in ${CONTROL_PERIOD_MS} ms`);
    if (frame.case === "open") this.#credit = frame.value.credit;
    if (frame.case === "terminated") {
      this.#told = true;
      this.#reason ??= statedFailure(frame.value);
    }
    this.#handlers.onControl(control);
    if (frame.case === "open") this.#addCredit(0);
  }

  /** consume hands frames on, one at a time. */
  #consume(): void {
    for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) {
      const { bytes } = next;
      let pending: void | Promise<void>;
      try {
        pending = this.#handlers.onFrame(next.frame, bytes);
      } catch (error) {
        return this.#bug(error);
      }
      if (pending !== undefined) {
        this.#consuming = true;
        void pending.then(
          () => {
            this.#consuming = false;
            this.#grant(bytes);
            this.#consume();
          },
          (error) => this.#bug(error),
        );
        return;
      }
      this.#grant(bytes);
    }
  }

  #grant(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.#window / 4 || this.#closing || this.#over) return;
    this.#allowance += this.#consumed;
    this.#control({ case: "credit", value: { bytes: this.#consumed } });
    this.#consumed = 0;
  }

  #bug(err: unknown): void {
    this.#o.log.error({ err }, "frame could not be handled");
    this.#inbox = [];
    this.#consuming = true;
    this.#violate("INTERNAL", "a frame could not be handled");
  }

  #violate(reason: Failure["reason"], message: string): void {
    if (!this.#closing && !this.#over) this.#handlers.onViolation({ reason, message });
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#outbox = [];
    this.#outboxBytes = 0;
    this.#half.finish();
    this.#handlers.onEnd(this.#reason ?? SILENT_END);
  }
}

const TOO_LARGE: Failure = { reason: "MESSAGE_TOO_LARGE", message: "a frame is larger than its type allows" };

/** dialSession runs the dialer's end over an open call. */
export function dialSession<F extends Frame>(
  duplex: ClientDuplex<Envelope<F>, Envelope<F>>,
  handlers: SessionHandlers<F>,
  options: SessionStreamOptions<F>,
): SessionStream<F> {
  const half: Half = { out: duplex as Outbound<never>, finish: () => duplex.end(), abort: () => duplex.cancel() };
  const stream = new Stream(half, handlers, options);
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
  const half: Half = { out: out as Outbound<never>, finish: () => undefined, abort: (failure) => done.reject(new FoedusError(failure)) };
  const stream = new Stream(half, handlers, options);
  const { clock, closeTimeoutMs = CLOSE_TIMEOUT_MS } = options;
  void stream
    .read(requests)
    // A dialer that has finished and does not read would keep the call for as long as it likes, with nothing that counts it.
    .then(() => withTimeout(clock, closeTimeoutMs, () => out.drained()))
    .then(done.resolve, done.reject);
  return { stream, done: done.promise };
}
