import { assert } from "#kernel/assert.ts";
import type { Failure } from "#kernel/error.ts";
import { Room } from "#kernel/room.ts";
import { Lines, type Standing } from "./lines.ts";
import { LOCAL_EXECUTOR, type Offer, type Scope } from "./messages.ts";

/** Tasks in flight of an executor that names no number, and the most that it may name. */
export const IN_FLIGHT_DEFAULT = 64;
export const IN_FLIGHT_MAX = 4_096;

/** Executor runs tasks: an attached stream, or the in-process handler. T is what the owner keeps of a task. */
export class Executor<T extends Standing> {
  readonly id: number;
  readonly name: string;
  readonly scope: Scope;
  readonly maxInFlight: number;
  readonly nodes = new Map<string, Binding<T>>();
  /** Tasks that it was given, by task id. */
  readonly running = new Map<number, T>();
  /** Tasks that wait for credit. */
  readonly lines: Lines<T>;
  #nextTask = 1;

  constructor(id: number, name: string, scope: Scope, maxInFlight: number) {
    this.id = id;
    this.name = name;
    this.scope = scope;
    this.maxInFlight = Math.min(IN_FLIGHT_MAX, maxInFlight === 0 ? IN_FLIGHT_DEFAULT : maxInFlight);
    this.lines = new Lines(this.maxInFlight);
  }

  get load(): number {
    return (this.running.size + this.lines.waiting) / this.maxInFlight;
  }

  /** start notes that it is given a task, and answers the task's id. */
  start(task: T): number {
    const id = this.#nextTask++;
    this.running.set(id, task);
    return id;
  }
}

/** Binding says that an executor serves some capabilities of one node. */
interface Binding<T extends Standing> {
  readonly executor: Executor<T>;
  /** Undefined means all. */
  readonly capabilities: ReadonlySet<string> | undefined;
  readonly shared: boolean;
}

/** Attachment is the outcome of an attach. */
export interface Attachment<T extends Standing> {
  readonly executor: Executor<T>;
  readonly accepted: readonly string[];
  readonly refused: readonly Failure[];
  /** Executors that serve nothing any more because this one replaced them. */
  readonly replaced: readonly Executor<T>[];
  /** Nodes of its older offer that nobody serves any more. */
  readonly orphans: readonly string[];
}

/**
 * Executors knows who runs what.
 *
 * X1 for one (node, capability) the newest attach wins; older ones serve it only if both are shared.
 * X2 an executor is offered only nodes in its certificate's scope.
 * X3 the in-process handler (S0-20) serves every node that nobody else serves.
 * X4 there is room for so many executors, and a part of it for each caller; half of it for one, such as a gateway with a stream for
 *    each of its devices, while nobody else needs it. Only nodes and gateways attach, so nothing is kept for operators.
 */
export class Executors<T extends Standing> {
  readonly #all = new Map<number, Executor<T>>();
  /** Newest first. */
  readonly #byNode = new Map<string, Binding<T>[]>();
  readonly room: Room;
  #handler: Executor<T> | undefined;

  constructor(max: number) {
    this.room = new Room({ limit: "executors", max, lends: true, forOwn: false });
  }

  get size(): number {
    return this.#all.size;
  }

  get(id: number): Executor<T> | undefined {
    return id === LOCAL_EXECUTOR ? this.#handler : this.#all.get(id);
  }

  all(): Iterable<Executor<T>> {
    return this.#handler === undefined ? this.#all.values() : [...this.#all.values(), this.#handler];
  }

  /** setHandler puts the in-process handler in place, or takes it away and answers the one that was there. */
  setHandler(present: boolean): Executor<T> | undefined {
    const old = this.#handler;
    if (present) this.#handler ??= new Executor<T>(LOCAL_EXECUTOR, "handler", { kind: "gateway", prefixes: [] }, IN_FLIGHT_MAX);
    else this.#handler = undefined;
    return present ? undefined : old;
  }

