import type { StoreOp } from "#kernel/core.ts";
import { validHlc } from "#kernel/crdt/hlc.ts";
import { type Freshness, freshnessOf } from "#kernel/freshness.ts";
import { Ring } from "#kernel/ring.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { EMPTY, fromHex } from "../codec/wire.ts";
import { Payload, readSegment, type SegmentItem, signedHeader, ZERO_DIGEST } from "../feed/segment.ts";
import type { FeedPosition, FeedProof } from "../messages.ts";
import type { Block, HlcValue, StoreReader } from "../ports.ts";
import { Checkpointer, type CheckpointPlace, rulesDigest, Unreadable } from "../table/checkpoint.ts";
import { COST } from "../table/cost.ts";
import { readMeta } from "../table/stored-records.ts";
import { FeedTable } from "../table/table.ts";
import { failure, putMeta, type World } from "../world.ts";
import type { Applied, Applier, Skipped } from "./apply.ts";
import { Refetch } from "./refetch.ts";

/** PROOFS is the space of the store with the signed manifest of the snapshot that each peer's feed was last replaced by. */
export const PROOFS = "proofs";

/** FROZEN is why nothing of a feed is taken that forked. */
export const FROZEN = failure("FEED_FORK", "the feed is frozen until its owner opens a new epoch");

/** Frozen is kept of a feed that forked: until which epoch nothing is taken of that share. */
interface Frozen {
  readonly share: string;
  readonly epoch: number;
}

/** PeerKey is a verified key of a peer. */
export interface PeerKey {
  readonly key: Uint8Array;
  readonly serial: number;
  readonly notAfterWall: number;
}

/** storedHubs are the hubs of which the store has a feed, a snapshot that was coming in, or that their feed forked. */
export function storedHubs(reader: StoreReader): ReadonlySet<string> {
  const hubs = new Set<string>();
  for (const { key } of reader.space("meta")) {
    if (key.startsWith("table/") && key !== "table/.own") hubs.add(key.slice(6));
    if (key.startsWith("stage/")) hubs.add(key.slice(6));
    if (key.startsWith("frozen/")) hubs.add(key.slice(7));
  }
  return hubs;
}

/** Positions of an epoch: so many a store has, and what is signed names none beyond (PROTOCOL V1). */
const POSITIONS = 2 ** 40;
const UNHEARD = { epoch: 0, seq: 0, at: Number.NEGATIVE_INFINITY };

/**
 * ImportFeed is what this hub holds of one peer's feed.
 *
 * IF1 the table is exactly what the owner's segments up to `position` say, less what import rules keep out.
 * IF2 a segment is applied once; what was applied is in the store, verbatim, before it is acknowledged.
 * IF3 after a restart it is there as it was, and its age is unknown, which is not the same as empty (D-7).
 */
export class ImportFeed {
  readonly #world: World;
  readonly hubId: string;
  readonly ring: Ring<SegmentItem>;
  readonly checkpoint: Checkpointer;
  table = new FeedTable();
  skipped: Skipped = new Map();
  readonly refetch = new Refetch();
  share = "";
  epoch = 0;
  seq = 0;
  digest: Uint8Array = ZERO_DIGEST;
  hlc: HlcValue = { wallMs: 0, logical: 0 };
  /** As of when what is held was complete (mono), as far as that is proven. */
  #provenAt: number | undefined;
  /** Newest head that the owner spoke of, and when it said so (mono). */
  #heard = UNHEARD;
  /** What forked, and until which epoch nothing of it is taken: also when what was held of it cannot be used any more. */
  forked: Frozen | undefined;
  entries = 0;
  dropped = 0;
  ordinal = 0;
  /** Rises when the table is replaced: readers must start anew. */
  generation = 0;
  #logFirst = 1;
  /** The snapshot that the feed was last replaced by. */
  #manifest: { readonly epoch: number; readonly seq: number; readonly signed: Uint8Array } = { epoch: 0, seq: 0, signed: EMPTY };
  /** snapshotDigest names that snapshot. */
  snapshotDigest: Uint8Array = ZERO_DIGEST;

  constructor(world: World, hubId: string) {
    this.#world = world;
    this.hubId = hubId;
    this.ring = new Ring<SegmentItem>(world.o.ringSegments, world.o.ringBytes, 1);
    this.checkpoint = new Checkpointer(world, hubId);
  }

  /** memory is what is held of it takes. */
  get memory(): number {
    return this.table.memory + COST.skipped * this.skipped.size;
  }

  /** frozen: what is held forked. */
  get frozen(): boolean {
    return this.epoch > 0 && this.forked?.share === this.share && this.forked.epoch === this.epoch;
  }

