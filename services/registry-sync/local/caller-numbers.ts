import type { Failure } from "#kernel/error.ts";
import { Growable } from "#kernel/growable.ts";
import type { NumberSpace } from "../table/renumber.ts";
import type { FeedTable } from "../table/table.ts";
import { limitFailure, type World } from "../world.ts";
import type { LocalPresence } from "./presence.ts";
import type { Principal } from "./principal.ts";

/** Numbers of a caller that stand for nothing any more: at most this part of the space, or so many if that is more. */
const DEAD = 1 / 8;
const DEAD_LEAST = 8;
/** One caller takes at most this part of the space. */
const TAKEN = 1 / 2;
/** The last part of the space is for callers that took few: at most this part of it, or so many. */
const LAST = 1 / 8;
const FEW = 1 / 64;
const FEW_LEAST = 8;

interface Use {
  readonly taken: number;
  readonly dead: number;
}

/**
 * CallerNumbers knows who took the numbers of the own feeds in this epoch, so that nobody can take them away from the others until they
 * are given out anew. A room does not fit: a number that stands for nothing is used up, one that stands for something is in use, and a
 * hub with one busy caller may need half of them.
 *
 * CN1 what one caller used up is at most an eighth of a space, and what it has in all at most half of it.
 * CN2 the last eighth is for callers that took few.
 * CN3 what was there at the start is nobody's, and what is there when numbers are given out anew belongs to whoever took it before.
 */
export class CallerNumbers {
  readonly #world: World;
  readonly #presence: LocalPresence;
  #table: FeedTable;
  /** Per key number, the number of the caller that took it; 0: nobody. */
  #takers = new Growable(Uint32Array, 64);
  /** Per caller. */
  #keys = new Growable(Uint32Array, 16);
  #refs = new Growable(Uint32Array, 16);
  /** Per caller, the keys that it took and some node has. */
  #live = new Growable(Int32Array, 16);

  constructor(world: World, table: FeedTable, presence: LocalPresence) {
    this.#world = world;
    this.#table = table;
    this.#presence = presence;
    this.#listen();
  }

  #listen(): void {
    this.#table.keyUse = (kref, used) => count(this.#live, at(this.#takers, kref), used ? 1 : -1);
  }

  /** tookKey and tookRef count a number that is given out. */
  tookKey({ no }: Principal, kref: number): void {
    this.#takers.set(kref, no);
    count(this.#keys, no);
  }
  tookRef({ no }: Principal): void {
    count(this.#refs, no);
  }

  /** usedBy tells whether numbers are counted for a caller. */
  usedBy({ no }: Principal): boolean {
    return at(this.#keys, no) > 0 || at(this.#refs, no) > 0;
  }

  /** problemOf tells why a caller may not take so many numbers. */
  problemOf(principal: Principal, need: NumberSpace<number>): Failure | undefined {
    const { keysPerFeed, refsPerFeed } = this.#world.o.limits;
    const facts = { caller: principal.scope.name };
    const keys = need.keys === 0 ? undefined : boundOf(keysPerFeed, this.#table.nextKref, need.keys, this.#keysOf(principal));
    if (keys !== undefined) return withFacts("keys_per_feed", keys, "names of capabilities", facts);
    const refs = need.refs === 0 ? undefined : boundOf(refsPerFeed, this.#table.nextRef - 1, need.refs, this.#refsOf(principal));
    return refs === undefined ? undefined : withFacts("refs_per_feed", refs, "nodes", facts);
  }

  /** helps tells whether a caller that is refused could take so many if numbers were given out anew. */
  helps(principal: Principal, need: NumberSpace<number>): boolean {
    if (this.problemOf(principal, need) === undefined) return false;
    const keys = this.#keysOf(principal);
    const refs = this.#refsOf(principal);
    return (need.keys > 0 && keys.dead >= need.keys) || (need.refs > 0 && refs.dead >= need.refs);
  }

  /** renumber goes on with a table that has other numbers, when presence has. */
  renumber(table: FeedTable): void {
    const [old, takers] = [this.#table, this.#takers];
    this.#table = table;
    this.#takers = new Growable(Uint32Array, 64);
    this.#keys = new Growable(Uint32Array, 16);
    this.#refs = new Growable(Uint32Array, 16);
    this.#live = new Growable(Int32Array, 16);
    this.#listen();
    for (const { kref, name, type } of table.keys()) {
      const no = at(takers, old.kref(name, type) ?? 0);
      this.#takers.set(kref, no);
      count(this.#keys, no);
      count(this.#live, no);
    }
    for (const { ref } of table.entries()) count(this.#refs, this.#presence.homeOf(ref));
  }

  #keysOf({ no }: Principal): Use {
    const taken = at(this.#keys, no);
    return { taken, dead: taken - at(this.#live, no) };
  }

  #refsOf({ no, nodes }: Principal): Use {
    const taken = at(this.#refs, no);
    return { taken, dead: Math.max(0, taken - nodes) };
  }
}

/** boundOf is the bound that a caller would exceed with so many numbers more. */
function boundOf(max: number, used: number, need: number, use: Use): { readonly max: number; readonly own: boolean } | undefined {
  const dead = Math.max(DEAD_LEAST, Math.floor(max * DEAD));
  if (use.dead >= dead) return { max: dead, own: true };
  const most = Math.floor(max * TAKEN);
  if (use.taken + need > most) return { max: most, own: true };
  const few = Math.max(FEW_LEAST, max * FEW);
  const last = max - Math.floor(max * LAST);
  return used + need > last && use.taken + need > few ? { max: last, own: false } : undefined;
}

function withFacts(limit: string, { max, own }: { max: number; own: boolean }, what: string, facts: Record<string, string>): Failure {
  const text = own
    ? `the caller has taken as many numbers for new ${what} as it may`
    : `the last numbers for new ${what} are kept for callers that took few`;
  const hint = "remove what is not needed; numbers that nothing uses are given back, at most every ten minutes";
  const problem = limitFailure(own ? `${limit}_per_caller` : limit, max, `${text}; ${hint}`);
  return { ...problem, facts: { ...problem.facts, ...facts } };
}

function at(counts: Growable<Uint32Array> | Growable<Int32Array>, index: number): number {
  return index < counts.length ? (counts.data[index] as number) : 0;
}

function count(counts: Growable<Uint32Array> | Growable<Int32Array>, index: number, change = 1): void {
  counts.set(index, at(counts, index) + change);
}
