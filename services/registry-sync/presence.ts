import { Growable } from "#kernel/growable.ts";
import type { Scope } from "./messages.ts";
import type { OpenSegment } from "./open-segment.ts";
import type { FeedTable } from "./table.ts";
import type { World } from "./world.ts";

/** Executors that nobody has told of for so long are gone, ms: whoever has them tells all of them three times as often. */
const EXECUTORS_LEASE_MS = 60_000;

/** Principal is a node or gateway that speaks for nodes of this hub. */
export interface Principal {
  readonly no: number;
  /** As its certificate said when it last opened a stream or registered a node. */
  scope: Scope;
  streams: number;
  /** Its nodes stay online until then without a stream, mono ms. */
  leaseUntil: number;
  alive: boolean;
  /** Nodes that it spoke for last, and about how much memory they take, with their texts. */
  nodes: number;
  bytes: number;
}

/** covers tells whether a scope includes a node. */
export function covers(scope: Scope, nodeId: string): boolean {
  return scope.ids.includes(nodeId) || scope.prefixes.some((prefix) => nodeId.startsWith(prefix));
}

function sameScope(a: Scope, b: Scope): boolean {
  return a === b || (a.ids.join() === b.ids.join() && a.prefixes.join() === b.prefixes.join());
}

/**
 * LocalPresence knows which local nodes are online: those whose own stream is open, whose executor is attached, or whose gateway has
 * shown life within its lease (3 x 30 s, renewed by any update). The set of executors has a lease of its own, 3 x 20 s, for when
 * command-forwarding is away.
 *
 * After a restart nobody has spoken yet: what was online stays so for one lease, so that a restart changes nobody's presence.
 */
export class LocalPresence {
  readonly #world: World;
  #table: FeedTable;
  readonly #open: OpenSegment;
  readonly #byName = new Map<string, Principal>();
  readonly #principals: Principal[] = [];
  /** Number of the principal that spoke last for a node; 0: nobody since the start. */
  home = new Growable(Uint32Array, 256);
  /** Nodes with an executor, and in which round they were last told of. */
  readonly #executors = new Map<string, number>();
  #round = 0;
  #executorsUntil = Number.POSITIVE_INFINITY;
  #graceUntil: number | undefined;

  constructor(world: World, table: FeedTable, open: OpenSegment) {
    this.#world = world;
    this.#table = table;
    this.#open = open;
  }

