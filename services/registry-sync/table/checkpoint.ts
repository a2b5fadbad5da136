import type { StoreOp } from "#kernel/core.ts";
import { StoredError } from "#kernel/wire/stored-json.ts";
import { hex, utf8 } from "../codec/wire.ts";
import type { Applier, Skipped } from "../import/apply.ts";
import type { FeedPosition } from "../messages.ts";
import type { HlcValue, StoreReader } from "../ports.ts";
import { putMeta, type World } from "../world.ts";
import { TableScan } from "./scan.ts";
import { readMeta } from "./stored-records.ts";
import { FeedTable } from "./table.ts";

/** Largest part of a checkpoint, bytes: it is encoded and committed between two segments, which wait for it (a millisecond or so). */
const PART_BYTES = 64 * 1024;
/**
 * Segments shorter than the table by so many times are not worth a checkpoint, unless they are so many times as many as usual: an owner of a
 * large feed would have it all written again for a few bytes.
 */
const TABLE_PART = 4;
const SEGMENTS_TIMES = 16;

/** CheckpointMeta says which checkpoint counts; it is written in the commit of its last part, so that it is whole or not there. */
export interface CheckpointMeta {
  readonly share: string;
  readonly epoch: number;
  readonly seq: number;
  readonly digest: string;
  readonly hlc: HlcValue;
  readonly gen: number;
  readonly nextRef: number;
  /** Refs that import rules keep out; the ids of those nodes, and which rules they were, are absent in what older versions wrote. */
  readonly skipped: readonly number[];
  readonly skippedIds?: readonly string[];
  readonly rules?: string;
}

/** Unreadable says that what is stored of a feed cannot be used. For a feed of a peer that is no reason to end: the peer has it too. */
export class Unreadable extends StoredError {}

/** CheckpointPlace is where a checkpoint stands. */
export interface CheckpointPlace extends Pick<CheckpointMeta, "skipped" | "skippedIds" | "rules"> {
  readonly position: FeedPosition;
  readonly hlc: HlcValue;
}

/** rulesDigest names the import rules of now. */
export function rulesDigest(world: World): string {
  return hex(world.o.crypto.hash(utf8(JSON.stringify(world.o.importRules ?? null))).subarray(0, 8));
}

/**
 * Checkpointer writes a feed's table behind its log, a part at a time, while the feed goes on: generation after generation, each in
 * its own log `ckpt/<name>/<gen>`. The meta record names the one that counts.
 */
export class Checkpointer {
  readonly #world: World;
  readonly #name: string;
  #gen = 0;
  #segments = 0;
  /** Bytes of those segments, and of the newest checkpoint. */
  #segmentBytes = 0;
  #tableBytes = 0;
  #since: number | undefined;
  #running:
    | {
        readonly scan: TableScan;
        readonly place: CheckpointPlace;
        readonly nextRef: number;
        readonly gen: number;
        parts: number;
        bytes: number;
      }
    | undefined;
  /** Generation of the newest durable checkpoint. */
  counted: number | undefined;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#name = name;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  /** segment notes that the feed has one more segment, of so many bytes, that no checkpoint covers. */
  segment(bytes: number): void {
    this.#segments++;
    this.#segmentBytes += bytes;
    this.#since ??= this.#world.now.mono;
  }

