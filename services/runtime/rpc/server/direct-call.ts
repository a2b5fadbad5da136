import type { Message } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { RawMessage } from "#channel/call.ts";
import type { Timer } from "#channel/clock.ts";
import { scanRequest } from "#channel/decoded-size.ts";
import { decodeMessage, encodeMessage, methodPath } from "#channel/messages.ts";
import type { RequestFailure } from "#channel/status.ts";
import { ByteOutbound } from "#channel/streams.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { traceFields } from "../../trace/span.ts";
import type { Account } from "../connections/accounts.ts";
import { errorToStatus, failureToStatus, type Status } from "../status.ts";
import { type MethodEntry, mayAnswer, type ServerCall, UNREAD } from "./call-context.ts";
import { type Guard, LATE_FAILURE, UNREAD_FAILURE, UNREAD_MS } from "./guarded-call.ts";
import type { ServerStreamHandler, UnaryHandler } from "./handlers.ts";
import { tellRefused } from "./refused-call.ts";

/** Route is an RPC and what answers it. */
export interface Route extends MethodEntry {
  readonly handler: unknown;
  /** True if the handler takes the bytes of its request (ServiceBinding.rawRequests). */
  readonly raw: boolean;
}

/** Answers is how what a call answers leaves this process. */
export interface Answers {
  /** encode makes of the protobuf bytes of a message what is sent. */
  encode(bytes: Buffer): Buffer;
  /** write sends it; `done` is called when it has left. */
  write(chunk: Buffer, done: () => void): void;
  /** end is called once, with what the call failed with if it did. */
  end(status: Status | undefined): void;
  /** drop ends the connection, whatever still waits to be read. */
  drop(): void;
}

/** What a DirectCall needs of the server's guard. */
type DirectGuard = Pick<Guard, "interceptors" | "bugs" | "nowMono" | "setTimer" | "over" | "closed">;

/** Longest time that a timer of a call waits, ms, as for gRPC (`timeout-header.ts`). */
const LONGEST_MS = 2 ** 31 - 1;

/** A cancellation this shortly before the deadline is the deadline, as the caller's timer saw it. */
const DEADLINE_RACE_MS = 20;

/**
 * DirectCall is a call with one request that came by another protocol than gRPC, on its way through the same interceptors to the same
 * handlers as all others: nothing about who may do what is decided here. What grpc-js does for the others it does itself: deadlines,
 * cancellation, and room for what is under way.
 */
export class DirectCall {
  readonly #route: Route;
  readonly #call: ServerCall;
  readonly #guard: DirectGuard;
  readonly #answers: Answers;
  readonly #timeoutMs: number | undefined;
  #account: Account | undefined;
  #held = 0;
  #decoded = 0;
  #deadline: Timer | undefined;
  #unreadTimer: Timer | undefined;
  #over = false;
  #closed = false;

  constructor(route: Route, call: ServerCall, guard: DirectGuard, answers: Answers) {
    this.#route = route;
    this.#call = call;
    this.#guard = guard;
    this.#answers = answers;
    this.#timeoutMs = call.timeoutMs;
    call.attach({
      expire: (failure) => this.fail(failure),
      giveUp: (failure) => this.#giveUp(failure),
      charged: () => {
        this.#account = call.account;
      },
      answered: () => this.#awaitReader(),
    });
  }

  /** over: the call has its end, and nothing of its request is wanted any more. */
  get over(): boolean {
    return this.#over;
  }

  /** callerKind is what the caller is, once the call is open. */
  get callerKind(): string {
    return this.#call.caller.kind;
  }

