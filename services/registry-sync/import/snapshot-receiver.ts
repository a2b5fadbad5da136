import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { EMPTY, equalBytes, hex } from "../codec/wire.ts";
import { stateHashOf } from "../export/snapshot.ts";
import { AfterSnapshot } from "../feed/after-snapshot.ts";
import type { FeedPosition } from "../messages.ts";
import { CODEC, type SnapshotManifest, type SnapshotPartInfo, type StoreReader } from "../ports.ts";
import { COST } from "../table/cost.ts";
import { readMeta } from "../table/stored-records.ts";
import { FeedTable } from "../table/table.ts";
import { failure, limitFailure, putMeta, type World } from "../world.ts";
import type { Applier, Intake } from "./apply.ts";
import { FROZEN, type ImportFeed } from "./import-feed.ts";

/** Stage is what is kept of an interrupted transfer: the digests of the parts in the log of that generation. */
interface Stage {
  readonly gen: number;
  /** Absent in what older versions wrote. */
  readonly share?: string;
  readonly parts: readonly string[];
}

/** Bytes of a part before the codec, at most. */
const PART_MAX = 1024 * 1024;
/** Parts that are decompressed at a time, ahead of the one that is applied next: so much is kept of what is long. */
const AHEAD = 4;
/** STEP_BYTES is what one step puts into the table, or STEP_BLOCKS if there are many small ones. */
export const STEP_BYTES = 64 * 1024;
const STEP_BLOCKS = 512;

/** Staged is what a restart found of an interrupted transfer. */
export interface Staged {
  readonly parts: ReadonlyMap<string, HeldPart>;
  readonly gen: number;
  readonly share: string;
  readonly bytes: number;
}

/** HeldPart is a part that has come: as it was sent, or as it was before the codec. */
export interface HeldPart {
  readonly bytes: Uint8Array;
  readonly raw: boolean;
}

/** Coming is what a snapshot shares with the others that come in. */
export interface Coming {
  /** known is what a new snapshot of a peer may take over, and the generation that it is kept under. */
  known(peer: string): { readonly parts: ReadonlyMap<string, HeldPart>; readonly gen: number | undefined };
  /** intakeOf is how much may come in of a peer's feed. */
  intakeOf(peer: string): Intake;
  /** nextJob gives a number to something that is decompressed. */
  nextJob(): number;
  /** work takes so many steps of what is done for snapshots of a peer; false if they have to wait (IR5). */
  work(peer: string, steps: number): boolean;
}

/**
 * Receiver takes in a snapshot: parts are checked against the signed manifest, kept in the store as the parts of a checkpoint that does
 * not count yet, and put together in a table of its own. When the last one is there, table and checkpoint replace the feed in one
 * transaction; until then the feed stays as it was.
 *
 * RV1 parts that are held from an interrupted transfer, known by their content, are not sent again.
 * RV2 what has come stays as it was sent; it is decompressed in order, a few parts at a time, however many come and whichever is missing.
 * RV3 segments that follow it wait until it is whole, and are applied a few in each step then: its owner goes on meanwhile, and that is
 *    no gap.
 * RV4 what has come is applied in steps of some milliseconds, in whatever order and form the owner sent it, and no more of them than its
 *    owner may cause (IR5).
 */
export class Receiver {
  readonly #world: World;
  readonly #applier: Applier;
  readonly #feed: ImportFeed;
  readonly manifest: SnapshotManifest;
  readonly gen: number;
  readonly #table = new FeedTable();
  readonly #skipped = new Map<number, string>();
  readonly #held = new Map<number, HeldPart>();
  /** Parts that are decompressed and wait for their turn. */
  readonly #raw = new Map<number, Uint8Array>();
  /** Parts that are being decompressed, by job. */
  readonly #jobs = new Map<number, number>();
  readonly #coming: Coming;
  /** SignedManifest, as it came: it proves the position that the feed has afterwards. */
  readonly signed: Uint8Array;
  /** Segments that follow it. */
  readonly kept: AfterSnapshot;
  #partBytes = 0;
  /** When something of it came last (mono). */
  movedAt: number;
  /** The part that is decompressed next, and the one that is applied next. */
  #next = 0;
  #applied = 0;
  /** Where the next step begins in that part. */
  #at = 0;
  /** A part is to be decompressed when its turn has come. */
  #starved = false;

  constructor(world: World, applier: Applier, feed: ImportFeed, manifest: SnapshotManifest, signed: Uint8Array, receives: Coming) {
    this.#world = world;
    this.#applier = applier;
    this.#feed = feed;
    this.manifest = manifest;
    this.signed = signed;
    this.kept = new AfterSnapshot(manifest);
    this.movedAt = world.now.mono;
    this.#coming = receives;
    const { parts: known, gen: staleGen } = receives.known(feed.hubId);
    this.gen = feed.checkpoint.nextGen();
    const ops: StoreOp[] = [];
    if (staleGen !== undefined) ops.push({ op: "drop", log: feed.checkpoint.log(staleGen) });
    const stage: Stage = { gen: this.gen, share: manifest.share, parts: manifest.parts.map((part) => hex(part.sha256)) };
    ops.push(putMeta(`stage/${feed.hubId}`, stage));
    manifest.parts.forEach((part, index) => {
      const old = known.get(hex(part.sha256));
      if (old === undefined || (old.raw && old.bytes.length !== part.rawLen)) return;
      this.#hold(index, old);
    });
    world.persist(ops);
    this.#decompress();
  }

