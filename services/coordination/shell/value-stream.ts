import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { Outbound } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { failureToProto } from "#channel/failure.ts";
import {
  type ChangeResult,
  ChangeResultSchema,
  type ChangeValuesRequest,
  type ChangeValuesResponse,
  ChangeValuesResponseSchema,
  type NumberedChange,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { valueCommandFromProto } from "../codec/values.ts";
import type { Asked, Begin } from "./ask.ts";

/** Changes of one stream that may wait for a decision; no more is read before one is decided. */
const OPEN_MOST = 1_024;
/** Bytes of results that a caller has not read, beyond which none of its changes is read. */
const UNREAD_BYTES = 256 * 1024;

/**
 * ValueStream is one ChangeValues stream.
 *
 * VS1 each change that was read has one result, unless the stream ends first; its number is not used again before that.
 * VS2 no more than OPEN_MOST changes wait at a time, and none is read while the caller does not read results.
 * VS3 nothing that is read after a newer stream of its group was opened is changed any more.
 */
class ValueStream implements Fenced {
  readonly #beginOne: Begin;
  readonly #out: Outbound<ChangeValuesResponse>;
  readonly #context: CallContext;
  readonly #fences: FencedStreams<ValueStream>;
  readonly #open = new Map<bigint, Asked<unknown>>();
  #results: ChangeResult[] = [];
  #fenced: Failure | undefined;
  #leave: (() => void) | undefined;
  /** Waits until fewer changes are open. */
  #room: { readonly below: number; readonly resolve: () => void } | undefined;
  readonly #over = Promise.withResolvers<never>();

  constructor(begin: Begin, out: Outbound<ChangeValuesResponse>, context: CallContext, fences: FencedStreams<ValueStream>) {
    this.#beginOne = begin;
    this.#out = out;
    this.#context = context;
    this.#fences = fences;
    whenAborted(context.signal, () => this.#over.reject(context.signal.reason));
  }

  async run(requests: AsyncIterable<ChangeValuesRequest>): Promise<void> {
    try {
      await Promise.race([this.#read(requests), this.#over.promise]);
    } finally {
      this.#leave?.();
      for (const { cancel } of this.#open.values()) cancel();
    }
  }

  fence(failure: Failure): void {
    this.#fenced = failure;
    this.#over.reject(new FoedusError(failure));
  }

  async #read(requests: AsyncIterable<ChangeValuesRequest>): Promise<void> {
    let first = true;
    for await (const { changes, stream } of requests) {
      if (this.#fenced !== undefined) return;
      if (stream !== undefined) {
        if (!first) throw fail("INVALID_FIELD", "a stream is numbered by its first message", { field: "stream" });
        this.#leave = this.#fences.enter(this.#context.caller, stream, this).leave;
      }
      first = false;
      for (const change of changes) {
        if (this.#open.size >= OPEN_MOST) await this.#fewer(OPEN_MOST);
        if (this.#fenced !== undefined) return;
        this.#begin(change);
      }
      if (this.#out.bufferedBytes > UNREAD_BYTES) await this.#out.drained();
    }
    if (this.#open.size > 0) await this.#fewer(1);
  }

  /** fewer resolves when fewer than `below` changes are open. */
  #fewer(below: number): Promise<void> {
    return new Promise((resolve) => {
      this.#room = { below, resolve };
    });
  }

  /** begin gives the core one change. Errors: INVALID_FIELD for a number in use, and for no change, which end the stream. */
  #begin({ corr, change }: NumberedChange): void {
    if (this.#open.has(corr))
      throw fail("INVALID_FIELD", `the change number ${corr} is used by one that is not decided yet`, { field: "changes.corr" });
    const command = { book: "values", command: valueCommandFromProto(change!) } as const;
    const asked = this.#beginOne("changed", { kind: "change", command });
    this.#open.set(corr, asked);
    asked.answer.then(
      ({ value }) => this.#end(corr, { case: "version", value: BigInt(value as number) }),
      (error: unknown) => {
        // What is no failure of this change is one of the code: the server reports it and ends the stream.
        if (error instanceof FoedusError) this.#end(corr, { case: "failure", value: failureToProto(error.failure) });
        else this.#over.reject(error);
      },
    );
  }

  #end(corr: bigint, outcome: ChangeResult["outcome"]): void {
    this.#open.delete(corr);
    // Those of one commit come one after the other, and leave in one message.
    if (this.#results.length === 0) queueMicrotask(() => this.#flush());
    this.#results.push(create(ChangeResultSchema, { corr, outcome }));
  }

  #flush(): void {
    const results = this.#results;
    this.#results = [];
    this.#out.send(create(ChangeValuesResponseSchema, { results }));
    const room = this.#room;
    if (room === undefined || this.#open.size >= room.below) return;
    this.#room = undefined;
    room.resolve();
  }
}

/** createValueStreams serves ChangeValues. */
export function createValueStreams(begin: Begin, clock: Clock) {
  const fences = new FencedStreams<ValueStream>(clock);
  return {
    changeValues: (
      requests: AsyncIterable<ChangeValuesRequest>,
      out: Outbound<ChangeValuesResponse>,
      context: CallContext,
    ): Promise<void> => new ValueStream(begin, out, context, fences).run(requests),
  };
}
