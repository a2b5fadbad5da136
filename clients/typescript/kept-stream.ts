import { emitWarning } from "node:process";
import type { StreamOpenInit } from "#channel/call.ts";
import type { Clock, Timer } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { Backoff, type BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError, type Reason } from "#kernel/error.ts";
import { printable } from "#kernel/printable.ts";
import { Prng } from "#kernel/prng.ts";

/** STREAM_BACKOFF is how long a client waits before it opens a stream again (docs/CLIENTS.md). */
export const STREAM_BACKOFF: BackoffConfig = { baseMs: 200, maxMs: 10_000, factor: 2, jitter: 0.5 };

/** CLOSED is why nothing comes back when whoever made the channel to the hub has closed it. */
export const CLOSED: Failure = { reason: "PEER_UNREACHABLE", message: "the channel to the hub was closed" };

/** LEAVE_MS is how long the hub has to end a stream that the program has ended. */
const LEAVE_MS = 2_000;

/** ENDED is why a stream is over that the hub ended without a word. */
export const ENDED: Failure = { reason: "PEER_UNREACHABLE", message: "the hub ended the stream" };

/**
 * FINAL_REASONS are those after which a stream is not opened again: somebody must change something first. That the certificate of another
 * server was found, or ours was refused, is none of them: the other may be on the port for a while, and certificates are renewed.
 */
export const FINAL_REASONS: ReadonlySet<Reason> = new Set<Reason>([
  "SESSION_REPLACED",
  "ACCESS_DENIED",
  "UPGRADE_NEEDED",
  "NOT_CONFIGURED",
]);

/** OnError is told what a callback of the program threw, or rejected with. Without one Node prints a warning. */
export type OnError = (error: unknown) => void;

/** callProgram runs a callback of the program. What it throws or rejects with is told to `onError` and goes no further. */
export function callProgram<A extends readonly unknown[]>(
  onError: OnError | undefined,
  callback: ((...args: A) => unknown) | undefined,
  ...args: A
): void {
  try {
    const answer = callback?.(...args);
    if (answer instanceof Promise) answer.catch((error: unknown) => tellError(onError, error));
  } catch (error) {
    tellError(onError, error);
  }
}

/** tellError hands on an error that has nobody else to go to. */
export function tellError(onError: OnError | undefined, error: unknown): void {
  if (onError === undefined) return emitWarning(warningOf(error));
  try {
    const answer: unknown = onError(error);
    if (answer instanceof Promise) answer.catch(() => undefined);
  } catch {
    // It was told; there is nobody left to tell that it could not be.
  }
}

/** warningOf is an error as Node may print it: its text may be that of a hub. */
function warningOf(error: unknown): Error {
  const text = error instanceof Error ? error.message : String(error);
  const shown = printable(text);
  if (error instanceof Error && shown === text) return error;
  const warning = new Error(shown, { cause: error });
  if (error instanceof Error) warning.name = error.name;
  return warning;
}

/** StreamIdentity says which streams replace one another. */
export interface StreamIdentity {
  /** 8 to 64 bytes. */
  readonly group: Uint8Array;
  /** Must rise with each start of a program that keeps its group. */
  readonly incarnation: number;
}

/** Streamable is an open call whose answers are read until it ends. */
export interface Streamable<Res> {
  readonly responses: AsyncIterable<Res>;
  readonly opened?: Promise<void>;
  cancel(): void;
}

/** Cut is how a stream ended. */
export interface Cut {
  /** What was thrown, or why the hub ended it. */
  readonly error: FoedusError;
  /** When another stream is opened, ms from now. Undefined if none is, or if a pause that is under way says when. */
  readonly waitMs: number | undefined;
}

/**
 * GiveUp decides after a failure whether a stream is not opened again; `answered`: the hub has said something on this stream or on one before.
 * A stream that the hub ended without a word is opened again in any case.
 */
export type GiveUp = (error: FoedusError, answered: boolean) => boolean;

/** KeptStreamOptions say what is kept open. */
export interface KeptStreamOptions<S extends Streamable<Res>, Res> {
  readonly clock: Clock;
  readonly backoff?: BackoffConfig | undefined;
  /** Seed of the jitter. */
  readonly seed?: number | undefined;
  /** A group of its own by default, which ends with the program. */
  readonly identity?: StreamIdentity | undefined;
  /** open makes the call; the number goes into its first message. What it throws means that the channel is closed. */
  readonly open: (number: StreamOpenInit) => S;
  readonly onOpened?: () => void;
  /** onMessage takes what comes on the newest stream; the next is read when it is done. */
  readonly onMessage: (message: Res, stream: S) => void | Promise<void>;
  /** onCut is told when the stream is over. `final`: it is not opened again. */
  readonly onCut: (failure: Failure, final: boolean, cut: Cut) => void;
  /** onReady is told when it may be opened again, or a pause is over. */
  readonly onReady: () => void;
  /** Reasons after which trying again is of no use. */
  readonly final: ReadonlySet<Reason>;
  /** giveUp decides in place of `final`. */
  readonly giveUp?: GiveUp | undefined;
  readonly onError?: OnError | undefined;
}

