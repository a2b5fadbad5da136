import { Growable } from "#kernel/growable.ts";
import type { OpenSegment } from "../feed/open-segment.ts";
import type { Scope } from "../messages.ts";
import type { FeedTable, NodeEntry } from "../table/table.ts";
import type { World } from "../world.ts";
import { Leases } from "./leases.ts";
import { covers, Principal, sameScope } from "./principal.ts";

/** Executors that nobody has told of for so long are gone, ms: whoever has them tells all of them three times as often. */
const EXECUTORS_LEASE_MS = 60_000;
/** PRESENCE_PART is how many nodes one step looks at, and how many leases it ends: a few milliseconds of work. */
export const PRESENCE_PART = 4_096;

/** Review is nodes whose presence may have changed. */
interface Review {
  readonly refs: () => Iterator<number>;
  /** How far it is. */
  at: Iterator<number>;
  /** They are nobody's any more: what they were before the start counts no longer. */
  readonly lost: boolean;
}

/**
 * LocalPresence knows which local nodes are online: those whose own stream is open, whose executor is attached, or whose gateway has
 * shown life within its lease (3 x 30 s, renewed by any update). The set of executors has a lease of its own, 3 x 20 s, for when
 * command-forwarding is away.
 *
 * After a restart nobody has spoken yet: what was online stays so for one lease, so that a restart changes nobody's presence. A node
 * whose executor has come and gone since is offline until somebody speaks for it.
 *
 * PS1 a change is shown of so many nodes at once, and of the rest in the steps that follow: one caller may have a hundred thousand. So it is
 *    when they are compared with a renewed certificate. Which of two certificates is newer is not known here: the last one counts.
 * PS2 who has no stream, no lease and no node, and has used up no numbers, is forgotten.
 */
