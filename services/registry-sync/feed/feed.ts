import type { StoreOp } from "#kernel/core.ts";
import type { HlcReading } from "#kernel/crdt/hlc.ts";
import { beatOf } from "#kernel/instant.ts";
import { Ring } from "#kernel/ring.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { utf8 } from "../codec/wire.ts";
import type { FeedPosition } from "../messages.ts";
import { type Block, EPOCH_REASON, type EpochReason, type StoreReader, type UpdateBatch } from "../ports.ts";
import { filterBatch, type NodeView, type ShareView } from "../share/share.ts";
import { COST } from "../table/cost.ts";
import { columnsOf, imageOf, valuesWithin } from "../table/scan.ts";
import type { FeedTable, KeyEntry, NodeEntry } from "../table/table.ts";
import { putMeta, type World } from "../world.ts";
import { BLOCK_OVERHEAD, Payload, readSegment, type SegmentItem, sealSegment, ZERO_DIGEST } from "./segment.ts";

/** Change is one block of the open segment, for the feeds that show less than everything. */
export type Change =
  | { readonly kind: "key_def"; readonly key: KeyEntry }
  | { readonly kind: "node_put"; readonly entry: NodeEntry }
  | { readonly kind: "node_del"; readonly ref: number }
  | { readonly kind: "presence"; readonly online: readonly number[]; readonly offline: readonly number[] }
  | { readonly kind: "state"; readonly batch: UpdateBatch };

/** FeedMeta is kept of each own feed. */
export interface FeedMeta {
  readonly epoch: number;
  /** The rules under which the feed was written, as JSON: other rules need a new epoch after a restart. */
  readonly rules: string;
  readonly active: boolean;
}

/**
 * GUARD stands before the first segment of an epoch of `full` that renumbers, until a checkpoint covers it. Versions that do not know how
 * to renumber would read what follows under the numbers of before; this they cannot read, and do not start.
 */
const GUARD = utf8("renumbered");

/** Bytes of a block of values that are shown anew (a node that was hidden). */
const REPEAT_BYTES = 64 * 1024;

/**
 * OwnFeed is one feed of this hub: a hash chain of segments, each durable before it leaves.
 *
 * FE1 seq rises by one within an epoch; the epoch only rises; the first entry of an epoch is its EPOCH_OPEN.
 * FE2 an epoch starts with what the feed showed at the end of the one before: who did not hold exactly that takes a snapshot.
 * FE3 a ref, and a key number, mean the same in all feeds of the hub, and nothing else until all of them open an epoch together.
 */
export class OwnFeed {
  readonly #world: World;
  readonly view: ShareView;
  readonly ring: Ring<SegmentItem>;
  epoch = 0;
  seq = 0;
  digest: Uint8Array = ZERO_DIGEST;
  hlc: HlcReading = { wallMs: 0, logical: 0 };
  /** Entries written since start. */
  entries = 0;
  /** Segments over all epochs since start: marks names of removed nodes. */
  ordinal = 0;
  /** Oldest position in the log of this epoch. */
  #logFirst = 1;
  /** Epochs whose logs are still there, without the current one. */
  #oldEpochs: number[] = [];

  constructor(world: World, view: ShareView) {
    this.#world = world;
    this.view = view;
    this.ring = new Ring<SegmentItem>(world.o.ringSegments, world.o.ringBytes, 1);
  }

  get share(): string {
    return this.view.name;
  }