  /** start begins the grace of one lease for what was online before. */
  start(): void {
    if (this.#table.size > 0) this.#graceUntil = this.#world.now.mono + this.#world.o.leaseMs;
  }

  principal(scope: Scope): Principal {
    let principal = this.#byName.get(scope.name);
    if (principal === undefined) {
      principal = {
        no: this.#principals.length + 1,
        scope,
        streams: 0,
        leaseUntil: Number.NEGATIVE_INFINITY,
        alive: false,
        nodes: 0,
        bytes: 0,
      };
      this.#byName.set(scope.name, principal);
      this.#principals.push(principal);
    } else if (!sameScope(principal.scope, scope)) this.#rescope(principal, scope);
    return principal;
  }

  /** rescope: a renewed certificate may speak for other nodes. Those that it no longer may are nobody's, until somebody speaks for them. */
  #rescope(principal: Principal, scope: Scope): void {
    principal.scope = scope;
    const lost = this.#of(principal).filter((ref) => !covers(scope, this.#table.node(ref)?.info.nodeId ?? ""));
    for (const ref of lost) this.#move(ref, 0);
    const offline = lost.filter((ref) => !this.hasExecutor(this.#table.node(ref)?.info.nodeId ?? ""));
    this.#open.presence(this.#table, offline, false);
  }

  /** renew notes that a principal showed life. */
  renew(principal: Principal): void {
    principal.leaseUntil = this.#world.now.mono + this.#world.o.leaseMs;
    if (!principal.alive) this.#revive(principal);
  }

  /** settle makes a principal speak for a node. */
  settle(principal: Principal, ref: number): void {
    if (this.homeOf(ref) === principal.no) return;
    this.#move(ref, principal.no);
    if (principal.alive) this.#open.presence(this.#table, [ref], true);
  }

  /** homeOf is the number of the principal that spoke last for a node. */
  homeOf(ref: number): number {
    return ref < this.home.length ? (this.home.data[ref] as number) : 0;
  }

  /** removing: the node goes, and what it took is given back to whom it was counted for. */
  removing(ref: number): void {
    this.#move(ref, 0);
  }

  /** renumber goes on with a table whose nodes have other numbers. */
  renumber(table: FeedTable, refs: ReadonlyMap<number, number>): void {
    const home = new Growable(Uint32Array, 256);
    for (const [from, to] of refs) home.set(to, this.homeOf(from));
    this.home = home;
    this.#table = table;
  }

  /** callers are the principals with what their nodes take. */
  callers(): { readonly name: string; readonly nodes: number; readonly bytes: number }[] {
    return this.#principals.map(({ scope, nodes, bytes }) => ({ name: scope.name, nodes, bytes }));
  }

  #move(ref: number, to: number): void {
    const entry = this.#table.node(ref);
    const bytes = entry === undefined ? 0 : entry.cost + this.#table.textCostOf(entry);
    const from = this.#principals[this.homeOf(ref) - 1];
    if (from !== undefined) {
      from.nodes--;
      from.bytes -= bytes;
    }
    const next = this.#principals[to - 1];
    if (next !== undefined) {
      next.nodes++;
      next.bytes += bytes;
    }
    this.home.set(ref, to);
  }

  streamOpened(principal: Principal): void {
    principal.streams++;
    this.renew(principal);
  }

  /** streamClosed: a node goes with its last stream, a gateway has its lease. Whose stream this hub has ended (`returns`) has time to come back. */
  streamClosed(principal: Principal, returns: boolean): void {
    principal.streams--;
    if (principal.streams > 0) return;
    if (returns) principal.leaseUntil = this.#world.now.mono + this.#world.o.leaseMs;
    else if (principal.scope.kind === "node") principal.leaseUntil = this.#world.now.mono;
    this.#expire(principal);
  }

  /** hasExecutor tells whether an executor is attached for a node. */
  hasExecutor(nodeId: string): boolean {
    return this.#executors.has(nodeId);
  }

  /** executors notes attached and detached executors. A `round` is the whole list in parts, the last of which replaces what was there before. */
  executors(attached: readonly string[], detached: readonly string[], replace: boolean, round = 0): void {
    this.#executorsUntil = this.#world.now.mono + EXECUTORS_LEASE_MS;
    // What comes outside of a round, while one is under way, is not gone when it ends.
    if (round !== 0) this.#round = round;
    const here = new Set(attached);
    const gone = detached.filter((nodeId) => !here.has(nodeId));
    if (replace) for (const [nodeId, told] of this.#executors) if (!here.has(nodeId) && (round === 0 || told !== round)) gone.push(nodeId);
    const came = attached.filter((nodeId) => !this.#executors.has(nodeId));
    for (const nodeId of attached) this.#executors.set(nodeId, this.#round);
    for (const nodeId of gone) this.#executors.delete(nodeId);
    this.#open.presence(this.#table, this.#refs(came), true);
    this.#open.presence(
      this.#table,
      this.#refs(gone).filter((ref) => !this.#alive(ref)),
      false,
    );
  }

  /** deadline is when the next lease ends. */
  deadline(): number {
    let next = this.#graceUntil ?? Number.POSITIVE_INFINITY;
    if (this.#executors.size > 0) next = Math.min(next, this.#executorsUntil);
    for (const principal of this.#principals) if (principal.alive && principal.streams === 0) next = Math.min(next, principal.leaseUntil);
    return next;
  }

  tick(): void {
    const { mono } = this.#world.now;
    if (this.#executors.size > 0 && this.#executorsUntil <= mono) this.executors([], [], true);
    if (this.#graceUntil !== undefined && this.#graceUntil <= mono) {
      this.#graceUntil = undefined;
      const silent: number[] = [];
      for (const entry of this.#table.entries())
        if (entry.online && !this.#alive(entry.ref) && !this.hasExecutor(entry.info.nodeId)) silent.push(entry.ref);
      this.#open.presence(this.#table, silent, false);
    }
    for (const principal of this.#principals) if (principal.alive) this.#expire(principal);
  }

  #revive(principal: Principal): void {
    principal.alive = true;
    this.#open.presence(this.#table, this.#of(principal), true);
  }

  #expire(principal: Principal): void {
    if (principal.streams > 0 || principal.leaseUntil > this.#world.now.mono) return;
    principal.alive = false;
    const refs = this.#of(principal).filter((ref) => !this.hasExecutor(this.#table.node(ref)?.info.nodeId ?? ""));
    this.#open.presence(this.#table, refs, false);
  }

  #of(principal: Principal): number[] {
    const refs: number[] = [];
    for (let ref = 1; ref < this.home.length; ref++)
      if (this.home.data[ref] === principal.no && this.#table.node(ref) !== undefined) refs.push(ref);
    return refs;
  }

  #alive(ref: number): boolean {
    const no = ref < this.home.length ? (this.home.data[ref] as number) : 0;
    if (no === 0) return this.#graceUntil !== undefined && (this.#table.node(ref)?.online ?? false);
    return this.#principals[no - 1]?.alive ?? false;
  }

  #refs(nodeIds: Iterable<string>): number[] {
    const refs: number[] = [];
    for (const nodeId of nodeIds) {
      const ref = this.#table.byId(nodeId)?.ref;
      if (ref !== undefined) refs.push(ref);
    }
    return refs;
  }
}