export class LocalPresence {
  readonly #world: World;
  #table: FeedTable;
  readonly #open: OpenSegment;
  readonly #byName = new Map<string, Principal>();
  readonly #principals: (Principal | undefined)[] = [];
  /** Numbers of principals that were forgotten. */
  readonly #free: number[] = [];
  readonly #leases = new Leases<Principal>();
  /** What is still to be looked at, by what it is about. Who changes again in the middle begins again, behind the others. */
  readonly #reviews = new Map<object, Review>();
  /** Principals whose nodes are compared with a renewed certificate. */
  readonly #rescoping = new Set<Principal>();
  /** Number of the principal that spoke last for a node; 0: nobody since the start. */
  home = new Growable(Uint32Array, 256);
  /** Nodes with an executor, and in which round they were last told of. */
  readonly #executors = new Map<string, number>();
  #round = 0;
  #executorsUntil = Number.POSITIVE_INFINITY;
  #graceUntil: number | undefined;
  /** usesNumbers tells whether numbers are counted for a principal, so that its own must stay. */
  usesNumbers: (principal: Principal) => boolean = () => false;

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
      principal = new Principal(this.#free.pop() ?? this.#principals.length + 1, scope);
      this.#byName.set(scope.name, principal);
      this.#principals[principal.no - 1] = principal;
      this.#await(principal, this.#world.now.mono + this.#world.o.leaseMs);
    } else if (!sameScope(principal.scope, scope)) this.#rescope(principal, scope);
    return principal;
  }

  /** rescope: a renewed certificate may speak for other nodes. Those that it no longer may are nobody's, until somebody speaks for them. */
  #rescope(principal: Principal, scope: Scope): void {
    principal.scope = scope;
    // Who is being gone through is gone through once more, so that it comes to its end however often that happens.
    if (!this.#rescoping.has(principal)) {
      this.#rescoping.add(principal);
      // Apart from the review of whether it is alive.
      this.#review({}, () => this.#uncovered(principal), true);
    }
    this.#look();
  }

  /** uncovered takes from a principal what its certificate does not speak for any more, as it is gone through; 0 for all else. */
  *#uncovered(principal: Principal): Generator<number> {
    for (let scope: Scope | undefined; scope !== principal.scope; ) {
      scope = principal.scope;
      for (const ref of principal.refs()) {
        const lost = !covers(principal.scope, this.#table.node(ref)?.info.nodeId ?? "");
        if (lost) this.#move(ref, 0);
        yield lost ? ref : 0;
      }
    }
    this.#rescoping.delete(principal);
  }

  /** renew notes that a principal showed life. */
  renew(principal: Principal): void {
    principal.leaseUntil = this.#world.now.mono + this.#world.o.leaseMs;
    if (principal.streams === 0) this.#await(principal, principal.leaseUntil);
    if (principal.alive) return;
    principal.alive = true;
    this.#reviewAll(principal);
    this.#look();
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
    for (const principal of this.#byName.values()) principal.clear();
    for (const [from, to] of refs) {
      const no = this.homeOf(from);
      home.set(to, no);
      this.#principals[no - 1]?.add(to);
    }
    this.home = home;
    this.#table = table;
    for (const review of this.#reviews.values()) review.at = review.refs();
  }

  /** forgetIdle forgets who holds nothing any more, when the numbers that were used up have been given back. */
  forgetIdle(): void {
    for (const principal of [...this.#byName.values()]) this.#forget(principal);
  }

  /** callers are the principals with what their nodes take. */
  callers(): { readonly name: string; readonly nodes: number; readonly bytes: number }[] {
    return Array.from(this.#byName.values(), ({ scope, nodes, bytes }) => ({ name: scope.name, nodes, bytes }));
  }

  #move(ref: number, to: number): void {
    const entry = this.#table.node(ref);
    const bytes = entry === undefined ? 0 : entry.cost + this.#table.textCostOf(entry);
    const from = this.#principals[this.homeOf(ref) - 1];
    if (from !== undefined) {
      from.delete(ref);
      from.bytes -= bytes;
      if (from.nodes === 0 && !from.alive) this.#await(from, this.#world.now.mono);
    }
    const next = this.#principals[to - 1];
    if (next !== undefined) {
      next.add(ref);
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
    const { mono } = this.#world.now;
    if (returns) principal.leaseUntil = mono + this.#world.o.leaseMs;
    else if (principal.scope.kind === "node") principal.leaseUntil = mono;
    this.#await(principal, principal.leaseUntil);
    if (principal.leaseUntil > mono) return;
    this.#expire(principal);
    this.#look();
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
    const gone = detached.filter((nodeId) => !here.has(nodeId) && this.#executors.has(nodeId));
    if (replace) for (const [nodeId, told] of this.#executors) if (!here.has(nodeId) && (round === 0 || told !== round)) gone.push(nodeId);
    for (const nodeId of gone) this.#executors.delete(nodeId);
    const come: string[] = [];
    for (const nodeId of here) {
      if (!this.#executors.has(nodeId)) come.push(nodeId);
      this.#executors.set(nodeId, this.#round);
    }
    // Its executor spoke for it: what it was before the start counts no longer.
    this.#reviewNodes(gone, true);
    this.#reviewNodes(come, false);
    this.#look();
  }

  /** deadline is when the next lease ends, or now if there is more to look at. */
  deadline(): number {
    if (this.#reviews.size > 0) return this.#world.now.mono;
    const executors = this.#executors.size > 0 ? this.#executorsUntil : Number.POSITIVE_INFINITY;
    return Math.min(this.#graceUntil ?? Number.POSITIVE_INFINITY, executors, this.#leases.next);
  }

  tick(): void {
    const { mono } = this.#world.now;
    if (this.#executors.size > 0 && this.#executorsUntil <= mono) {
      const gone = [...this.#executors.keys()];
      this.#executors.clear();
      this.#reviewNodes(gone, true);
    }
    if (this.#graceUntil !== undefined && this.#graceUntil <= mono) {
      this.#graceUntil = undefined;
      this.#review(this, () => refsOf(this.#table.entries()), false);
    }
    for (let ended = 0; ended < PRESENCE_PART; ended++) {
      const principal = this.#leases.take(mono);
      if (principal === undefined) break;
      principal.waits = false;
      if (principal.streams > 0) continue;
      if (principal.leaseUntil > mono) this.#await(principal, principal.leaseUntil);
      else {
        if (principal.alive) this.#expire(principal);
        this.#forget(principal);
      }
    }
    this.#look();
  }

  #expire(principal: Principal): void {
    principal.alive = false;
    this.#reviewAll(principal);
  }

  /** await looks at a principal again when its lease may have ended. */
  #await(principal: Principal, at: number): void {
    if (principal.waits) return;
    principal.waits = true;
    this.#leases.add(principal, at);
  }

  #forget(principal: Principal): void {
    const { no, alive, streams, nodes, waits, scope } = principal;
    // Whoever waits is looked at again; until then it has its number.
    if (alive || streams > 0 || nodes > 0 || waits || this.usesNumbers(principal)) return;
    this.#byName.delete(scope.name);
    this.#principals[no - 1] = undefined;
    this.#free.push(no);
  }

  #reviewAll(principal: Principal): void {
    if (principal.nodes > 0) this.#review(principal, () => principal.refs(), false);
    else this.#reviews.delete(principal);
  }

  #reviewNodes(nodeIds: readonly string[], lost: boolean): void {
    if (nodeIds.length > 0) this.#review(nodeIds, () => this.#refsOf(nodeIds), lost);
  }

  #review(about: object, refs: () => Iterator<number>, lost: boolean): void {
    this.#reviews.delete(about);
    this.#reviews.set(about, { refs, at: refs(), lost });
  }

  /** look marks nodes online or offline as they are now, as many as one step may. */
  #look(): void {
    const online = new Set<number>();
    const offline = new Set<number>();
    let left = PRESENCE_PART;
    for (const [about, review] of this.#reviews) {
      for (; left > 0; left--) {
        const { done, value } = review.at.next();
        if (done === true) {
          this.#reviews.delete(about);
          break;
        }
        const entry = this.#table.node(value);
        if (entry === undefined) continue;
        const is = this.#isOnline(entry, review.lost);
        if (is !== entry.online) (is ? online : offline).add(value);
      }
      if (left === 0) break;
    }
    if (online.size > 0) this.#open.presence(this.#table, [...online], true);
    if (offline.size > 0) this.#open.presence(this.#table, [...offline], false);
  }

  #isOnline({ ref, info, online }: NodeEntry, lost: boolean): boolean {
    if (this.hasExecutor(info.nodeId)) return true;
    const no = this.homeOf(ref);
    if (no === 0) return online && !lost && this.#graceUntil !== undefined;
    return this.#principals[no - 1]?.alive ?? false;
  }

  *#refsOf(nodeIds: Iterable<string>): Generator<number> {
    for (const nodeId of nodeIds) yield this.#table.byId(nodeId)?.ref ?? 0;
  }
}

function* refsOf(entries: Iterable<NodeEntry>): Generator<number> {
  for (const { ref } of entries) yield ref;
}
