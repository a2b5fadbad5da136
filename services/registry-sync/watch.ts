import { filtersNothing, hubOf, matchesFilter, type Source, selected } from "./directory.ts";
import type { ChangeEvent, FeedPosition, WatchOptions, WatchPush } from "./messages.ts";
import type { Block, HlcValue, UpdateBatch } from "./ports.ts";
import { type NodeImage, TableScan } from "./scan.ts";
import { positionOf, type SegmentItem, withoutState } from "./segment.ts";
import { type FeedTable, type KeyEntry, type NodeEntry, scalarOf } from "./table.ts";
import { equalBytes } from "./wire.ts";
import { failure, type World } from "./world.ts";

/** Rough bytes of one event in a push. */
const EVENT_BYTES = 48;
/** A watcher of nodes only is told at most so often that only state has changed, ms. */
const NODES_BOOKMARK_MS = 1_000;

/** Cursor is how far a watcher is with one feed. */
interface Cursor {
  readonly hubId: string;
  readonly generation: number;
  readonly share: string;
  readonly epoch: number;
  /** Next segment. */
  next: number;
  /** Position that was bookmarked last. */
  bookmarked: number;
  /** The snapshot that comes first. */
  scan: TableScan | undefined;
  readonly start: FeedPosition;
  readonly hlc: HlcValue;
  resetSent: boolean;
  /** Refs of the nodes that the watcher was told of, if it filters. */
  readonly known: Set<number> | undefined;
}

interface Watch {
  readonly id: number;
  readonly options: WatchOptions;
  readonly cursors: Map<string, Cursor>;
  ready: boolean;
  readonly pending: WatchPush[];
  bookmarkedAt: number;
}

/**
 * Watches sends what there is, then what changes, feed by feed, at the pace of each watcher.
 *
 * V1 a watcher has one cursor per feed and no queue: between two pushes it costs nothing, however slow it is.
 * V2 a cursor that falls off the ring, or whose feed was replaced or opened an epoch, gets a reset and a snapshot.
 * V3 everything that a watcher sees is durable here: cursors move over closed segments, and pushes leave behind the commit.
 */
export class Watches {
  readonly #world: World;
  readonly #watches = new Map<number, Watch>();
  readonly #sources: () => readonly Source[];
  /** close ends the open segment, so that the own table is that of its head. */
  readonly #close: () => void;

  constructor(world: World, sources: () => readonly Source[], close: () => void) {
    this.#world = world;
    this.#sources = sources;
    this.#close = close;
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
    const watch: Watch = { id, options, cursors: new Map(), ready: true, pending: [], bookmarkedAt: Number.NEGATIVE_INFINITY };
    this.#watches.set(id, watch);
    this.#pull(watch);
  }

  ready(id: number): void {
    const watch = this.#watches.get(id);
    if (watch === undefined) return;
    watch.ready = true;
    this.#pull(watch);
  }