  /** bars tells whether an epoch of a share is one of which nothing is taken, because it forked. */
  bars(share: string, epoch: number): boolean {
    return this.forked?.share === share && epoch <= this.forked.epoch;
  }

  get head(): FeedPosition {
    return {
      hubId: this.hubId,
      share: this.share,
      epoch: this.epoch,
      seq: this.seq,
      digest: this.epoch === 0 ? new Uint8Array(0) : this.digest,
    };
  }

  /** start says when more is held than a limit that was lowered. */
  start(): void {
    const max = this.#world.o.limits.nodesPerPeer;
    const { hubId, share, table } = this;
    if (table.size <= max) return;
    const fields = { limit: "nodes_per_peer", max: String(max) };
    const text = "a peer's feed has more nodes than this hub takes now; they are kept, and no more come";
    this.#world.event("limit", "WARNING", text, { hub: hubId, share, count: table.size, fields });
  }

  /** heard notes that the owner said its head was here at that time (mono). What it said last counts, also if it said more before. */
  heard(epoch: number, seq: number, at: number): void {
    const same = epoch === this.#heard.epoch && seq === this.#heard.seq;
    this.#heard = { epoch, seq, at: same ? Math.max(at, this.#heard.at) : at };
    this.reached();
  }

  /** advanced notes that the owner was here at that time, as a segment shows: its head may be further. */
  advanced(at: number): void {
    const { epoch, seq } = this.#heard;
    if (epoch !== this.epoch || seq < this.seq) this.#heard = { epoch: this.epoch, seq: this.seq, at };
    this.reached();
  }

  /** unheard forgets what was heard last, for something newer that may be less. */
  unheard(): void {
    this.#heard = UNHEARD;
  }

  /**
   * reached notes, when all is held that was heard of, that it was complete when that was said. That is the age of what is held,
   * and not when it came: behind a backlog the two are far apart.
   */
  reached(): void {
    const { epoch, seq, at } = this.#heard;
    if (this.epoch === epoch && this.seq >= seq && !this.frozen) this.#provenAt = Math.max(this.#provenAt ?? at, at);
  }

  ageMs(): number {
    return this.#provenAt === undefined ? Number.POSITIVE_INFINITY : this.#world.now.mono - this.#provenAt;
  }

