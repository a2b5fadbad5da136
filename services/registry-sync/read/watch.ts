import { positionOf, type SegmentItem, withoutState } from "../feed/segment.ts";
import type { FeedPosition, WatchContent, WatchOptions, WatchPush } from "../messages.ts";
import { TableScan } from "../table/scan.ts";
import type { Unstored } from "../table/unstored.ts";
import { failure, type World } from "../world.ts";
import { concerns, filtersNothing, hubOf, type Source, selected } from "./directory.ts";
import { type Cursor, holds, type Watch } from "./watch-cursor.ts";
import { EventList } from "./watch-events.ts";
import { nodesChanged, SeenFeeds, WatchPositions } from "./watch-position.ts";

/** Bytes that a push takes besides its content, and the least that one counts. */
const PUSH_BYTES = 64;
/** A copy of a feed that a watcher does not go on reading is held for it so long. */
const SCAN_IDLE_MS = 10_000;
/** A watcher of nodes only is told at most so often that only state has changed, ms. */
const NODES_BOOKMARK_MS = 1_000;

/**
 * Watches sends what there is, then what changes, feed by feed, at the pace of each watcher.
 *
 * WA1 a watcher has one cursor per feed and no queue: between two pushes it costs nothing, however slow it is. While its first copy of a
 *    feed is on the way, nodes that change are kept as they were; one that stops reading loses that copy after 10 s, and whoever holds
 *    most loses it when all together hold too much.
 * WA2 a cursor that falls off the ring, that lost its copy, or whose feed was replaced or opened an epoch, gets a reset and a snapshot.
 * WA3 everything that a watcher sees is durable here: cursors move over closed segments, and pushes leave behind the commit. While the
 *    store refuses, cursors move over what it has taken, and nothing waits for it.
 * WA4 every push fits into a message, whatever is in it.
 */
export class Watches {
  readonly #world: World;
  readonly #watches = new Map<number, Watch>();
  /** Watches that have read as much as one step may, and found nothing that passes their filter: each goes on in a step of its own. */
  readonly #reading = new Set<Watch>();
  /** Cursors whose snapshot is on the way, and whose they are. */
  readonly #scanning = new Map<Cursor, Watch>();
  readonly #sources: () => readonly Source[];
  /** close ends the open segment, so that the own table is that of its head. */
  readonly #close: () => void;
  /** A watcher that began the own feed closed the open segment, so that heads are not what they were. */
  #closed = false;
  readonly #unstored: Unstored;
  readonly #positions: WatchPositions;
  /** Where the feeds were that watchers have looked at; a watcher that waits is looked at when one of them is elsewhere, or if `#all` says so. */
  readonly #seen = new SeenFeeds();
  #all = true;
  /** When a watcher of nodes only is told next of what it was not told at once. */
  #owedAt = Number.POSITIVE_INFINITY;
  /** What is pulled now is of a snapshot, too. */
  #copying = false;

  constructor(world: World, sources: () => readonly Source[], close: () => void, unstored: Unstored) {
    this.#world = world;
    this.#sources = sources;
    this.#close = close;
    this.#unstored = unstored;
    this.#positions = new WatchPositions(world);
  }

  get size(): number {
    return this.#watches.size;
  }

