import { type Block, EPOCH_REASON } from "../ports.ts";
import type { World } from "../world.ts";
import { interning } from "./interning.ts";
import { NO_SLOT } from "./slots.ts";
import { FeedTable } from "./table.ts";

/** Numbers are those of one kind that the own feeds have given out. */
export interface Numbers {
  /** Given out in this epoch; what they stood for may be gone. */
  readonly used: number;
  /** Of these, how many stand for something that is there. */
  readonly held: number;
  readonly max: number;
}

/** NumberSpace is the numbers of nodes (refs) and of capability names (key numbers). */
export interface NumberSpace<T = Numbers> {
  readonly refs: T;
  readonly keys: T;
}

/** NO_NEED is the need of whoever takes no numbers. */
export const NO_NEED: NumberSpace<number> = { refs: 0, keys: 0 };

/** From these parts of a space on, its numbers are given out anew: when nothing stands in the way, and in any case. */
const SOON = 3 / 4;
/** From this part on it is asked what a caller needs: one that has taken its part may wait for numbers. */
const ASK = 1 / 8;
const NOW = 7 / 8;
/** It has to give back this part of the space at least, unless a caller would get none otherwise. */
const WORTH = 1 / 8;

/** numbersOf counts the numbers of the own feeds. */
export function numbersOf(world: World, table: FeedTable): NumberSpace {
  const { refsPerFeed, keysPerFeed } = world.o.limits;
  return {
    refs: { used: table.nextRef - 1, held: table.size, max: refsPerFeed },
    keys: { used: table.nextKref, held: table.keysInUse, max: keysPerFeed },
  };
}

/**
 * Renumbering decides when the numbers of the own feeds are given out anew. They rise with each node and each capability name that was
 * ever registered and are never used twice in an epoch, so that without this a hub would come to their end.
 *
 * RN1 it happens before a number is given out that is above its bound.
 * RN2 what gives nothing back is not done, and nothing is done more often than every `renumberMs`: each time, all peers take a snapshot.
 */
export class Renumbering {
  readonly #world: World;
  /** How often it has happened since the start. */
  count = 0;
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(world: World) {
    this.#world = world;
  }

  /** near tells whether it is worth asking what a caller needs. */
  near(table: FeedTable): boolean {
    const { refs, keys } = numbersOf(this.#world, table);
    return refs.used >= ASK * refs.max || keys.used >= ASK * keys.max;
  }

  /**
   * due tells whether to renumber now. `quiet`: nothing is under way that would have to begin again. `helps`: the caller is at its own
   * bound, and would not be afterwards.
   */
  due(table: FeedTable, need: NumberSpace<number>, quiet: boolean, helps: boolean): boolean {
    const { now, o, storeFailure } = this.#world;
    // What cannot be stored takes no numbers either.
    if (storeFailure !== undefined || now.mono - this.#lastAt < o.renumberMs) return false;
    const { refs, keys } = numbersOf(this.#world, table);
    return dueFor(refs, need.refs, quiet) || dueFor(keys, need.keys, quiet) || helps;
  }

  /** done notes that it has happened. */
  done(): void {
    this.count++;
    this.#lastAt = this.#world.now.mono;
  }
}

function dueFor({ used, held, max }: Numbers, need: number, quiet: boolean): boolean {
  if (need > 0 && used + need > max && held + need <= max && held < used) return true;
  return used >= (quiet ? SOON : NOW) * max && used - held >= WORTH * max;
}

/** renumbers tells whether what follows these blocks of the feed `full` has the numbers that `renumbered` gives out. */
export function renumbers([first]: readonly Block[]): boolean {
  return first?.kind === "epoch_open" && first.reason === EPOCH_REASON.RENUMBERED;
}

/**
 * renumbered is a table that says the same as another one with the least numbers: those of what is there, in the order of before. It
 * depends on the table alone, so that a restart that reads the same history comes to the same numbers. `refs` leads from the old numbers
 * of nodes to the new ones. The old table is retired and its values are moved: of it only the names may still be read.
 */
export function renumbered(old: FeedTable): { readonly table: FeedTable; readonly refs: ReadonlyMap<number, number> } {
  const table = new FeedTable();
  const entries = [...old.entries()].sort((a, b) => a.ref - b.ref);
  const used = new Set<number>();
  for (const { krefs } of entries) for (const kref of krefs) used.add(kref);
  const keys = new Map<number, number>();
  for (const { kref, name, type } of old.keys()) {
    if (!used.has(kref)) continue;
    keys.set(kref, keys.size);
    table.defineKey(keys.get(kref) as number, name, type);
  }
  const refs = new Map<number, number>();
  for (const entry of entries) {
    const ref = refs.size + 1;
    refs.set(entry.ref, ref);
    // Keys have the order that they had.
    table.move({ ...entry, ref, krefs: interning.keys(entry.krefs.map((kref) => keys.get(kref) as number)) });
    for (const kref of entry.krefs) {
      const from = old.slots.find(entry.ref, kref);
      if (from !== NO_SLOT) table.slots.moveFrom(old.slots, from, table.slots.find(ref, keys.get(kref) as number));
    }
  }
  old.retire();
  return { table, refs };
}