  close(id: number): void {
    for (const cursor of this.#watches.get(id)?.cursors.values() ?? []) cursor.scan?.close();
    this.#watches.delete(id);
  }

  /** gone tells all watchers that a feed is no longer here. */
  gone(head: FeedPosition): void {
    for (const watch of this.#watches.values()) {
      const cursor = watch.cursors.get(head.hubId);
      if (cursor === undefined) continue;
      cursor.scan?.close();
      watch.cursors.delete(head.hubId);
      watch.pending.push({ kind: "gone", position: head });
    }
  }

  /** pullAll lets every watcher that is ready take what is new. */
  pullAll(): void {
    for (const watch of this.#watches.values()) this.#pull(watch);
  }

  #pull(watch: Watch): void {
    if (!watch.ready) return;
    const pushes = watch.pending.splice(0);
    let budget = this.#world.o.watchBytes;
    const sources = selected(this.#sources(), watch.options.filter.hubIds).filter((source) => source.head.epoch > 0);
    for (const source of sources) {
      if (budget <= 0) break;
      budget -= this.#pullSource(watch, source, pushes, budget);
    }
    if (budget > 0) this.#bookmark(watch, sources, pushes);
    if (pushes.length === 0) return;
    watch.ready = false;
    this.#world.emit({ kind: "watch_send", watch: watch.id, pushes });
  }

  /** bookmark says how far all is, if that is news. */
  #bookmark(watch: Watch, sources: readonly Source[], pushes: WatchPush[]): void {
    const { mono } = this.#world.now;
    if (watch.options.nodesOnly && pushes.length === 0 && mono - watch.bookmarkedAt < NODES_BOOKMARK_MS) return;
    const positions: FeedPosition[] = [];
    let news = false;
    for (const source of sources) {
      const cursor = watch.cursors.get(source.hubId);
      if (cursor === undefined || cursor.scan !== undefined) continue;
      const item = source.ring.get(cursor.next - 1);
      positions.push(item === undefined ? cursor.start : positionOf(item));
      if (cursor.bookmarked !== cursor.next - 1) news = true;
      cursor.bookmarked = cursor.next - 1;
    }
    if (!news) return;
    watch.bookmarkedAt = mono;
    pushes.push({ kind: "bookmark", positions, hubs: sources.map(hubOf) });
  }

  #pullSource(watch: Watch, source: Source, pushes: WatchPush[], budget: number): number {
    let cursor = watch.cursors.get(source.hubId);
    if (cursor !== undefined && !this.#follows(cursor, source)) {
      cursor.scan?.close();
      cursor = undefined;
    }
    if (cursor === undefined) {
      cursor = this.#start(watch, source, watch.cursors.has(source.hubId));
      watch.cursors.set(source.hubId, cursor);
    }
    if (cursor.scan !== undefined && !cursor.resetSent) {
      pushes.push({ kind: "reset", position: cursor.start });
      cursor.resetSent = true;
    }
    let used = 0;
    while (cursor.scan !== undefined && used < budget) used += this.#pullScan(watch, source, cursor, cursor.scan, pushes, budget - used);
    if (cursor.scan !== undefined || used >= budget) return used;
    return (
      used +
      (watch.options.encoding === "blocks"
        ? this.#pullBlocks(watch, source, cursor, pushes, budget - used)
        : this.#pullEvents(watch, source, cursor, pushes, budget - used))
    );
  }

  #follows(cursor: Cursor, source: Source): boolean {
    const same = cursor.generation === source.generation && cursor.epoch === source.head.epoch && cursor.share === source.head.share;
    return same && (cursor.scan !== undefined || cursor.next >= source.ring.first);
  }

  #start(watch: Watch, source: Source, again: boolean): Cursor {
    if (source.own) this.#close();
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
      known,
      bookmarked: -1,
    };
    const from = again
      ? undefined
      : options.resume.find((position) => position.hubId === head.hubId && position.share === head.share && position.epoch === head.epoch);
    if (from !== undefined && this.#holds(source, from)) {
      for (const entry of source.table.entries()) if (matchesFilter(options.filter, entry.info)) known?.add(entry.ref);
      return { ...base, next: from.seq + 1, scan: undefined, start: from, hlc: { wallMs: 0, logical: 0 } };
    }
    const hlc = source.ring.get(head.seq)?.header.hlc ?? { wallMs: 0, logical: 0 };
    return { ...base, next: head.seq + 1, scan: new TableScan(source.table), start: head, hlc };
  }

  /** holds: everything after the position is in the ring, and it is the same history. */
  #holds(source: Source, from: FeedPosition): boolean {
    if (from.seq > source.head.seq || from.seq + 1 < source.ring.first) return false;
    const item = from.seq === source.head.seq ? undefined : source.ring.get(from.seq);
    const digest = from.seq === source.head.seq ? source.head.digest : item?.digest;
    return digest === undefined || from.digest.length === 0 || equalBytes(digest, from.digest);
  }

  #pullScan(watch: Watch, source: Source, cursor: Cursor, scan: TableScan, pushes: WatchPush[], budget: number): number {
    if (watch.options.encoding === "blocks") {
      const payload = scan.part(this.#world.o.codec, budget).bytes;
      pushes.push({ kind: "blocks", position: cursor.start, hlc: cursor.hlc, payload, snapshot: true, last: scan.done });
      if (scan.done) cursor.scan = undefined;
      return payload.length + 64;
    }
    scan.keys();
    const events: ChangeEvent[] = [];
    for (const image of scan.images(budget)) imageEvents(watch.options, source, cursor, image, events);
    if (scan.done) cursor.scan = undefined;
    if (events.length > 0) pushes.push({ kind: "events", events });
    return events.length * EVENT_BYTES + EVENT_BYTES;
  }

  #pullBlocks(watch: Watch, source: Source, cursor: Cursor, pushes: WatchPush[], budget: number): number {
    let used = 0;
    for (; used < budget && cursor.next <= source.head.seq; cursor.next++) {
      const item = source.ring.get(cursor.next) as SegmentItem;
      const payload = watch.options.nodesOnly ? withoutState(item.payload) : item.payload;
      if (payload.length === 0) continue;
      pushes.push({ kind: "blocks", position: positionOf(item), hlc: item.header.hlc, payload, snapshot: false, last: false });
      used += payload.length + 64;
    }
    return used;
  }

  #pullEvents(watch: Watch, source: Source, cursor: Cursor, pushes: WatchPush[], budget: number): number {
    const latest = watch.options.latestOnly ? new Map<number, number>() : undefined;
    const events: (ChangeEvent | undefined)[] = [];
    for (; events.length * EVENT_BYTES < budget && cursor.next <= source.head.seq; cursor.next++) {
      const item = source.ring.get(cursor.next) as SegmentItem;
      for (const block of this.#world.o.codec.decodePayload(item.payload) ?? [])
        blockEvents(this.#world, watch.options, source, cursor, block, events, latest);
    }
    const kept = events.filter((event) => event !== undefined);
    if (kept.length > 0) pushes.push({ kind: "events", events: kept });
    return kept.length * EVENT_BYTES;
  }
}