  freshness(): Freshness {
    return freshnessOf(this.#provenAt === undefined ? undefined : this.ageMs());
  }

  /** take moves the position to a segment that was applied, and persists it. */
  take(item: SegmentItem, { kept, removed, letIn }: Pick<Applied, "kept" | "removed" | "letIn">): void {
    this.refetch.wanted ||= letIn;
    this.#move(kept === undefined ? item : { ...item, payload: this.#payloadOf(kept) }, removed);
    this.#world.persist([{ op: "append", log: this.#log(), seq: this.seq, bytes: item.segment }]);
    this.checkpoint.segment(item.byteLength);
    this.table.forgetDead(this.ordinal - this.ring.size);
  }

  /** freeze: the owner signed two histories. Nothing more is taken, also after a restart, until it opens a higher epoch. */
  freeze(): void {
    this.forked = { share: this.share, epoch: this.epoch };
    this.#world.persist([putMeta(`frozen/${this.hubId}`, this.forked)]);
  }

  /** replace puts a snapshot in place of everything; its parts are in the store under `gen` already. One transaction. */
  replace(table: FeedTable, skipped: Skipped, position: FeedPosition, hlc: HlcValue, gen: number, signed: Uint8Array = EMPTY): void {
    const ops: StoreOp[] = [];
    if (this.epoch > 0) ops.push({ op: "drop", log: this.#log() });
    this.table.retire();
    this.checkpoint.replaced();
    this.table = table;
    this.skipped = skipped;
    this.share = position.share;
    this.epoch = position.epoch;
    this.seq = position.seq;
    this.digest = position.digest;
    this.hlc = hlc;
    if (this.forked !== undefined) ops.push({ op: "delete", space: "meta", key: `frozen/${this.hubId}` });
    this.forked = undefined;
    this.refetch.answered(this.#world.now.mono);
    this.refetch.wanted = false;
    this.#replacedBy(this.seq, signed);
    ops.push({ op: "put", space: PROOFS, key: this.hubId, bytes: signed });
    this.generation++;
    this.ring.reset(this.seq + 1);
    this.#logFirst = this.seq + 1;
    // A log of the same epoch may have been dropped just now; the next append starts it again at seq + 1.
    this.checkpoint.conclude({ position, hlc, ...this.#rulesAndSkipped() }, table.nextRef, ops, gen);
    this.#world.persist(ops);
  }

  /** checkpointStep writes a part of a checkpoint if it is time. */
  checkpointStep(): void {
    if (this.epoch > 0 && this.checkpoint.due())
      this.checkpoint.begin(this.table, { position: this.head, hlc: this.hlc, ...this.#rulesAndSkipped() });
    if (!this.checkpoint.running) return;
    this.checkpoint.step((place, ops) => {
      const below = Math.min(place.position.seq + 1, this.seq + 1 - this.#world.o.tailSegments);
      if (below <= this.#logFirst) return;
      ops.push({ op: "trim", log: this.#log(), below });
      this.#logFirst = below;
    });
  }

  /** forget removes everything from the store. */
  forget(ops: StoreOp[]): void {
    this.table.retire();
    if (this.epoch > 0) ops.push({ op: "drop", log: this.#log() });
    this.checkpoint.forget(ops);
    ops.push({ op: "delete", space: PROOFS, key: this.hubId }, { op: "delete", space: "meta", key: `frozen/${this.hubId}` });
  }

  /** proof shows that the owner signed the head: the signed header of the segment, or the manifest of the snapshot, that led to it. */
  proof(): FeedProof | undefined {
    const item = this.ring.get(this.seq);
    const parts = item === undefined ? undefined : this.#world.o.codec.decodeSegment(item.segment);
    if (parts !== undefined) return { segment: signedHeader(parts.header, parts.signature), manifest: EMPTY };
    const { epoch, seq, signed } = this.#manifest;
    if (epoch !== this.epoch || seq !== this.seq || signed.length === 0) return undefined;
    return { segment: EMPTY, manifest: signed };
  }

  #rulesAndSkipped(): Pick<CheckpointPlace, "rules" | "skipped" | "skippedIds"> {
    // While a snapshot is wanted because of other rules, what is kept is by none: a restart must want it too.
    return {
      rules: this.refetch.wanted ? "" : rulesDigest(this.#world),
      skipped: [...this.skipped.keys()],
      skippedIds: [...this.skipped.values()],
    };
  }

  /** payloadOf encodes what import rules let in of a segment. */
  #payloadOf(kept: readonly Block[]): Uint8Array {
    const payload = new Payload();
    for (const block of kept) {
      if (block.kind === "state") payload.state(block.batch.bytes, block.batch.count);
      else if (block.kind !== "unknown") payload.block(this.#world.o.codec.encodeBlock(block));
    }
    return payload.bytes();
  }

  /**
   * restore reads checkpoint and tail back; logs that nobody needs are answered for removal. What cannot be read, or may not be as it is
   * (a version before took it in), or does not fit into a heap that was made smaller, is given up as a whole: nothing is held of the feed then, and its owner is asked for a snapshot.
   */
  restore(reader: StoreReader, applier: Applier, maxBytes: number): readonly StoreOp[] {
    const fits = (table: FeedTable): void => {
      if (table.memory > maxBytes)
        throw new Unreadable(
          `table/${this.hubId}`,
          "takes more memory than this process has for peers now: give it a larger heap, or raise memory_bytes",
        );
    };
    try {
      const leftovers = this.#restore(reader, applier, fits);
      return [...leftovers, ...this.#restoreFork(reader)];
    } catch (error) {
      if (!(error instanceof StoredError)) throw error;
      const given = this.#giveUp(reader, error.message);
      return [...given, ...this.#restoreFork(reader)];
    }
  }

  /** restoreFork reads what forked. A record that is damaged still says that something did: what is held, if anything is. */
  #restoreFork(reader: StoreReader): readonly StoreOp[] {
    const key = `frozen/${this.hubId}`;
    try {
      this.forked = readMeta<Frozen>(reader, key);
      return [];
    } catch (error) {
      if (!(error instanceof StoredError)) throw error;
      const text = "what is stored of a fork cannot be used; what is held of the feed stays frozen";
      this.#world.event("feed", "ERROR", text, { hub: this.hubId, share: this.share, fields: { problem: error.message } });
      if (this.epoch === 0) return [{ op: "delete", space: "meta", key }];
      this.forked = { share: this.share, epoch: this.epoch };
      return [putMeta(key, this.forked)];
    }
  }

  #giveUp(reader: StoreReader, problem: string): readonly StoreOp[] {
    this.table = new FeedTable();
    this.skipped = new Map();
    // What comes instead is by the rules of now.
    this.refetch.wanted = true;
    [this.share, this.epoch, this.seq, this.ordinal] = ["", 0, 0, 0];
    this.digest = ZERO_DIGEST;
    this.hlc = { wallMs: 0, logical: 0 };
    this.ring.reset(1);
    this.#logFirst = 1;
    this.checkpoint.counted = undefined;
    const text = "what is stored of a peer's feed cannot be used; it is asked for anew";
    this.#world.event("feed", "ERROR", text, { hub: this.hubId, fields: { problem } });
    const logs = reader.logs().filter((log) => log.startsWith(`import/${this.hubId}/`));
    return [
      ...logs.map((log): StoreOp => ({ op: "drop", log })),
      ...this.checkpoint.leftovers(reader, undefined),
      { op: "delete", space: "meta", key: `table/${this.hubId}` },
      { op: "delete", space: PROOFS, key: this.hubId },
    ];
  }

  #restore(reader: StoreReader, applier: Applier, fits: (table: FeedTable) => void): readonly StoreOp[] {
    const base = this.checkpoint.restore(reader, applier, fits);
    if (base === undefined) return this.checkpoint.leftovers(reader, undefined);
    // Versions before took such snapshots. No epoch is 0: it says that nothing is held. After the last position nothing is ever taken.
    if (!(base.meta.epoch > 0)) throw new Unreadable(`meta/table/${this.hubId}`, "names no epoch");
    if (!(base.meta.seq < POSITIONS)) throw new Unreadable(`meta/table/${this.hubId}`, "names a position that no store has");
    if (!validHlc(base.meta.hlc)) throw new Unreadable(`meta/table/${this.hubId}`, "has a clock reading that is out of bounds");
    this.table = base.table;
    this.skipped = base.skipped;
    const { rules, skipped } = base.meta;
    this.refetch.wanted = rules === "" || (skipped.length > 0 && rules !== rulesDigest(this.#world));
    this.share = base.meta.share;
    this.epoch = base.meta.epoch;
    this.#replacedBy(base.meta.seq, reader.get(PROOFS, this.hubId) ?? EMPTY);
    this.seq = base.meta.seq;
    this.digest = fromHex(base.meta.digest);
    this.hlc = base.meta.hlc;
    let first = true;
    for (const blob of reader.read(this.#log(), 0)) {
      const item = readSegment(this.#world.o.codec, this.#world.o.crypto, blob.bytes);
      if (item === undefined) throw new Unreadable(`${this.#log()}/${blob.seq}`, "cannot be read");
      if (item.header.seq !== blob.seq || item.header.epoch !== this.epoch)
        throw new Unreadable(`${this.#log()}/${blob.seq}`, "is another one");
      if (!first && blob.seq !== this.ring.next) throw new Unreadable(`${this.#log()}/${this.ring.next}`, "is missing");
      if (first && blob.seq > this.seq + 1) throw new Unreadable(`${this.#log()}/${this.seq + 1}`, "is missing");
      if (item.header.broken !== undefined) throw new Unreadable(`${this.#log()}/${blob.seq}`, `cannot be read: ${item.header.broken}`);
      if (first) {
        this.ring.reset(blob.seq);
        this.#logFirst = blob.seq;
        first = false;
      }
      if (item.header.seq > base.meta.seq) {
        const blocks = this.#world.o.codec.decodePayload(item.payload);
        const wrong = blocks && applier.check(this.table, this.skipped, blocks, undefined, item.header.seq === 1);
        if (blocks === undefined || wrong !== undefined)
          throw new Unreadable(`${this.#log()}/${blob.seq}`, `cannot be applied: ${wrong?.message ?? "malformed"}`);
        const { kept, removed, letIn } = applier.apply(this.table, this.skipped, blocks, this.ordinal);
        this.refetch.wanted ||= letIn;
        this.#move(kept === undefined ? item : { ...item, payload: this.#payloadOf(kept) }, removed);
        this.checkpoint.segment(item.byteLength);
        fits(this.table);
      } else this.ring.push(blob.seq, item, item.byteLength + COST.segment);
    }
    if (first) this.ring.reset(this.seq + 1);
    return this.checkpoint.leftovers(reader, base.meta.gen);
  }

  #replacedBy(seq: number, signed: Uint8Array): void {
    this.#manifest = { epoch: this.epoch, seq, signed };
    this.snapshotDigest = this.#world.o.crypto.hash(signed);
  }

  #move(item: SegmentItem, removed: number): void {
    this.seq = item.header.seq;
    this.digest = item.digest;
    this.hlc = item.header.hlc;
    this.ordinal++;
    this.ring.push(this.seq, item, item.byteLength + COST.segment + COST.removed * removed);
  }

  #log(): string {
    return importLog(this.hubId, this.share, this.epoch);
  }
}

/** importLog is the log of a peer's feed after the snapshot that it was last replaced by. */
export function importLog(hubId: string, share: string, epoch: number): string {
  return `import/${hubId}/${share}/${epoch}`;
}
