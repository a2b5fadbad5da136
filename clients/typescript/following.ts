import { whenAborted } from "#channel/abort.ts";
import type { StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import type { Failure } from "#kernel/error.ts";
import { type Cut, callProgram, FINAL_REASONS, type GiveUp, KeptStream, type OnError, type Streamable } from "./kept-stream.ts";

/** FollowOptions say how long something is followed, and who is told when the hub goes away meanwhile. */
export interface FollowOptions {
  /** Ends the iteration with its reason. */
  readonly signal?: AbortSignal;
  /** Told when the stream was cut, why, and in how many ms it is opened again where it was; undefined if it is not. */
  readonly onCut?: (failure: Failure, waitMs: number | undefined) => void;
  /** Told when the stream works (undefined) or was cut, and why; with `willRetry` false the iteration ends with it. */
  readonly onLink?: (failure: Failure | undefined, willRetry: boolean) => void;
  /** Decides after a failure whether the iteration ends with it. Default: when somebody must change something first, as for ACCESS_DENIED. */
  readonly giveUp?: GiveUp;
  /** Told what a callback threw. */
  readonly onError?: OnError;
  readonly clock?: Clock;
  readonly seed?: number;
  readonly backoff?: BackoffConfig;
}

/** Source is what is followed: how it is asked for, and what of an answer is for the program. */
export interface Source<Res, T> {
  /** open asks for what comes after all that was taken. */
  open(number: StreamOpenInit, signal: AbortSignal): AsyncIterable<Res>;
  /** take notes how far a message leads, and gives what the program gets of it. */
  take(message: Res): readonly T[];
  /** cut is told why the stream is over, before it is opened again. */
  cut?(failure: Failure): void;
}

/**
 * Following is an iteration of what a hub streams, kept across cuts. The next message is read when the program asks for more than the one
 * before held, so that a slow program slows the hub and not its own memory. It ends with FoedusError when the hub will never say more, such as
 * ACCESS_DENIED, or when `giveUp` says so.
 */
export class Following<Res, T> implements AsyncIterableIterator<T, undefined> {
  readonly #o: FollowOptions;
  readonly #source: Source<Res, T>;
  readonly #kept: KeptStream<Streamable<Res>, Res>;
  #items: readonly T[] = [];
  #at = 0;
  #taken: PromiseWithResolvers<void> | undefined;
  #up = false;
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[] = [];
  #end: { readonly error: unknown } | undefined;
  readonly #abort = (): void => this.#finish(this.#o.signal?.reason);

  constructor(options: FollowOptions, source: Source<Res, T>) {
    this.#o = options;
    this.#source = source;
    this.#kept = new KeptStream({
      clock: options.clock ?? systemClock,
      backoff: options.backoff,
      seed: options.seed,
      open: (number) => this.#open(number),
      onMessage: (message) => this.#onMessage(message),
      onCut: (failure, final, cut) => this.#onCut(failure, final, cut),
      onReady: () => this.#kept.open(),
      final: FINAL_REASONS,
      giveUp: options.giveUp,
      onError: options.onError,
    });
    whenAborted(options.signal, this.#abort);
    this.#kept.open();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#at < this.#items.length) return Promise.resolve({ value: this.#items[this.#at++] as T, done: false });
    if (this.#end !== undefined) return ended(this.#end.error);
    const waiting = Promise.withResolvers<IteratorResult<T, undefined>>();
    this.#waiting.push(waiting);
    this.#taken?.resolve();
    return waiting.promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#finish(undefined);
    return Promise.resolve({ value: undefined, done: true });
  }

  /** whenOver calls a listener when it is closed, or will not be opened again; at once if that is so. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  /** close ends the iteration. */
  close(): void {
    this.#finish(undefined);
  }

  #open(number: StreamOpenInit): Streamable<Res> {
    const abort = new AbortController();
    return { responses: this.#source.open(number, abort.signal), cancel: () => abort.abort() };
  }

  #onMessage(message: Res): Promise<void> | undefined {
    this.#kept.worked();
    if (!this.#up) {
      this.#up = true;
      callProgram(this.#o.onError, this.#o.onLink, undefined, true);
    }
    const items = this.#source.take(message);
    // A callback may have ended it.
    if (items.length === 0 || this.#end !== undefined) return undefined;
    this.#items = items;
    this.#at = 0;
    this.#taken = Promise.withResolvers();
    const { promise } = this.#taken;
    for (const waiting of this.#waiting.splice(0)) this.next().then(waiting.resolve, waiting.reject);
    return promise;
  }

  #onCut(failure: Failure, final: boolean, { error, waitMs }: Cut): void {
    this.#source.cut?.(failure);
    this.#up = false;
    callProgram(this.#o.onError, this.#o.onCut, failure, waitMs);
    callProgram(this.#o.onError, this.#o.onLink, failure, !final);
    if (final) this.#finish(error);
  }

  /** finish ends it: with an error the iteration throws that. */
  #finish(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#o.signal?.removeEventListener("abort", this.#abort);
    this.#kept.close();
    this.#items = [];
    this.#taken?.resolve();
    for (const waiting of this.#waiting.splice(0)) ended(error).then(waiting.resolve, waiting.reject);
  }
}

function ended(error: unknown): Promise<IteratorResult<never, undefined>> {
  return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
}
