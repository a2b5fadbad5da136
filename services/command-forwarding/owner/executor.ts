import { assert } from "#kernel/assert.ts";
import { Room } from "#kernel/bounds/room.ts";
import type { Failure } from "#kernel/error.ts";
import { isNodeId } from "#kernel/node-name.ts";
import { LOCAL_EXECUTOR, type Offer, type Part, type Scope, WHOLE } from "../messages.ts";
import { Lines, type Standing } from "./lines.ts";
import { holderOf, OFFERED_MAX, OFFERING_COST, Offering, offeringCost, wait } from "./offering.ts";

/** IN_FLIGHT_DEFAULT is how many tasks an executor that names no number has in flight; IN_FLIGHT_MAX is the most that it may name. */
export const IN_FLIGHT_DEFAULT = 64;
export const IN_FLIGHT_MAX = 4_096;

/** What all that is offered may take, beside a place for each executor's offer, and about what a node of it takes. */
const OFFERED_BYTES = 32 * 1024 * 1024;
const NODE_COST = 112;
/** Of the nodes that this hub has, a caller may offer each so often whatever others offer: with a new stream beside the one that it replaces. */
const OFFERS_OF_KNOWN = 2;
/** What an offer of such nodes may take beside them, and how many there may be for each of the caller's executors. */
const KNOWN_BYTES = 4_096;
const OFFERS_OF_EXECUTOR = 2;
const HANDLER_SCOPE: Scope = { kind: "gateway", prefixes: [] };
/** SHARERS_MAX is how many executors may share one node: who runs a command is chosen among them each time. */
export const SHARERS_MAX = 64;
/** Refusals of one offer that are told one by one. */
const REFUSALS_TOLD = 63;
/** SWEEP_MAX is how many nodes of offers that are over are given up in one step. */
export const SWEEP_MAX = 1_024;

/** Executor runs tasks: an attached stream, or the in-process handler. T is what the owner keeps of a task. */
export class Executor<T extends Standing> {
  readonly id: number;
  readonly name: string;
  readonly scope: Scope;
  readonly maxInFlight: number;
  /** What it offers, and what it is about to offer instead. */
  offering: Offering<Executor<T>> | undefined;
  coming: Offering<Executor<T>> | undefined;
  /** What an older stream of the same group offered: its nodes are not without anybody until they are in what is coming, or left out of it. */
  inherited: Set<Offering<Executor<T>>> | undefined;
  /** What was refused of what is coming: the first ones, and how many more. */
  refused: Failure[] = [];
  refusedMore = 0;
  /** Tasks that it was given, by task id. */
  readonly running = new Map<number, T>();
  /** Tasks that wait for credit. */
  readonly lines: Lines<T>;
  /** Older executors whose place it took of which it is not known yet what they were handed: until then it is given nothing. */
  awaits = 0;
  #nextTask: number;

  constructor(id: number, name: string, scope: Scope, maxInFlight: number, firstTask = 1) {
    this.#nextTask = firstTask;
    this.id = id;
    this.name = name;
    this.scope = scope;
    this.maxInFlight = Math.min(IN_FLIGHT_MAX, maxInFlight === 0 ? IN_FLIGHT_DEFAULT : maxInFlight);
    this.lines = new Lines(this.maxInFlight);
  }

  /** nodes is how many it offers. */
  get nodes(): number {
    return (this.offering?.nodes.size ?? 0) + (this.coming?.nodes.size ?? 0);
  }

  get load(): number {
    return (this.running.size + this.lines.waiting) / this.maxInFlight;
  }

  /** nextTask is the id that its next task will have. */
  get nextTask(): number {
    return this.#nextTask;
  }

  /** start notes that it is given a task, and answers the task's id. */
  start(task: T): number {
    const id = this.#nextTask++;
    this.running.set(id, task);
    return id;
  }
}

/** Known is which nodes this hub has. */
export interface Known {
  readonly size: number;
  has(nodeId: string): boolean;
}

/** Attachment is the outcome of a part of an attach. */
export interface Attachment<T extends Standing> {
  readonly executor: Executor<T>;
  /** Of this part. */
  readonly accepted: readonly string[];
  /** Of all parts, once the last has come: the first ones by name, and how many more. */
  readonly refused: readonly Failure[];
  /** Executors that serve nothing any more because this one replaced them. */
  readonly replaced: readonly Executor<T>[];
}

