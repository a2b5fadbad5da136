import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Outbound, RawMessage } from "#channel/call.ts";
import type { Timer } from "#channel/clock.ts";
import { failureToProto } from "#channel/failure.ts";
import { MalformedError } from "#channel/messages.ts";
import { type SessionControl, type SessionOpen, SessionOpenSchema } from "#gen/foedus/common/v1/session_pb.ts";
import { Flight } from "#kernel/bounds/flight.ts";
import type { Failure } from "#kernel/error.ts";
import { Allowance } from "./session-allowance.ts";
import { type Envelope, type Frame, LONGEST_FRAME_BYTES } from "./session-codec.ts";
import { type DialSecond, dialledHalf, failureIn, type Half, SILENT_END, statedFailure } from "./session-half.ts";
import type { ControlInit, SessionHandlers, SessionStream, SessionStreamOptions, StreamCounters } from "./session-stream-api.ts";

export type { ControlInit, SessionHandlers, SessionStream, SessionStreamOptions, StreamCounters } from "./session-stream-api.ts";

export const DEFAULT_WINDOW_BYTES = 4 * 1024 * 1024;
export const CLOSE_TIMEOUT_MS = 5_000;
/** Transport bytes above which the stream asks for a pause. */
const TRANSPORT_MARK_BYTES = 1024 * 1024;
/** Pings, pongs and refreshes that a peer may send in one period. */
const CONTROL_MAX = 64;
const CONTROL_PERIOD_MS = 10_000;
const U32_MAX = 0xffff_ffff;

/**
 * Stream is one session on one stream or on two (`windows.ts` says why).
 *
 * SS1 all that a side says in a session of two, save its opens and Credit, is on one stream, in order: the dialer's on the first, the
 *    acceptor's on the second. So the order of frames is that of a session of one.
 * SS2 Credit goes the opposite way on the stream of the frames that it is for, where nothing is in front of it.
 * SS3 nobody sends a frame before both streams stand: the dialer takes the first open as said when the second stream is answered.
 * SS4 the streams end together. One that ends in order leaves the other `closeTimeoutMs` to say why, one that fails leaves nothing.
 * SS5 of what comes behind a frame that broke the rules, or bytes that are none, nothing is taken; and the other side is told.
 * SS6 to a peer that gives credit promptly, no more is under way than arrives soon (`flight.ts`). The rest waits here, so that a common
 *    frame is never behind a window of others.
 */
export class Stream<F extends Frame> implements SessionStream<F> {
  readonly counters: StreamCounters = { framesIn: 0, framesOut: 0, bytesIn: 0, bytesOut: 0, stalls: 0, resumes: 0 };
  readonly #o: SessionStreamOptions<F>;
  readonly #half: Half;
  readonly #handlers: SessionHandlers<F>;
  readonly #window: number;
  readonly #dialSecond: DialSecond | undefined;
  readonly #finished = Promise.withResolvers<void>();
  #second: Half | undefined;
  /** The session that this stream, the second one, belongs to; and the other way round. */
  #main: Stream<F> | undefined;
  #joined: Stream<F> | undefined;
  /** Our open, once it was said. */
  #own: SessionOpen | undefined;
  /** The acceptor's open, until the second stream is answered. */
  #answer: { readonly control: SessionControl; readonly open: SessionOpen } | undefined;
  /** The other side can have two streams. */
  #offered = false;
  #waiting = false;
  /** Where frames go, and where Credit goes (SS1, SS2). */
  #data: Outbound<never>;
  #back: Outbound<never>;
  /** Frames that wait for credit. */
  #outbox: Buffer[] = [];
  #outboxBytes = 0;
  #credit = 0;
  /** What is under way; undefined to a peer of a version that does not tell soon what arrived. */
  #flight: Flight | undefined;
  #awaitingDrain = false;
  /** Frames that wait for their consumer. */
  #inbox: { readonly frame: F; readonly bytes: number }[] = [];
  #consuming = false;
  /** What the other side may still send. */
  readonly #allowance: Allowance;
  #controls = 0;
  #periodStart = 0;
  /** Why it ends, once that is decided here or was said by the other side. */
  #reason: Failure | undefined;
  #told = false;
  /** The other side broke the rules. */
  #violated = false;
  #closing = false;
  #over = false;
  #timer: Timer | undefined;

