import type { StoreOp } from "#kernel/core.ts";
import { type Freshness, freshnessOf } from "#kernel/freshness.ts";
import { Ring } from "#kernel/ring.ts";
import type { Applier } from "./apply.ts";
import { Checkpointer } from "./checkpoint.ts";
import type { FeedPosition } from "./messages.ts";
import type { HlcValue, StoreReader } from "./ports.ts";
import { readSegment, type SegmentItem, ZERO_DIGEST } from "./segment.ts";
import { FeedTable } from "./table.ts";
import { fromHex } from "./wire.ts";
import type { World } from "./world.ts";

/** FeedKey is a verified key of a peer. */
export interface PeerKey {
  readonly key: Uint8Array;
  readonly serial: number;
  readonly notAfterWall: number;
}

/**
 * ImportFeed is what this hub holds of one peer's feed.
 *
 * I1 the table is exactly what the owner's segments up to `position` say, less what import rules keep out.
 * I2 a segment is applied once; what was applied is in the store, verbatim, before it is acknowledged.
 * I3 after a restart it is there as it was, and its age is unknown, which is not the same as empty (D-7).
 */
export class ImportFeed {
  readonly #world: World;
  readonly hubId: string;
  readonly ring: Ring<SegmentItem>;
  readonly checkpoint: Checkpointer;
  table = new FeedTable();
  skipped = new Set<number>();
  share = "";
  epoch = 0;
  seq = 0;
  digest: Uint8Array = ZERO_DIGEST;
  hlc: HlcValue = { wallMs: 0, logical: 0 };
  /** When the feed was last proven complete to its head (mono), and what must be added to its age. */
  #provenAt: number | undefined;
  #provenExtraMs = 0;
  /** Newest head that the owner spoke of. */
  headSeq = 0;
  frozen = false;
  entries = 0;
  dropped = 0;
  ordinal = 0;
  /** Rises when the table is replaced: readers must start anew. */
  generation = 0;
  #logFirst = 1;

  constructor(world: World, hubId: string) {
    this.#world = world;
    this.hubId = hubId;
    this.ring = new Ring<SegmentItem>(world.o.ringSegments, world.o.ringBytes, 1);
    this.checkpoint = new Checkpointer(world, hubId);
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

  /** proven notes that the feed is complete to its head, as of `extraMs` ago. */
  proven(extraMs: number): void {
    this.#provenAt = this.#world.now.mono;
    this.#provenExtraMs = extraMs;
  }

  ageMs(): number {
    return this.#provenAt === undefined ? Number.POSITIVE_INFINITY : this.#world.now.mono - this.#provenAt + this.#provenExtraMs;
  }

  freshness(): Freshness {
    return freshnessOf(this.#provenAt === undefined ? undefined : this.ageMs());
  }

  /** take moves the position to a segment that was applied, and persists it. */
  take(item: SegmentItem): void {
    this.#move(item);
    this.#world.persist([{ op: "append", log: this.#log(), seq: this.seq, bytes: item.segment }]);
    this.checkpoint.segment();
    this.table.forgetDead(this.ordinal - this.ring.size);
  }

  /** replace puts a snapshot in place of everything; its parts are in the store under `gen` already. One transaction. */
  replace(table: FeedTable, skipped: Set<number>, position: FeedPosition, hlc: HlcValue, gen: number): void {
    const ops: StoreOp[] = [];
    if (this.epoch > 0) ops.push({ op: "drop", log: this.#log() });
    this.table.retire();
    this.table = table;
    this.skipped = skipped;
    this.share = position.share;
    this.epoch = position.epoch;
    this.seq = position.seq;
    this.digest = position.digest;
    this.hlc = hlc;
    this.frozen = false;
    this.generation++;
    this.ring.reset(this.seq + 1);
    this.#logFirst = this.seq + 1;
    // A log of the same epoch may have been dropped just now; the next append starts it again at seq + 1.
    this.checkpoint.conclude({ position, hlc, skipped: [...skipped] }, table.nextRef, ops, gen);
    this.#world.persist(ops);
  }

  /** checkpointStep writes a part of a checkpoint if it is time. */
  checkpointStep(): void {
    if (this.epoch > 0 && this.checkpoint.due())
      this.checkpoint.begin(this.table, { position: this.head, hlc: this.hlc, skipped: [...this.skipped] });
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
  }

  /** restore reads checkpoint and tail back. False if there is nothing. Logs that nobody needs are answered for removal. */
  restore(reader: StoreReader, applier: Applier): readonly StoreOp[] {
    const base = this.checkpoint.restore(reader, applier);
    if (base === undefined) return this.checkpoint.leftovers(reader, undefined);
    this.table = base.table;
    this.skipped = new Set(base.meta.skipped);
    this.share = base.meta.share;
    this.epoch = base.meta.epoch;
    this.seq = base.meta.seq;
    this.digest = fromHex(base.meta.digest);
    this.hlc = base.meta.hlc;
    let first = true;
    for (const blob of reader.read(this.#log(), 0)) {
      const item = readSegment(this.#world.o.codec, this.#world.o.crypto, blob.bytes);
      if (item === undefined) throw new Error(`imported segment ${this.#log()}/${blob.seq} cannot be read`);
      if (first) {
        this.ring.reset(blob.seq);
        this.#logFirst = blob.seq;
        first = false;
      }
      if (item.header.seq > base.meta.seq) {
        const blocks = this.#world.o.codec.decodePayload(item.payload);
        if (blocks === undefined || applier.check(this.table, this.skipped, blocks, undefined, item.header.seq === 1) !== undefined)
          throw new Error(`imported segment ${this.#log()}/${blob.seq} cannot be applied`);
        applier.apply(this.table, this.skipped, blocks, this.ordinal);
        this.#move(item);
        this.checkpoint.segment();
      } else this.ring.push(blob.seq, item);
    }
    if (first) this.ring.reset(this.seq + 1);
    return this.checkpoint.leftovers(reader, base.meta.gen);
  }

  #move(item: SegmentItem): void {
    this.seq = item.header.seq;
    this.digest = item.digest;
    this.hlc = item.header.hlc;
    this.ordinal++;
    this.ring.push(this.seq, item);
  }

  #log(): string {
    return `import/${this.hubId}/${this.share}/${this.epoch}`;
  }
}