  /** open asks who calls, and whether that may; false if the call was refused, and has been answered. */
  async open(): Promise<boolean> {
    try {
      for (const interceptor of this.#guard.interceptors) {
        const failure = await interceptor.open?.(this.#call);
        if (this.#over) return false;
        if (failure !== undefined) {
          this.fail(failure);
          return false;
        }
      }
    } catch (error) {
      this.#end(errorToStatus(error, this.#guard.bugs, { method: methodPath(this.#route.method) }));
      return false;
    }
    if (this.#timeoutMs !== undefined && (this.#timeoutMs <= LONGEST_MS || this.#route.method.methodKind === "unary"))
      this.#deadline = this.#guard.setTimer(Math.min(this.#timeoutMs, LONGEST_MS), () => this.fail(LATE_FAILURE));
    return true;
  }

  /** turn says to go on with the call now, or, by a promise, to ask again in the next turn of the event loop (`call-pace.ts`). */
  turn(): Promise<void> | undefined {
    return this.#over ? undefined : this.#account?.pace.next();
  }

  /** arrived counts bytes of the request, which its caller pays for as long as the call is open; false if the call has ended. */
  arrived(bytes: number): boolean {
    const account = this.#account;
    if (this.#over || account === undefined) return false;
    if (!account.fits(bytes)) {
      this.fail({
        reason: "OVERLOADED",
        message: `${account.bytes} bytes of requests and unread answers of ${account.key} wait already; send and ask for fewer at once`,
        facts: { limit: "bytes", max: String(account.bounds.bytes) },
      });
      return false;
    }
    this.#held += bytes;
    account.requests(bytes);
    return true;
  }

  /** run takes the request, as protobuf, and has it answered. */
  run(bytes: Buffer): void {
    if (this.#over) return;
    this.#call.received++;
    let request: Message | undefined;
    try {
      request = this.#parse(bytes);
    } catch (error) {
      return this.#refuse(error);
    }
    if (request === undefined) return;
    if (this.#route.method.methodKind === "unary") this.#unary(request);
    else this.#stream(request);
  }

  /** fail ends the call. */
  fail(failure: RequestFailure): void {
    this.#end(failureToStatus(failure));
  }

  /** closed says that nothing of the call is left in this process: its answer was read, or its connection is gone. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#finish(this.#late() ? failureToStatus(LATE_FAILURE) : undefined);
    this.#unreadTimer?.cancel();
    const account = this.#account;
    account?.requests(-this.#held);
    account?.decoded(-this.#decoded);
    this.#call.settle();
    if (account !== undefined) this.#guard.closed(account);
  }

  /** parse makes the handler's message; undefined if the call was refused. */
  #parse(bytes: Buffer): Message | undefined {
    const { method, raw, validated } = this.#route;
    if (raw) return new RawMessage(bytes) as unknown as Message;
    const size = scanRequest(method.input, bytes);
    const request = decodeMessage(method.input, bytes, size > 0);
    if (size > 0 && !this.#fits(size)) return undefined;
    if (!validated) return request;
    for (const interceptor of this.#guard.interceptors) {
      const failure = interceptor.request?.(this.#call, request);
      if (failure === undefined) continue;
      this.fail(failure);
      return undefined;
    }
    return request;
  }

  #fits(bytes: number): boolean {
    const account = this.#account;
    if (account?.decode(bytes) === true) {
      this.#decoded += bytes;
      return true;
    }
    this.fail({
      reason: "OVERLOADED",
      message: `this request takes ${bytes} bytes of memory once it is read, beside others that are under way; send smaller ones, and fewer at once`,
      facts: { limit: "bytes", max: String(account?.bounds.bytes) },
    });
    return false;
  }

  #unary(request: Message): void {
    const call = this.#call;
    const handler = this.#route.handler as UnaryHandler;
    const begin = (): void => {
      // One that is over before its turn comes needs no answer.
      if (this.#over) return;
      const pause = call.account?.pace.next();
      if (pause !== undefined) return void pause.then(begin);
      try {
        if (!mayAnswer(call.account, call.entry)) throw new FoedusError(UNREAD);
        call.handled = true;
        const result = handler(request, call);
        if (result instanceof Promise) result.then(respond, (error: unknown) => this.#refuse(error));
        else respond(result);
      } catch (error) {
        this.#refuse(error);
      }
    };
    const respond = (response: Message | RawMessage): void => {
      try {
        if (!this.#over && this.#send(encodeMessage(this.#route.method.output, response), () => undefined)) this.#handled(undefined);
      } catch (error) {
        this.#refuse(error);
      }
    };
    begin();
  }

  #stream(request: Message): void {
    const call = this.#call;
    const { method } = this.#route;
    const end = (status: Status | undefined): void => {
      out.close();
      this.#handled(status);
    };
    const fail = (error: unknown): void => end(errorToStatus(error, this.#guard.bugs, { method: methodPath(method) }));
    const out = new ByteOutbound<Message>(
      (message) => encodeMessage(method.output, message),
      (raw, done) => void this.#send(raw.bytes, done),
      fail,
    );
    call.onAbort((error) => {
      // On a shutdown the handler may still say goodbye; otherwise nobody listens any more.
      if (error.failure.reason !== "SHUTTING_DOWN") out.close();
    });
    call.handled = true;
    try {
      (this.#route.handler as ServerStreamHandler)(request, out, call).then(() => end(undefined), fail);
    } catch (error) {
      fail(error);
    }
  }

  /** send writes one message; false if its caller has too much that it does not read, and the call has ended. */
  #send(bytes: Buffer, done: () => void): boolean {
    if (this.#over) return false;
    const call = this.#call;
    const chunk = this.#answers.encode(bytes);
    if (!call.hold(chunk.length)) return false;
    call.sent++;
    this.#answers.write(chunk, () => {
      call.gone(chunk.length);
      if (call.unread === 0) this.#unreadTimer?.cancel();
      done();
    });
    return true;
  }

  #refuse(error: unknown): void {
    const where = { method: methodPath(this.#route.method), ...traceFields(this.#call.trace) };
    if (!this.#over) this.#handled(errorToStatus(error, this.#guard.bugs, where));
  }

  /** handled ends a call whose handler is done: what happens to it afterwards is no abort. */
  #handled(status: Status | undefined): void {
    this.#call.answered = true;
    this.#end(status);
  }

  #giveUp(failure: Failure): void {
    this.fail(failure);
    this.#answers.drop();
  }

  /** awaitReader gives the client of a call that was answered some time to read it, whatever deadline it named. */
  #awaitReader(): void {
    if (this.#call.unread > 0 && !this.#closed) this.#unreadTimer ??= this.#guard.setTimer(UNREAD_MS, () => this.#giveUp(UNREAD_FAILURE));
  }

  #end(status: Status | undefined): void {
    if (this.#over) return;
    this.#finish(status ?? OK);
    this.#awaitReader();
    this.#answers.end(status);
  }

  /** finish closes the books exactly once. */
  #finish(status: Pick<Status, "code" | "details"> | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadline?.cancel();
    const call = this.#call;
    const code = status?.code ?? grpc.status.CANCELLED;
    const details = status?.details ?? "cancelled";
    if (!call.answered) call.abort(abortFailure(code, details));
    for (const interceptor of this.#guard.interceptors) interceptor.close?.(call, { code, reason: grpc.status[code] ?? "", details });
    tellRefused(call, { code, details });
    this.#guard.over(call);
  }

  /** late tells a deadline from a cancellation: at the deadline the caller's own timer cancels, a moment before or after ours. */
  #late(): boolean {
    const { timeoutMs, startedMono } = this.#call;
    return timeoutMs !== undefined && this.#guard.nowMono() - startedMono >= timeoutMs - DEADLINE_RACE_MS;
  }
}

const OK = { code: grpc.status.OK, details: "" };

/** abortFailure is what a handler hears of when its call is over before it has answered. */
function abortFailure(code: number, details: string): Failure {
  if (code === grpc.status.DEADLINE_EXCEEDED) return LATE_FAILURE;
  return { reason: "CANCELLED", message: code === grpc.status.CANCELLED ? "the caller cancelled or its connection is gone" : details };
}