  /** deadline is when `step` wants to be called. */
  deadline(): number {
    if (this.#running !== undefined) return this.#world.now.mono;
    const { checkpointSegments } = this.#world.o;
    const worth = TABLE_PART * this.#segmentBytes >= this.#tableBytes || this.#segments >= SEGMENTS_TIMES * checkpointSegments;
    if (worth && this.#segments >= checkpointSegments) return this.#world.now.mono;
    return this.#since === undefined ? Number.POSITIVE_INFINITY : this.#since + this.#world.o.checkpointMs;
  }

  /** due: a checkpoint should begin. */
  due(): boolean {
    return this.#running === undefined && this.deadline() <= this.#world.now.mono;
  }

  /** begin starts one; everything up to `place` must be in the table, and nothing else. */
  begin(table: FeedTable, place: CheckpointPlace): void {
    this.cancel();
    this.#running = { scan: new TableScan(table), place, nextRef: table.nextRef, gen: ++this.#gen, parts: 0, bytes: 0 };
    this.#covered();
  }

  /** step writes one part. When it was the last, `done` is told which logs the checkpoint covers, and adds what may go. */
  step(done: (place: CheckpointPlace, ops: StoreOp[]) => void): void {
    const job = this.#running;
    if (job === undefined) return;
    const ops: StoreOp[] = [];
    const { codec, partBytes } = this.#world.o;
    const { bytes } = job.scan.part(codec, Math.min(partBytes, PART_BYTES));
    ops.push({ op: "append", log: this.log(job.gen), seq: ++job.parts, bytes });
    job.bytes += bytes.length;
    if (job.scan.done) {
      this.#tableBytes = job.bytes;
      this.#running = undefined;
      this.conclude(job.place, job.nextRef, ops, job.gen);
      done(job.place, ops);
      this.#world.event("checkpoint", "DEBUG", "checkpoint written", { hub: this.#name, count: job.scan.nodes });
    }
    this.#world.persist(ops);
  }

  /** partOp adds a part of a checkpoint that comes from elsewhere (a snapshot that is being received) under a generation of its own. */
  partOp(gen: number, index: number, bytes: Uint8Array): StoreOp {
    return { op: "append", log: this.log(gen), seq: index + 1, bytes };
  }

  /** nextGen gives a generation for parts from elsewhere; nothing else is ever written under it. */
  nextGen(): number {
    return ++this.#gen;
  }

  /** reserve makes sure that a generation, and those below, are not given out: parts from elsewhere are kept under it. */
  reserve(gen: number): void {
    this.#gen = Math.max(this.#gen, gen);
  }

  /** replaced: the table is another one. A checkpoint of the one before must not count any more, and begins none. */
  replaced(): void {
    this.cancel();
    this.#covered();
    this.#tableBytes = 0;
  }

  #covered(): void {
    this.#segments = 0;
    this.#segmentBytes = 0;
    this.#since = undefined;
  }

  /** conclude makes a generation the one that counts. */
  conclude(place: CheckpointPlace, nextRef: number, ops: StoreOp[], gen: number): void {
    const { position, ...rest } = place;
    const { share, epoch, seq, digest } = position;
    const meta: CheckpointMeta = { ...rest, share, epoch, seq, digest: hex(digest), gen, nextRef };
    ops.push(putMeta(`table/${this.#name}`, meta));
    if (this.counted !== undefined && this.counted !== gen) ops.push({ op: "drop", log: this.log(this.counted) });
    this.counted = gen;
  }

  /** cancel gives up a checkpoint that is being written, and its parts. */
  cancel(): void {
    if (this.#running === undefined) return;
    this.#running.scan.close();
    this.#world.persist([{ op: "drop", log: this.log(this.#running.gen) }]);
    this.#running = undefined;
  }

  /** forget removes everything of this checkpointer from the store. */
  forget(ops: StoreOp[]): void {
    this.cancel();
    if (this.counted !== undefined) ops.push({ op: "drop", log: this.log(this.counted) });
    ops.push({ op: "delete", space: "meta", key: `table/${this.#name}` });
    this.counted = undefined;
  }

  /** restore reads the checkpoint that counts into a new table, and asks `fits` after each part. Undefined if there is none. */
  restore(
    reader: StoreReader,
    applier: Applier,
    fits: (table: FeedTable) => void = () => {},
  ): { readonly table: FeedTable; readonly skipped: Skipped; readonly meta: CheckpointMeta } | undefined {
    const prefix = `ckpt/${this.#name}/`;
    for (const log of reader.logs()) if (log.startsWith(prefix)) this.#gen = Math.max(this.#gen, Number(log.slice(prefix.length)));
    const meta = readMeta<CheckpointMeta>(reader, `table/${this.#name}`);
    if (meta === undefined) return undefined;
    this.#gen = Math.max(this.#gen, meta.gen);
    const table = new FeedTable();
    const skipped: Skipped = new Map(meta.skipped.map((ref, i) => [ref, meta.skippedIds?.[i] ?? ""]));
    let parts = 0;
    this.#tableBytes = 0;
    for (const blob of reader.read(this.log(meta.gen), 0)) {
      this.#tableBytes += blob.bytes.length;
      if (blob.seq !== ++parts) throw new Unreadable(`${this.log(meta.gen)}/${parts}`, "is missing");
      const blocks = this.#world.o.codec.decodePayload(blob.bytes);
      if (blocks === undefined || applier.check(table, skipped, blocks, undefined, false) !== undefined)
        throw new Unreadable(`${this.log(meta.gen)}/${blob.seq}`, "cannot be read");
      applier.apply(table, skipped, blocks, 0, blob.bytes.length);
      fits(table);
    }
    if (parts === 0) throw new Unreadable(this.log(meta.gen), "is missing");
    table.reserveRefs(meta.nextRef);
    table.restoredAt = { epoch: meta.epoch, seq: meta.seq };
    this.counted = meta.gen;
    return { table, skipped, meta };
  }

  /** leftovers are logs of generations that do not count. */
  leftovers(reader: StoreReader, keep: number | undefined): StoreOp[] {
    const prefix = `ckpt/${this.#name}/`;
    const logs = reader.logs().filter((log) => log.startsWith(prefix) && Number(log.slice(prefix.length)) !== keep);
    return logs.map((log) => ({ op: "drop", log }));
  }

  /** log names the log of a generation. */
  log(gen: number): string {
    return `ckpt/${this.#name}/${gen}`;
  }
}