  constructor(half: Half, handlers: SessionHandlers<F>, options: SessionStreamOptions<F>, dialSecond?: DialSecond) {
    this.#half = half;
    this.#handlers = handlers;
    this.#o = options;
    this.#window = options.windowBytes ?? DEFAULT_WINDOW_BYTES;
    this.#dialSecond = dialSecond;
    this.#data = half.out;
    this.#back = half.out;
    this.#allowance = new Allowance(this.#window, options.clock, (bytes) =>
      this.#control({ case: "credit", value: { bytes } }, this.#back),
    );
  }

  get waiting(): boolean {
    return this.#waiting && !this.#closing && !this.#over;
  }

  get unpaired(): boolean {
    return this.#answer !== undefined;
  }

  get streams(): number {
    return this.#second === undefined ? 1 : 2;
  }

  /** finished resolves when the session is over, and with it every stream of it. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  get aheadBytes(): number {
    return this.#flight?.limit ?? Number.POSITIVE_INFINITY;
  }

  /** mayLeave: the next frame has credit, and not too much is under way. */
  get #mayLeave(): boolean {
    return this.#credit > 0 && (this.#flight === undefined || this.#flight.room);
  }

  get writable(): boolean {
    const ready = this.#mayLeave && this.#outbox.length === 0 && this.#data.bufferedBytes < TRANSPORT_MARK_BYTES;
    return ready && !this.#closing && !this.#over;
  }

  send(frame: F | RawMessage): boolean {
    if (this.#closing || this.#over) return false;
    const bytes = this.#encode(frame);
    if (bytes === undefined) return false;
    if (this.#mayLeave && this.#outbox.length === 0) return this.#transmit(bytes);
    if (this.#outboxBytes + bytes.length > this.#window) return false;
    if (this.#outbox.length === 0) this.counters.stalls++;
    this.#outbox.push(bytes);
    this.#outboxBytes += bytes.length;
    return true;
  }

  sendControl(frame: ControlInit): boolean {
    if (this.#over || this.#closing) return false;
    if (frame.case === "open") return this.#own !== undefined || this.#open(frame.value);
    return this.#control(frame);
  }

  #open(value: MessageInitShape<typeof SessionOpenSchema>): boolean {
    this.#allowance.open();
    const dialer = this.#dialSecond !== undefined;
    const two = this.#o.two === true && (dialer || this.#offered);
    this.#own = create(SessionOpenSchema, { ...value, credit: this.#window, streams: two ? 2 : 0, promptCredit: true });
    this.#waiting = two && !dialer;
    return this.#control({ case: "open", value: this.#own });
  }

  join(second: SessionStream<F>): void {
    if (!(second instanceof Stream) || !this.waiting) return;
    this.#waiting = false;
    this.#second = second.#half;
    this.#data = second.#half.out;
    this.#joined = second;
    second.#main = this;
    this.#openSecond(second.#half);
  }

  /** openSecond says our open on the second stream. */
  #openSecond({ out }: Half): void {
    const { hubId, incarnation, n, packages, software } = this.#own ?? create(SessionOpenSchema);
    this.#control({ case: "open", value: { hubId, incarnation, n, packages, software, streams: 2, second: true } }, out);
  }

  /** dial opens the second stream of a session whose acceptor can have two. */
  #dial(dialSecond: DialSecond): void {
    try {
      const duplex = dialSecond();
      const half = dialledHalf(duplex);
      this.#second = half;
      this.#back = half.out;
      this.#openSecond(half);
      void this.#readHalf(half, duplex.responses);
    } catch (error) {
      this.abort(failureIn(error));
    }
  }

  close(failure: Failure, reconnect: boolean): void {
    if (this.#closing || this.#over) return;
    this.#reason ??= failure;
    if (!this.#told) this.#control({ case: "terminated", value: { failure: failureToProto(failure), reconnect } });
    this.#closing = true;
    this.#allowance.close();
    this.#outbox = [];
    this.#outboxBytes = 0;
    this.#limit(failure);
    this.#half.finish();
    this.#second?.finish();
  }

  /** limit ends the session if the other side has not done so in time. */
  #limit(failure: Failure): void {
    this.#timer ??= this.#o.clock.setTimer(this.#o.closeTimeoutMs ?? CLOSE_TIMEOUT_MS, () => this.abort(failure));
  }

  abort(failure: Failure): void {
    if (this.#over) return;
    this.#reason ??= failure;
    this.#half.abort(this.#reason);
    this.#second?.abort(this.#reason);
    this.#finish();
  }

  /** read takes what arrives on the first stream, or on one that is joined to another, until it ends. */
  read(messages: AsyncIterable<Envelope>): Promise<void> {
    return this.#readHalf(this.#half, messages);
  }

  async #readHalf(half: Half, messages: AsyncIterable<Envelope>): Promise<void> {
    let failure: Failure | undefined;
    try {
      for await (const message of messages) {
        const session = this.#main ?? this;
        const pause = session.#over || session.#violated ? undefined : session.#receive(message, half);
        if (pause !== undefined) await pause;
      }
    } catch (error) {
      if (error instanceof MalformedError) return (this.#main ?? this).#malformed(half, error.failure);
      failure = failureIn(error);
    }
    (this.#main ?? this).#halfEnded(half, failure);
  }

  /** malformed ends the session as every broken rule does, with a word; then it takes as long as that takes to go out. */
  #malformed(half: Half, failure: Failure): void {
    this.#refuse(failure);
    if (this.#over || !this.#closing) return this.#halfEnded(half, failure);
    half.malformed = true;
    const other = this.#otherThan(half);
    if (half.flushes && (other === undefined || other.ended || other.malformed)) this.#finish();
  }

  #otherThan(half: Half): Half | undefined {
    return half === this.#half ? this.#second : this.#half;
  }

  #halfEnded(half: Half, failure: Failure | undefined): void {
    half.ended = true;
    if (this.#over) return;
    // The first one ended by itself: that says nothing about the second.
    if (half === this.#half && !this.#closing) this.#answer = undefined;
    const stopping = failure?.reason === "SHUTTING_DOWN";
    // The server shuts down: nothing is read any more, but a goodbye still goes out.
    if (stopping && !this.#closing) this.close(failure, true);
    if (failure !== undefined) this.#reason ??= failure;
    const other = this.#otherThan(half);
    if (other === undefined || other.ended || other.malformed || (failure !== undefined && !stopping)) this.#finish();
    else this.#limit(this.#reason ?? SILENT_END);
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
    if (this.#flight?.sent(bytes.length) === true) this.#flight.begin(this.#o.clock.mono());
    const taken = this.#write(bytes);
    if (!this.#awaitingDrain && this.#data.bufferedBytes >= TRANSPORT_MARK_BYTES) {
      this.#awaitingDrain = true;
      void this.#data.drained().then(() => {
        this.#awaitingDrain = false;
        this.#resume();
      });
    }
    return taken;
  }

  #write(bytes: Buffer, out = this.#data): boolean {
    if (!out.send(new RawMessage(bytes))) return false;
    this.counters.framesOut++;
    this.counters.bytesOut += bytes.length;
    return true;
  }

  #control(frame: ControlInit, out = this.#data): boolean {
    if (out.bufferedBytes > this.#window + TRANSPORT_MARK_BYTES) {
      this.abort({ reason: "OVERLOADED", message: "the peer does not read its session" });
      return false;
    }
    return this.#write(this.#o.codec.encode(this.#o.codec.control({ frame })), out);
  }

  #addCredit(bytes: number): void {
    this.#credit = Math.min(U32_MAX, this.#credit + bytes);
    this.#flight?.arrived(bytes, this.#o.clock.mono());
    while (this.#mayLeave && !this.#closing) {
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

  #receive(message: Envelope, half: Half): Promise<void> | undefined {
    const opened = this.#o.codec.open(message);
    if (opened === undefined) this.#violate("INVALID_FIELD", "a session message without a frame");
    else this.#take(opened.frame as F, opened.bytes, half);
    return opened === undefined ? undefined : this.#handlers.pace?.(opened.frame as F, opened.bytes);
  }

  #take(frame: F, bytes: number, half: Half): void {
    this.counters.framesIn++;
    this.counters.bytesIn += bytes;
    const control = this.#o.codec.unwrap(frame);
    const refused = bytes > this.#o.codec.maxBytes(frame) ? TOO_LARGE : this.#handlers.check(frame);
    if (refused !== undefined) return this.#refuse(refused);
    if (this.#waiting && control?.frame.case !== "terminated") return this.#violate("INVALID_FIELD", "a frame before the second stream");
    if (control !== undefined) return this.#receiveControl(control, half);
    if (!this.#allowance.take(bytes)) return this.#violate("LIMIT_EXCEEDED", "a frame was sent without credit");
    this.#inbox.push({ frame, bytes });
    if (!this.#consuming) this.#consume();
  }

  #receiveControl(control: SessionControl, half: Half): void {
    const { frame } = control;
    if (frame.case === "credit") return this.#addCredit(frame.value.bytes);
    const now = this.#o.clock.mono();
    if (now - this.#periodStart >= CONTROL_PERIOD_MS) {
      this.#periodStart = now;
      this.#controls = 0;
    }
    if (++this.#controls > CONTROL_MAX)
      return this.#violate("RATE_LIMITED", `more than ${CONTROL_MAX} common frames in ${CONTROL_PERIOD_MS} ms`);
    if (frame.case === "open") return this.#receiveOpen(control, frame.value, half);
    if (frame.case === "terminated") {
      this.#told = true;
      this.#reason ??= statedFailure(frame.value);
    }
    this.#handlers.onControl(control);
  }

  #receiveOpen(control: SessionControl, open: SessionOpen, half: Half): void {
    if (half === this.#second) {
      const answer = this.#answer;
      this.#answer = undefined;
      if (answer !== undefined && open.second && sameSession(open, answer.open)) return this.#opened(answer.control);
      return this.#violate("INVALID_FIELD", "the open on the second stream is not of this session");
    }
    this.#offered = open.streams >= 2;
    if (!this.#offered || this.#own?.streams !== 2 || this.#dialSecond === undefined || this.#second !== undefined)
      return this.#opened(control);
    this.#answer = { control, open };
    this.#dial(this.#dialSecond);
  }

  /** opened takes the other side's open as said. */
  #opened(control: SessionControl): void {
    if (control.frame.case === "open") {
      const { credit, promptCredit } = control.frame.value;
      this.#credit = credit;
      this.#allowance.promptly(promptCredit);
      if (promptCredit) this.#flight = new Flight(credit);
    }
    this.#handlers.onControl(control);
    this.#addCredit(0);
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
            this.#allowance.consumed(bytes);
            this.#consume();
          },
          (error) => this.#bug(error),
        );
        return;
      }
      this.#allowance.consumed(bytes);
    }
  }

  #bug(err: unknown): void {
    this.#o.log.error({ err }, "frame could not be handled");
    this.#inbox = [];
    this.#consuming = true;
    this.#violate("INTERNAL", "a frame could not be handled");
  }

  #violate(reason: Failure["reason"], message: string): void {
    this.#refuse({ reason, message });
  }

  /** refuse tells of a broken rule, once. */
  #refuse(failure: Failure): void {
    if (this.#violated || this.#closing || this.#over) return;
    this.#violated = true;
    this.#handlers.onViolation(failure);
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#allowance.stop();
    this.#outbox = [];
    this.#outboxBytes = 0;
    for (const half of [this.#half, this.#second])
      if (half?.ended === false) half.abort(this.#reason ?? SILENT_END);
      else half?.finish();
    this.#finished.resolve();
    if (this.#joined !== undefined) this.#joined.#finished.resolve();
    this.#handlers.onEnd(this.#reason ?? SILENT_END);
  }
}

const TOO_LARGE: Failure = { reason: "MESSAGE_TOO_LARGE", message: "a frame is larger than its type allows" };

function sameSession(a: SessionOpen, b: SessionOpen): boolean {
  return a.hubId === b.hubId && a.incarnation === b.incarnation && a.n === b.n;
}
