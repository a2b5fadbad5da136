import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ClientDuplex, ClientOf, StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { failureFromProto } from "#channel/failure.ts";
import {
  type ChangeValuesRequest,
  ChangeValuesRequestSchema,
  type ChangeValuesResponse,
  type CoordinationService,
  type NumberedChange,
  NumberedChangeSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import type { ValueCommandSchema } from "#gen/foedus/coordination/v1alpha1/values_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { FINAL_REASONS, KeptStream, type OnError } from "../kept-stream.ts";

type Client = Pick<ClientOf<typeof CoordinationService>, "changeValues">;
type Duplex = ClientDuplex<ChangeValuesRequest, ChangeValuesResponse>;

/** VALUE_CHANGES_MOST is how many changes of one stream may wait for their results; one more is refused as OVERLOADED. */
export const VALUE_CHANGES_MOST = 1_024;

/** ValueStreamOptions shape a stream of changes. */
export interface ValueStreamOptions {
  readonly clock?: Clock;
  readonly backoff?: BackoffConfig;
  /** Told what nobody else is told of. */
  readonly onError?: OnError;
}

/** ValueCondition says to which version of a value a change is made. */
export interface ValueCondition {
  /** Only if the value has this version; 0: only if there is none. Missing: whatever it is. */
  readonly expect?: number;
}

interface Waiting {
  readonly change: NumberedChange;
  readonly resolve: (version: number) => void;
  readonly reject: (error: FoedusError) => void;
}

const CLOSED: Failure = { reason: "CANCELLED", message: "the stream is closed" };
const FULL: Failure = { reason: "OVERLOADED", message: `${VALUE_CHANGES_MOST} changes wait for their results: wait for some of them` };

/**
 * ValueStream changes values on which all hubs of a federation agree, over one stream: those of one turn of the event loop travel in one
 * message. The stream is opened again after a cut.
 *
 * VA1 each change resolves with its version once it is decided, or rejects; it is sent at most once.
 * VA2 what was sent and not answered when the stream was cut rejects as OUTCOME_UNKNOWN: it may be decided. What was not sent goes on the next one.
 */
export class ValueStream {
  readonly #kept: KeptStream<Duplex, ChangeValuesResponse>;
  /** Sent, by number; and those that are not sent yet, in order. */
  readonly #sent = new Map<bigint, Waiting>();
  #unsent: Waiting[] = [];
  #stream: Duplex | undefined;
  #numbered: StreamOpenInit | undefined;
  #scheduled = false;
  #over: Failure | undefined;
  #next = 1n;

  constructor(client: Client, options: ValueStreamOptions = {}) {
    this.#kept = new KeptStream({
      clock: options.clock ?? systemClock,
      backoff: options.backoff,
      open: (number) => {
        this.#numbered = number;
        return client.changeValues();
      },
      onMessage: ({ results }) => this.#onResults(results),
      onCut: (failure, final) => this.#onCut(failure, final),
      onReady: () => this.#flush(),
      final: FINAL_REASONS,
      onError: options.onError,
    });
  }

  /** inFlight is how many changes have no result yet. */
  get inFlight(): number {
    return this.#sent.size + this.#unsent.length;
  }

  /** put sets a value and resolves with its version. Errors: as of ChangeValue (VERSION_CONFLICT, NO_QUORUM, …), OVERLOADED, CANCELLED. */
  put(key: string, value: Uint8Array, { expect }: ValueCondition = {}): Promise<number> {
    const condition = { conditional: expect !== undefined, expect: BigInt(expect ?? 0) };
    return this.#change({ case: "put", value: { key, value, ...condition } });
  }

  /** delete deletes a value; as `put`, and VALUE_NOT_FOUND. */
  delete(key: string, { expect }: ValueCondition = {}): Promise<number> {
    const condition = { conditional: expect !== undefined, expect: BigInt(expect ?? 0) };
    return this.#change({ case: "delete", value: { key, ...condition } });
  }

  /** close ends the stream: what has no result yet rejects, CANCELLED or, if it was sent, OUTCOME_UNKNOWN. */
  close(): void {
    this.#end(CLOSED);
    this.#kept.close();
  }

  /** whenOver calls a listener when nothing is sent any more. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  #change(change: NonNullable<MessageInitShape<typeof ValueCommandSchema>["change"]>): Promise<number> {
    if (this.#over !== undefined) return Promise.reject(new FoedusError(this.#over));
    if (this.inFlight >= VALUE_CHANGES_MOST) return Promise.reject(new FoedusError(FULL));
    return new Promise((resolve, reject) => {
      const numbered = create(NumberedChangeSchema, { corr: this.#next++, change: { change } });
      this.#unsent.push({ change: numbered, resolve, reject });
      if (this.#scheduled) return;
      this.#scheduled = true;
      queueMicrotask(() => {
        this.#scheduled = false;
        this.#flush();
      });
    });
  }

  #flush(): void {
    if (this.#unsent.length === 0 || this.#over !== undefined) return;
    const stream = this.#kept.open();
    if (stream === undefined) return;
    const waiting = this.#unsent;
    this.#unsent = [];
    for (const one of waiting) this.#sent.set(one.change.corr, one);
    const number = this.#stream === stream ? {} : { stream: this.#numbered };
    this.#stream = stream;
    stream.send(create(ChangeValuesRequestSchema, { changes: waiting.map(({ change }) => change), ...number }));
  }

  #onResults(results: ChangeValuesResponse["results"]): void {
    this.#kept.worked();
    for (const { corr, outcome } of results) {
      const waiting = this.#sent.get(corr);
      if (!this.#sent.delete(corr) || waiting === undefined) continue;
      if (outcome.case === "version") waiting.resolve(Number(outcome.value));
      else if (outcome.case === "failure") waiting.reject(new FoedusError(failureFromProto(outcome.value)));
      else waiting.reject(new FoedusError({ reason: "OUTCOME_UNKNOWN", message: "the hub did not say what became of the change" }));
    }
  }

  #onCut(failure: Failure, final: boolean): void {
    this.#stream = undefined;
    this.#lose(failure);
    if (final) this.#end(failure);
  }

  #lose({ reason, message }: Failure): void {
    const lost = [...this.#sent.values()];
    this.#sent.clear();
    const unknown: Failure = {
      reason: "OUTCOME_UNKNOWN",
      message: `${message}; the outcome had not come: read the value before the change is made again`,
      facts: { cause: reason },
    };
    for (const { reject } of lost) reject(new FoedusError(unknown));
  }

  #end(failure: Failure): void {
    this.#over ??= failure;
    this.#lose(failure);
    for (const { reject } of this.#unsent.splice(0)) reject(new FoedusError(failure));
  }
}