/**
 * KeptStream keeps one stream to a hub: it reads it, opens it again after a cut, and numbers it so that the hub can tell it from the one before.
 *
 * KS1 at most one stream is read; what comes late on another is not looked at.
 * KS2 two streams are opened at least a wait of the back-off apart, which only `worked` shortens to the first.
 * KS3 nothing that is thrown, by the transport, by `onMessage` or by callbacks, leaves here: it ends the stream, and is told.
 * KS4 after `close`, a final failure or a closed channel nothing is opened, and nothing is called.
 * KS5 a stream that is left is over after LEAVE_MS, whatever the hub does.
 */
export class KeptStream<S extends Streamable<Res>, Res> {
  readonly #o: KeptStreamOptions<S, Res>;
  readonly #backoff: Backoff;
  readonly #identity: StreamIdentity;
  #n = 0;
  #stream: S | undefined;
  #timer: Timer | undefined;
  /** Why the hub ends the stream, as it said on it. */
  #said: Failure | undefined;
  #answered = false;
  /** Ends the wait for the hub, of a stream that was left. */
  #leaving: Timer | undefined;
  #over = false;
  #whenOver: (() => void)[] = [];

  constructor(options: KeptStreamOptions<S, Res>) {
    this.#o = options;
    this.#backoff = new Backoff(new Prng(options.seed ?? systemEntropy.seed()), options.backoff ?? STREAM_BACKOFF);
    this.#identity = options.identity ?? { group: systemEntropy.bytes(16), incarnation: 1 };
  }

  /** current is the stream that is open, if any. */
  get current(): S | undefined {
    return this.#stream;
  }

  /** waiting: it must not be opened, or written to, before `onReady`. */
  get waiting(): boolean {
    return this.#timer !== undefined;
  }

  /** over: it will not be opened again. */
  get over(): boolean {
    return this.#over;
  }

  /** whenOver calls a listener when it is over, at once if it is: who holds it needs it no longer. */
  whenOver(listener: () => void): void {
    if (this.#over) listener();
    else this.#whenOver.push(listener);
  }

  /** open gives the stream, opened now if there is none; undefined while it must wait, and when it is over. */
  open(): S | undefined {
    if (this.#stream !== undefined || this.#over || this.waiting) return this.#stream;
    const { group, incarnation } = this.#identity;
    try {
      this.#stream = this.#o.open({ group, incarnation: BigInt(incarnation), n: BigInt(++this.#n) });
    } catch (error) {
      this.#end(error instanceof FoedusError ? error : new FoedusError(CLOSED, { cause: error }), true);
      return undefined;
    }
    void this.#read(this.#stream);
    return this.#stream;
  }

  /** worked notes that the hub answered as it should: the next cut waits briefly again. */
  worked(): void {
    if (this.#backoff.failures > 0) this.#backoff.succeeded();
  }

  /** said notes why the hub is about to end the stream. */
  said(failure: Failure): void {
    this.#said = failure;
  }

  /** pause waits as after a cut, with the stream open: the hub asked for patience. */
  pause(): void {
    if (this.waiting || this.#over) return;
    this.#wait(this.#backoff.failed(this.#o.clock.mono()));
  }

  #wait(waitMs: number): void {
    this.#timer = this.#o.clock.setTimer(waitMs, () => {
      this.#timer = undefined;
      this.#o.onReady();
    });
  }

  /** leave waits until the hub ends the stream too, which the program has ended (KS5); without a stream it gives up at once. */
  leave(): void {
    const stream = this.#stream;
    if (stream === undefined) return this.close();
    this.#leaving ??= this.#o.clock.setTimer(LEAVE_MS, () => stream.cancel());
  }

  /** close gives it up. */
  close(): void {
    if (this.#over) return;
    this.#finish();
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
  }

  #finish(): void {
    this.#over = true;
    this.#leaving?.cancel();
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const listener of this.#whenOver.splice(0)) listener();
  }

  async #read(stream: S): Promise<void> {
    let error: FoedusError | undefined;
    try {
      if (stream.opened !== undefined) await stream.opened;
      if (this.#stream === stream) this.#o.onOpened?.();
      for await (const message of stream.responses) {
        if (this.#stream !== stream) return;
        this.#answered = true;
        const taken = this.#o.onMessage(message, stream);
        if (taken !== undefined) await taken;
      }
    } catch (thrown) {
      if (thrown instanceof FoedusError) error = thrown;
      else {
        error = new FoedusError({ reason: "INTERNAL", message: "what the hub sent could not be handled" }, { cause: thrown });
        tellError(this.#o.onError, thrown);
      }
      // It may have been thrown here, with the call still open.
      stream.cancel();
    }
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    if (this.#said !== undefined) error = new FoedusError(this.#said);
    this.#said = undefined;
    const final = error !== undefined && this.#isFinal(error);
    // Whoever was asked may have closed it.
    if (!this.#over) this.#end(error ?? new FoedusError(ENDED), final);
  }

  #isFinal(error: FoedusError): boolean {
    const byReason = this.#o.final.has(error.failure.reason);
    try {
      return this.#o.giveUp?.(error, this.#answered) ?? byReason;
    } catch (thrown) {
      tellError(this.#o.onError, thrown);
      return byReason;
    }
  }

  #end(error: FoedusError, final: boolean): void {
    this.#leaving?.cancel();
    this.#leaving = undefined;
    if (final) this.#finish();
    const waitMs = this.#over || this.waiting ? undefined : this.#backoff.failed(this.#o.clock.mono());
    // Before anybody is told, who may want to open or write something at once.
    if (waitMs !== undefined) this.#wait(waitMs);
    this.#o.onCut(error.failure, final, { error, waitMs });
  }
}
