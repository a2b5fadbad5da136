import { create } from "@bufbuild/protobuf";
import type { ClientOf, StreamOpenInit } from "#channel/call.ts";
import { type Clock, systemClock } from "#channel/clock.ts";
import { Freshness as ProtoFreshness } from "#gen/foedus/common/v1/value_pb.ts";
import {
  type Bookmark,
  type RegistrySyncService,
  type WatchBlocks,
  WatchEncoding,
  WatchRequestSchema,
  type WatchResponse,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { BackoffConfig } from "#kernel/backoff.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { type Failure, FoedusError, fail, type Reason } from "#kernel/error.ts";
import type { Freshness } from "#kernel/freshness.ts";
import { type NodeResolution, resolveNode } from "#kernel/node-name.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import { positionFromProto, positionToProto } from "../../services/registry-sync/codec/position.ts";
import { segmentCodec } from "../../services/registry-sync/codec/segment-codec.ts";
import type { FeedPosition, StateValue } from "../../services/registry-sync/messages.ts";
import type { Block, UpdateBatch } from "../../services/registry-sync/ports.ts";
import { mostlyNodes, unknownType } from "../../services/registry-sync/table/blocks.ts";
import { NO_SLOT } from "../../services/registry-sync/table/slots.ts";
import { FeedTable, type NodeEntry, SECTION } from "../../services/registry-sync/table/table.ts";
import { callProgram, KeptStream, type OnError, type Streamable } from "./kept-stream.ts";

/** MirrorFeed is one feed as the mirror holds it. `table` is replaced when the feed is sent anew. */
export interface MirrorFeed {
  readonly hubId: string;
  readonly share: string;
  table: FeedTable;
  position: FeedPosition;
  /** False while the first copy of it is still on its way. */
  complete: boolean;
}

/** MirrorOptions say what is mirrored and who is told. Callbacks see the state after the change. */
export interface MirrorOptions {
  readonly clock?: Clock;
  readonly hubIds?: readonly string[];
  /** True leaves out the state. */
  readonly nodesOnly?: boolean;
  readonly seed?: number;
  readonly backoff?: BackoffConfig;
  /** A batch of state changes was applied; those with `slots[i]` = NO_SLOT were not. Valid during the call only. */
  readonly onBatch?: (feed: MirrorFeed, batch: UpdateBatch, slots: Uint32Array) => void;
  readonly onNode?: (feed: MirrorFeed, entry: NodeEntry) => void;
  readonly onRemoved?: (feed: MirrorFeed, nodeId: string) => void;
  /** Everything of a feed was replaced by a new copy, or (feed gone) dropped. */
  readonly onReplaced?: (feed: MirrorFeed, gone: boolean) => void;
  readonly onBookmark?: (hubs: readonly MirrorHub[]) => void;
  /** Told when the watch is up (undefined) or was cut, and why; it is opened again by itself. */
  readonly onLink?: (failure: Failure | undefined) => void;
  /** Told what a callback threw. */
  readonly onError?: OnError;
}

/** MirrorHub is how current a hub's part was when the mirror last heard. */
export interface MirrorHub {
  readonly hubId: string;
  readonly freshness: Freshness;
  readonly ageMs: number;
  readonly nodes: number;
}

type Client = ClientOf<typeof RegistrySyncService>;

/** A mirror gives up for nothing that the hub says: what it holds is worth more the longer the hub is away. */
const NEVER: ReadonlySet<Reason> = new Set();
/** START_OVER are reasons that put positions at fault, or what came and was perhaps applied in part: nothing of what is held can be resumed from. */
export const START_OVER: ReadonlySet<Reason> = new Set<Reason>(["POSITION_EXPIRED", "SEGMENT_INVALID", "INTERNAL"]);
/** Feeds that are held: more than a hub has peers. */
const FEEDS_MAX = 4_096;
const FRESHNESS: Readonly<Record<number, Freshness>> = { [ProtoFreshness.FRESH]: "FRESH", [ProtoFreshness.STALE]: "STALE" };

/** numbersOf views the BOOL and DOUBLE values of a batch as doubles. */
export function numbersOf(batch: UpdateBatch): Float64Array {
  return new Float64Array(batch.bits.buffer as ArrayBuffer, batch.bits.byteOffset, batch.numCount);
}

/**
 * Mirror holds a copy of the registry, kept current by one Watch in blocks: no object per update, values in flat arrays.
 * After a cut it resumes where it was, or takes what the hub sends anew.
 *
 * MI1 what is read is what the hub had at the feed's `position`; while a feed is sent anew, the copy before it is kept.
 * MI2 a feed that the hub no longer has is dropped.
 * MI3 no number that the hub sends asks for memory: they are bounded as where a hub takes a feed in.
 */
export class Mirror {
  readonly #client: Client;
  readonly #o: MirrorOptions;
  readonly #clock: Clock;
  readonly #feeds = new Map<string, MirrorFeed>();
  /** Copies that are not complete yet, in place of those in `#feeds`. */
  readonly #staged = new Map<string, MirrorFeed>();
  readonly #kept: KeptStream<Streamable<WatchResponse>, WatchResponse>;
  #hubs: readonly MirrorHub[] = [];
  #hubsAt = 0;
  #slots = new Uint32Array(4_096);
  /** False: watches give no positions, so that everything is sent anew, until all of it has come. */
  #resumes = true;
  #ready = Promise.withResolvers<void>();
  #closed = false;

  constructor(client: Client, options: MirrorOptions = {}) {
    this.#client = client;
    this.#o = options;
    this.#clock = options.clock ?? systemClock;
    this.#kept = new KeptStream({
      clock: this.#clock,
      backoff: options.backoff,
      seed: options.seed,
      open: (number) => this.#watch(number),
      onMessage: (message) => this.#onMessage(message),
      onCut: (failure, final) => this.#onCut(failure, final),
      onReady: () => this.#kept.open(),
      final: NEVER,
      onError: options.onError,
    });
    this.#ready.promise.catch(() => undefined);
    this.#kept.open();
  }

  /** ready resolves when everything that the hub had is here; of `hubIds` that it does not know, that is nothing. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** feeds are those held, complete or not. */
  feeds(): IterableIterator<MirrorFeed> {
    return this.#feeds.values();
  }

  /** hubs is how current each hub's part is; ages count on since the last bookmark, but for that of the hub itself, which is always 0. */
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

  /** whenOver calls a listener when it is closed, or will not be opened again; at once if that is so. */
  whenOver(listener: () => void): void {
    this.#kept.whenOver(listener);
  }

  close(): void {
    this.#closed = true;
    this.#kept.close();
    this.#ready.reject(new FoedusError({ reason: "CANCELLED", message: "the mirror was closed" }));
  }

  /** closed: nothing is told any more. */
  get closed(): boolean {
    return this.#closed;
  }

  /** tell calls a callback of the program, unless one before has closed the mirror. */
  #tell<A extends readonly unknown[]>(callback: ((...args: A) => unknown) | undefined, ...args: A): void {
    if (!this.#closed) callProgram(this.#o.onError, callback, ...args);
  }

  #watch(number: StreamOpenInit): Streamable<WatchResponse> {
    const held = this.#resumes ? [...this.#feeds.values()] : [];
    const resume = held.filter((feed) => feed.complete).map((feed) => positionToProto(feed.position));
    const { hubIds = [], nodesOnly = false } = this.#o;
    const filter = { hubIds: [...hubIds] };
    const request = create(WatchRequestSchema, { filter, encoding: WatchEncoding.BLOCKS, nodesOnly, resume, stream: number });
    const abort = new AbortController();
    return { responses: this.#client.watch(request, { signal: abort.signal }), cancel: () => abort.abort() };
  }

  #onMessage(response: WatchResponse): Promise<void> | undefined {
    this.#take(response);
    // A snapshot comes as fast as it can be read, in this process without a turn of the event loop in between: others must get theirs.
    return response.push.case === "blocks" && response.push.value.snapshot ? this.#turn() : undefined;
  }

  #onCut(failure: Failure, final: boolean): void {
    this.#staged.clear();
    for (const [name, feed] of this.#feeds) if (!feed.complete) this.#feeds.delete(name);
    if (START_OVER.has(failure.reason)) this.#resumes = false;
    this.#tell(this.#o.onLink, failure);
    if (final) this.#ready.reject(new FoedusError(failure));
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
    // A hub that went while the watch was cut is not mentioned any more.
    const known = new Set(bookmark.hubs.map(({ hubId }) => hubId));
    this.#drop(({ hubId }) => !known.has(hubId));
    this.#resumes = true;
    this.#kept.worked();
    this.#ready.resolve();
    this.#tell(this.#o.onLink, undefined);
    this.#tell(this.#o.onBookmark, this.#hubs);
  }

  #reset(position: FeedPosition): void {
    const name = `${position.hubId}/${position.share}`;
    const fresh: MirrorFeed = {
      hubId: position.hubId,
      share: position.share,
      table: new FeedTable(this.#o.nodesOnly),
      position,
      complete: false,
    };
    if (this.#feeds.has(name)) this.#staged.set(name, fresh);
    else if (this.#feeds.size < FEEDS_MAX) this.#feeds.set(name, fresh);
    else throw fail("SEGMENT_INVALID", "the hub sent more feeds than a hub has");
  }

  #gone(position: FeedPosition): void {
    const name = `${position.hubId}/${position.share}`;
    const feed = this.#feeds.get(name);
    this.#feeds.delete(name);
    this.#staged.delete(name);
    if (feed?.complete === true) this.#tell(this.#o.onReplaced, feed, true);
  }

  #drop(which: (feed: MirrorFeed) => boolean): void {
    for (const feed of [...this.#feeds.values()]) if (which(feed)) this.#gone(feed.position);
  }

  #blocks(blocks: WatchBlocks): void {
    if (blocks.position === undefined) return;
    const name = `${blocks.position.hubId}/${blocks.position.share}`;
    if (!this.#feeds.has(name)) this.#reset(positionFromProto(blocks.position));
    const staged = this.#staged.get(name);
    const feed = staged ?? (this.#feeds.get(name) as MirrorFeed);
    const decoded = segmentCodec.decodePayload(blocks.payload);
    if (decoded === undefined) throw new FoedusError({ reason: "SEGMENT_INVALID", message: "the hub sent blocks that cannot be read" });
    const later = decoded.find((block) => block.kind === "key_def" && SECTION[block.type] === undefined);
    if (later?.kind === "key_def") throw new FoedusError(unknownType(later.name, later.type));
    if (decoded.some(isOutOfRange)) throw fail("SEGMENT_INVALID", "the hub sent a node or a key with a number that is none");
    const silent = staged !== undefined || (blocks.snapshot && !feed.complete);
    const whole = mostlyNodes(decoded, blocks.payload.length);
    for (const block of decoded) this.#apply(feed, block, silent, whole);
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
    // Of each hub there is one feed; one of another share was in its place before.
    this.#drop((other) => other !== feed && other.hubId === feed.hubId);
    this.#tell(this.#o.onReplaced, feed, false);
  }

  #apply(feed: MirrorFeed, block: Block, silent: boolean, whole: boolean): void {
    const { table } = feed;
    switch (block.kind) {
      case "state":
        return this.#o.nodesOnly === true ? undefined : this.#state(feed, block.batch, silent);
      case "key_def":
        return table.defineKey(block.kref, block.name, block.type);
      case "node_put": {
        const info = segmentCodec.readNode(block.node);
        if (info === undefined) return;
        const entry = table.put(block.ref, whole ? block.node : copyOf(block.node), info, block.online);
        if (!silent) this.#tell(this.#o.onNode, feed, entry);
        return;
      }
      case "node_del": {
        const entry = table.node(block.ref);
        if (entry === undefined) return;
        table.remove(block.ref, 0);
        table.forgetDead(1);
        if (!silent) this.#tell(this.#o.onRemoved, feed, entry.info.nodeId);
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
            if (!silent) this.#tell(this.#o.onNode, feed, entry);
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
    if (!silent) this.#tell(this.#o.onBatch, feed, batch, slots);
  }
}

/** isOutOfRange tells blocks whose number is none of a node or key: tables are as long as the greatest one (MI3). */
function isOutOfRange(block: Block): boolean {
  if (block.kind === "key_def") return block.kref >= LIMITS.keysPerFeed;
  return block.kind === "node_put" && (block.ref < 1 || block.ref > LIMITS.refsPerFeed);
}

export { NO_SLOT };
