import type { Failure } from "#kernel/error.ts";
import { isNodeId } from "#kernel/node-name.ts";
import { equalBytes } from "../codec/wire.ts";
import type { OpenSegment } from "../feed/open-segment.ts";
import type { Effect, NamedUpdate, NodeOutcome, Scope } from "../messages.ts";
import type { NodeInfo, UpdateBatch, ValueType } from "../ports.ts";
import { columnsOfUpdates } from "../table/columns-of-updates.ts";
import { COST, nodeCost, partOf } from "../table/cost.ts";
import type { NumberSpace } from "../table/renumber.ts";
import { type FeedTable, SECTION } from "../table/table.ts";
import { failure, limitFailure, type World } from "../world.ts";
import { CallerNumbers } from "./caller-numbers.ts";
import { LocalPresence } from "./presence.ts";
import { covers, type Principal } from "./principal.ts";
import { BatchChecker, PROBLEM, PROBLEM_TEXT } from "./state-check.ts";

const GIVEN_BACK = "remove nodes that are not needed; numbers that nothing uses are given back, at most every ten minutes";

/** BATCH_MAX is the most changes in one batch; a frame of this size is far above what pays. */
export const BATCH_MAX = 16_384;

interface Stream {
  readonly principal: Principal;
  /** Newest batch taken. */
  seq: number;
  /** True while a batch waits in the open segment for its acknowledgement. */
  waiting: boolean;
  /** Its caller uses numbers. */
  numbered: boolean;
  /** These numbers mean something else now: nothing more is taken. */
  ended: boolean;
}

/** RENUMBERED is why a stream ends whose caller uses numbers that were given out anew. */
const RENUMBERED = failure("POSITION_EXPIRED", "nodes and keys have new numbers; open the stream again and bind them");

/**
 * LocalRegistry is this hub's own nodes: who may say what about them, their values, and the open segment that the feed grows by.
 *
 * LO1 a batch is applied whole or refused whole; a later one is taken all the same.
 * LO2 a caller speaks only for the nodes of its scope.
 * LO3 an acknowledgement or a reply leaves after the segment with what it is about is durable.
 */
export class LocalRegistry {
  readonly #world: World;
  table: FeedTable;
  readonly open: OpenSegment;
  readonly presence: LocalPresence;
  readonly #checker: BatchChecker;
  readonly #numbers: CallerNumbers;
  readonly #streams = new Map<number, Stream>();
  /** Streams with a batch in the open segment. */
  #waiting: number[] = [];
  /** Replies about what is in the open segment. */
  #replies: Effect[] = [];
  automation = false;
  /** Nodes that came are told. */
  followed = false;
  #came: string[] = [];
  /** Epoch of the feed, for Bound. */
  epoch: () => number = () => 1;

  constructor(world: World, table: FeedTable, open: OpenSegment) {
    this.#world = world;
    this.#checker = new BatchChecker(world.o.codec.isUtf8);
    this.table = table;
    this.open = open;
    this.presence = new LocalPresence(world, table, open);
    this.#numbers = new CallerNumbers(world, table, this.presence);
    this.presence.usesNumbers = (principal) => this.#numbers.usedBy(principal);
  }

  get streams(): number {
    return this.#streams.size;
  }

  /** reply sends an answer behind the segment that is open now, if any. */
  reply(effect: Effect): void {
    if (this.open.empty) this.#world.emit(effect);
    else this.#replies.push(effect);
  }