  open(id: number, options: WatchOptions): void {
    const max = this.#world.o.watches;
    if (this.#watches.size >= max) {
      this.#world.emit({
        kind: "watch_refused",
        watch: id,
        failure: failure("LIMIT_EXCEEDED", "too many watches are open", { limit: "watches", max: String(max) }),
      });
      return;
    }
    if (options.encoding === "blocks" && !filtersNothing(options.filter)) {
      this.#world.emit({ kind: "watch_refused", watch: id, failure: failure("INVALID_FIELD", "blocks are filtered by hub only") });
      return;
    }
    const pending = this.#goneSince(options.resume);
    // What was told to be gone is not resumed when it comes back.
    const resume = options.resume.filter((from) => !pending.some(({ position }) => position === from));
    const watch: Watch = {
      id,
      options: { ...options, resume },
      cursors: new Map(),
      ready: true,
      pending,
      bookmarkedAt: Number.NEGATIVE_INFINITY,
      owed: true,
    };
    this.#watches.set(id, watch);
    this.#pull(watch);
  }

  /** goneSince tells a watcher that comes back of the feeds that went while it was away: nothing else would. */
  #goneSince(resume: readonly FeedPosition[]): Extract<WatchPush, { kind: "gone" }>[] {
    if (resume.length === 0) return [];
    const shares = new Map(this.#sources().flatMap(({ hubId, head }) => (head.epoch > 0 ? [[hubId, head.share]] : [])));
    return resume.filter(({ hubId, share }) => shares.get(hubId) !== share).map((position) => ({ kind: "gone", position }));
  }

  ready(id: number): void {
    const watch = this.#watches.get(id);
    if (watch === undefined) return;
    watch.ready = true;
    this.#pull(watch);
  }

  close(id: number): void {
    const watch = this.#watches.get(id);
    if (watch === undefined) return;
    for (const cursor of watch.cursors.values()) this.#endScan(cursor);
    this.#watches.delete(id);
    this.#reading.delete(watch);
  }

  /** gone tells all watchers that a feed is no longer here. */
  gone(head: FeedPosition): void {
    this.#seen.forget(head.hubId);
    this.#all = true;
    for (const watch of this.#watches.values()) {
      const cursor = watch.cursors.get(head.hubId);
      if (cursor === undefined) continue;
      this.#endScan(cursor);
      watch.cursors.delete(head.hubId);
      // What was told to be gone is not resumed when it comes back.
      watch.options = { ...watch.options, resume: watch.options.resume.filter(({ hubId }) => hubId !== head.hubId) };
      watch.pending.push({ kind: "gone", position: head });
      watch.owed = true;
    }
  }

  /**
   * refused: the store refuses writes. The watches named in `withheld` did not get their last push. What they had of their copies is given
   * up, as is every copy of more than what is stored.
   */
  refused(withheld: readonly number[]): void {
    this.#all = true;
    for (const cursor of this.#scanning.keys()) if (!this.#unstored.covers(cursor.start)) this.#lose(cursor);
    for (const id of withheld) {
      const watch = this.#watches.get(id);
      if (watch === undefined) continue;
      for (const cursor of watch.cursors.values()) this.#lose(cursor);
      watch.ready = true;
    }
  }

  /** stored: the store has taken everything. */
  stored(): void {
    this.#all = true;
    for (const { cursors } of this.#watches.values()) for (const cursor of cursors.values()) if (cursor.partial) this.#lose(cursor);
  }

  #lose(cursor: Cursor): void {
    this.#endScan(cursor);
    cursor.lost = true;
    this.#all = true;
  }

  /** deadline is when the next copy that nobody reads is given up, or a watcher is told of what waits, or at once while somebody reads on. */
  deadline(): number {
    if (this.#reading.size > 0) return this.#world.now.mono;
    let next = this.#owedAt;
    for (const cursor of this.#scanning.keys()) next = Math.min(next, cursor.movedAt + SCAN_IDLE_MS);
    return next;
  }

  tick(): void {
    for (const [cursor, watch] of this.#scanning) {
      // One that reads on in its turn waits for this hub, and not this hub for it.
      if (cursor.movedAt + SCAN_IDLE_MS <= this.#world.now.mono && !this.#reading.has(watch)) this.#lose(cursor);
    }
    if (this.#owedAt <= this.#world.now.mono) {
      this.#owedAt = Number.POSITIVE_INFINITY;
      for (const watch of this.#watches.values()) if (watch.options.nodesOnly && !this.#reading.has(watch)) this.#pull(watch);
    }
    for (const watch of this.#reading) return this.#pull(watch);
  }

  #endScan(cursor: Cursor): void {
    cursor.scan?.close();
    cursor.scan = undefined;
    this.#scanning.delete(cursor);
  }

  /** pullAll lets every watcher that is ready take what is new: of the feeds that are not where they were, or of all if anything else is new. */
  pullAll(): void {
    if (this.#scanning.size > 0) this.#relieve();
    let all = this.#shown();
    for (let news = this.#seen.news(all); news.length > 0 || this.#all; news = this.#seen.news(all)) {
      let some = this.#all ? all : news;
      this.#all = false;
      this.#seen.see(news);
      for (const watch of this.#watches.values()) {
        if (!watch.ready || this.#reading.has(watch)) continue;
        this.#closed = false;
        this.#pull(watch, all, some);
        // If the own feed is elsewhere now, that is news for those before.
        if (this.#closed) some = all = this.#shown();
      }
    }
  }

  /** relieve takes the copy away that holds most of what has changed, while all of them together hold too much. */
  #relieve(): void {
    for (;;) {
      let sum = 0;
      let most: Cursor | undefined;
      for (const cursor of this.#scanning.keys()) {
        const held = cursor.scan?.heldBytes ?? 0;
        sum += held;
        if (held > (most?.scan?.heldBytes ?? 0)) most = cursor;
      }
      if (most === undefined || sum <= this.#world.o.limits.scanBytes) return;
      this.#lose(most);
    }
  }

  /** shown are the sources as watchers may see them now, by hub id. */
  #shown(): readonly Source[] {
    return selected(this.#unstored.shown(this.#sources()), []);
  }

  /** pull lets a watcher take what is new of some sources: it has taken all of the others. */
  #pull(watch: Watch, all: readonly Source[] = this.#shown(), some: readonly Source[] = all): void {
    if (!watch.ready) return;
    this.#reading.delete(watch);
    const { refusing } = this.#unstored;
    const pushes = this.#gone(watch, all);
    let about: WatchContent = refusing ? "stored" : "news";
    this.#copying = false;
    let budget = this.#world.o.watchBytes;
    for (const source of some) {
      if (budget <= 0) break;
      if (concerns(source, watch.options.filter.hubIds)) budget -= this.#pullSource(watch, source, pushes, budget);
    }
    if (budget > 0) this.#bookmark(watch, all, some, pushes);
    if (pushes.length === 0) {
      if (budget <= 0) this.#reading.add(watch);
      return;
    }
    watch.ready = false;
    if (about === "news" && this.#copying && pushes[0]?.kind !== "gone") about = "copy";
    this.#world.emit({ kind: "watch_send", watch: watch.id, pushes, about });
  }

  /** gone takes what is to be told of feeds that went. While the store refuses that is not stored either, unless another feed stands in its place. */
  #gone(watch: Watch, all: readonly Source[]): WatchPush[] {
    if (!this.#unstored.refusing || watch.pending.length === 0) return watch.pending.splice(0);
    const here = new Set(all.map(({ hubId }) => hubId));
    const pending = watch.pending.splice(0);
    watch.pending.push(...pending.filter(({ position }) => !here.has(position.hubId)));
    return pending.filter(({ position }) => here.has(position.hubId));
  }

  /** bookmark says how far all is, if that is news. If there is nothing for a watcher, that is how far all is. */
  #bookmark(watch: Watch, all: readonly Source[], some: readonly Source[], pushes: WatchPush[]): void {
    const isNews = ({ hubId }: Source): boolean => {
      const cursor = watch.cursors.get(hubId);
      return holds(cursor) && cursor.bookmarked !== cursor.next - 1;
    };
    if (!some.some(isNews) && !(watch.owed && this.#hasAll(watch))) return;
    const { mono } = this.#world.now;
    const dueAt = watch.bookmarkedAt + NODES_BOOKMARK_MS;
    if (watch.options.nodesOnly && pushes.length === 0 && mono < dueAt) {
      this.#owedAt = Math.min(this.#owedAt, dueAt);
      return;
    }
    const sources = all.filter((source) => concerns(source, watch.options.filter.hubIds));
    const positions: FeedPosition[] = [];
    for (const source of sources) {
      const cursor = watch.cursors.get(source.hubId);
      if (!holds(cursor)) continue;
      const item = source.ring.get(cursor.next - 1);
      positions.push(this.#positions.told(source, item === undefined ? cursor.start : positionOf(item)));
      cursor.bookmarked = cursor.next - 1;
    }
    watch.bookmarkedAt = mono;
    watch.owed = false;
    pushes.push({ kind: "bookmark", positions, hubs: sources.map(hubOf) });
  }

  /** hasAll tells whether a watcher waits for nothing of what is here, also of what is not shown while the store refuses. */
  #hasAll({ options, cursors, pending }: Watch): boolean {
    const concerning = this.#sources().filter((source) => concerns(source, options.filter.hubIds));
    return pending.length === 0 && concerning.every(({ hubId }) => holds(cursors.get(hubId)));
  }

  #pullSource(watch: Watch, known: Source, pushes: WatchPush[], budget: number): number {
    let source = known;
    let cursor = watch.cursors.get(source.hubId);
    if (cursor !== undefined && !this.#follows(cursor, source)) {
      this.#endScan(cursor);
      cursor = undefined;
    }
    if (cursor === undefined) {
      const closed = source.own ? this.#closedOwn() : source;
      if (closed === undefined) return 0;
      source = closed;
      cursor = this.#start(watch, source, watch.cursors.has(source.hubId));
      watch.cursors.set(source.hubId, cursor);
      if (cursor.scan !== undefined) this.#scanning.set(cursor, watch);
    }
    if (cursor.scan !== undefined && !cursor.resetSent) {
      pushes.push({ kind: "reset", position: this.#positions.told(source, cursor.start) });
      cursor.resetSent = true;
    }
    let used = 0;
    while (cursor.scan !== undefined && used < budget) used += this.#pullScan(watch, source, cursor, cursor.scan, pushes, budget - used);
    if (cursor.scan !== undefined || used >= budget) return used;
    // The ring went past the copy while it was on the way: another one is next.
    if (cursor.next < source.ring.first) {
      this.#lose(cursor);
      return used;
    }
    return (
      used +
      (watch.options.encoding === "blocks"
        ? this.#pullBlocks(watch, source, cursor, pushes, budget - used)
        : this.#pullEvents(watch, source, cursor, pushes, budget - used))
    );
  }

  #follows(cursor: Cursor, source: Source): boolean {
    const same = cursor.generation === source.generation && cursor.epoch === source.head.epoch && cursor.share === source.head.share;
    return same && !cursor.lost && (cursor.scan !== undefined || cursor.next >= source.ring.first);
  }

  /**
   * closedOwn is the own feed after the open segment: its head is then that of the table, so that nothing comes twice after the copy.
   * Undefined if that has pushed a segment off the ring which is not stored: nothing can be shown until it is.
   */
  #closedOwn(): Source | undefined {
    this.#close();
    this.#closed = true;
    return this.#shown().find(({ own }) => own);
  }

  #start(watch: Watch, source: Source, again: boolean): Cursor {
    const { head } = source;
    const { options } = watch;
    const known =
      options.encoding === "events" && !filtersNothing({ ...options.filter, onlineOnly: false }) ? new Set<number>() : undefined;
    const base = {
      hubId: source.hubId,
      generation: source.generation,
      share: head.share,
      epoch: head.epoch,
      resetSent: false,
      has: false,
      known,
      bookmarked: -1,
      movedAt: this.#world.now.mono,
      lost: false,
      partial: false,
    };
    const from = again
      ? undefined
      : options.resume.find((position) => position.hubId === head.hubId && position.share === head.share && position.epoch === head.epoch);
    const start = from && this.#positions.resumed(source, from, options.encoding === "blocks");
    if (start !== undefined && (known === undefined || !nodesChanged(this.#world.o.codec, source, start.seq))) {
      // Which nodes a watcher that filters was told of is read from the table: it is not known when nodes have come, changed or gone since.
      const scan = known === undefined ? undefined : new TableScan(source.table);
      return { ...base, next: start.seq + 1, scan, start, hlc: { wallMs: 0, logical: 0 }, resetSent: true, has: true };
    }
    const hlc = source.ring.get(head.seq)?.header.hlc ?? { wallMs: 0, logical: 0 };
    const veil = this.#unstored.veil(source);
    const scan = new TableScan(source.table, undefined, veil);
    return { ...base, next: head.seq + 1, scan, start: head, hlc, partial: veil?.complete === false };
  }

  #pullScan(watch: Watch, source: Source, cursor: Cursor, scan: TableScan, pushes: WatchPush[], budget: number): number {
    const used =
      watch.options.encoding === "blocks"
        ? this.#scanBlocks(source, cursor, scan, pushes, budget)
        : this.#scanEvents(watch, source, cursor, scan, pushes, budget);
    if (!cursor.has) this.#copying = true;
    cursor.movedAt = this.#world.now.mono;
    if (scan.done) this.#endScan(cursor);
    return used + PUSH_BYTES;
  }

  #scanBlocks(source: Source, cursor: Cursor, scan: TableScan, pushes: WatchPush[], budget: number): number {
    const payload = scan.part(this.#world.o.codec, budget).bytes;
    const position = this.#positions.told(source, cursor.start);
    pushes.push({ kind: "blocks", position, hlc: cursor.hlc, payload, snapshot: true, last: scan.done });
    return payload.length;
  }

  #scanEvents(watch: Watch, source: Source, cursor: Cursor, scan: TableScan, pushes: WatchPush[], budget: number): number {
    const events = new EventList(this.#world.o.codec, watch.options, source, cursor.known);
    for (const piece of scan.pieces(budget)) events.piece(piece, cursor.has);
    events.flush(pushes);
    return Math.max(events.bytes, events.read);
  }

  #pullBlocks(watch: Watch, source: Source, cursor: Cursor, pushes: WatchPush[], budget: number): number {
    let used = 0;
    for (; used < budget && cursor.next <= source.head.seq; cursor.next++) {
      const item = source.ring.get(cursor.next) as SegmentItem;
      const payload = watch.options.nodesOnly ? withoutState(item.payload) : item.payload;
      if (payload.length === 0) continue;
      const position = this.#positions.told(source, positionOf(item));
      pushes.push({ kind: "blocks", position, hlc: item.header.hlc, payload, snapshot: false, last: false });
      used += payload.length + PUSH_BYTES;
    }
    return used;
  }

  #pullEvents(watch: Watch, source: Source, cursor: Cursor, pushes: WatchPush[], budget: number): number {
    if (cursor.next > source.head.seq) return 0;
    const events = new EventList(this.#world.o.codec, watch.options, source, cursor.known);
    for (; events.bytes < budget && events.read < budget && cursor.next <= source.head.seq; cursor.next++) {
      const item = source.ring.get(cursor.next) as SegmentItem;
      events.read += item.payload.length;
      for (const block of this.#world.o.codec.decodePayload(item.payload) ?? []) events.block(block);
    }
    events.flush(pushes);
    return Math.max(events.bytes, events.read);
  }
}
