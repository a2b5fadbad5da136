import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { ClientOf } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import {
  type Event,
  type EventFilterSchema,
  type TelemetryService,
  WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { callProgram, FINAL_REASONS, KeptStream, type OnError, type Streamable } from "./kept-stream.ts";

export { type Event, EventKind, Severity } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";

/** EventFilterInit selects events, as it is written in code; all that is set must match. */
export type EventFilterInit = MessageInitShape<typeof EventFilterSchema>;

/** EventOptions say which events are followed. */
export interface EventOptions {
  /** Missing: all. */
  readonly filter?: EventFilterInit;
  /** Position to begin with, of an event that was seen, plus one; missing: new ones only. */
  readonly fromSeq?: bigint;
  /** Ends the iteration with its reason. */
  readonly signal?: AbortSignal;
  /** Told when events were missed: no longer kept, or too many at once. */
  readonly onMissed?: (count: number) => void;
  /** Told when the stream was cut, and why; it is opened again where it was. */
  readonly onCut?: (failure: Failure) => void;
  /** Told what a callback threw. */
  readonly onError?: OnError;
  readonly clock?: Clock;
  readonly seed?: number;
  readonly backoff?: BackoffConfig;
}

type Client = Pick<ClientOf<typeof TelemetryService>, "watchEvents">;

/**
 * EventStream follows what happens at a hub, in order and without gaps across cuts: it goes on where it was. The next events are read when
 * those before were taken. It ends with FoedusError when the hub will never say more, such as ACCESS_DENIED.
 */
export class EventStream implements AsyncIterableIterator<Event, undefined> {
  readonly #client: Client;
  readonly #o: EventOptions;
  readonly #kept: KeptStream<Streamable<WatchEventsResponse>, WatchEventsResponse>;
  #events: readonly Event[] = [];
  #at = 0;
  #nextSeq: bigint;
  #taken: PromiseWithResolvers<void> | undefined;
  #waiting: PromiseWithResolvers<IteratorResult<Event, undefined>>[] = [];
  #end: { readonly error: unknown } | undefined;
  readonly #abort = (): void => this.#finish(this.#o.signal?.reason);

  constructor(client: Client, options: EventOptions = {}) {
    this.#client = client;
    this.#o = options;
    this.#nextSeq = options.fromSeq ?? 0n;
    this.#kept = new KeptStream({
      clock: options.clock ?? systemClock,
      backoff: options.backoff,
      seed: options.seed,
      open: () => this.#watch(),
      onMessage: (message) => this.#onMessage(message),
      onCut: (failure, final) => this.#onCut(failure, final),
      onReady: () => this.#kept.open(),
      final: FINAL_REASONS,
      onError: options.onError,
    });
    whenAborted(options.signal, this.#abort);
    this.#kept.open();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Event, undefined>> {
    const event = this.#events[this.#at];
    if (event !== undefined) {
      this.#at++;
      if (this.#at === this.#events.length) this.#taken?.resolve();
      return Promise.resolve({ value: event, done: false });
    }
    if (this.#end !== undefined) return ended(this.#end.error);
    const waiting = Promise.withResolvers<IteratorResult<Event, undefined>>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  return(): Promise<IteratorResult<Event, undefined>> {
    this.#finish(undefined);
    return Promise.resolve({ value: undefined, done: true });
  }

  /** close ends the iteration. */
  close(): void {
    this.#finish(undefined);
  }

  #watch(): Streamable<WatchEventsResponse> {
    const abort = new AbortController();
    const { filter } = this.#o;
    const request = create(WatchEventsRequestSchema, { fromSeq: this.#nextSeq, ...(filter === undefined ? {} : { filter }) });
    return { responses: this.#client.watchEvents(request, { signal: abort.signal }), cancel: () => abort.abort() };
  }

  #onMessage({ events, missed, nextSeq }: WatchEventsResponse): Promise<void> | undefined {
    this.#kept.worked();
    this.#nextSeq = nextSeq;
    if (missed > 0n) callProgram(this.#o.onError, this.#o.onMissed, Number(missed));
    if (events.length === 0) return undefined;
    this.#events = events;
    this.#at = 0;
    this.#taken = Promise.withResolvers();
    const { promise } = this.#taken;
    for (const waiting of this.#waiting.splice(0)) this.next().then(waiting.resolve, waiting.reject);
    return promise;
  }

  #onCut(failure: Failure, final: boolean): void {
    callProgram(this.#o.onError, this.#o.onCut, failure);
    if (final) this.#finish(new FoedusError(failure));
  }

  /** finish ends it: with an error the iteration throws that. */
  #finish(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    this.#o.signal?.removeEventListener("abort", this.#abort);
    this.#kept.close();
    this.#events = [];
    this.#taken?.resolve();
    for (const waiting of this.#waiting.splice(0)) ended(error).then(waiting.resolve, waiting.reject);
  }
}

function ended(error: unknown): Promise<IteratorResult<Event, undefined>> {
  return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error);
}