function nameIn(source: Source, entry: NodeEntry): ChangeEvent["name"] {
  return { hubId: source.hubId, nodeId: entry.info.nodeId };
}

function imageEvents(options: WatchOptions, source: Source, cursor: Cursor, image: NodeImage, events: (ChangeEvent | undefined)[]): void {
  const { entry } = image;
  if (!matchesFilter(options.filter, entry.info)) return;
  cursor.known?.add(entry.ref);
  const name = nameIn(source, entry);
  events.push({ name, change: { kind: "put", node: entry.bytes } });
  events.push({ name, change: { kind: "online", online: image.online } });
  if (options.nodesOnly) return;
  for (const value of image.values) {
    const key = source.table.key(value.kref) as KeyEntry;
    events.push({ name, change: { kind: "state", state: scalarOf(key, value.low, value.high, value.text) } });
  }
}

function blockEvents(
  world: World,
  options: WatchOptions,
  source: Source,
  cursor: Cursor,
  block: Block,
  events: (ChangeEvent | undefined)[],
  latest: Map<number, number> | undefined,
): void {
  const { table } = source;
  switch (block.kind) {
    case "state":
      if (!options.nodesOnly) stateEvents(table, source, cursor, block.batch, events, latest);
      return;
    case "node_put": {
      const info = world.o.codec.readNode(block.node);
      if (info === undefined || (!source.own && table.named(block.ref) === undefined)) return;
      const name = { hubId: source.hubId, nodeId: info.nodeId };
      if (!matchesFilter(options.filter, info)) {
        if (cursor.known?.delete(block.ref) === true) events.push({ name, change: { kind: "removed" } });
        return;
      }
      cursor.known?.add(block.ref);
      events.push({ name, change: { kind: "put", node: block.node } }, { name, change: { kind: "online", online: block.online } });
      return;
    }
    case "node_del": {
      const entry = table.named(block.ref);
      if (entry === undefined || cursor.known?.delete(block.ref) === false) return;
      events.push({ name: nameIn(source, entry), change: { kind: "removed" } });
      return;
    }
    case "presence":
      for (const [refs, online] of [
        [block.online, true],
        [block.offline, false],
      ] as const) {
        for (const ref of refs) {
          const entry = table.named(ref);
          if (entry !== undefined && cursor.known?.has(ref) !== false)
            events.push({ name: nameIn(source, entry), change: { kind: "online", online } });
        }
      }
      return;
    default:
      return;
  }
}

function stateEvents(
  table: FeedTable,
  source: Source,
  cursor: Cursor,
  batch: UpdateBatch,
  events: (ChangeEvent | undefined)[],
  latest: Map<number, number> | undefined,
): void {
  const fixed = batch.numCount + batch.intCount;
  let at = 0;
  for (let i = 0; i < batch.count; i++) {
    const start = at;
    if (i >= fixed) at += batch.len[i - fixed] as number;
    const ref = batch.ref[i] as number;
    const kref = batch.key[i] as number;
    const entry = table.named(ref);
    const key = table.key(kref);
    if (entry === undefined || key === undefined || cursor.known?.has(ref) === false) continue;
    const text = i >= fixed ? batch.data.subarray(start, at) : undefined;
    const state = scalarOf(key, batch.bits[2 * i] ?? 0, batch.bits[2 * i + 1] ?? 0, text);
    if (latest !== undefined) {
      const before = latest.get(ref * 65_536 + kref);
      if (before !== undefined) events[before] = undefined;
      latest.set(ref * 65_536 + kref, events.length);
    }
    events.push({ name: nameIn(source, entry), change: { kind: "state", state } });
  }
}
