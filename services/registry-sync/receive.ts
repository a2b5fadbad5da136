import type { StoreOp } from "#kernel/core.ts";
import type { Failure } from "#kernel/error.ts";
import type { Applier } from "./apply.ts";
import type { ImportFeed } from "./import-feed.ts";
import type { FeedPosition } from "./messages.ts";
import type { SnapshotManifest, SnapshotPartInfo, StoreReader } from "./ports.ts";
import { stateHashOf } from "./snapshot.ts";
import { FeedTable } from "./table.ts";
import { equalBytes, hex } from "./wire.ts";
import { failure, limitFailure, putMeta, readMeta, type World } from "./world.ts";

/** Stage is what is kept of an interrupted transfer: the digests of the parts in the log of that generation. */
interface Stage {
  readonly gen: number;
  readonly parts: readonly string[];
}

/** Bytes of a part before the codec, at most. */
const PART_MAX = 1024 * 1024;

/**
 * Receiver takes in a snapshot: parts are checked against the signed manifest, kept in the store as the parts of a checkpoint that does
 * not count yet, and put together in a table of its own. When the last one is there, table and checkpoint replace the feed in one
 * transaction; until then the feed stays as it was.
 *
 * R1 parts that are held from an interrupted transfer, known by their content, are not sent again.
 */
export class Receiver {
  readonly #world: World;
  readonly #applier: Applier;
  readonly #feed: ImportFeed;
  readonly manifest: SnapshotManifest;
  readonly gen: number;
  readonly #table = new FeedTable();
  readonly #skipped = new Set<number>();
  readonly #raw = new Map<number, Uint8Array>();
  /** Parts that are being decompressed, by job. */
  readonly #jobs = new Map<number, number>();
  readonly #arrived = new Set<number>();
  #applied = 0;