  /** problemOf answers why a manifest cannot be taken. */
  static problemOf(world: World, manifest: SnapshotManifest, feed: ImportFeed | undefined): Failure | undefined {
    const { limits, crypto } = world.o;
    const { share, epoch, asOfSeq } = manifest;
    if (feed?.bars(share, epoch) === true) return FROZEN;
    if (feed?.share === share) {
      if (epoch < feed.epoch || (epoch === feed.epoch && asOfSeq < feed.seq))
        return failure("FEED_GAP", "the snapshot is older than what is held");
    }
    if (!equalBytes(manifest.stateHash, stateHashOf(crypto, manifest.parts)))
      return failure("SEGMENT_INVALID", "the state hash of the snapshot does not fit its parts");
    if (manifest.nodes > nodesFor(world, manifest, feed))
      return limitFailure("nodes_per_peer", limits.nodesPerPeer, "the snapshot has more nodes than this hub takes from one peer");
    if (manifest.parts.some((part) => part.len > limits.snapshotPartBytes || part.rawLen > PART_MAX))
      return limitFailure("snapshot_part_bytes", limits.snapshotPartBytes, "a part of the snapshot is too long");
    const bytes = manifest.parts.reduce((sum, part) => sum + Math.max(part.len, part.rawLen), 0);
    if (bytes > limits.snapshotBytes)
      return limitFailure("snapshot_bytes", limits.snapshotBytes, "the snapshot is longer than this hub takes from one peer");
    return undefined;
  }

  /** memory is what the nodes take that have been read out of it. */
  get memory(): number {
    return this.#table.memory + COST.skipped * this.#skipped.size;
  }

  /** bytes are those of all parts and segments that are held, and of the nodes. */
  get bytes(): number {
    return this.#partBytes + this.kept.bytes + this.memory;
  }

  get position(): FeedPosition {
    const { hubId, share, epoch, asOfSeq, headDigest } = this.manifest;
    return { hubId, share, epoch, seq: asOfSeq, digest: headDigest };
  }

  /** before tells whether it is of the epoch of a feed, and from before that segment. */
  before(feed: Pick<ImportFeed, "share" | "epoch">, seq: number): boolean {
    const { share, epoch, asOfSeq } = this.manifest;
    return share === feed.share && epoch === feed.epoch && asOfSeq < seq;
  }