/**
 * Executors knows who runs what.
 *
 * EX1 for one (node, capability) the newest attach wins; older ones serve it only if both are shared.
 * EX2 an executor is offered only nodes in its certificate's scope.
 * EX3 the in-process handler (S0-20) serves every node that nobody else serves.
 * EX4 there is room for so many executors, and a part of it for each caller; half of it for one, such as a gateway with a stream for
 *    each of its devices, while nobody else needs it. Only nodes and gateways attach, so nothing is kept for operators.
 *    Who takes the place of one of its own needs none.
 * EX5 the same holds for the nodes that they offer, which need not exist: who attaches first and registers then is served, and this hub may
 *    not know yet what it has. Nodes that it has are offered beyond that, so that nobody's made-up ones take their place, and so are
 *    the offers that they come in.
 * EX6 no step takes longer for a long offer: it comes in parts, and what is over is given up in parts, by `sweep`.
 * EX7 what is over is kept while it has nodes, in one place, and counts: streams that take each other's place, however many, hold no more
 *    than what is counted.
 */
export class Executors<T extends Standing> {
  readonly #all = new Map<number, Executor<T>>();
  /** Who offers a node; newest first, where there are several. */
  readonly #byNode = new Map<string, Offering<Executor<T>> | readonly Offering<Executor<T>>[]>();
  readonly #known: Known;
  readonly room: Room;
  readonly offers: Room;
  readonly #over = new Set<Offering<Executor<T>>>();
  /** How many offers there are of a holder. */
  readonly #offerings = new Map<string, number>();
  #handler: Executor<T> | undefined;
  /** First task of the next in-process handler: what one has in hand when it is taken away may be reported when another is there. */
  #handlerTask = 1;

  constructor(max: number, known: Known) {
    this.#known = known;
    this.room = new Room({ limit: "executors", max, lends: true, forOwn: false });
    // As many offers as executors have a place beside the nodes.
    const maxBytes = OFFERED_BYTES + max * OFFERING_COST;
    this.offers = new Room({ limit: "offered_nodes", max: OFFERED_MAX, maxBytes, lends: true, forOwn: false });
  }

  get size(): number {
    return this.#all.size;
  }

  /** sweeping: some of what is over has not been given up yet. */
  get sweeping(): boolean {
    return this.#over.size > 0;
  }

  get(id: number): Executor<T> | undefined {
    return id === LOCAL_EXECUTOR ? this.#handler : this.#all.get(id);
  }

  all(): Iterable<Executor<T>> {
    return this.#handler === undefined ? this.#all.values() : [...this.#all.values(), this.#handler];
  }

  /** serves tells whether an executor offers a node. */
  serves(nodeId: string): boolean {
    const found = this.#byNode.get(nodeId);
    return found !== undefined && listOf(found).some(({ over }) => !over);
  }

  /** setHandler puts the in-process handler in place, or takes it away and answers the one that was there. */
  setHandler(present: boolean): Executor<T> | undefined {
    const old = this.#handler;
    if (present) this.#handler ??= new Executor<T>(LOCAL_EXECUTOR, "handler", HANDLER_SCOPE, IN_FLIGHT_MAX, this.#handlerTask);
    else this.#handler = undefined;
    if (present || old === undefined) return undefined;
    this.#handlerTask = old.nextTask;
    return old;
  }

