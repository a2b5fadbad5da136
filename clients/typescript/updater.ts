import { create, toBinary } from "@bufbuild/protobuf";
import { type ClientDuplex, type ClientOf, RawMessage, type StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock, type Timer } from "#channel/clock.ts";
import { failureFromProto } from "#channel/failure.ts";
import { reasonRule } from "#channel/status.ts";
import type { ValueType as WireType } from "#gen/foedus/common/v1/value_pb.ts";
import {
  BindSchema,
  type RegistrySyncService,
  type UpdateStateRequest,
  UpdateStateRequestSchema,
  type UpdateStateResponse,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { BoundedQueue } from "#kernel/bounds/bounded-queue.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { type BindRequest, Fields } from "../../services/registry-sync/codec/fields.ts";
import { DEAD, UpdateColumns } from "../../services/registry-sync/codec/update-columns.ts";
import { utf8 } from "../../services/registry-sync/codec/wire.ts";
import { VALUE_TYPE, type ValueType } from "../../services/registry-sync/ports.ts";
import { callProgram, FINAL_REASONS, KeptStream, tellError } from "./kept-stream.ts";
import { BATCH_DATA, type SetValue, typeOf, UNSAID, type UpdaterOptions } from "./updater-options.ts";

type Stream = ClientDuplex<UpdateStateRequest, UpdateStateResponse>;
type Client = ClientOf<typeof RegistrySyncService>;

/**
 * Updater sends state changes of many nodes on one stream. Changes of one turn of the loop go together; a batch is kept until the
 * hub says that it is durable, and sent again after a cut, so that what `drain` waited for is not lost.
 *
 * UP1 the newest change of a field reaches the hub last, also when batches are sent again: what a newer change has overtaken is not sent
 *    again, and a stream that was cut is fenced off by the next one before that is answered.
 * UP2 at most `windowBatches` are under way; more than `windowBatches` waiting makes `set` answer false: then await `writable()`.
 * UP3 a change that the hub refuses is reported and left out; the rest of its batch is sent again. So is each later change of a field that
 *    the hub refused to bind, until its node is registered or a newer stream is asked.
 * UP4 with `prepare`, nothing is sent on a stream before that was done on it.
 */
export class Updater {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #o: UpdaterOptions;
  readonly #window: number;
  readonly #capacity: number;
  readonly #fields = new Fields();
  readonly #kept: KeptStream<Stream, UpdateStateResponse>;
  readonly #pool: UpdateColumns[] = [];
  readonly #ready: BoundedQueue<UpdateColumns>;
  /** Batches to be sent before all others: again, after a cut or a refusal. */
  #again: UpdateColumns[] = [];
  #flight: UpdateColumns[] = [];
  #open: UpdateColumns;
  #lastId = 0;
  #seq = 0;
  #acked = 0;
  #binding: BindRequest | undefined;
  #scheduled: Timer | undefined;
  #closed = false;
  /** The stream that `prepare` was done on. */
  #prepared: Stream | undefined;
  #fatal: FoedusError | undefined;
  #writableWaiters: (() => void)[] = [];
  #drainWaiters: { upTo: number; readonly resolve: () => void; readonly reject: (error: FoedusError) => void }[] = [];

  constructor(client: Client, options: UpdaterOptions = {}) {
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#window = options.windowBatches ?? 16;
    this.#capacity = options.batchUpdates ?? 2_000;
    this.#ready = new BoundedQueue(options.maxWaiting ?? 256);
    this.#kept = new KeptStream({
      clock: this.#clock,
      backoff: options.backoff,
      seed: options.seed,
      identity: options.identity,
      open: (number) => this.#connect(number),
      onOpened: () => {
        callProgram(options.onError, options.onLink, undefined, true);
        this.#prepare();
      },
      onMessage: (message) => this.#onMessage(message),
      onCut: (failure, final) => this.#onCut(failure, final),
      onReady: () => (this.#kept.current === undefined ? this.#pump() : this.#prepare()),
      final: FINAL_REASONS,
      onError: options.onError,
    });
    this.#open = this.#take();
    if (options.prepare !== undefined) this.#scheduled = this.#clock.setImmediate(() => this.#onTurn());
  }

  /** ackedSeq is the newest batch that is durable, with all before it. */
  get ackedSeq(): number {
    return this.#acked;
  }

  /** pending is how many batches are not acknowledged yet, the open one included. */
  get pending(): number {
    return this.#flight.length + this.#again.length + this.#ready.size + (this.#open.count > 0 ? 1 : 0);
  }

  /** connect opens the stream now and keeps it open: the nodes that this caller registered are online as long as it is. */
  connect(): void {
    this.#pump();
  }

  /** field gives the number under which a key of a node is set fastest. `type` matters the first time only. */
  field(nodeId: string, key: string, type: Exclude<ValueType, 0>): number {
    return this.#fields.find(nodeId, key) ?? this.#fields.add(nodeId, key, type);
  }

  /**
   * set writes one value. False when more is waiting than the hub takes: the value is kept all the same; await `writable()`.
   * Throws VALUE_OUT_OF_RANGE for another type than the key's, OVERLOADED when far too much waits, and soon why nothing is sent any more.
   */
  set(nodeId: string, key: string, value: SetValue): boolean {
    const field = this.#fields.find(nodeId, key) ?? this.#fields.add(nodeId, key, typeOf(value));
    return this.setField(field, value);
  }

  /** setField is `set` for a number from `field`. */
  setField(field: number, value: SetValue): boolean {
    const type = this.#fields.type.data[field] as ValueType;
    if (typeof value === "number") {
      if (type === VALUE_TYPE.DOUBLE) return this.setNumber(field, value);
      if (type === VALUE_TYPE.SINT64 && Number.isSafeInteger(value)) return this.#setInt(field, BigInt(value));
    } else if (typeof value === "boolean") {
      if (type === VALUE_TYPE.BOOL) return this.setNumber(field, value ? 1 : 0);
    } else if (typeof value === "bigint") {
      if (type === VALUE_TYPE.SINT64) return this.#setInt(field, value);
    } else if (typeof value === "string") {
      if (type === VALUE_TYPE.STRING || type === VALUE_TYPE.JSON) return this.#setText(field, utf8(value));
    } else if (type === VALUE_TYPE.BYTES) return this.#setText(field, value);
    const { nodeId, key } = this.#fields.name(field);
    throw fail("VALUE_OUT_OF_RANGE", `the value of ${nodeId} ${key} has another type than the key`);
  }

  /** setNumber is the fast way for DOUBLE and BOOL (0 or 1) fields; the type is not looked at. */
  setNumber(field: number, value: number): boolean {
    const batch = this.#open;
    if (batch.numCount + batch.intCount + batch.textCount === this.#capacity) return this.#seal(() => this.setNumber(field, value));
    batch.addNumber(field, value);
    return this.#added(batch, field);
  }

  #setInt(field: number, value: bigint): boolean {
    if (BigInt.asIntN(64, value) !== value) throw fail("VALUE_OUT_OF_RANGE", "the value does not fit into 64 bits");
    if (this.#open.count === this.#capacity) return this.#seal(() => this.#setInt(field, value));
    this.#open.addInt(field, value);
    return this.#added(this.#open, field);
  }

  #setText(field: number, value: Uint8Array): boolean {
    if (this.#open.count === this.#capacity || !this.#open.fits(value.length)) return this.#seal(() => this.#setText(field, value));
    this.#open.addText(field, value);
    return this.#added(this.#open, field);
  }

  #added(batch: UpdateColumns, field: number): boolean {
    this.#fields.lastBatch.data[field] = batch.id;
    if (this.#scheduled === undefined) {
      this.#mustGoOn();
      this.#scheduled = this.#clock.setImmediate(() => this.#onTurn());
    }
    return this.#ready.size <= this.#window;
  }

  /** seal puts the open batch in line, which is full, and goes on with the next. */
  #seal(next: () => boolean): boolean {
    this.#mustGoOn();
    if (!this.#ready.push(this.#open))
      throw fail("OVERLOADED", "too many updates wait for the hub; await writable() when set answers false");
    this.#open = this.#take();
    this.#pump();
    return next();
  }

  #mustGoOn(): void {
    if (this.#fatal !== undefined) throw this.#fatal;
    if (this.#closed) throw fail("SHUTTING_DOWN", "the updater is closed");
  }

  #take(): UpdateColumns {
    const batch = this.#pool.pop() ?? new UpdateColumns(this.#capacity, BATCH_DATA);
    batch.clear();
    batch.id = ++this.#lastId;
    return batch;
  }

  #release(batch: UpdateColumns): void {
    if (this.#pool.length < 2 * this.#window) this.#pool.push(batch);
  }

  #onTurn(): void {
    this.#scheduled = undefined;
    this.#pump();
  }

  /** pump sends what may be sent: batches to be repeated, full ones, and the open one when nothing else waits. */
  #pump(): void {
    if (this.#closed || this.#kept.waiting) return;
    const stream = this.#kept.open();
    if (stream === undefined || (this.#o.prepare !== undefined && stream !== this.#prepared) || !this.#bind(stream)) return;
    while (this.#flight.length < this.#window) {
      const batch = this.#again.shift() ?? this.#ready.take() ?? this.#takeOpen();
      if (batch === undefined) break;
      const again = this.#fields.hasDead && this.#fields.askAgain(batch);
      if (again || batch.maxField >= this.#fields.bound) {
        this.#again.unshift(batch);
        if (again && this.#bind(stream)) continue;
        break;
      }
      this.#transmit(stream, batch);
    }
    this.#wakeWriters();
  }

  /** prepare does what the hub must know first, if that was not done on this stream, and goes on. */
  #prepare(): void {
    const stream = this.#kept.current;
    if (this.#o.prepare === undefined || stream === this.#prepared) return this.#pump();
    this.#o.prepare().then(
      () => {
        if (this.#kept.current !== stream) return;
        this.#prepared = stream;
        this.#pump();
      },
      (error: unknown) => {
        // A stream that was cut meanwhile says why by itself.
        if (this.#kept.current !== stream) return;
        tellError(this.#o.onError, error);
        this.#kept.pause();
      },
    );
  }

  #takeOpen(): UpdateColumns | undefined {
    const batch = this.#open;
    if (batch.count === 0) return undefined;
    this.#open = this.#take();
    return batch;
  }

  #transmit(stream: Stream, batch: UpdateColumns): void {
    const { ref, key } = this.#fields;
    const refused = this.#fields.hasDead ? this.#leaveOut(batch) : [];
    const empty = batch.count === 0;
    if (empty) this.#release(batch);
    else {
      batch.seq = ++this.#seq;
      this.#flight.push(batch);
      stream.send(new RawMessage(batch.encode(ref.data, key.data)));
    }
    // Only now: what callbacks set and send is newer than what is in the batch (UP1).
    for (const [field, failure] of refused) this.#report(field, failure);
    if (empty) this.#settle();
  }

  /** leaveOut takes out the changes that have no number to be sent with, to be reported (UP3). */
  #leaveOut(batch: UpdateColumns): (readonly [field: number, failure: Failure | undefined])[] {
    const out: number[] = [];
    batch.retain((field) => {
      const alive = this.#fields.ref.data[field] !== DEAD;
      if (!alive) out.push(field);
      return alive;
    });
    return out.map((field) => [field, this.#fields.refusal(field)] as const);
  }

  /** bind asks for missing numbers; true when all fields have theirs. */
  #bind(stream: Stream): boolean {
    if (this.#binding !== undefined) return this.#fields.bound > 0;
    const request = this.#fields.next();
    if (request === undefined) return true;
    if (request.nodeIds.length === 0) {
      this.#fields.accept(request, [], []);
      return this.#bind(stream);
    }
    this.#binding = request;
    const bind = create(BindSchema, {
      id: request.id,
      nodeIds: [...request.nodeIds],
      keys: request.keys.map(({ name, type }) => ({ name, type: type as WireType })),
    });
    stream.send(
      new RawMessage(
        Buffer.from(toBinary(UpdateStateRequestSchema, create(UpdateStateRequestSchema, { frame: { case: "bind", value: bind } }))),
      ),
    );
    return false;
  }

  #connect(number: StreamOpenInit): Stream {
    const stream = this.#client.updateState();
    // A bind of nothing: hubs that do not know the number answer it all the same.
    stream.send(create(UpdateStateRequestSchema, { stream: number, frame: { case: "bind", value: {} } }));
    return stream;
  }

  #onMessage({ frame }: UpdateStateResponse): void {
    this.#kept.worked();
    if (frame.case === "ack") this.#onAck(Number(frame.value.seq));
    else if (frame.case === "bound")
      this.#onBound(frame.value.id, frame.value.refs, frame.value.krefs, frame.value.failure && failureFromProto(frame.value.failure));
    else if (frame.case === "refused")
      this.#onRefused(Number(frame.value.seq), frame.value.index, frame.value.failure && failureFromProto(frame.value.failure));
    this.#pump();
  }

  #onAck(seq: number): void {
    let done = 0;
    while (done < this.#flight.length && (this.#flight[done] as UpdateColumns).seq <= seq)
      this.#release(this.#flight[done++] as UpdateColumns);
    this.#flight.splice(0, done);
    this.#acked = Math.max(this.#acked, seq);
    this.#settle();
  }

  #onBound(id: number, refs: readonly number[], krefs: readonly number[], failure: Failure | undefined): void {
    const request = this.#binding;
    if (request === undefined || request.id !== id) return;
    this.#binding = undefined;
    if (failure === undefined) return this.#fields.accept(request, refs, krefs);
    if (reasonRule(failure.reason).retryable) return this.#kept.pause();
    const waits = this.#oldestId();
    // What waits to be sent is reported when it is left out.
    for (const field of this.#fields.kill(request, failure))
      if ((this.#fields.lastBatch.data[field] as number) < waits) this.#report(field, failure);
  }

  /** onRefused sends a batch again without the change at fault, and without those that a later batch has overtaken (UP1, UP3). */
  #onRefused(seq: number, index: number, failure: Failure = UNSAID): void {
    const at = this.#flight.findIndex((batch) => batch.seq === seq);
    const batch = this.#flight[at];
    if (batch === undefined) return;
    this.#flight.splice(at, 1);
    const passing = reasonRule(failure.reason).retryable || index >= batch.count;
    if (!passing) this.#report(batch.fieldAt(index), failure);
    if (this.#keepNewest(batch, passing ? undefined : index)) this.#again.push(batch);
    if (passing) this.#kept.pause();
    this.#settle();
  }

  #report(field: number, failure: Failure = UNSAID): void {
    // The callback for the field before may have closed it.
    if (this.#closed) return;
    const { nodeId, key } = this.#fields.name(field);
    callProgram(this.#o.onError, this.#o.onRefused, { nodeId, key, failure });
  }

  /** onCut puts what was under way in line again, of each field the newest change only: the hub may have taken those before (UP1). */
  #onCut(failure: Failure, final: boolean): void {
    this.#binding = undefined;
    this.#fields.unbind();
    const before = [...this.#flight, ...this.#again];
    this.#flight = [];
    this.#again = before.filter((batch) => this.#keepNewest(batch));
    callProgram(this.#o.onError, this.#o.onLink, failure, !final);
    if (final && !this.#closed) this.#fail(new FoedusError(failure));
    else this.#settle();
  }

  /** keepNewest takes out of a batch what must not be sent again; false if nothing is left. Who waits for it waits for what overtook it. */
  #keepNewest(batch: UpdateColumns, except?: number): boolean {
    const newer = this.#fields.overtakenBy(batch);
    for (const waiter of this.#drainWaiters) if (waiter.upTo >= batch.id) waiter.upTo = Math.max(waiter.upTo, newer);
    this.#fields.retainNewest(batch, except);
    if (batch.count > 0) return true;
    this.#release(batch);
    return false;
  }

  #fail(error: FoedusError): void {
    this.#fatal = error;
    this.#settle();
    this.#wakeWriters();
  }

  /** settle wakes those who wait for batches of which none is left. */
  #settle(): void {
    if (this.#drainWaiters.length === 0) return;
    const oldest = this.#oldestId();
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) {
      if (this.#fatal !== undefined) waiter.reject(this.#fatal);
      else if (waiter.upTo < oldest) waiter.resolve();
      else this.#drainWaiters.push(waiter);
    }
  }

  /** oldestId is the least id of a batch that is not durable; the one to come if there is none. */
  #oldestId(): number {
    let oldest = this.#open.count > 0 ? this.#open.id : this.#lastId + 1;
    oldest = Math.min(oldest, this.#ready.peek()?.id ?? oldest);
    for (const batch of this.#flight) oldest = Math.min(oldest, batch.id);
    for (const batch of this.#again) oldest = Math.min(oldest, batch.id);
    return oldest;
  }

  #wakeWriters(): void {
    if (this.#writableWaiters.length === 0 || (this.#ready.size > this.#window / 2 && this.#fatal === undefined && !this.#closed)) return;
    const waiters = this.#writableWaiters;
    this.#writableWaiters = [];
    for (const wake of waiters) wake();
  }

  /** writable resolves when `set` would answer true again. Rejects when nothing will be sent any more. */
  async writable(): Promise<void> {
    this.#mustGoOn();
    if (this.#ready.size <= this.#window) return;
    await new Promise<void>((resolve) => this.#writableWaiters.push(resolve));
    this.#mustGoOn();
  }

  /** drain resolves when everything that was set so far is durable at the hub, or was reported as refused. Rejects when the hub will not take anything. */
  drain(): Promise<void> {
    if (this.#fatal !== undefined) return Promise.reject(this.#fatal);
    if (this.#closed && this.pending > 0) return Promise.reject(fail("SHUTTING_DOWN", "the updater is closed"));
    if (this.pending === 0) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#drainWaiters.push({ upTo: this.#open.count > 0 ? this.#open.id : this.#open.id - 1, resolve, reject });
    this.#pump();
    return promise;
  }

  /** registered lets updates of a node through again that was unknown to the hub before, or has a new number. */
  registered(nodeId: string): void {
    this.#fields.revive(nodeId);
    if (this.#kept.current !== undefined) this.#pump();
  }

  /** whenOver calls a listener when it is closed, or will not be opened again; at once if that is so. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  /** close ends the stream; what is not acknowledged by then may be lost: `drain` first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#scheduled?.cancel();
    this.#scheduled = undefined;
    this.#kept.close();
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) waiter.reject(fail("SHUTTING_DOWN", "the updater was closed"));
    this.#wakeWriters();
  }
}
