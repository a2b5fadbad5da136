import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { parseTrace, type TraceContext } from "#kernel/trace-context.ts";
import type { AccessRule } from "../access.ts";
import type { CallContext, Caller, RefusedCall } from "../call.ts";
import type { Account } from "../connections/accounts.ts";
import type { Connection } from "../connections/connection.ts";
import type { Intake } from "../connections/intake.ts";

/** MethodEntry is an RPC as the server knows it. */
export interface MethodEntry {
  readonly method: DescMethod;
  readonly rule: AccessRule;
  /** True if each request message is checked against the schema's rules before the handler sees it. */
  readonly validated: boolean;
  /** refused is told of calls that were refused before their handler began. */
  readonly refused?: RefusedCall | undefined;
}

/** Outcome is how a call ended. */
export interface Outcome {
  /** gRPC code as the caller sees it. */
  readonly code: number;
  readonly reason: string;
  readonly details: string;
}

/** CallControl acts upon a call from outside its handler. */
export interface CallControl {
  /** expire ends it with a failure. */
  expire(failure: Failure): void;
  /** giveUp ends it and drops what waits to be read. */
  giveUp(failure: Failure): void;
  /** charged is told when the call has an account. */
  charged(): void;
  /** answered is told when the handler is done. */
  answered(): void;
}

/**
 * mayAnswer tells whether a call of an account may begin: while much of its answers is not read, none that only reads. What changes
 * something is answered in few bytes.
 */
export function mayAnswer(account: Account | undefined, { method }: MethodEntry): boolean {
  return account?.crowded !== true || method.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
}

/** UNREAD is why a caller that does not read gets no more answers. */
export const UNREAD: Failure = { reason: "OVERLOADED", message: "too many answers wait to be read; read them, or ask for fewer at once" };

/**
 * ServerCall is one call on its way through the server. Interceptors fill it in and the handler reads it as its CallContext;
 * it is never carried in metadata, which a caller could write.
 */
export class ServerCall implements CallContext {
  readonly entry: MethodEntry;
  readonly connection: Connection | undefined;
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  /** `mono` instant of arrival. */
  readonly startedMono: number;
  timeoutMs: number | undefined;
  token: { readonly expiresAtWall: number; readonly id: string } | undefined;
  /** How long its caller should have waited with it, ms; 0 if it came in time. */
  readonly tooSoonMs: number;
  /** Messages counted for metrics. */
  received = 0;
  sent = 0;
  /** Its handler has begun. */
  handled = false;
  /** What has arrived of its requests. */
  intake: Intake | undefined;
  #caller: Caller | undefined;
  /** The metadata `traceparent` and `tracestate`, until somebody asks for them. */
  #traceparent: string | undefined;
  readonly #tracestate: string | undefined;
  #trace: TraceContext | undefined;
  #controller: AbortController | undefined;
  #abortReason: FoedusError | undefined;
  #onAbort: ((error: FoedusError) => void) | undefined;
  #control: CallControl | undefined;
  #answered = false;
  #account: Account | undefined;
  #unread = 0;

  constructor(init: {
    entry: MethodEntry;
    connection?: Connection | undefined;
    authorization?: string | undefined;
    startedMono: number;
    timeoutMs: number | undefined;
    traceparent?: string | undefined;
    tracestate?: string | undefined;
    tooSoonMs?: number;
  }) {
    this.entry = init.entry;
    this.connection = init.connection;
    this.authorization = init.authorization;
    this.startedMono = init.startedMono;
    this.timeoutMs = init.timeoutMs;
    this.#traceparent = init.traceparent;
    this.#tracestate = init.tracestate;
    this.tooSoonMs = init.tooSoonMs ?? 0;
  }

  /** trace is the caller's trace as its metadata says, or this server's span in it. */
  get trace(): TraceContext | undefined {
    if (this.#traceparent !== undefined) {
      this.#trace = parseTrace(this.#traceparent, this.#tracestate);
      this.#traceparent = undefined;
    }
    return this.#trace;
  }

  set trace(trace: TraceContext | undefined) {
    this.#traceparent = undefined;
    this.#trace = trace;
  }

  get method(): DescMethod {
    return this.entry.method;
  }

  /** caller is known once the identity interceptor has run; handlers always run later. */
  get caller(): Caller {
    if (this.#caller === undefined) throw new Error("the caller is asked for before it was identified");
    return this.#caller;
  }

  /** identified tells whether `caller` may be read. */
  get identified(): boolean {
    return this.#caller !== undefined;
  }

  identify(caller: Caller): void {
    this.#caller = caller;
  }

  /** signal is made when first asked for: most unary handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  get abortReason(): FoedusError | undefined {
    return this.#abortReason;
  }

  /** onAbort sets the one listener that the call's stream has. */
  onAbort(listener: (error: FoedusError) => void): void {
    if (this.#abortReason !== undefined) listener(this.#abortReason);
    else this.#onAbort = listener;
  }

  /** abort tells the handler that nobody waits for it any more. The first reason stays. */
  abort(failure: Failure): void {
    if (this.answered || this.#abortReason !== undefined) return;
    this.#abortReason = new FoedusError(failure);
    this.#onAbort?.(this.#abortReason);
    this.#controller?.abort(this.#abortReason);
  }

  /** attach sets how the call is acted upon from outside its handler. */
  attach(control: CallControl): void {
    this.#control = control;
  }

  /** answered is set when the handler has given its answer: what happens to the call afterwards is no abort. */
  get answered(): boolean {
    return this.#answered;
  }

  set answered(answered: boolean) {
    this.#answered = answered;
    if (answered) this.#control?.answered();
  }

  get remote(): string | undefined {
    return this.connection?.address;
  }

  widen(): void {
    this.connection?.widen();
  }

  bytesRead(): number {
    return this.connection?.socket.bytesRead ?? 0;
  }

  /** expire ends the call with a failure and aborts its handler. */
  expire(failure: Failure): void {
    this.#control?.expire(failure);
  }

  /** charge counts the call with an account, from now until `settle`. */
  charge(account: Account): void {
    this.#account = account;
    account.called(1);
    this.#control?.charged();
  }

  /** account is who pays for the call; undefined until that is known, and after the end. */
  get account(): Account | undefined {
    return this.#account;
  }

  /** hold counts bytes that wait to be read; false ends the call, because its caller has too many of them on all its calls. */
  hold(bytes: number): boolean {
    const account = this.#account;
    if (account === undefined) return true;
    if (!account.fits(bytes)) {
      this.#control?.giveUp(UNREAD);
      return false;
    }
    account.answers(bytes);
    this.#unread += bytes;
    return true;
  }

  /** gone says that bytes were written, or will never be. */
  gone(bytes: number): void {
    const given = Math.min(bytes, this.#unread);
    this.#unread -= given;
    this.#account?.answers(-given);
  }

  /** unread bytes of answers of this call. */
  get unread(): number {
    return this.#unread;
  }

  /** settle gives back all that the call holds, and answers whose that was. */
  settle(): Account | undefined {
    this.gone(this.#unread);
    const account = this.#account;
    account?.called(-1);
    this.#account = undefined;
    return account;
  }
}
