import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import type { Outbound, RawMessage } from "#channel/call.ts";
import type { Clock } from "#channel/clock.ts";
import { failureToProto } from "#channel/failure.ts";
import type { StreamOpen } from "#gen/foedus/common/v1/stream_pb.ts";
import { type UpdateStateResponse, UpdateStateResponseSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { StreamsPerCaller } from "#kernel/bounds/streams-per-caller.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import type { CallContext } from "#runtime/rpc/call.ts";
import { type Fenced, FencedStreams } from "#runtime/rpc/server/fenced-streams.ts";
import { boundToProto } from "../codec/answer-codec.ts";
import { callerName, decodeUpdateFrame, scopeOf, type UpdateFrame } from "../codec/codec.ts";
import { segmentCodec } from "../codec/segment-codec.ts";
import type { Input } from "../messages.ts";
import type { Shell, StreamOutput } from "./shell.ts";

/**
 * UpdateStream is one UpdateState stream: frames in, answers out. It reads no further than the core takes, which pushes back to
 * the sender, and it ends a half-closed stream only after the last batch was answered. A newer stream of its group ends it: what the
 * core has of it by then is older than all that the newer one brings, and what comes later is not read.
 */
class UpdateStream implements Fenced {
  readonly #shell: Shell;
  readonly #fences: FencedStreams<UpdateStream>;
  readonly #out: Outbound<UpdateStateResponse>;
  readonly #stream: number;
  /** Newest batch that the core has, and newest that was answered. */
  #given = 0;
  #answered = 0;
  #openBinds = 0;
  /** The next message is the first. */
  #first = true;
  #leave: (() => void) | undefined;
  readonly #settled = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  #ending = false;
  #stopFailure: Failure | undefined;

  constructor(shell: Shell, out: Outbound<UpdateStateResponse>, fences: FencedStreams<UpdateStream>) {
    this.#shell = shell;
    this.#out = out;
    this.#fences = fences;
    this.#stream = shell.id();
  }

  async run(requests: AsyncIterable<RawMessage>, context: CallContext): Promise<void> {
    const shell = this.#shell;
    const stream = this.#stream;
    const stop = (failure: Failure): void => this.fence(failure);
    whenAborted(context.signal, () => this.#settled.resolve());
    shell.streams.set(stream, (output) => this.#answer(output));
    shell.onStop.add(stop);
    try {
      await shell.offer({ kind: "stream_open", stream, scope: scopeOf(context.caller) });
      await Promise.race([this.#read(requests, context), this.#stopped.promise]);
      this.#ending = true;
      this.#settle();
      await this.#settled.promise;
      if (this.#stopFailure !== undefined) throw new FoedusError(this.#stopFailure);
    } finally {
      shell.onStop.delete(stop);
      shell.streams.delete(stream);
      this.#leave?.();
      shell.tell({ kind: "stream_close", stream });
    }
  }

  fence(failure: Failure): void {
    this.#stopFailure ??= failure;
    this.#settled.resolve();
    this.#stopped.resolve();
  }

  async #read(requests: AsyncIterable<RawMessage>, context: CallContext): Promise<void> {
    for await (const request of requests) {
      if (this.#stopFailure !== undefined) return;
      const frame = decodeUpdateFrame(request.bytes);
      if ("open" in frame && frame.open !== undefined) this.#number(frame.open, context);
      this.#first = false;
      await this.#take(frame, request.bytes.length);
    }
  }

  /** number enters the stream among those of its group; the core takes nothing more from the one before when this one's first frame comes. */
  #number(open: StreamOpen, { caller }: CallContext): void {
    if (!this.#first) throw fail("INVALID_FIELD", "a stream is numbered by its first message", { field: "stream" });
    const { replaced, leave } = this.#fences.enter(caller, open, this);
    this.#leave = leave;
    if (replaced !== undefined) this.#shell.tell({ kind: "stream_close", stream: replaced.#stream });
  }

  #take(frame: UpdateFrame, bytes: number): Promise<void> | undefined {
    switch (frame.kind) {
      case "batch":
        return this.#batch(frame.seq, frame.state, bytes);
      case "named":
        return this.#give(frame.seq, { kind: "named", stream: this.#stream, seq: frame.seq, updates: frame.updates }, bytes);
      case "bind":
        this.#openBinds++;
        return this.#shell.offer({ kind: "bind", stream: this.#stream, id: frame.id, nodeIds: frame.nodeIds, keys: frame.keys }, bytes);
      case "malformed":
        throw new FoedusError(frame.failure);
    }
  }

  #batch(seq: number, state: Uint8Array, bytes: number): Promise<void> | undefined {
    const batch = segmentCodec.decodeState(state);
    if (batch === undefined)
      throw fail("INVALID_FIELD", "the columns of the batch are malformed or do not fit together", { field: "batch.state" });
    return this.#give(seq, { kind: "updates", stream: this.#stream, seq, batch }, bytes);
  }

  #give(seq: number, input: Input, bytes: number): Promise<void> | undefined {
    if (seq <= this.#given) throw fail("INVALID_FIELD", `batch numbers must rise; ${seq} came after ${this.#given}`, { field: "seq" });
    this.#given = seq;
    return this.#shell.offer(input, bytes);
  }

  #answer(output: StreamOutput): void {
    switch (output.kind) {
      case "bound":
        this.#openBinds--;
        this.#send({ case: "bound", value: boundToProto(output) });
        break;
      case "acked":
        this.#answered = Math.max(this.#answered, output.upTo);
        this.#send({ case: "ack", value: { seq: BigInt(output.upTo) } });
        break;
      case "stream_ended":
        return this.fence(output.failure);
      case "refused":
        this.#answered = Math.max(this.#answered, output.seq);
        this.#send({ case: "refused", value: { seq: BigInt(output.seq), index: output.index, failure: failureToProto(output.failure) } });
    }
    this.#settle();
  }

  #send(frame: NonNullable<Parameters<typeof create<typeof UpdateStateResponseSchema>>[1]>["frame"] & object): void {
    this.#out.send(create(UpdateStateResponseSchema, { frame }));
  }

  #settle(): void {
    if (this.#ending && this.#answered >= this.#given && this.#openBinds === 0) this.#settled.resolve();
  }
}

/** createStateHandlers are the handlers of the ingest stream; at most `maxStreams` run at a time, and a part of them for one caller. */
export function createStateHandlers(shell: Shell, maxStreams: number, clock: Clock) {
  const parts = new StreamsPerCaller("streams", maxStreams);
  shell.parts.push(parts);
  const fences = new FencedStreams<UpdateStream>(clock);
  return {
    async updateState(requests: AsyncIterable<RawMessage>, out: Outbound<UpdateStateResponse>, context: CallContext): Promise<void> {
      const caller = callerName(context.caller);
      const failure = parts.take(caller);
      if (failure !== undefined) throw new FoedusError(failure);
      try {
        await new UpdateStream(shell, out, fences).run(requests, context);
      } finally {
        parts.give(caller);
      }
    },
  };
}