  /** closed gives the streams to acknowledge and sends the replies that waited for the segment that was just persisted. */
  closed(): { readonly stream: number; readonly upTo: number }[] {
    for (const effect of this.#replies) this.#world.emit(effect);
    this.#replies = [];
    const acks: { stream: number; upTo: number }[] = [];
    for (const id of this.#waiting) {
      const stream = this.#streams.get(id);
      if (stream === undefined) continue;
      stream.waiting = false;
      acks.push({ stream: id, upTo: stream.seq });
    }
    this.#waiting = [];
    return acks;
  }

  /** needs is how many numbers a call would take, if none of its nodes is refused. */
  needs(scope: Scope, nodes: readonly Uint8Array[]): NumberSpace<number> {
    const ids = new Set<string>();
    const keys = new Set<string>();
    for (const bytes of nodes) {
      const info = this.#world.o.codec.readNode(bytes);
      if (info === undefined || !covers(scope, info.nodeId)) continue;
      if (this.table.byId(info.nodeId) === undefined) ids.add(info.nodeId);
      for (const { name, type } of this.#freshOf(info)) keys.add(`${type}:${name}`);
    }
    return { refs: ids.size, keys: keys.size };
  }

  /** helps tells whether a caller is refused numbers that it could have if they were given out anew. */
  helps(need: NumberSpace<number>, scope: Scope | undefined): boolean {
    return scope !== undefined && this.#numbers.helps(this.presence.principal(scope), need);
  }

  /** renumber goes on with a table that has other numbers; streams whose callers know those of before end. */
  renumber(table: FeedTable, refs: ReadonlyMap<number, number>): void {
    this.table = table;
    this.presence.renumber(table, refs);
    this.#numbers.renumber(table);
    this.presence.forgetIdle();
    for (const [id, stream] of this.#streams) {
      if (!stream.numbered || stream.ended) continue;
      stream.ended = true;
      this.#world.emit({ kind: "stream_ended", stream: id, failure: RENUMBERED });
    }
  }

  register(call: number, scope: Scope, nodes: readonly Uint8Array[]): void {
    const principal = this.presence.principal(scope);
    const results = nodes.map((bytes) => this.#registerOne(principal, scope, bytes));
    if (results.some((result) => result.failure === undefined)) this.presence.renew(principal);
    this.reply({ kind: "registered", call, results });
    if (this.#came.length === 0) return;
    this.reply({ kind: "came", nodeIds: this.#came });
    this.#came = [];
  }

  #registerOne(principal: Principal, scope: Scope, bytes: Uint8Array): NodeOutcome {
    const info = this.#world.o.codec.readNode(bytes);
    if (info === undefined || !isNodeId(info.nodeId))
      return {
        nodeId: info?.nodeId ?? "",
        ref: 0,
        failure: { ...failure("INVALID_FIELD", "the node or its id is malformed"), field: "node.node_id" },
      };
    const problem = this.#world.storeFailure ?? this.#problemOf(principal, info, bytes);
    if (problem !== undefined) return { nodeId: info.nodeId, ref: 0, failure: problem };
    const known = this.table.byId(info.nodeId);
    const ref = known?.ref ?? this.table.nextRef;
    if (known === undefined || !equalBytes(known.bytes, bytes)) {
      this.#defineKeys(principal, info);
      if (known === undefined) this.#numbers.tookRef(principal);
      this.open.room(1, bytes.length, this.#world.o.limits.segmentNodeBytes);
      if (known !== undefined) this.presence.settle(principal, ref);
      const online = known?.online ?? this.presence.hasExecutor(info.nodeId);
      const before = this.table.bytes;
      const entry = this.table.put(ref, bytes, info, online);
      // Texts of capabilities that it has no more went with it.
      if (this.presence.homeOf(ref) === principal.no) principal.bytes += this.table.bytes - before;
      this.open.nodePut({ ...entry });
      if (known === undefined && this.followed) this.#came.push(info.nodeId);
      this.#world.event("node", "INFO", known === undefined ? "node registered" : "node changed", {
        fields: { node: info.nodeId, by: scope.name },
      });
    }
    this.presence.settle(principal, ref);
    return { nodeId: info.nodeId, ref, failure: undefined };
  }

  /**
   * growthOf is by how much, at most, a node makes what a caller's nodes take greater: all of it, if it was not counted for this caller
   * before. Texts that would go are not taken off.
   */
  #growthOf(principal: Principal, info: NodeInfo, bytes: Uint8Array): number {
    const known = this.table.byId(info.nodeId);
    if (known === undefined) return nodeCost(info, bytes);
    const counted = this.presence.homeOf(known.ref) === principal.no;
    return nodeCost(info, bytes) + (counted ? -known.cost : this.table.textCostOf(known));
  }

  #problemOf(principal: Principal, info: NodeInfo, bytes: Uint8Array): Failure | undefined {
    const { limits } = this.#world.o;
    const { scope } = principal;
    const size = bytes.length;
    if (!covers(scope, info.nodeId))
      return failure("OUT_OF_SCOPE", "the caller may not speak for this node", { node: info.nodeId, scope: scope.name });
    if (size > limits.nodeBytes)
      return { ...limitFailure("node_bytes", limits.nodeBytes, `the node is ${size} bytes long; describe it in fewer`), field: "node" };
    if (info.capabilities.length > limits.keysPerNode)
      return limitFailure("keys_per_node", limits.keysPerNode, "the node has too many capabilities");
    if (new Set(info.capabilities.map((capability) => capability.name)).size < info.capabilities.length)
      return { ...failure("INVALID_FIELD", "two capabilities of the node have the same name"), field: "node.capabilities" };
    if (this.table.byId(info.nodeId) === undefined && this.table.size >= limits.ownNodes)
      return limitFailure("own_nodes", limits.ownNodes, "this hub has as many nodes of its own as it may; raise nodes_per_peer for more");
    const growth = this.#growthOf(principal, info, bytes);
    const keys = this.#freshOf(info);
    const whole = growth + keys.reduce((sum, { name }) => sum + COST.key + 2 * name.length, 0);
    const tooMuch = whole > 0 ? this.#tooMuch(principal, whole) : undefined;
    if (tooMuch !== undefined) return { ...tooMuch, field: "node" };
    const need = { keys: keys.length, refs: this.table.byId(info.nodeId) === undefined ? 1 : 0 };
    if (this.table.nextKref + need.keys > limits.keysPerFeed)
      return limitFailure("keys_per_feed", limits.keysPerFeed, `no number is left for a new name of a capability; ${GIVEN_BACK}`);
    if (need.refs > 0 && this.table.nextRef > limits.refsPerFeed)
      return limitFailure("refs_per_feed", limits.refsPerFeed, `no number is left for a new node; ${GIVEN_BACK}`);
    return this.#numbers.problemOf(principal, need);
  }

  /** freshOf are the capabilities of a node whose keys have no number yet. */
  #freshOf(info: NodeInfo): NodeInfo["capabilities"] {
    return info.capabilities.filter(({ name, type }) => SECTION[type] !== 3 && this.table.kref(name, type) === undefined);
  }

  #defineKeys(principal: Principal, info: NodeInfo): void {
    for (const { name, type } of this.#freshOf(info)) {
      this.open.room(1, 3 * name.length);
      const kref = this.table.nextKref;
      this.table.defineKey(kref, name, type);
      this.#numbers.tookKey(principal, kref);
      this.open.keyDef({ kref, name, type });
    }
  }

