import { constants, type ServerHttp2Stream } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import type { Timer } from "#channel/clock.ts";
import { decodedSizeOf } from "#channel/decoded-size.ts";
import { Malformed } from "#channel/messages.ts";
import type { RequestFailure } from "#channel/status.ts";
import type { Failure } from "#kernel/error.ts";
import type { Account } from "../connections/accounts.ts";
import type { Intake } from "../connections/intake.ts";
import type { Interceptor } from "../interceptors/interceptor.ts";
import { type BugReporter, errorToStatus, failureToStatus, type Status } from "../status.ts";
import type { Outcome, ServerCall } from "./call-context.ts";
import { tellRefused } from "./refused-call.ts";

type Listener = Parameters<grpc.ServerInterceptingCallInterface["start"]>[0];
type PartialStatus = Parameters<grpc.ServerInterceptingCallInterface["sendStatus"]>[0];

/** Guard is what every call of a server goes through. */
export interface Guard {
  readonly interceptors: readonly Interceptor[];
  readonly bugs: BugReporter;
  readonly maxMessageBytes: number;
  nowMono(): number;
  setTimer(delayMs: number, fn: () => void): Timer;
  setImmediate(fn: () => void): Timer;
  /** begin makes the ServerCall of an arriving call. */
  begin(inner: grpc.ServerInterceptingCallInterface, path: string, metadata: grpc.Metadata): ServerCall;
  /** over is told when a call has ended, however it ended. */
  over(call: ServerCall): void;
  /** closed is told when nothing of the call is left in this process: its status was read, or its stream was reset. */
  closed(account: Account): void;
  /** intakeOf is what has arrived of the requests of a call. */
  intakeOf(inner: grpc.ServerInterceptingCallInterface): Intake | undefined;
}

/** Unpack is how grpc-js makes the bytes of a message of those that were sent, which begin with its frame. */
type Unpack = (message: Buffer, encoding: string) => Buffer | Promise<Buffer>;
const EMPTY = Buffer.alloc(0);

/** A cancellation this shortly before the deadline is the deadline, as the caller's timer saw it. */
const DEADLINE_RACE_MS = 20;
const LATE = { code: grpc.status.DEADLINE_EXCEEDED, details: "the deadline passed" };

/** LATE_FAILURE is what a call ends with at its deadline. */
export const LATE_FAILURE: Failure = { reason: "DEADLINE_EXPIRED", message: "the deadline passed" };

/** UNREAD_MS is how long the client of a call that is over may take to read its answer; after it the answer is dropped. */
export const UNREAD_MS = 10_000;
/** UNREAD_FAILURE is why it was. */
export const UNREAD_FAILURE: Failure = { reason: "OVERLOADED", message: "the caller does not read the answer" };

/** explain gives the statuses that grpc-js makes itself the same details as ours. */
function explain(status: PartialStatus, maxMessageBytes: number): Status | PartialStatus {
  if (status.metadata != null) return status;
  if (status.code === grpc.status.DEADLINE_EXCEEDED) return failureToStatus({ reason: "DEADLINE_EXPIRED", message: "the deadline passed" });
  if (status.code === grpc.status.INTERNAL && /^Invalid grpc-timeout/.test(status.details ?? ""))
    return failureToStatus({
      reason: "INVALID_FIELD",
      message: "grpc-timeout is no number of at most eight digits with a unit",
      field: "grpc-timeout",
    });
  if (status.code === grpc.status.RESOURCE_EXHAUSTED && /larger than/.test(status.details ?? "")) {
    const facts = { max_bytes: String(maxMessageBytes) };
    return failureToStatus({ reason: "MESSAGE_TOO_LARGE", message: `the message is larger than ${maxMessageBytes} bytes`, facts });
  }
  // Not a bug of this server: somebody sent a broken header or broken gzip.
  if (status.code === grpc.status.INTERNAL && CLIENT_FAULT.test(status.details ?? ""))
    return failureToStatus({ reason: "INVALID_FIELD", message: (status.details ?? "").slice(0, 200).toLowerCase() });
  return status;
}

/** What grpc-js calls INTERNAL though the caller caused it. */
const CLIENT_FAULT = /^(Failed to decompress message|Invalid grpc-timeout value)/;

/** Failures that a handler hears of when its call is over before it has answered. */
function abortFailure(status: PartialStatus | undefined): Failure {
  if (status === undefined) return { reason: "CANCELLED", message: "the caller cancelled or its connection is gone" };
  if (status.code === grpc.status.DEADLINE_EXCEEDED) return { reason: "DEADLINE_EXPIRED", message: "the deadline passed" };
  return { reason: "CANCELLED", message: status.details ?? "the call is over" };
}

