import { LIMITS } from "#kernel/bounds/limits.ts";
import type { Failure } from "#kernel/error.ts";
import type { Answer, HubFreshness, NodeFilter, NodeRecord, Query } from "../messages.ts";
import type { SegmentCodec } from "../ports.ts";
import { RefSet } from "../table/ref-set.ts";
import { imageBytes, imageOf, sharedImage } from "../table/scan.ts";
import type { FeedTable, NodeEntry, NodeImage, Scan } from "../table/table.ts";
import { failure, type World } from "../world.ts";
import { answerBytes, filtersNothing, hubOf, matchesFilter, recordOf, type Source, selected } from "./directory.ts";

/** What one step looks at of a list with a filter: nodes, and bytes of those whose capabilities it has to look for. A millisecond or so. */
const STEP_NODES = 2_048;
const STEP_BYTES = 512 * 1024;
/** Lists of one caller that wait their turn; more are refused. */
const WAITING_MAX = 16;
/** Memory of an id that is noted, with what a list that grew has spare. */
const ID_BYTES = 12;

type ListQuery = Extract<Query, { type: "list" }>;

/** Section is one hub's part of a listing: the ids of its nodes at one instant, and those of them that have changed since as they were. */
class Section implements Scan {
  readonly source: Source;
  #ids: readonly string[] = [];
  /** Nodes that the filter has let pass. */
  readonly #passed: string[] = [];
  readonly #filter: NodeFilter;
  readonly #codec: SegmentCodec;
  readonly #named: readonly number[];
  /** Where the filter is in the ids. */
  #next = 0;
  /** Once it is pinned: nodes that are, or may be, of the listing, and are not kept. */
  #wanted: RefSet | undefined;
  readonly #images = new Map<string, NodeImage>();
  readonly #onKept: (bytes: number) => void;
  readonly #onRetired: () => void;

  constructor(source: Source, filter: NodeFilter, codec: SegmentCodec, onKept: (bytes: number) => void, onRetired: () => void) {
    this.source = source;
    this.#filter = filter;
    this.#codec = codec;
    this.#onKept = onKept;
    this.#onRetired = onRetired;
    this.#ids = source.table.sortedIds().slice();
    this.#named = source.table.krefsNamed(filter.capability);
    if (filtersNothing(filter)) this.#next = this.#ids.length;
    this.#settle();
  }

  get done(): boolean {
    return this.#next === this.#ids.length;
  }

  /** ids are those of the listing, when it is done. */
  get ids(): readonly string[] {
    return this.#ids;
  }

  /** bytes are those of names and numbers, which are in memory as long as it is pinned. */
  get bytes(): number {
    return ID_BYTES * this.#ids.length + (this.#wanted?.bytes ?? 0);
  }