  deregister(call: number, scope: Scope, nodeId: string, mark: number): void {
    const entry = this.table.byId(nodeId);
    const allowed = covers(scope, nodeId);
    const problem = !allowed
      ? failure("OUT_OF_SCOPE", "the caller may not speak for this node", { node: nodeId, scope: scope.name })
      : // Also when it is gone already: that may not be durable yet, and a crash would bring it back.
        this.#world.storeFailure;
    if (entry !== undefined && problem === undefined) {
      this.open.room(1, 16);
      this.presence.removing(entry.ref);
      this.table.remove(entry.ref, mark);
      this.open.nodeDel(entry.ref);
      this.#world.event("node", "INFO", "node removed", { fields: { node: nodeId, by: scope.name } });
    }
    this.reply({ kind: "deregistered", call, existed: entry !== undefined && problem === undefined, failure: problem });
  }

  streamOpen(id: number, scope: Scope): void {
    const principal = this.presence.principal(scope);
    this.#streams.set(id, { principal, seq: 0, waiting: false, numbered: false, ended: false });
    this.presence.streamOpened(principal);
  }

  streamClose(id: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#streams.delete(id);
    this.presence.streamClosed(stream.principal, stream.ended);
  }

  bind(id: number, bindId: number, nodeIds: readonly string[], keys: readonly { readonly name: string; readonly type: ValueType }[]): void {
    const stream = this.#taking(id);
    if (stream === undefined) return;
    const { scope } = stream.principal;
    let problem: Failure | undefined;
    const refs = nodeIds.map((nodeId, index) => {
      const field = `bind.node_ids[${index}]`;
      if (!covers(scope, nodeId))
        problem ??= { ...failure("OUT_OF_SCOPE", "the caller may not speak for this node", { node: nodeId, scope: scope.name }), field };
      const ref = this.table.byId(nodeId)?.ref;
      if (ref === undefined)
        problem ??= { ...failure("NODE_NOT_FOUND", "register the node before its state is reported", { node: nodeId }), field };
      return ref ?? 0;
    });
    const krefs = keys.map(({ name, type }, index) => {
      const kref = this.table.kref(name, type);
      if (kref === undefined)
        problem ??= {
          ...failure("CAPABILITY_NOT_FOUND", "no registered node has a capability of that name and type", { key: name }),
          field: `bind.keys[${index}]`,
        };
      return kref ?? 0;
    });
    const ok = problem === undefined;
    if (ok) for (const ref of refs) this.presence.settle(stream.principal, ref);
    stream.numbered ||= nodeIds.length + keys.length > 0;
    this.reply({
      kind: "bound",
      stream: id,
      id: bindId,
      epoch: this.epoch(),
      refs: ok ? refs : [],
      krefs: ok ? krefs : [],
      failure: problem,
    });
  }

