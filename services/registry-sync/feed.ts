import type { StoreOp } from "#kernel/core.ts";
import type { HlcReading } from "#kernel/hlc.ts";
import { beatOf } from "#kernel/instant.ts";
import { Ring } from "#kernel/ring.ts";
import type { FeedPosition } from "./messages.ts";
import { EPOCH_REASON, type EpochReason, type StoreReader, type UpdateBatch } from "./ports.ts";
import { imageOf, putImages } from "./scan.ts";
import { Payload, readSegment, type SegmentItem, sealSegment, ZERO_DIGEST } from "./segment.ts";
import { filterBatch, type NodeView, type ShareView, sameView } from "./share.ts";
import type { FeedTable, KeyEntry, NodeEntry } from "./table.ts";
import { putMeta, type World } from "./world.ts";

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

/** Most payload bytes of a segment that repeats state (a change of rules). */
const REPEAT_BYTES = 200 * 1024;

/**
 * OwnFeed is one feed of this hub: a hash chain of segments, each durable before it leaves.
 *
 * F1 seq rises by one within an epoch; the epoch only rises; the first entry of an epoch is its EPOCH_OPEN.
 * F2 an epoch starts with what the feed showed at the end of the one before: who did not hold exactly that takes a snapshot.
 * F3 a ref, and a key number, mean the same in all feeds of the hub; a ref never means another node.
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

  /** append seals a payload as the next segment and persists it. */
  append(payload: Payload, hlc: HlcReading): SegmentItem {
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
    this.#take(item);
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
    this.#world.persist([this.metaOp(true)]);
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
      const below = Math.min(covered === undefined ? this.seq : covered.seq + 1, this.seq + 1 - this.#world.o.tailSegments);
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
      for (const blob of reader.read(this.#log(epoch), 0)) {
        const item = readSegment(this.#world.o.codec, this.#world.o.crypto, blob.bytes);
        if (item === undefined || item.header.seq !== blob.seq || item.header.epoch !== epoch)
          throw new Error(`own segment ${this.share}/${epoch}/${blob.seq} cannot be read`);
        if (first) {
          this.ring.reset(blob.seq);
          this.#logFirst = blob.seq;
          this.epoch = epoch;
          first = false;
        }
        this.#take(item);
        each(item);
      }
    }
  }

  /** repeat writes payload blocks in as many segments as it takes. */
  writer(hlc: () => HlcReading): { readonly payload: () => Payload; readonly end: () => void } {
    let payload = new Payload();
    const flush = (): void => {
      if (!payload.empty) this.append(payload, hlc());
      payload = new Payload();
    };
    return {
      payload: () => {
        if (payload.length > REPEAT_BYTES) flush();
        return payload;
      },
      end: flush,
    };
  }

  #take(item: SegmentItem): void {
    this.seq = item.header.seq;
    this.epoch = item.header.epoch;
    this.digest = item.digest;
    this.hlc = item.header.hlc;
    this.ordinal++;
    this.ring.push(this.seq, item);
  }

  #log(epoch: number): string {
    return `own/${this.share}/${epoch}`;
  }
}

/** showNode writes what a share's feed must say because a node is now seen as `view`. */
export function showNode(
  world: World,
  table: FeedTable,
  share: ShareView,
  entry: NodeEntry,
  view: NodeView | undefined,
  payload: Payload,
): void {
  const { codec } = world.o;
  const { ref } = entry;
  const before = share.shown(ref);
  share.note(ref, view);
  if (view === undefined) {
    if (before !== undefined) payload.block(codec.encodeBlock({ kind: "node_del", ref }));
    return;
  }
  for (const kref of view.krefs) {
    const key = table.key(kref) as KeyEntry;
    if (share.defines(kref)) payload.block(codec.encodeBlock({ kind: "key_def", kref, name: key.name, type: key.type }));
  }
  payload.block(codec.encodeBlock({ kind: "node_put", ref, node: view.bytes, online: table.node(ref)?.online ?? entry.online }));
  // Values that were there before but not seen.
  const seen = new Set(before);
  const fresh = view.krefs.filter((kref) => !seen.has(kref));
  const image = imageOf(table, entry, { bytes: view.bytes, krefs: fresh });
  if (image.values.length > 0) putImages(codec, payload, [image], false);
}

/** shareChanges writes the part of the open segment's changes that a share shows. */
export function shareChanges(world: World, table: FeedTable, share: ShareView, changes: readonly Change[], payload: Payload): void {
  const { codec } = world.o;
  for (const change of changes) {
    switch (change.kind) {
      case "key_def":
        break;
      case "node_put": {
        const view = share.viewOf(table, change.entry);
        showNode(world, table, share, change.entry, view, payload);
        break;
      }
      case "node_del":
        if (share.shows(change.ref)) payload.block(codec.encodeBlock({ kind: "node_del", ref: change.ref }));
        share.note(change.ref, undefined);
        break;
      case "presence": {
        const online = change.online.filter((ref) => share.shows(ref));
        const offline = change.offline.filter((ref) => share.shows(ref));
        if (online.length + offline.length > 0)
          payload.block(codec.encodeBlock({ kind: "presence", online, offline }), online.length + offline.length);
        break;
      }
      case "state": {
        const { batch } = change;
        if (share.showsAll(batch)) payload.state(batch.bytes, batch.count);
        else {
          const rest = filterBatch(batch, (ref, key) => share.showsKey(ref, key));
          if (rest !== undefined) payload.state(codec.encodeState(rest.columns), rest.count);
        }
        break;
      }
    }
  }
}

/** changeRules writes the difference that new rules make in a share's feed. */
export function changeRules(world: World, table: FeedTable, feed: OwnFeed, rules: ShareView["rules"], hlc: () => HlcReading): void {
  const share = feed.view;
  const writer = feed.writer(hlc);
  for (const entry of table.entries()) {
    const before = share.shows(entry.ref) ? share.viewOf(table, entry) : undefined;
    const old = share.rules;
    share.rules = rules;
    const view = share.viewOf(table, entry);
    if (!sameView(before, view)) showNode(world, table, share, entry, view, writer.payload());
    share.rules = old;
  }
  share.rules = rules;
  writer.end();
}