  /** attach makes an offer stand; an executor that attached before replaces its own offer and keeps its tasks. A failure if there is no room. */
  attach(id: number, name: string, scope: Scope, offer: Offer): Attachment<T> | Failure {
    assert(id !== LOCAL_EXECUTOR, "the number of the in-process handler is taken");
    const known = this.#all.get(id);
    const full = known === undefined ? this.room.take(holderOf(name, scope), 0, false) : undefined;
    if (full !== undefined) return full;
    const executor = known ?? new Executor<T>(id, name, scope, offer.maxInFlight);
    this.#all.set(id, executor);
    const before = [...executor.nodes.keys()];
    for (const nodeId of before) this.#unbind(executor, nodeId);
    const refused: Failure[] = [];
    const accepted: string[] = [];
    const touched = new Set<Executor<T>>();
    const capabilities = offer.capabilities.length === 0 ? undefined : new Set(offer.capabilities);
    for (const nodeId of new Set(offer.nodeIds)) {
      const failure = outOfScope(scope, nodeId);
      if (failure !== undefined) refused.push(failure);
      else {
        this.#bind({ executor, capabilities, shared: offer.shared }, nodeId, touched);
        accepted.push(nodeId);
      }
    }
    const replaced = [...touched].filter((other) => other !== executor && other.nodes.size === 0);
    return { executor, accepted, refused, replaced, orphans: this.#orphansOf(before) };
  }

  /** detach forgets an executor and answers the nodes that nobody serves any more. */
  detach(id: number): { readonly executor: Executor<T>; readonly orphans: readonly string[] } | undefined {
    const executor = this.#all.get(id);
    if (executor === undefined) return undefined;
    this.#all.delete(id);
    this.room.give(holderOf(executor.name, executor.scope), 0);
    const nodes = [...executor.nodes.keys()];
    for (const nodeId of nodes) this.#unbind(executor, nodeId);
    return { executor, orphans: this.#orphansOf(nodes) };
  }

  #orphansOf(nodeIds: readonly string[]): readonly string[] {
    return nodeIds.filter((nodeId) => !this.#byNode.has(nodeId));
  }

  /** pick chooses who runs a command now: the newest attach, or the least loaded of those that share (X1). */
  pick(nodeId: string, capability: string): Executor<T> | undefined {
    const bindings = this.#byNode.get(nodeId);
    if (bindings === undefined) return this.#handler;
    let best: Executor<T> | undefined;
    for (const { executor, capabilities, shared } of bindings) {
      if (capabilities !== undefined && !capabilities.has(capability)) continue;
      if (!shared) return best ?? executor;
      if (best === undefined || executor.load < best.load) best = executor;
    }
    return best ?? this.#handler;
  }

  #bind(binding: Binding<T>, nodeId: string, touched: Set<Executor<T>>): void {
    const bindings = [binding];
    for (const old of this.#byNode.get(nodeId) ?? []) {
      if (!covers(binding, old)) bindings.push(old);
      else {
        old.executor.nodes.delete(nodeId);
        touched.add(old.executor);
      }
    }
    this.#byNode.set(nodeId, bindings);
    binding.executor.nodes.set(nodeId, binding);
  }

  #unbind(executor: Executor<T>, nodeId: string): void {
    executor.nodes.delete(nodeId);
    const rest = (this.#byNode.get(nodeId) ?? []).filter((binding) => binding.executor !== executor);
    if (rest.length === 0) this.#byNode.delete(nodeId);
    else this.#byNode.set(nodeId, rest);
  }
}

function holderOf(name: string, scope: Scope): string {
  return `${scope.kind}/${name}`;
}

/** covers tells whether a new binding leaves nothing to an older one. */
function covers<T extends Standing>(fresh: Binding<T>, old: Binding<T>): boolean {
  if (fresh.shared && old.shared) return false;
  if (fresh.capabilities === undefined) return true;
  const names = fresh.capabilities;
  return old.capabilities !== undefined && [...old.capabilities].every((name) => names.has(name));
}

function outOfScope(scope: Scope, nodeId: string): Failure | undefined {
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
