import { LIMITS } from "#kernel/limits.ts";
import { filtersNothing, hubOf, matchesFilter, onlineIn, recordOf, type Source, selected } from "./directory.ts";
import type { Answer, HubFreshness, NodeFilter, NodeRecord, Query } from "./messages.ts";
import type { SegmentCodec } from "./ports.ts";
import { imageBytes, imageOf, type NodeImage, sharedImage } from "./scan.ts";
import type { NodeEntry, Scan } from "./table.ts";
import { failure, type World } from "./world.ts";

/** Section is one hub's part of a listing: the ids of its nodes at one instant, and those of them that have changed since as they were. */
class Section implements Scan {
  readonly source: Source;
  readonly ids: readonly string[];
  /** By ref: 1 for a node that is not of the listing, or is kept already. */
  readonly #done: Uint8Array;
  readonly #images = new Map<string, NodeImage>();
  readonly #onKept: (bytes: number) => void;
  readonly #onRetired: () => void;

  constructor(source: Source, filter: NodeFilter, codec: SegmentCodec, onKept: (bytes: number) => void, onRetired: () => void) {
    const { table } = source;
    this.source = source;
    this.#onKept = onKept;
    this.#onRetired = onRetired;
    this.#done = new Uint8Array(table.nextRef);
    if (filtersNothing(filter)) {
      this.ids = table.sortedIds().slice();
      return;
    }
    this.#done.fill(1);
    const named = table.krefsNamed(filter.capability);
    this.ids = table.sortedIds().filter((nodeId) => {
      const entry = table.byId(nodeId) as NodeEntry;
      if (!matchesFilter(filter, entry.info, codec, entry.bytes, named, entry.krefs) || (filter.onlineOnly && !onlineIn(source, entry)))
        return false;
      this.#done[entry.ref] = 0;
      return true;
    });
  }

  /** pin keeps from now on what changes; until `close`. */
  pin(): void {
    this.source.table.scans.add(this);
  }

  close(): void {
    this.source.table.scans.delete(this);
    this.#images.clear();
  }

  before(ref: number): void {
    if (this.#done[ref] !== 0) return;
    this.#done[ref] = 1;
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
  readonly sections: readonly Section[];
  readonly hubs: readonly HubFreshness[];
  readonly total: number;
  readonly expiresAt: number;
  /** Bytes of nodes that are kept because they have changed. */
  bytes: number;
}

/**
 * Listings keep what the next pages of a list are cut from: all pages show one instant, so that nothing is left out, shown twice or mixed
 * with a later state (B2-1). The names are noted, and of the nodes only those that change meanwhile, before they do. What is too old, had to
 * give way, or was replaced by a snapshot of its owner is answered with POSITION_EXPIRED.
 */
export class Listings {
  readonly #world: World;
  readonly #open = new Map<string, Listing>();
  #nodes = 0;
  #bytes = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** list answers the first page, and keeps the rest under the name that the query gives. */
  list(sources: readonly Source[], { filter, limit, keep }: Extract<Query, { type: "list" }>): Answer {
    const name = keep ?? "";
    const chosen = selected(sources, filter.hubIds);
    const sections = chosen.map(
      (source) =>
        new Section(
          source,
          filter,
          this.#world.o.codec,
          (bytes) => this.#kept(name, bytes),
          () => this.#drop(name),
        ),
    );
    const total = sections.reduce((sum, section) => sum + section.ids.length, 0);
    const listing = { sections, hubs: chosen.map(hubOf), total, expiresAt: this.#world.now.mono + LIMITS.pagingMs, bytes: 0 };
    const answer = page(listing, 0, limit);
    if (answer.next > 0 && keep !== undefined) this.#keep(keep, listing);
    return answer;
  }

  /** page answers a further page. */
  page({ listing: name, from, limit }: Extract<Query, { type: "page" }>): Answer {
    const listing = this.#open.get(name);
    if (listing !== undefined && listing.expiresAt > this.#world.now.mono) return page(listing, from, limit);
    const expired = failure("POSITION_EXPIRED", "the listing is not kept any more; list again from the start");
    return { type: "failed", failure: { ...expired, field: "page_token" } };
  }

  deadline(): number {
    if (this.#open.size > 0) for (const oldest of this.#open.values()) return oldest.expiresAt;
    return Number.POSITIVE_INFINITY;
  }

  /** tick lets go of what is too old. */
  tick(): void {
    for (const [name, listing] of this.#open) {
      if (listing.expiresAt > this.#world.now.mono) return;
      this.#drop(name);
    }
  }

  /** keep: the newest is always kept; older ones give way. */
  #keep(name: string, listing: Listing): void {
    const { listings, listingRecords } = this.#world.o;
    for (const oldest of this.#open.keys()) {
      if (this.#open.size < listings && this.#nodes + listing.total <= listingRecords) break;
      this.#drop(oldest);
    }
    this.#drop(name);
    this.#open.set(name, listing);
    this.#nodes += listing.total;
    for (const section of listing.sections) section.pin();
  }

  /** kept counts what changes cost; what is too much goes, oldest first. */
  #kept(name: string, bytes: number): void {
    const listing = this.#open.get(name);
    if (listing === undefined) return;
    listing.bytes += bytes;
    this.#bytes += bytes;
    for (const oldest of this.#open.keys()) {
      if (this.#bytes <= this.#world.o.limits.listingBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(name: string): void {
    const listing = this.#open.get(name);
    if (listing === undefined) return;
    this.#open.delete(name);
    this.#nodes -= listing.total;
    this.#bytes -= listing.bytes;
    for (const section of listing.sections) section.close();
  }
}

/** page cuts one page: so many nodes, and as many as fit into an answer. */
function page({ sections, hubs, total }: Listing, from: number, limit: number): Extract<Answer, { type: "nodes" }> {
  const records: NodeRecord[] = [];
  let bytes = 0;
  let skip = from;
  for (const section of sections) {
    const { ids, source } = section;
    for (let i = skip; i < ids.length; i++) {
      const recorded = records.length < Math.max(1, limit) ? recordOf(source, section.image(ids[i] as string)) : undefined;
      if (recorded === undefined || (records.length > 0 && bytes + recorded.bytes > LIMITS.messageBytes))
        return { type: "nodes", records, next: from + records.length, total, hubs };
      records.push(recorded.record);
      bytes += recorded.bytes;
    }
    skip = Math.max(0, skip - ids.length);
  }
  return { type: "nodes", records, next: 0, total, hubs };
}