  /** heldDigests names the parts that need not be sent again. */
  heldDigests(): Uint8Array[] {
    return [...this.#held.keys()].map((index) => this.#part(index).sha256);
  }

  /** heldParts are the parts by digest, for a newer manifest. */
  heldParts(): Map<string, HeldPart> {
    return new Map([...this.#held].map(([index, part]) => [hex(this.#part(index).sha256), part]));
  }

  /** part takes a part as it came. */
  part(index: number, data: Uint8Array): Failure | undefined {
    const info = this.manifest.parts[index];
    if (info === undefined) return failure("SEGMENT_INVALID", "the snapshot has no part of that index");
    if (this.#held.has(index)) return undefined;
    if (data.length !== info.len || !equalBytes(this.#world.o.crypto.hash(data), info.sha256))
      return failure("SEGMENT_INVALID", "a part of the snapshot is not what the manifest says");
    if (info.codec !== CODEC.IDENTITY && info.codec !== CODEC.ZSTD)
      return failure("UPGRADE_NEEDED", "a part of the snapshot has a codec that is not known here");
    if (info.codec === CODEC.IDENTITY && info.rawLen !== info.len)
      return failure("SEGMENT_INVALID", "a part of the snapshot has another length than the manifest says");
    this.#hold(index, { bytes: data, raw: false });
    this.#decompress();
    return this.step();
  }

  #hold(index: number, part: HeldPart): void {
    this.#held.set(index, part);
    this.#partBytes += part.bytes.length;
    this.movedAt = this.#world.now.mono;
  }

  owns(job: number): boolean {
    return this.#jobs.has(job);
  }

  decompressed(job: number, raw: Uint8Array | undefined): Failure | undefined {
    const index = this.#jobs.get(job) as number;
    this.#jobs.delete(job);
    this.movedAt = this.#world.now.mono;
    if (raw === undefined || raw.length !== this.#part(index).rawLen)
      return failure("SEGMENT_INVALID", "a part of the snapshot cannot be decompressed");
    this.#raw.set(index, raw);
    return this.step();
  }

  /** ready tells whether `step` has something to put into the table. */
  get ready(): boolean {
    return this.#starved || this.#raw.has(this.#applied);
  }

  /**
   * step puts a piece of the part that is next into the table: some KiB and some blocks of it, however it is made, since nothing else runs
   * meanwhile (RV4). Parts that came before that one was there are many steps.
   */
  step(): Failure | undefined {
    if (this.#starved) this.#decompress();
    const raw = this.#raw.get(this.#applied);
    if (raw === undefined || !this.#coming.work(this.#feed.hubId, 1)) return undefined;
    const piece = this.#world.o.codec.decodePiece(raw, this.#at, STEP_BYTES, STEP_BLOCKS);
    if (piece === undefined) return failure("SEGMENT_INVALID", "a part of the snapshot is malformed");
    const problem = this.#applier.check(this.#table, this.#skipped, piece.blocks, undefined, false, this.#room());
    if (problem !== undefined) return problem;
    this.#feed.dropped += this.#applier.apply(this.#table, this.#skipped, piece.blocks, 0, raw.length).dropped;
    this.movedAt = this.#world.now.mono;
    this.#at = piece.next;
    if (this.#at === raw.length) this.#partDone(raw);
    return undefined;
  }

  /** room is how much may come in. What is held already may be sent anew, also when a limit was lowered meanwhile. */
  #room(): Intake {
    const intake = this.#coming.intakeOf(this.#feed.hubId);
    const held = this.#feed.share === this.manifest.share ? this.#feed.memory : 0;
    return { ...intake, nodes: nodesFor(this.#world, this.manifest, this.#feed), bytes: Math.max(intake.bytes, held) };
  }

  #partDone(raw: Uint8Array): void {
    // Also what a restart has read from the store: it was there under another generation, which is dropped.
    this.#world.persist([this.#feed.checkpoint.partOp(this.gen, this.#applied, raw)]);
    this.#raw.delete(this.#applied++);
    this.#at = 0;
    this.#decompress();
  }

  /** decompress takes the parts that are next out of their codec. */
  #decompress(): void {
    this.#starved = false;
    for (; this.#next < this.#applied + AHEAD; this.#next++) {
      const part = this.#held.get(this.#next);
      if (part === undefined) return;
      const { codec, rawLen } = this.#part(this.#next);
      this.#starved = !this.#coming.work(this.#feed.hubId, Math.ceil(rawLen / STEP_BYTES));
      if (this.#starved) return;
      if (part.raw || codec === CODEC.IDENTITY) {
        this.#raw.set(this.#next, part.bytes);
        continue;
      }
      const job = this.#coming.nextJob();
      this.#jobs.set(job, this.#next);
      this.#world.emit({ kind: "decompress", job, codec: CODEC.ZSTD, bytes: part.bytes, rawLen });
    }
  }

  #part(index: number): SnapshotPartInfo {
    return this.manifest.parts[index] as SnapshotPartInfo;
  }

  get complete(): boolean {
    return this.#applied === this.manifest.parts.length;
  }

  /** finish replaces the feed. A checkpoint without a part is one that is missing: what has none gets one without blocks. */
  finish(): void {
    if (this.manifest.parts.length === 0) this.#world.persist([this.#feed.checkpoint.partOp(this.gen, 0, EMPTY)]);
    this.#feed.replace(this.#table, this.#skipped, this.position, this.manifest.hlc, this.gen, this.signed);
    this.#world.persist([{ op: "delete", space: "meta", key: `stage/${this.#feed.hubId}` }]);
  }
}

/** nodesFor is how many nodes a snapshot may have: not fewer than are held of that share, when the limit was lowered meanwhile. */
function nodesFor(world: World, manifest: SnapshotManifest, feed: ImportFeed | undefined): number {
  return Math.max(world.o.limits.nodesPerPeer, feed?.share === manifest.share ? feed.table.size : 0);
}

/** readStage reads what is kept of an interrupted transfer. If that is damaged it is sent again. */
function readStage(world: World, reader: StoreReader, hubId: string): Stage | undefined {
  try {
    return readMeta<Stage>(reader, `stage/${hubId}`);
  } catch (error) {
    if (!(error instanceof StoredError)) throw error;
    const text = "what is stored of an interrupted snapshot cannot be used; it is sent again";
    world.event("snapshot", "WARNING", text, { hub: hubId, fields: { problem: error.message } });
    return undefined;
  }
}

/** restoreStage reads back what is held of an interrupted transfer, by digest. */
export function restoreStage(world: World, reader: StoreReader, hubId: string): Staged | undefined {
  const stage = readStage(world, reader, hubId);
  if (stage === undefined) return undefined;
  const parts = new Map<string, HeldPart>();
  let bytes = 0;
  for (const blob of reader.read(`ckpt/${hubId}/${stage.gen}`, 0)) {
    const digest = stage.parts[blob.seq - 1];
    if (digest === undefined) continue;
    // The heap, or the limit, may be less than it was. What is left out is sent again.
    if (bytes + blob.bytes.length > world.o.limits.incomingBytes) break;
    parts.set(digest, { bytes: blob.bytes, raw: true });
    bytes += blob.bytes.length;
  }
  world.event("snapshot", "INFO", "interrupted snapshot found", { hub: hubId, count: parts.size });
  return { parts, gen: stage.gen, share: stage.share ?? "", bytes };
}