/** resetNow resets a stream whose answer waits. Node holds such a reset back until it writes something else, so a ping follows. */
function resetNow(stream: ServerHttp2Stream): void {
  const { session } = stream;
  stream.close(constants.NGHTTP2_CANCEL);
  if (session !== undefined && !session.destroyed) session.ping(() => undefined);
}

/**
 * GuardedCall stands between grpc-js and a handler and runs the interceptors. One object for all of them, because each
 * `grpc.ServerInterceptingCall` would cost every message of a stream two more hops.
 */
export class GuardedCall implements grpc.ServerInterceptingCallInterface {
  readonly #inner: grpc.ServerInterceptingCallInterface;
  readonly #path: string;
  readonly #guard: Guard;
  readonly #intake: Intake | undefined;
  #call: ServerCall | undefined;
  #unreadTimer: Timer | undefined;
  #opened = 0;
  #over = false;
  #checked = false;

  constructor(inner: grpc.ServerInterceptingCallInterface, path: string, guard: Guard) {
    this.#inner = inner;
    this.#path = path;
    this.#guard = guard;
    // grpc-js ends calls itself (deadline, message too large) by this method of its own object, past every interceptor.
    const send = inner.sendStatus.bind(inner);
    inner.sendStatus = (status) => {
      this.#intake?.ended();
      const full = explain(status, guard.maxMessageBytes);
      this.#finish(full);
      send(full);
      this.#release();
    };
    this.#intake = guard.intakeOf(inner);
    if (this.#intake !== undefined) this.#takeIn(this.#intake);
  }

  /** takeIn tells the intake of each message that is complete; grpc-js unpacks them all as soon as they are, so that is where they show. */
  #takeIn(intake: Intake): void {
    const inner = this.#inner;
    const unpack = (Reflect.get(inner, "decompressMessage") as Unpack).bind(inner);
    intake.attach((failure, reason) => {
      // What arrived stays until the stream is closed, so it does not wait for a client that has too much here and does not read.
      if (reason === "bytes" && (this.#call?.unread ?? 0) > 0) this.#giveUp(failure);
      else inner.sendStatus(failureToStatus(failure));
    });
    const counted: Unpack = (message, encoding) => {
      const number = intake.message(message.length);
      if (encoding === "identity") return unpack(message, encoding);
      return intake.account.unpack(async () => {
        if (this.#over) return EMPTY;
        const plain = await unpack(message, encoding);
        return intake.unpacked(number, plain.length) ? plain : EMPTY;
      });
    };
    Reflect.set(inner, "decompressMessage", counted);
  }

  start(listener: Listener): void {
    this.#inner.start({
      onReceiveMetadata: (metadata) => this.#open(metadata, listener),
      onReceiveMessage: (message) => this.#message(message, listener),
      onReceiveHalfClose: () => {
        this.#intake?.whole();
        listener.onReceiveHalfClose();
      },
      onCancel: () => {
        this.#finish(this.#late() ? LATE : undefined);
        if (this.#opened >= this.#guard.interceptors.length) listener.onCancel();
      },
    });
  }

  #open(metadata: grpc.Metadata, listener: Listener): void {
    const call = this.#guard.begin(this.#inner, this.#path, metadata);
    this.#call = call;
    call.intake = this.#intake;
    this.#checked = call.entry.validated;
    call.attach({
      expire: (failure) => this.#inner.sendStatus(failureToStatus(failure)),
      giveUp: (failure) => this.#giveUp(failure),
      charged: () => this.#charged(call),
      answered: () => this.#awaitReader(call),
    });
    this.#next(call, metadata, listener);
  }

  /** next runs the remaining `open`s; an asynchronous one (a token's signature) comes back here. */
  #next(call: ServerCall, metadata: grpc.Metadata, listener: Listener): void {
    const { interceptors } = this.#guard;
    while (this.#opened < interceptors.length) {
      const interceptor = interceptors[this.#opened] as Interceptor;
      let answer: ReturnType<NonNullable<Interceptor["open"]>>;
      try {
        answer = interceptor.open?.(call);
      } catch (error) {
        return this.#refuse(error);
      }
      if (answer instanceof Promise) {
        answer.then(
          (failure) => {
            if (failure !== undefined) return this.#inner.sendStatus(failureToStatus(failure));
            this.#opened++;
            if (!this.#over) this.#next(call, metadata, listener);
          },
          (error: unknown) => this.#refuse(error),
        );
        return;
      }
      if (answer !== undefined) return this.#inner.sendStatus(failureToStatus(answer));
      this.#opened++;
    }
    listener.onReceiveMetadata(metadata);
  }

  #refuse(error: unknown): void {
    this.#inner.sendStatus(errorToStatus(error, this.#guard.bugs, { method: this.#path }));
  }

  #message(message: Message | Malformed, listener: Listener): void {
    if (this.#over) return;
    const call = this.#call as ServerCall;
    call.received++;
    if (message instanceof Malformed) return this.#inner.sendStatus(failureToStatus(message.error.failure));
    if (this.#intake?.decoded(decodedSizeOf(message)) === false) return;
    if (!this.#checked) return listener.onReceiveMessage(message);
    let failure: RequestFailure | undefined;
    try {
      for (const interceptor of this.#guard.interceptors) {
        failure = interceptor.request?.(call, message);
        if (failure !== undefined) return this.#inner.sendStatus(failureToStatus(failure));
      }
    } catch (error) {
      return this.#refuse(error);
    }
    listener.onReceiveMessage(message);
  }

  /**
   * finish closes the books exactly once. grpc-js fires onCancel after a normal end too, and only onCancel when the caller
   * went away: the status that was seen first counts.
   */
  #finish(status: PartialStatus | undefined): void {
    const call = this.#call;
    if (this.#over || call === undefined) return;
    this.#over = true;
    const failure = call.answered ? undefined : abortFailure(status);
    const code = status?.code ?? grpc.status.CANCELLED;
    const outcome: Outcome = { code, reason: grpc.status[code] ?? "", details: status?.details ?? "cancelled" };
    if (failure !== undefined) call.abort(failure);
    for (const interceptor of this.#guard.interceptors) interceptor.close?.(call, outcome);
    tellRefused(call, outcome);
    this.#guard.over(call);
  }

  /** charged gives back what the call holds when the last of it is gone from this process. */
  #charged(call: ServerCall): void {
    this.#stream.once("close", () => {
      this.#unreadTimer?.cancel();
      const account = call.settle();
      if (account !== undefined) this.#guard.closed(account);
    });
  }

  /** giveUp ends the call and drops what waits to be read: a status would wait behind it. */
  #giveUp(failure: Failure): void {
    this.#inner.sendStatus(failureToStatus(failure));
    if (!this.#stream.closed) resetNow(this.#stream);
  }

  /** awaitReader gives the client of a call that was answered some time to read it, whatever deadline it named. */
  #awaitReader(call: ServerCall): void {
    if (call.unread > 0) this.#unreadTimer ??= this.#guard.setTimer(UNREAD_MS, () => this.#giveUp(UNREAD_FAILURE));
  }