  /** taking is a stream from which something may be taken. */
  #taking(id: number): Stream | undefined {
    const stream = this.#streams.get(id);
    return stream?.ended === true ? undefined : stream;
  }

  updates(id: number, seq: number, batch: UpdateBatch): void {
    const stream = this.#taking(id);
    if (stream === undefined) return;
    stream.numbered = true;
    const problem = this.#refusal(stream, seq, batch);
    if (problem !== undefined) this.reply({ kind: "refused", stream: id, seq, ...problem });
    else this.#take(id, stream, seq, batch);
  }

  named(id: number, seq: number, updates: readonly NamedUpdate[]): void {
    const stream = this.#taking(id);
    if (stream === undefined) return;
    const made = columnsOfUpdates(this.table, this.#world.o.codec, updates);
    if ("failure" in made) {
      this.reply({ kind: "refused", stream: id, seq, index: made.index, failure: made.failure });
      return;
    }
    const batch = { ...made.columns, bytes: this.#world.o.codec.encodeState(made.columns) };
    const problem = this.#refusal(stream, seq, batch);
    if (problem === undefined) this.#take(id, stream, seq, batch);
    else this.reply({ kind: "refused", stream: id, seq, index: made.order[problem.index] ?? 0, failure: problem.failure });
  }

  #refusal(stream: Stream, seq: number, batch: UpdateBatch): { readonly index: number; readonly failure: Failure } | undefined {
    const { limits } = this.#world.o;
    if (this.#world.storeFailure !== undefined) return { index: 0, failure: this.#world.storeFailure };
    if (seq <= stream.seq)
      return { index: 0, failure: failure("INVALID_FIELD", "the number of a batch must be higher than that of the one before") };
    if (batch.count > BATCH_MAX)
      return { index: 0, failure: limitFailure("batch_updates", BATCH_MAX, "the batch has too many changes; split it") };
    if (batch.bytes.length > limits.segmentPayloadBytes - 64)
      return {
        index: 0,
        failure: limitFailure("segment_payload_bytes", limits.segmentPayloadBytes - 64, "the batch is too long; split it"),
      };
    this.#checker.begin();
    const problem = this.#checker.check(this.table, batch);
    if (problem !== PROBLEM.NONE) return this.#explain(batch, this.#checker.index, problem);
    const stranger = this.#strangerIn(stream.principal, batch);
    if (stranger >= 0) return this.#explain(batch, stranger, PROBLEM.NOT_OWNED);
    const { principal } = stream;
    // How much the texts grow is summed up only when it is close.
    if (batch.len.length === 0 || this.#tooMuch(principal, batch.data.length + COST.text * batch.len.length) === undefined)
      return undefined;
    const growth = this.#checker.textGrowth(this.table, batch);
    const tooMuch = growth > 0 ? this.#tooMuch(principal, growth) : undefined;
    return tooMuch && { index: 0, failure: tooMuch };
  }

  /** tooMuch tells why what a caller's nodes take may not grow by so much: because of its own bound, or of what there is for all of them. */
  #tooMuch({ scope, bytes }: Principal, growth: number): Failure | undefined {
    const { bytesPerCaller, ownBytes } = this.#world.o.limits;
    if (bytes + growth > bytesPerCaller) return tooManyBytes(scope, bytesPerCaller);
    const part = partOf(ownBytes, this.table.memory - bytes);
    return bytes + growth > part ? noMemory(scope, part) : undefined;
  }

  /** start says when more is held than there is memory for: it is kept, and does not grow. */
  start(): void {
    this.presence.start();
    const { memory } = this.table;
    const max = this.#world.o.limits.ownBytes;
    if (memory <= max) return;
    const text = "the nodes of this hub take more memory than this process has for them now; they are kept, and no more come";
    const fields = { limit: "memory_bytes", max: String(max) };
    this.#world.event("limit", "WARNING", text, { count: this.table.size, bytes: memory, fields });
  }

  /** strangerIn is the index of the first change about a node outside the caller's scope, or -1. */
  #strangerIn(principal: Principal, batch: UpdateBatch): number {
    const { ref, count } = batch;
    const home = this.presence.home.data;
    const { no } = principal;
    for (let i = 0; i < count; i++) {
      if (home[ref[i] as number] === no) continue;
      // Somebody else spoke last for it, or nobody since the start: ask its scope, then remember.
      const entry = this.table.node(ref[i] as number);
      if (entry === undefined || !covers(principal.scope, entry.info.nodeId)) return i;
    }
    return -1;
  }

  #explain(batch: UpdateBatch, index: number, problem: number): { readonly index: number; readonly failure: Failure } {
    const entry = this.table.node(batch.ref[index] as number);
    const key = this.table.key(batch.key[index] as number);
    const facts = { node: entry?.info.nodeId ?? `#${batch.ref[index] ?? ""}`, key: key?.name ?? `#${batch.key[index] ?? ""}` };
    const text = PROBLEM_TEXT[problem] as string;
    switch (problem) {
      case PROBLEM.NO_SLOT:
        return { index, failure: failure(entry === undefined ? "NODE_NOT_FOUND" : "CAPABILITY_NOT_FOUND", text, facts) };
      case PROBLEM.TOO_LONG:
        return { index, failure: failure("LIMIT_EXCEEDED", text, { ...facts, limit: "value_bytes" }) };
      case PROBLEM.NOT_OWNED:
        return { index, failure: failure("OUT_OF_SCOPE", text, facts) };
      default:
        return { index, failure: failure("INVALID_FIELD", text, facts) };
    }
  }

  #take(id: number, stream: Stream, seq: number, batch: UpdateBatch): void {
    this.presence.renew(stream.principal);
    if (batch.count > 0) {
      this.#settleAll(stream.principal, batch);
      if (this.automation) this.#world.emit({ kind: "automate", hub: this.#world.o.hubId, batch, names: this.table });
      this.open.room(batch.count, batch.bytes.length);
      const before = this.table.slots.textCost;
      this.table.apply(batch, this.#checker.slots.data, 0);
      stream.principal.bytes += this.table.slots.textCost - before;
      this.open.state(batch);
    }
    // Not before: closing the segment acknowledges what came before this batch.
    stream.seq = seq;
    if (this.open.empty) this.#world.emit({ kind: "acked", stream: id, upTo: seq });
    else if (!stream.waiting) {
      stream.waiting = true;
      this.#waiting.push(id);
    }
  }

  #settleAll(principal: Principal, batch: UpdateBatch): void {
    const home = this.presence.home.data;
    for (let i = 0; i < batch.count; i++)
      if (home[batch.ref[i] as number] !== principal.no) this.presence.settle(principal, batch.ref[i] as number);
  }
}

function tooManyBytes(scope: Scope, max: number): Failure {
  const text = "the nodes and values of this caller take as much memory as they may; raise bytes_per_caller for more";
  const { reason, message, facts } = limitFailure("bytes_per_caller", max, text);
  return { reason, message, facts: { ...facts, caller: scope.name } };
}

function noMemory(scope: Scope, max: number): Failure {
  const text = "this process has no more memory for this caller's nodes; remove some, give it a larger heap, or raise memory_bytes";
  const { reason, message, facts } = limitFailure("memory_bytes", max, text);
  return { reason, message, facts: { ...facts, caller: scope.name } };
}