  constructor(
    world: World,
    applier: Applier,
    feed: ImportFeed,
    manifest: SnapshotManifest,
    held: ReadonlyMap<string, Uint8Array>,
    staleGen: number | undefined,
  ) {
    this.#world = world;
    this.#applier = applier;
    this.#feed = feed;
    this.manifest = manifest;
    this.gen = feed.checkpoint.nextGen();
    const ops: StoreOp[] = [];
    if (staleGen !== undefined) ops.push({ op: "drop", log: feed.checkpoint.log(staleGen) });
    const stage: Stage = { gen: this.gen, parts: manifest.parts.map((part) => hex(part.sha256)) };
    ops.push(putMeta(`stage/${feed.hubId}`, stage));
    manifest.parts.forEach((part, index) => {
      const raw = held.get(hex(part.sha256));
      if (raw === undefined || this.#arrived.has(index)) return;
      this.#arrived.add(index);
      this.#raw.set(index, raw);
      ops.push(feed.checkpoint.partOp(this.gen, index, raw));
    });
    world.persist(ops);
  }

  /** problemOf answers why a manifest cannot be taken. */
  static problemOf(world: World, manifest: SnapshotManifest): Failure | undefined {
    const { limits, crypto } = world.o;
    if (!equalBytes(manifest.stateHash, stateHashOf(crypto, manifest.parts)))
      return failure("SEGMENT_INVALID", "the state hash of the snapshot does not fit its parts");
    if (manifest.nodes > limits.nodesPerPeer)
      return limitFailure("nodes_per_peer", limits.nodesPerPeer, "the snapshot has more nodes than this hub takes from one peer");
    if (manifest.parts.some((part) => part.len > limits.snapshotPartBytes || part.rawLen > PART_MAX))
      return limitFailure("snapshot_part_bytes", limits.snapshotPartBytes, "a part of the snapshot is too long");
    return undefined;
  }

  get position(): FeedPosition {
    const { hubId, share, epoch, asOfSeq, headDigest } = this.manifest;
    return { hubId, share, epoch, seq: asOfSeq, digest: headDigest };
  }

  /** heldDigests names the parts that need not be sent again. */
  heldDigests(): Uint8Array[] {
    return [...this.#arrived].map((index) => (this.manifest.parts[index] as SnapshotPartInfo).sha256);
  }

  /** heldRaw are the parts by digest, for a newer manifest. */
  heldRaw(reader: ReadonlyMap<string, Uint8Array>): Map<string, Uint8Array> {
    const held = new Map(reader);
    for (const [index, raw] of this.#raw) held.set(hex((this.manifest.parts[index] as SnapshotPartInfo).sha256), raw);
    return held;
  }

  /** part takes a part as it came; `job` is a fresh number for its decompression. */
  part(index: number, data: Uint8Array, job: number): Failure | undefined {
    const info = this.manifest.parts[index];
    if (info === undefined) return failure("SEGMENT_INVALID", "the snapshot has no part of that index");
    if (this.#arrived.has(index)) return undefined;
    if (data.length !== info.len || !equalBytes(this.#world.o.crypto.hash(data), info.sha256))
      return failure("SEGMENT_INVALID", "a part of the snapshot is not what the manifest says");
    this.#arrived.add(index);
    if (info.codec === 1) return this.#store(index, data);
    if (info.codec !== 2) return failure("UPGRADE_NEEDED", "a part of the snapshot has a codec that is not known here");
    this.#jobs.set(job, index);
    this.#world.emit({ kind: "decompress", job, codec: info.codec, bytes: data, rawLen: info.rawLen });
    return undefined;
  }

  owns(job: number): boolean {
    return this.#jobs.has(job);
  }

  decompressed(job: number, raw: Uint8Array | undefined): Failure | undefined {
    const index = this.#jobs.get(job) as number;
    this.#jobs.delete(job);
    if (raw === undefined || raw.length !== this.manifest.parts[index]?.rawLen)
      return failure("SEGMENT_INVALID", "a part of the snapshot cannot be decompressed");
    return this.#store(index, raw);
  }

  #store(index: number, raw: Uint8Array): Failure | undefined {
    this.#raw.set(index, raw);
    this.#world.persist([this.#feed.checkpoint.partOp(this.gen, index, raw)]);
    return this.advance();
  }

  /** advance puts the parts that are there, in order, into the table; when all are, the feed is replaced. */
  advance(): Failure | undefined {
    for (let raw = this.#raw.get(this.#applied); raw !== undefined; raw = this.#raw.get(this.#applied)) {
      const blocks = this.#world.o.codec.decodePayload(raw);
      if (blocks === undefined) return failure("SEGMENT_INVALID", "a part of the snapshot is malformed");
      const problem = this.#applier.check(this.#table, this.#skipped, blocks, undefined, false);
      if (problem !== undefined) return problem;
      this.#feed.dropped += this.#applier.apply(this.#table, this.#skipped, blocks, 0, true).dropped;
      this.#applied++;
    }
    return undefined;
  }

  get complete(): boolean {
    return this.#applied === this.manifest.parts.length;
  }

  /** finish replaces the feed. */
  finish(): void {
    this.#feed.replace(this.#table, this.#skipped, this.position, this.manifest.hlc, this.gen);
    this.#world.persist([{ op: "delete", space: "meta", key: `stage/${this.#feed.hubId}` }]);
  }
}

/** restoreStage reads back what is held of an interrupted transfer, by digest. */
export function restoreStage(
  world: World,
  reader: StoreReader,
  hubId: string,
): { readonly raw: Map<string, Uint8Array>; readonly gen: number } | undefined {
  const stage = readMeta<Stage>(reader.get("meta", `stage/${hubId}`));
  if (stage === undefined) return undefined;
  const raw = new Map<string, Uint8Array>();
  for (const blob of reader.read(`ckpt/${hubId}/${stage.gen}`, 0)) {
    const digest = stage.parts[blob.seq - 1];
    if (digest !== undefined) raw.set(digest, blob.bytes);
  }
  world.event("snapshot", "INFO", "interrupted snapshot found", { hub: hubId, count: raw.size });
  return { raw, gen: stage.gen };
}