  /**
   * attach takes a part of an offer, which stands when the last has come; an executor that attached before replaces its own offer and keeps
   * its tasks. A failure if there is no room; undefined if the executor is gone in the middle. `replaces` are older executors that the
   * caller of this forgets right after the first part, unless that fails.
   */
  attach(
    id: number,
    name: string,
    scope: Scope,
    offer: Offer,
    part: Part = WHOLE,
    replaces: readonly number[] = [],
  ): Attachment<T> | Failure | undefined {
    assert(id !== LOCAL_EXECUTOR, "the number of the in-process handler is taken");
    const begun = part.first ? this.#begin(id, name, scope, offer, replaces) : this.#all.get(id);
    if (begun === undefined || "reason" in begun) return begun;
    const { coming } = begun;
    if (coming === undefined) return undefined;
    const accepted: string[] = [];
    const touched = new Set<Executor<T>>();
    const holder = holderOf(name, scope);
    for (const nodeId of new Set(offer.nodeIds)) {
      if (coming.nodes.has(nodeId)) continue;
      const failure = this.#bind(coming, nodeId, holder, touched);
      if (failure === undefined) accepted.push(nodeId);
      else if (begun.refused.length < REFUSALS_TOLD) begun.refused.push(failure);
      else begun.refusedMore++;
    }
    const replaced = [...touched].filter((other) => other !== begun && other.nodes === 0 && other.coming === undefined);
    return { executor: begun, accepted, refused: part.last ? this.#finish(begun) : [], replaced };
  }

  /** detach forgets an executor; `sweep` gives its nodes up. With an heir, that is when the heir's offer has come. */
  detach(id: number, heir?: number): Executor<T> | undefined {
    const executor = this.#all.get(id);
    if (executor === undefined) return undefined;
    this.#all.delete(id);
    this.room.give(holderOf(executor.name, executor.scope), 0);
    const next = heir === undefined ? undefined : this.#all.get(heir);
    const { offering, coming, inherited } = executor;
    executor.inherited = undefined;
    if (next?.coming === undefined) this.#letGo(inherited);
    else if (next.inherited === undefined) next.inherited = inherited;
    else for (const over of inherited ?? []) wait(over, next.inherited);
    for (const ended of [offering, coming]) {
      if (ended === undefined) continue;
      if (next?.coming === undefined) this.#end(ended, this.#over);
      else this.#end(ended, (next.inherited ??= new Set()));
    }
    return executor;
  }

  /** sweep gives up a part of what is over, and answers the nodes that nobody serves any more. */
  sweep(max = SWEEP_MAX): readonly string[] {
    const orphans: string[] = [];
    let left = max;
    for (const over of this.#over) {
      for (const nodeId of over.nodes) {
        if (left-- === 0) return orphans;
        over.nodes.delete(nodeId);
        this.#unbind(over, nodeId);
        if (!this.#byNode.has(nodeId)) orphans.push(nodeId);
      }
      this.#release(over);
    }
    return orphans;
  }

  /** pick chooses who runs a command now: the newest attach, or the least loaded of those that share (EX1). */
  pick(nodeId: string, capability: string): Executor<T> | undefined {
    const found = this.#byNode.get(nodeId);
    if (found === undefined) return this.#handler;
    let best: Executor<T> | undefined;
    for (const { executor, capabilities, shared, over } of listOf(found)) {
      if (over || (capabilities !== undefined && !capabilities.has(capability))) continue;
      if (!shared) return best ?? executor;
      if (best === undefined || executor.load < best.load) best = executor;
    }
    return best ?? this.#handler;
  }

  #begin(id: number, name: string, scope: Scope, offer: Offer, replaces: readonly number[]): Executor<T> | Failure {
    const holder = holderOf(name, scope);
    let executor = this.#all.get(id);
    if (executor === undefined) {
      const inherits = replaces.some((older) => this.#holder(older) === holder);
      const crowded = inherits ? undefined : this.room.refusal(holder, 0, false);
      const full = crowded ?? this.#admitOffer(holder, offer, 1);
      if (full !== undefined) return full;
      this.room.add(holder, 0);
      executor = new Executor<T>(id, name, scope, offer.maxInFlight);
      this.#all.set(id, executor);
    } else {
      const full = this.#admitOffer(holder, offer, 0);
      if (full !== undefined) return full;
    }
    if (executor.coming !== undefined) this.#end(executor.coming, this.#over);
    executor.coming = new Offering(executor, offer);
    executor.refused = [];
    executor.refusedMore = 0;
    return executor;
  }

  #holder(id: number): string | undefined {
    const executor = this.#all.get(id);
    return executor === undefined ? undefined : holderOf(executor.name, executor.scope);
  }

  /** admitOffer counts an offer (EX5). `more` is how many executors its caller is about to have beside those that it has. */
  #admitOffer(holder: string, { nodeIds, capabilities }: Offer, more: number): Failure | undefined {
    const bytes = offeringCost(capabilities);
    const failure = this.offers.take(holder, bytes, false);
    const offerings = this.#offerings.get(holder) ?? 0;
    if (failure !== undefined) {
      if (bytes > KNOWN_BYTES || offerings >= OFFERS_OF_EXECUTOR * (this.room.countOf(holder) + more)) return failure;
      if (!nodeIds.some((nodeId) => this.#known.has(nodeId))) return failure;
      this.offers.add(holder, bytes);
    }
    this.#offerings.set(holder, offerings + 1);
    return undefined;
  }

  /** finish makes what has come the offer that stands, and answers what was refused of it. */
  #finish(executor: Executor<T>): readonly Failure[] {
    const { refused, refusedMore, offering, inherited } = executor;
    executor.coming?.complete();
    executor.offering = executor.coming;
    executor.coming = undefined;
    executor.inherited = undefined;
    if (offering !== undefined) this.#end(offering, this.#over);
    this.#letGo(inherited);
    executor.refused = [];
    if (refusedMore === 0) return refused;
    const more: Failure = { reason: "LIMIT_EXCEEDED", message: `${refusedMore} more nodes were refused`, field: "attach.node_ids" };
    return [...refused, more];
  }

  /** end makes an offer over; what is left of it waits in `place`. */
  #end(offering: Offering<Executor<T>>, place: Set<Offering<Executor<T>>>): void {
    offering.over = true;
    offering.complete();
    if (offering.nodes.size === 0) this.#release(offering);
    else wait(offering, place);
  }