  get #stream(): ServerHttp2Stream {
    return Reflect.get(this.#inner, "stream") as ServerHttp2Stream;
  }

  /**
   * release gives back what a call holds after its status. A client that keeps its half open, or does not read, would else keep the
   * stream, and grpc-js and Node keep all that belongs to it: a refused caller must not hold more than one that was let in.
   */
  #release(): void {
    const stream = this.#stream;
    const call = this.#call;
    if (call !== undefined) this.#awaitReader(call);
    // After the whole answer "no error" is what asks the client to stop sending (RFC 9113, 8.1). nghttp2 drops trailers that wait when
    // a reset is queued, so it is queued in the turn after they were.
    const reset = (): void => {
      if (!stream.closed && Reflect.get(this.#inner, "receivedHalfClose") !== true) stream.close(constants.NGHTTP2_NO_ERROR);
    };
    if (Reflect.get(this.#inner, "wantTrailers") === true) stream.once("wantTrailers", () => this.#guard.setImmediate(reset));
    else reset();
  }

  /** late tells a deadline from a cancellation: at the deadline the caller's own timer cancels, a moment before or after ours. */
  #late(): boolean {
    const call = this.#call;
    return call?.timeoutMs !== undefined && this.#guard.nowMono() - call.startedMono >= call.timeoutMs - DEADLINE_RACE_MS;
  }

  sendMetadata(metadata: grpc.Metadata): void {
    this.#inner.sendMetadata(metadata);
  }
  sendMessage(message: unknown, callback: () => void): void {
    const call = this.#call;
    if (call !== undefined) call.sent++;
    this.#inner.sendMessage(message, callback);
  }

  sendStatus(status: PartialStatus): void {
    this.#inner.sendStatus(status);
  }
  startRead(): void {
    this.#inner.startRead();
  }
  /** getPeer tells nothing: an address is not an identity. */
  getPeer(): string {
    return "hidden";
  }
  getDeadline(): grpc.Deadline {
    return this.#inner.getDeadline();
  }
  getHost(): string {
    return this.#inner.getHost();
  }
  getAuthContext(): ReturnType<grpc.ServerInterceptingCallInterface["getAuthContext"]> {
    return this.#inner.getAuthContext();
  }
  getConnectionInfo(): ReturnType<grpc.ServerInterceptingCallInterface["getConnectionInfo"]> {
    return this.#inner.getConnectionInfo();
  }
  getMetricsRecorder(): ReturnType<grpc.ServerInterceptingCallInterface["getMetricsRecorder"]> {
    return this.#inner.getMetricsRecorder();
  }
}
