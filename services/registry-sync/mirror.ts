import { create } from "@bufbuild/protobuf";
import { Freshness as ProtoFreshness } from "#gen/foedus/common/v1/value_pb.ts";
import {
  type Bookmark,
  type RegistrySyncService,
  type WatchBlocks,
  WatchEncoding,
  WatchRequestSchema,
  type WatchResponse,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { Backoff } from "#kernel/backoff.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import { type NodeResolution, resolveNode } from "#kernel/node-name.ts";
import { Prng } from "#kernel/prng.ts";
import { type Clock, systemClock, type Timer } from "#runtime/clock.ts";
import type { ClientOf } from "#runtime/rpc/call.ts";
import { positionToProto } from "./answer-codec.ts";
import { positionFromProto } from "./codec.ts";
import type { FeedPosition, StateValue } from "./messages.ts";
import type { Block, UpdateBatch } from "./ports.ts";
import { segmentCodec } from "./segment-codec.ts";
import { NO_SLOT } from "./slots.ts";
import { FeedTable, type NodeEntry } from "./table.ts";

/** MirrorFeed is one feed as the mirror holds it. `table` is replaced when the feed is sent anew. */
export interface MirrorFeed {
  readonly hubId: string;
  readonly share: string;
  table: FeedTable;
  position: FeedPosition;
  /** False while the first copy of it is still on its way. */
  complete: boolean;
}

/** MirrorOptions say what is mirrored and who is told. Callbacks must not throw; they see the state after the change. */
export interface MirrorOptions {
  readonly clock?: Clock;
  readonly hubIds?: readonly string[];
  /** True leaves out the state. */
  readonly nodesOnly?: boolean;
  readonly seed?: number;
  /** A batch of state changes was applied; those with `slots[i]` = NO_SLOT were not. Valid during the call only. */
  readonly onBatch?: (feed: MirrorFeed, batch: UpdateBatch, slots: Uint32Array) => void;
  readonly onNode?: (feed: MirrorFeed, entry: NodeEntry) => void;
  readonly onRemoved?: (feed: MirrorFeed, nodeId: string) => void;
  /** Everything of a feed was replaced by a new copy, or (feed gone) dropped. */
  readonly onReplaced?: (feed: MirrorFeed, gone: boolean) => void;
  readonly onBookmark?: (hubs: readonly MirrorHub[]) => void;
  /** Told when the watch is up (undefined) or was cut, and why; it is opened again by itself. */
  readonly onLink?: (failure: Failure | undefined) => void;
}

/** MirrorHub is how current a hub's part was when the mirror last heard. */
export interface MirrorHub {
  readonly hubId: string;
  readonly freshness: Freshness;
  readonly ageMs: number;
  readonly nodes: number;
}

type Client = ClientOf<typeof RegistrySyncService>;

const RECONNECT = { baseMs: 200, maxMs: 10_000, factor: 2, jitter: 0.5 };
const FRESHNESS: Readonly<Record<number, Freshness>> = { [ProtoFreshness.FRESH]: "FRESH", [ProtoFreshness.STALE]: "STALE" };

/** numbersOf views the BOOL and DOUBLE values of a batch as doubles. */
export function numbersOf(batch: UpdateBatch): Float64Array {
  return new Float64Array(batch.bits.buffer as ArrayBuffer, batch.bits.byteOffset, batch.numCount);
}

/**
 * Mirror holds a copy of the registry, kept current by one Watch in blocks: no object per update, values in flat arrays.
 * After a cut it resumes where it was, or takes what the hub sends anew.
 *
 * M1 what is read is what the hub had at the feed's `position`; while a feed is sent anew, the copy before it is kept.
 * M2 a feed that the hub no longer has is dropped.
 */
export class Mirror {
  readonly #client: Client;
  readonly #o: MirrorOptions;
  readonly #clock: Clock;
  readonly #feeds = new Map<string, MirrorFeed>();
  /** Copies that are not complete yet, in place of those in `#feeds`. */
  readonly #staged = new Map<string, MirrorFeed>();
  readonly #backoff: Backoff;
  #hubs: readonly MirrorHub[] = [];
  #hubsAt = 0;
  #slots = new Uint32Array(4_096);
  #abort: AbortController | undefined;
  #retry: Timer | undefined;
  #closed = false;
  #ready = Promise.withResolvers<void>();

  constructor(client: Client, options: MirrorOptions = {}) {
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(new Prng(options.seed ?? 1), RECONNECT);
    void this.#run();
  }

  /** ready resolves with the first bookmark: everything that the hub had is here. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** feeds are those held, complete or not. */
  feeds(): IterableIterator<MirrorFeed> {
    return this.#feeds.values();
  }

  /** hubs is how current each hub's part is; ages count on since the last bookmark. */
  hubs(): readonly MirrorHub[] {
    const since = this.#clock.mono() - this.#hubsAt;
    return this.#hubs.map((hub) => (hub.ageMs === 0 ? hub : { ...hub, ageMs: hub.ageMs + since }));
  }

  /** node finds a node by its full name. */
  node(hubId: string, nodeId: string): { readonly feed: MirrorFeed; readonly entry: NodeEntry } | undefined {
    for (const feed of this.#feeds.values()) {
      const entry = feed.hubId === hubId ? feed.table.byId(nodeId) : undefined;
      if (entry !== undefined) return { feed, entry };
    }
    return undefined;
  }

  /** resolve decides which hub's node a name means (`hubId` may be empty). */
  resolve(hubId: string, nodeId: string, ownHubId: string): NodeResolution {
    const hubs = new Set<string>();
    for (const feed of this.#feeds.values()) if (feed.table.byId(nodeId) !== undefined) hubs.add(feed.hubId);
    return resolveNode(hubId, ownHubId, [...hubs]);
  }

  /** state reads all values of a node. */
  state(hubId: string, nodeId: string): readonly StateValue[] {
    const found = this.node(hubId, nodeId);
    return found === undefined ? [] : found.feed.table.state(found.entry);
  }

  close(): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#abort?.abort();
    this.#ready.promise.catch(() => undefined);
    this.#ready.reject(new FoedusError({ reason: "CANCELLED", message: "the mirror was closed" }));
  }

  async #run(): Promise<void> {
    this.#abort = new AbortController();
    const resume = [...this.#feeds.values()].filter((feed) => feed.complete).map((feed) => positionToProto(feed.position));
    const { hubIds = [], nodesOnly = false } = this.#o;
    const request = create(WatchRequestSchema, { filter: { hubIds: [...hubIds] }, encoding: WatchEncoding.BLOCKS, nodesOnly, resume });
    let failure: Failure = { reason: "PEER_UNREACHABLE", message: "the hub ended the watch" };
    try {
      for await (const response of this.#client.watch(request, { signal: this.#abort.signal })) {
        if (this.#closed) return;
        if (this.#backoff.failures > 0) this.#backoff.succeeded();
        this.#take(response);
        // A snapshot comes as fast as it can be read, in this process without a turn of the event loop in between: others must get theirs.
        if (response.push.case === "blocks" && response.push.value.snapshot) await this.#turn();
      }
    } catch (error) {
      if (!(error instanceof FoedusError)) throw error;
      failure = error.failure;
    }
    if (this.#closed) return;
    this.#staged.clear();
    for (const [name, feed] of this.#feeds) if (!feed.complete) this.#feeds.delete(name);
    if (failure.reason === "POSITION_EXPIRED" || failure.reason === "SEGMENT_INVALID")
      for (const feed of this.#feeds.values()) feed.complete = false;
    this.#o.onLink?.(failure);
    this.#retry = this.#clock.setTimer(this.#backoff.failed(this.#clock.mono()), () => void this.#run());
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => void this.#clock.setImmediate(resolve));
  }

  #take({ push }: WatchResponse): void {
    switch (push.case) {
      case "blocks":
        return this.#blocks(push.value);
      case "bookmark":
        return this.#bookmark(push.value);
      case "reset":
        if (push.value.position !== undefined) this.#reset(positionFromProto(push.value.position));
        return;
      case "gone":
        if (push.value.position !== undefined) this.#gone(positionFromProto(push.value.position));
        return;
      default:
        return;
    }
  }

  #bookmark(bookmark: Bookmark): void {
    this.#hubs = bookmark.hubs.map((hub) => ({
      hubId: hub.hubId,
      freshness: FRESHNESS[hub.freshness] ?? "UNKNOWN",
      ageMs: Number(hub.ageMs),
      nodes: hub.nodes,
    }));
    this.#hubsAt = this.#clock.mono();
    for (const position of bookmark.positions) {
      const feed = this.#feeds.get(`${position.hubId}/${position.share}`);
      if (feed !== undefined) feed.position = positionFromProto(position);
    }
    this.#ready.resolve();
    this.#o.onLink?.(undefined);
    this.#o.onBookmark?.(this.#hubs);
  }

  #reset(position: FeedPosition): void {
    const name = `${position.hubId}/${position.share}`;
    const fresh: MirrorFeed = { hubId: position.hubId, share: position.share, table: new FeedTable(), position, complete: false };
    if (this.#feeds.has(name)) this.#staged.set(name, fresh);
    else this.#feeds.set(name, fresh);
  }

  #gone(position: FeedPosition): void {
    const name = `${position.hubId}/${position.share}`;
    const feed = this.#feeds.get(name);
    this.#feeds.delete(name);
    this.#staged.delete(name);
    if (feed !== undefined) this.#o.onReplaced?.(feed, true);
  }

  #blocks(blocks: WatchBlocks): void {
    if (blocks.position === undefined) return;
    const name = `${blocks.position.hubId}/${blocks.position.share}`;
    if (!this.#feeds.has(name)) this.#reset(positionFromProto(blocks.position));
    const staged = this.#staged.get(name);
    const feed = staged ?? (this.#feeds.get(name) as MirrorFeed);
    const decoded = segmentCodec.decodePayload(blocks.payload);
    if (decoded === undefined) throw new FoedusError({ reason: "SEGMENT_INVALID", message: "the hub sent blocks that cannot be read" });
    const silent = staged !== undefined || (blocks.snapshot && !feed.complete);
    for (const block of decoded) this.#apply(feed, block, silent);
    feed.position = positionFromProto(blocks.position);
    if (!blocks.snapshot || blocks.last) this.#completed(name, feed, staged !== undefined);
  }

  #completed(name: string, feed: MirrorFeed, staged: boolean): void {
    if (feed.complete) return;
    feed.complete = true;
    if (staged) {
      this.#staged.delete(name);
      this.#feeds.set(name, feed);
    }
    this.#o.onReplaced?.(feed, false);
  }

  #apply(feed: MirrorFeed, block: Block, silent: boolean): void {
    const { table } = feed;
    switch (block.kind) {
      case "state":
        return this.#state(feed, block.batch, silent);
      case "key_def":
        return table.defineKey(block.kref, block.name, block.type);
      case "node_put": {
        const info = segmentCodec.readNode(block.node);
        if (info === undefined) return;
        const entry = table.put(block.ref, block.node, info, block.online);
        if (!silent) this.#o.onNode?.(feed, entry);
        return;
      }
      case "node_del": {
        const entry = table.node(block.ref);
        if (entry === undefined) return;
        table.remove(block.ref, 0);
        table.forgetDead(1);
        if (!silent) this.#o.onRemoved?.(feed, entry.info.nodeId);
        return;
      }
      case "presence":
        for (const [refs, online] of [
          [block.online, true],
          [block.offline, false],
        ] as const) {
          for (const ref of refs) {
            const entry = table.node(ref);
            if (entry === undefined) continue;
            table.setOnline(ref, online);
            if (!silent) this.#o.onNode?.(feed, entry);
          }
        }
        return;
      default:
        return;
    }
  }

  #state(feed: MirrorFeed, batch: UpdateBatch, silent: boolean): void {
    if (batch.count > this.#slots.length) this.#slots = new Uint32Array(batch.count * 2);
    const slots = this.#slots;
    const { ref, key, count } = batch;
    const index = feed.table.slots;
    for (let i = 0; i < count; i++) slots[i] = index.find(ref[i] as number, key[i] as number);
    feed.table.apply(batch, slots, 0);
    if (!silent) this.#o.onBatch?.(feed, batch, slots);
  }
}

export { NO_SLOT };