  get head(): FeedPosition {
    return { hubId: this.#world.o.hubId, share: this.share, epoch: this.epoch, seq: this.seq, digest: this.digest };
  }

  /** append seals a payload as the next segment and persists it. So many nodes were removed in it, whose names are kept with it. */
  append(payload: Payload, hlc: HlcReading, removed = 0): SegmentItem {
    const world = this.#world;
    const { hubId, codec, crypto } = world.o;
    const place = {
      hubId,
      share: this.share,
      epoch: this.epoch,
      seq: this.seq + 1,
      prev: this.digest,
      hlc,
      beat: beatOf(world.now),
      keySerial: world.keySerial,
    };
    const item = sealSegment(codec, crypto, place, payload);
    this.#take(item, removed);
    this.entries += payload.count;
    world.persist([{ op: "append", log: this.#log(this.epoch), seq: this.seq, bytes: item.segment }]);
    world.event("segment_closed", "DEBUG", "segment closed", { share: this.share, count: payload.count, bytes: item.byteLength });
    world.emit({ kind: "advanced", hub: hubId, share: this.share, epoch: this.epoch, seq: this.seq });
    return item;
  }

  /** openEpoch starts an epoch, higher than `above` and than the current one. */
  openEpoch(reason: EpochReason, above: number, hlc: HlcReading): void {
    const before = { epoch: this.epoch, seq: this.seq };
    if (this.epoch > 0) this.#oldEpochs.push(this.epoch);
    this.epoch = Math.max(this.epoch, above) + 1;
    this.seq = 0;
    this.digest = ZERO_DIGEST;
    this.ring.reset(1);
    this.#logFirst = 1;
    const ops: StoreOp[] = [this.metaOp(true)];
    if (reason === EPOCH_REASON.RENUMBERED && this.share === "full") {
      ops.push({ op: "append", log: this.#log(this.epoch), seq: 0, bytes: GUARD });
      this.#logFirst = 0;
    }
    this.#world.persist(ops);
    const payload = new Payload();
    payload.block(this.#world.o.codec.encodeBlock({ kind: "epoch_open", reason, continuesEpoch: before.epoch, continuesSeq: before.seq }));
    this.append(payload, hlc);
    const fields = { reason: String(reason), epoch: String(this.epoch) };
    this.#world.event("feed", reason === EPOCH_REASON.CREATED ? "INFO" : "WARNING", "feed opened an epoch", { share: this.share, fields });
  }

  metaOp(active: boolean): StoreOp {
    const meta: FeedMeta = { epoch: this.epoch, rules: JSON.stringify(this.view.rules ?? null), active };
    return putMeta(`feed/${this.share}`, meta);
  }

  /** trim drops what `covered` (a durable checkpoint; undefined: needs none) allows, but keeps the tail. */
  trim(covered: { readonly epoch: number; readonly seq: number } | undefined, ops: StoreOp[]): void {
    if (covered === undefined || covered.epoch === this.epoch) {
      for (const epoch of this.#oldEpochs) ops.push({ op: "drop", log: this.#log(epoch) });
      this.#oldEpochs = [];
      const below = Math.max(1, Math.min(covered === undefined ? this.seq : covered.seq + 1, this.seq + 1 - this.#world.o.tailSegments));
      if (below > this.#logFirst) {
        ops.push({ op: "trim", log: this.#log(this.epoch), below });
        this.#logFirst = below;
      }
    } else {
      for (const epoch of this.#oldEpochs) if (epoch < covered.epoch) ops.push({ op: "drop", log: this.#log(epoch) });
      this.#oldEpochs = this.#oldEpochs.filter((epoch) => epoch >= covered.epoch);
    }
  }

  /** logLength is how many segments the log of this epoch holds. */
  get logLength(): number {
    return this.seq + 1 - this.#logFirst;
  }

  /** drop removes the feed's logs and keeps its epoch, so that a later activation opens a higher one. */
  drop(ops: StoreOp[]): void {
    for (const epoch of [...this.#oldEpochs, this.epoch]) ops.push({ op: "drop", log: this.#log(epoch) });
    this.#oldEpochs = [];
    ops.push(this.metaOp(false));
  }

  /** restore reads the chain back and shows each segment, oldest first. */
  restore(reader: StoreReader, each: (item: SegmentItem) => void): void {
    const prefix = `own/${this.share}/`;
    const epochs = reader
      .logs()
      .filter((log) => log.startsWith(prefix))
      .map((log) => Number(log.slice(prefix.length)));
    for (const epoch of epochs.sort((a, b) => a - b)) {
      if (this.epoch > 0 && this.epoch !== epoch) this.#oldEpochs.push(this.epoch);
      let first = true;
      let guarded = false;
      for (const blob of reader.read(this.#log(epoch), 0)) {
        if (blob.seq === 0) {
          guarded = true;
          continue;
        }
        const item = readSegment(this.#world.o.codec, this.#world.o.crypto, blob.bytes);
        if (item === undefined || item.header.seq !== blob.seq || item.header.epoch !== epoch)
          throw new StoredError(`own/${this.share}/${epoch}/${blob.seq}`, "cannot be read");
        if (!first && blob.seq !== this.seq + 1) throw new StoredError(`own/${this.share}/${epoch}/${this.seq + 1}`, "is missing");
        if (first) {
          this.ring.reset(blob.seq);
          this.#logFirst = guarded ? 0 : blob.seq;
          this.epoch = epoch;
          first = false;
        }
        this.#take(item, 0);
        each(item);
      }
    }
  }

  #take(item: SegmentItem, removed: number): void {
    this.seq = item.header.seq;
    this.epoch = item.header.epoch;
    this.digest = item.digest;
    this.hlc = item.header.hlc;
    this.ordinal++;
    this.ring.push(this.seq, item, item.byteLength + COST.segment + COST.removed * removed);
  }

  #log(epoch: number): string {
    return ownLog(this.share, epoch);
  }
}

/** ownLog is the log of an own feed's epoch. */
export function ownLog(share: string, epoch: number): string {
  return `own/${share}/${epoch}`;
}

/** FeedWriter writes blocks into as many segments of a feed as it takes, so that each can be sent (OS1). */
export class FeedWriter {
  readonly #world: World;
  readonly #feed: OwnFeed;
  readonly #hlc: () => HlcReading;
  #payload = new Payload();

  constructor(world: World, feed: OwnFeed, hlc: () => HlcReading) {
    this.#world = world;
    this.#feed = feed;
    this.#hlc = hlc;
  }

  block(block: Exclude<Block, { kind: "state" | "unknown" }>, count = 1): void {
    const bytes = this.#world.o.codec.encodeBlock(block);
    const { segmentNodeBytes, segmentPayloadBytes } = this.#world.o.limits;
    this.#room(count, bytes.length, block.kind === "node_put" ? segmentNodeBytes : segmentPayloadBytes).block(bytes, count);
  }

  /** state writes an encoded StateBlock, verbatim. */
  state(bytes: Uint8Array, count: number): void {
    this.#room(count, bytes.length, this.#world.o.limits.segmentPayloadBytes).state(bytes, count);
  }

  /** end seals what was written last. */
  end(): void {
    if (!this.#payload.empty) this.#feed.append(this.#payload, this.#hlc());
    this.#payload = new Payload();
  }

  #room(count: number, bytes: number, mostBytes: number): Payload {
    const { segmentUpdates, segmentBlocks } = this.#world.o.limits;
    const { length, blocks, count: written } = this.#payload;
    if (written + count > segmentUpdates || blocks >= segmentBlocks || length + bytes + BLOCK_OVERHEAD > mostBytes) this.end();
    return this.#payload;
  }
}

/** showNode writes what a share's feed must say because a node is now seen as `view`. */
export function showNode(
  world: World,
  table: FeedTable,
  share: ShareView,
  entry: NodeEntry,
  view: NodeView | undefined,
  writer: FeedWriter,
): void {
  const { ref } = entry;
  const before = share.shown(ref);
  share.note(ref, view);
  if (view === undefined) {
    if (before !== undefined) writer.block({ kind: "node_del", ref });
    return;
  }
  for (const kref of view.krefs) {
    const key = table.key(kref) as KeyEntry;
    if (share.defines(kref)) writer.block({ kind: "key_def", kref, name: key.name, type: key.type });
  }
  writer.block({ kind: "node_put", ref, node: view.bytes, online: table.node(ref)?.online ?? entry.online });
  // Values that were there before but not seen.
  const seen = new Set(before);
  const fresh = view.krefs.filter((kref) => !seen.has(kref));
  const image = imageOf(table, entry, { bytes: view.bytes, krefs: fresh });
  for (const values of valuesWithin(image.values, REPEAT_BYTES)) {
    const columns = columnsOf([{ image, put: false, values }]);
    writer.state(world.o.codec.encodeState(columns), columns.count);
  }
}

/** shareChanges writes the part of the open segment's changes that a share shows. */
export function shareChanges(world: World, table: FeedTable, share: ShareView, changes: readonly Change[], writer: FeedWriter): void {
  const { codec } = world.o;
  for (const change of changes) {
    switch (change.kind) {
      case "key_def":
        break;
      case "node_put": {
        const view = share.viewOf(table, change.entry);
        showNode(world, table, share, change.entry, view, writer);
        break;
      }
      case "node_del":
        if (share.shows(change.ref)) writer.block({ kind: "node_del", ref: change.ref });
        share.note(change.ref, undefined);
        break;
      case "presence": {
        const online = change.online.filter((ref) => share.shows(ref));
        const offline = change.offline.filter((ref) => share.shows(ref));
        if (online.length + offline.length > 0) writer.block({ kind: "presence", online, offline }, online.length + offline.length);
        break;
      }
      case "state": {
        const { batch } = change;
        if (share.showsAll(batch)) writer.state(batch.bytes, batch.count);
        else {
          const rest = filterBatch(batch, (ref, key) => share.showsKey(ref, key));
          if (rest !== undefined) writer.state(codec.encodeState(rest.columns), rest.count);
        }
        break;
      }
    }
  }
}

/** changeRules writes the difference that new rules make in a share's feed. */
export function changeRules(world: World, table: FeedTable, feed: OwnFeed, rules: ShareView["rules"], hlc: () => HlcReading): void {
  const share = feed.view;
  const writer = new FeedWriter(world, feed, hlc);
  for (const entry of table.entries()) {
    const before = share.shows(entry.ref) ? share.outcome(entry) : undefined;
    const old = share.rules;
    share.rules = rules;
    // What is seen of it is encoded only if that changes.
    if (before !== share.outcome(entry)) showNode(world, table, share, entry, share.viewOf(table, entry), writer);
    share.rules = old;
  }
  share.rules = rules;
  writer.end();
}