  /** filter looks at the next nodes, as long as there is work left in the step; it answers what is left. */
  filter(work: number): number {
    let left = work;
    for (; left > 0 && this.#next < this.#ids.length; this.#next++) {
      const nodeId = this.#ids[this.#next] as string;
      const image = this.#images.get(nodeId);
      const entry = image?.entry ?? (this.source.table.byId(nodeId) as NodeEntry);
      left -= 1 / STEP_NODES + (this.#filter.capability === "" ? 0 : entry.bytes.length / STEP_BYTES);
      if (this.#passes(entry, image?.online ?? entry.online)) this.#passed.push(nodeId);
      else {
        this.#wanted?.delete(entry.ref);
        if (image !== undefined) this.#forget(image);
      }
    }
    this.#settle();
    return left;
  }

  #passes(entry: NodeEntry, online: boolean): boolean {
    if (this.#filter.onlineOnly && !(online && this.source.freshness !== "UNKNOWN")) return false;
    return matchesFilter(this.#filter, entry.info, this.#codec, entry.bytes, this.#named, entry.krefs);
  }

  /** settle: all have been looked at. */
  #settle(): void {
    if (!this.done || filtersNothing(this.#filter)) return;
    this.#ids = this.#passed;
    this.#next = this.#ids.length;
  }

  #forget(image: NodeImage): void {
    this.#images.delete(image.entry.info.nodeId);
    this.#onKept(-imageBytes(image));
  }

  /** pin keeps from now on what changes; until `close`. */
  pin(): void {
    const { table } = this.source;
    if (this.#wanted !== undefined) return;
    const all = filtersNothing(this.#filter) || (!this.done && this.#next === 0);
    this.#wanted = new RefSet(table.nextRef, this.#ids.length, all);
    // To note them one by one takes long where there are many. Of a number that no node has now nothing will be kept.
    if (this.#wanted.full) table.scans.add(this);
    // What the filter has refused already is of no interest.
    else this.#pinEach(this.done ? this.#ids : [...this.#passed, ...this.#ids.slice(this.#next)], this.#wanted);
  }

  #pinEach(ids: readonly string[], wanted: RefSet): void {
    const { table } = this.source;
    for (const nodeId of ids) wanted.add((table.byId(nodeId) as NodeEntry).ref);
    table.scans.add(this);
  }

  close(): void {
    this.source.table.scans.delete(this);
    this.#images.clear();
  }

  before(ref: number): void {
    if (this.#wanted?.delete(ref) !== true) return;
    const image = sharedImage(this.source.table, ref);
    if (image === undefined) return;
    this.#images.set(image.entry.info.nodeId, image);
    this.#onKept(imageBytes(image));
  }

  retired(): void {
    this.#onRetired();
  }

  image(nodeId: string): NodeImage {
    const { table } = this.source;
    const entry = table.byId(nodeId);
    return this.#images.get(nodeId) ?? imageOf(table, entry as NodeEntry, entry as NodeEntry);
  }
}

/** Listing is what its pages are cut from. */
interface Listing {
  readonly name: string;
  readonly sections: readonly Section[];
  readonly hubs: readonly HubFreshness[];
  expiresAt: number;
  total: number;
  /** Bytes of names and numbers, and of nodes that are kept because they have changed. */
  fixed: number;
  kept: number;
  /** A table of it was replaced while it was made, so that there will be no further pages. */
  retired: boolean;
}

/** Waiting is a list that was asked for, and is not begun. */
interface Waiting {
  readonly call: number;
  readonly query: ListQuery;
}

/**
 * Listings keep what the next pages of a list are cut from: all pages show one instant, so that nothing is left out, shown twice or mixed
 * with a later state (B2-1). The names are noted, and of the nodes only those that change meanwhile, before they do. What is too old, had to
 * give way, or was replaced by a snapshot of its owner is answered with POSITION_EXPIRED.
 *
 * A filter looks at so many nodes in one step; if there are more, it goes on in the next ones, one list at a time, and what changes
 * meanwhile is kept likewise. Callers take turns, so that nobody waits for all that somebody else has asked for; and a list whose caller
 * has left is not made.
 */
export class Listings {
  readonly #world: World;
  readonly #sources: () => readonly Source[];
  readonly #answer: (call: number, answer: Answer) => void;
  readonly #open = new Map<string, Listing>();
  /** The list that is being made, and those that come after it, by caller: whose turn is next first. */
  #making: (Waiting & { readonly listing: Listing }) | undefined;
  readonly #waiting = new Map<string, Waiting[]>();
  #nodes = 0;
  #bytes = 0;

  constructor(world: World, sources: () => readonly Source[], answer: (call: number, answer: Answer) => void) {
    this.#world = world;
    this.#sources = sources;
    this.#answer = answer;
  }

  /** list answers the first page, and keeps the rest under the name that the query gives. */
  list(call: number, query: ListQuery): void {
    const chosen = selected(this.#sources(), query.filter.hubIds);
    const small = inOneStep(chosen, query.filter);
    const busy = this.#making !== undefined || this.#waiting.size > 0;
    if (!small && (busy || unsorted(chosen) !== undefined)) return this.#wait({ call, query });
    const listing = this.#begin(query, chosen);
    if (small && filterStep(listing)) return this.#made({ call, query, listing });
    this.#make({ call, query, listing });
    this.#step();
  }

  /** gone: a list is not made any more if nobody waits for it. */
  gone(call: number): void {
    const making = this.#making;
    if (making?.call === call) {
      this.#giveUp();
      for (const section of making.listing.sections) section.close();
      return;
    }
    for (const [principal, line] of this.#waiting) {
      const at = line.findIndex((waiting) => waiting.call === call);
      if (at < 0) continue;
      line.splice(at, 1);
      if (line.length === 0) this.#waiting.delete(principal);
      return;
    }
  }

  #wait(waiting: Waiting): void {
    const { principal = "" } = waiting.query;
    const line = this.#waiting.get(principal) ?? [];
    if (line.length >= WAITING_MAX)
      return this.#answer(waiting.call, {
        type: "failed",
        failure: failure("OVERLOADED", `${line.length} lists of this caller wait already; ask for fewer at once`),
      });
    line.push(waiting);
    this.#waiting.set(principal, line);
  }

  #begin({ filter, keep }: ListQuery, chosen = selected(this.#sources(), filter.hubIds)): Listing {
    const { now, o } = this.#world;
    const listing: Listing = {
      name: keep ?? "",
      hubs: chosen.map(hubOf),
      sections: chosen.map(
        (source) =>
          new Section(
            source,
            filter,
            o.codec,
            (bytes) => this.#kept(listing, bytes),
            () => this.#retired(listing),
          ),
      ),
      expiresAt: now.mono + LIMITS.pagingMs,
      total: 0,
      fixed: 0,
      kept: 0,
      retired: false,
    };
    return listing;
  }

  /** make goes on with a list in the next steps. */
  #make(making: Waiting & { readonly listing: Listing }): void {
    this.#making = making;
    for (const section of making.listing.sections) section.pin();
    making.listing.fixed = bytesOf(making.listing);
    this.#bytes += making.listing.fixed;
  }

  /** made: the filter has looked at all nodes. */
  #made({ call, query, listing }: Waiting & { readonly listing: Listing }): void {
    listing.total = listing.sections.reduce((sum, section) => sum + section.ids.length, 0);
    listing.expiresAt = this.#world.now.mono + LIMITS.pagingMs;
    const answer = page(this.#world.o.codec, listing, 0, query.limit);
    if (answer.next > 0 && query.keep !== undefined && !listing.retired) this.#keep(listing);
    else for (const section of listing.sections) section.close();
    this.#answer(call, answer);
  }

  /** step goes on with the list that is being made. */
  #step(): void {
    const making = this.#making;
    if (making === undefined || !filterStep(making.listing)) return;
    this.#giveUp();
    this.#made(making);
  }

  /** giveUp makes room for the next list. */
  #giveUp(): void {
    if (this.#making === undefined) return;
    this.#bytes -= this.#making.listing.fixed + this.#making.listing.kept;
    this.#making = undefined;
  }

  /** next begins a list of whoever has waited longest for a turn. */
  #next(): void {
    if (this.#making !== undefined) return;
    for (const [principal, [waiting, ...rest]] of this.#waiting) {
      const table = waiting && unsorted(selected(this.#sources(), waiting.query.filter.hubIds));
      if (table !== undefined) return void table.sortedIds();
      this.#waiting.delete(principal);
      if (rest.length > 0) this.#waiting.set(principal, rest);
      if (waiting !== undefined) this.#make({ ...waiting, listing: this.#begin(waiting.query) });
      return;
    }
  }

  /** page answers a further page. */
  page({ listing: name, from, limit }: Extract<Query, { type: "page" }>): Answer {
    const listing = this.#open.get(name);
    if (listing !== undefined && listing.expiresAt > this.#world.now.mono) return page(this.#world.o.codec, listing, from, limit);
    return { type: "failed", failure: expired("the listing is not kept any more; list again from the start") };
  }

  deadline(): number {
    if (this.#making !== undefined || this.#waiting.size > 0) return this.#world.now.mono;
    if (this.#open.size > 0) for (const oldest of this.#open.values()) return oldest.expiresAt;
    return Number.POSITIVE_INFINITY;
  }

  /** tick lets go of what is too old, and goes on with what is being made. */
  tick(): void {
    this.#step();
    this.#next();
    for (const [name, listing] of this.#open) {
      if (listing.expiresAt > this.#world.now.mono) return;
      this.#drop(name);
    }
  }

  /** keep: the newest is always kept; older ones give way. */
  #keep(listing: Listing): void {
    const { listings, listingRecords, limits } = this.#world.o;
    const { name, sections, total } = listing;
    for (const section of sections) section.pin();
    listing.fixed = bytesOf(listing);
    for (const oldest of this.#open.keys()) {
      const room = this.#nodes + total <= listingRecords && this.#bytes + listing.fixed + listing.kept <= limits.listingBytes;
      if (this.#open.size < listings && room) break;
      this.#drop(oldest);
    }
    this.#drop(name);
    this.#open.set(name, listing);
    this.#nodes += total;
    this.#bytes += listing.fixed + listing.kept;
  }

  /** kept counts what changes cost; what is too much goes, oldest first, and the one that is being made last. */
  #kept(listing: Listing, bytes: number): void {
    const { listingBytes } = this.#world.o.limits;
    const making = this.#making;
    listing.kept += bytes;
    if (listing !== making?.listing && listing !== this.#open.get(listing.name)) return;
    this.#bytes += bytes;
    for (const oldest of this.#open.keys()) {
      if (this.#bytes <= listingBytes) return;
      this.#drop(oldest);
    }
    if (making === undefined || making.listing.kept <= listingBytes) return;
    this.#giveUp();
    for (const section of making.listing.sections) section.close();
    this.#answer(making.call, { type: "failed", failure: expired("the nodes change faster than they can be listed; list again") });
  }

  #retired(listing: Listing): void {
    listing.retired = true;
    if (listing === this.#open.get(listing.name)) this.#drop(listing.name);
  }

  #drop(name: string): void {
    const listing = this.#open.get(name);
    if (listing === undefined) return;
    this.#open.delete(name);
    this.#nodes -= listing.total;
    this.#bytes -= listing.fixed + listing.kept;
    for (const section of listing.sections) section.close();
  }
}

function expired(message: string): Failure {
  return { ...failure("POSITION_EXPIRED", message), field: "page_token" };
}

/** bytesOf is the memory of the names and numbers of a listing. */
function bytesOf({ sections }: Listing): number {
  return sections.reduce((sum, section) => sum + section.bytes, 0);
}

/** inOneStep tells whether a filter can look at all nodes of the sources in one step. */
function inOneStep(sources: readonly Source[], { capability }: NodeFilter): boolean {
  const work = sources.reduce((sum, { table }) => sum + table.size / STEP_NODES + (capability === "" ? 0 : table.bytes / STEP_BYTES), 0);
  return work < 1;
}

/** unsorted is the first of several large tables whose ids are not in order yet: a step puts one of them in order. */
function unsorted(sources: readonly Source[]): FeedTable | undefined {
  const tables = sources.flatMap(({ table }) => (table.size > STEP_NODES && !table.sorted ? [table] : []));
  return tables.length > 1 ? tables[0] : undefined;
}

/** filterStep lets the filter look at as many nodes as one step may; true when it has seen all. */
function filterStep({ sections }: Listing): boolean {
  let left = 1;
  for (const section of sections) left = section.filter(left);
  return sections.every(({ done }) => done);
}

/** page cuts one page: so many nodes, and as many as fit into an answer, as it is sent and as it is in memory before. */
function page(codec: SegmentCodec, { sections, hubs, total }: Listing, from: number, limit: number): Extract<Answer, { type: "nodes" }> {
  const records: NodeRecord[] = [];
  let bytes = 0;
  let skip = from;
  for (const section of sections) {
    const { ids, source } = section;
    for (let i = skip; i < ids.length; i++) {
      const recorded = records.length < Math.max(1, limit) ? recordOf(source, section.image(ids[i] as string)) : undefined;
      const size = recorded === undefined ? 0 : recorded.bytes + answerBytes(codec, recorded.record.node);
      if (recorded === undefined || (records.length > 0 && bytes + size > LIMITS.messageBytes))
        return { type: "nodes", records, next: from + records.length, total, hubs };
      records.push(recorded.record);
      bytes += size;
    }
    skip = Math.max(0, skip - ids.length);
  }
  return { type: "nodes", records, next: 0, total, hubs };
}