  #letGo(inherited: Iterable<Offering<Executor<T>>> = []): void {
    for (const over of inherited) wait(over, this.#over);
  }

  /** release forgets an offer that is over and has no nodes any more. */
  #release(over: Offering<Executor<T>>): void {
    over.waits?.delete(over);
    over.waits = undefined;
    this.offers.give(over.holder, over.bytes);
    const left = (this.#offerings.get(over.holder) ?? 0) - 1;
    if (left > 0) this.#offerings.set(over.holder, left);
    else this.#offerings.delete(over.holder);
  }

  #bind(offering: Offering<Executor<T>>, nodeId: string, holder: string, touched: Set<Executor<T>>): Failure | undefined {
    const failure = outOfScope(offering.executor.scope, nodeId);
    if (failure !== undefined) return failure;
    const found = this.#byNode.get(nodeId);
    const kept: Offering<Executor<T>>[] = [];
    const given: Offering<Executor<T>>[] = [];
    if (found !== undefined) for (const old of listOf(found)) (old.over || offering.covers(old) ? given : kept).push(old);
    if (kept.length >= SHARERS_MAX) return crowded(nodeId);
    const full = this.#admit(holder, nodeId);
    if (full !== undefined) return full;
    for (const old of given) {
      old.nodes.delete(nodeId);
      this.#giveBack(old, nodeId);
      if (!old.over) touched.add(old.executor);
      else if (old.nodes.size === 0) this.#release(old);
    }
    this.#byNode.set(nodeId, kept.length === 0 ? offering : [offering, ...kept]);
    offering.nodes.add(nodeId);
    return undefined;
  }

  /** admit counts a node of an offer (EX5). */
  #admit(holder: string, nodeId: string): Failure | undefined {
    const failure = this.offers.take(holder, NODE_COST + nodeId.length, false);
    if (failure === undefined) return undefined;
    if (!this.#known.has(nodeId) || this.offers.countOf(holder) >= OFFERS_OF_KNOWN * this.#known.size)
      return { ...failure, field: "attach.node_ids" };
    this.offers.add(holder, NODE_COST + nodeId.length);
    return undefined;
  }

  #unbind(offering: Offering<Executor<T>>, nodeId: string): void {
    this.#giveBack(offering, nodeId);
    const found = this.#byNode.get(nodeId);
    const rest = found === undefined ? [] : listOf(found).filter((other) => other !== offering);
    const [first] = rest;
    if (first === undefined) this.#byNode.delete(nodeId);
    else this.#byNode.set(nodeId, rest.length === 1 ? first : rest);
  }

  #giveBack({ holder }: Offering<Executor<T>>, nodeId: string): void {
    this.offers.give(holder, NODE_COST + nodeId.length);
  }
}

function listOf<O extends object>(found: O | readonly O[]): readonly O[] {
  return Array.isArray(found) ? found : [found as O];
}

function crowded(nodeId: string): Failure {
  return {
    reason: "LIMIT_EXCEEDED",
    message: `at most ${SHARERS_MAX} executors may share ${nodeId}`,
    field: "attach.node_ids",
    facts: { limit: "executors_per_node", max: String(SHARERS_MAX), node_id: nodeId },
  };
}

function outOfScope(scope: Scope, nodeId: string): Failure | undefined {
  if (!isNodeId(nodeId)) return NO_NODE_ID;
  const inside =
    scope.kind === "node"
      ? scope.nodeId === nodeId
      : scope.prefixes.length === 0 || scope.prefixes.some((prefix) => nodeId.startsWith(prefix));
  return inside
    ? undefined
    : {
        reason: "OUT_OF_SCOPE",
        message: `the certificate does not speak for ${nodeId}`,
        field: "attach.node_ids",
        facts: { node_id: nodeId },
      };
}

/** Without the text: it may be as long as a message. */
const NO_NODE_ID: Failure = {
  reason: "INVALID_FIELD",
  message: "node id is not 1 to 63 characters of letters, digits, '.', '_', ':' and '-'",
  field: "attach.node_ids",
};
