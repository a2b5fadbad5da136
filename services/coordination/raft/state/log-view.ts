import { assert } from "#kernel/assert.ts";
import type { Committed } from "../../log/engine.ts";

/** entryBytes is what an entry counts for in windows and caps. */
export function entryBytes(entry: Committed): number {
  let bytes = 32;
  for (const payload of entry.payloads) bytes += payload.length + 4;
  return bytes;
}

/**
 * LogView is the log in memory: all entries after `base`, the last position that is known by its term and time only.
 * Positions are consecutive, terms and times never go back.
 */
export class LogView {
  #entries: Committed[] = [];
  #bytes = 0;
  #base: { readonly index: number; readonly term: number; readonly time: number };

  constructor(base: { readonly index: number; readonly term: number; readonly time: number }) {
    this.#base = base;
  }

  /** base is the position before the first entry. */
  get base(): number {
    return this.#base.index;
  }

  get last(): number {
    return this.#base.index + this.#entries.length;
  }

  get lastTerm(): number {
    return (this.#entries.at(-1) ?? this.#base).term;
  }

  /** lastTime is the log time of the last position. */
  get lastTime(): number {
    return (this.#entries.at(-1) ?? this.#base).time;
  }

  /** bytes is the size of all entries. */
  get bytes(): number {
    return this.#bytes;
  }

  /** at gives an entry; undefined for what is not here. */
  at(index: number): Committed | undefined {
    return this.#entries[index - this.#base.index - 1];
  }

  /** termAt is the term of a position; undefined for those that are not known (any more, or yet). */
  termAt(index: number): number | undefined {
    return index === this.#base.index ? this.#base.term : this.at(index)?.term;
  }

  timeAt(index: number): number | undefined {
    return index === this.#base.index ? this.#base.time : this.at(index)?.time;
  }

  /** range gives entries from `from` to `to`, both included. */
  range(from: number, to: number): readonly Committed[] {
    return this.#entries.slice(Math.max(0, from - this.#base.index - 1), to - this.#base.index);
  }

  /** batch gives entries from `from` on, at least one if it is here, at most as many and as long as is said. */
  batch(from: number, mostEntries: number, mostBytes: number): readonly Committed[] {
    const start = from - this.#base.index - 1;
    if (start < 0) return [];
    let bytes = 0;
    let end = start;
    for (; end < this.#entries.length && end - start < mostEntries; end++) {
      bytes += entryBytes(this.#entries[end] as Committed);
      if (bytes > mostBytes && end > start) break;
    }
    return this.#entries.slice(start, end);
  }

  append(entry: Committed): void {
    assert(entry.index === this.last + 1, "a log has no gaps", { index: entry.index, last: this.last });
    assert(entry.term >= this.lastTerm && entry.time >= this.lastTime, "terms and times of a log never go back", { index: entry.index });
    this.#entries.push(entry);
    this.#bytes += entryBytes(entry);
  }

  /** cut removes the entries from a position on. */
  cut(from: number): void {
    assert(from > this.#base.index, "what a snapshot stands for is never cut", { from, base: this.#base.index });
    for (const entry of this.#entries.splice(from - this.#base.index - 1)) this.#bytes -= entryBytes(entry);
  }

  /** trim forgets the entries up to a position, which becomes the base. */
  trim(base: number): void {
    const entry = this.at(base);
    if (entry === undefined) return;
    for (const gone of this.#entries.splice(0, base - this.#base.index)) this.#bytes -= entryBytes(gone);
    this.#base = { index: base, term: entry.term, time: entry.time };
  }

  /** reset begins anew after a snapshot. */
  reset(base: { readonly index: number; readonly term: number; readonly time: number }): void {
    this.#entries = [];
    this.#bytes = 0;
    this.#base = base;
  }

  /** mayAgree is the last position up to `index` whose term is not above `term`: where two logs may still be the same. */
  mayAgree(index: number, term: number): { readonly index: number; readonly term: number } {
    let at = Math.min(index, this.last);
    while (at > this.#base.index && (this.termAt(at) as number) > term) at--;
    const found = this.termAt(at);
    return found === undefined || found > term ? { index: 0, term: 0 } : { index: at, term: found };
  }
}
