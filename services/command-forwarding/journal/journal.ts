import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import { Writer } from "../codec/wire.ts";
import type { CommandEffect } from "../messages.ts";

/** LOG is the name of the log in the service's store. */
export const LOG = "journal";

/** Entry is something that the journal must not lose while it is live. It is written again when the oldest blobs are cleared. */
export interface Entry {
  /** Blob that holds it; 0 if it was never written or is dropped. */
  blob: number;
  /** Length of its record there. Only the journal sets it. */
  recordBytes: number;
  /** write appends its record, which says everything about it: it supersedes all earlier ones of the same entry. */
  write(writer: Writer): void;
}

interface Blob {
  readonly bytes: number;
  live: number;
  readonly entries: Entry[];
}

/** Blobs that are dead at the front before they are trimmed: a delete costs as much as an append. */
const TRIM_BATCH = 64;
/** The log is compacted when it is longer than this, and most of it is dead. */
const COMPACT_BLOBS = 2_048;
const COMPACT_BYTES = 8 * 1024 * 1024;
/** Entries, and bytes beyond those of the step itself, that one flush copies forward: compaction never makes a commit long. */
const COPIES_MAX = 256;
const COPY_BYTES = 1024 * 1024;

/**
 * Journal is what makes an effect happen at most once: an append-only log of blobs, one per step, with everything that
 * is live indexed in memory.
 *
 * JR1 what one step writes is one blob; the driver makes the blobs of one turn one transaction.
 * JR2 a blob is trimmed only when all before it are trimmed and nothing in it is live: a note that ends an entry is never
 *    trimmed before the entry that it ends.
 * JR3 the log stays short: while it is longer than it may be and most of it is dead, what lives at its front is copied forward, however
 *    much of the front that is. An entry is copied again only when all that stood before its copy is trimmed, and most of that was
 *    dead: each copy pays for more than one dead blob, or for as many dead bytes.
 */
export class Journal {
  readonly #log: string;
  readonly #writer = new Writer(64 * 1024);
  #open: Blob = { bytes: 0, live: 0, entries: [] };
  #blobs: Blob[] = [];
  /** Number of the first blob in #blobs. */
  #first = 1;
  #trimmed = 1;
  #bytes = 0;
  #written = 0;
  /** Entries that are live, and the length of their records. */
  #live = 0;
  #liveBytes = 0;
  /** Newest blob of which the store is known to hold all while it refuses; else what was persisted waits in front of what is said. */
  #stored = Number.POSITIVE_INFINITY;

  constructor(log: string = LOG) {
    this.#log = log;
  }

  /** position is the number of the newest blob; it only rises. */
  get position(): number {
    return this.#first + this.#blobs.length - 1;
  }

  /**
   * told is the position that others may hear: while the store refuses, what it holds. One that a crash takes back would pass for a
   * journal that was restored from a backup, and the outcomes of what is under way would be lost (OW7).
   */
  get told(): number {
    return Math.min(this.position, this.#stored);
  }

  /** refused takes what was persisted and is not stored: nothing of what comes now is, until the store accepts again. */
  refused(unstored: readonly StoreOp[]): void {
    const first = unstored.find((op) => op.op === "append" && op.log === this.#log);
    this.#stored = Math.min(this.told, first?.op === "append" ? first.seq - 1 : this.position);
  }

  /** accepted says that the store takes writes again: what it has not yet waits in front of what is said. */
  accepted(): void {
    this.#stored = Number.POSITIVE_INFINITY;
  }

  /** dirty: something waits for `flush`. */
  get dirty(): boolean {
    return this.#writer.length > 0;
  }

  /** blobs and bytes are the length of the log that is not trimmed. */
  get blobs(): number {
    return this.#blobs.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** written counts the bytes written since the start. */
  get written(): number {
    return this.#written;
  }

  /** add writes an entry, again if it changed. */
  add(entry: Entry): void {
    this.drop(entry);
    entry.blob = this.position + 1;
    const before = this.#writer.length;
    entry.write(this.#writer);
    this.#open.entries.push(entry);
    this.#enliven(entry, this.#open, this.#writer.length - before);
  }

  /** drop says that an entry is no longer needed. */
  drop(entry: Entry): void {
    if (entry.blob === 0) return;
    this.#blobOf(entry.blob).live--;
    this.#live--;
    this.#liveBytes -= entry.recordBytes;
    entry.blob = 0;
  }

  /** note writes a record that ends others and that nothing refers to. */
  note(write: (writer: Writer) => void): void {
    write(this.#writer);
  }

  /** flush makes what was written one blob, as a persist effect. */
  flush(out: CommandEffect[]): void {
    if (!this.dirty) return;
    this.#copyForward();
    const bytes = this.#writer.take();
    const seq = this.position + 1;
    this.#blobs.push({ ...this.#open, bytes: bytes.length });
    this.#open = { bytes: 0, live: 0, entries: [] };
    this.#bytes += bytes.length;
    this.#written += bytes.length;
    const ops: StoreOp[] = [{ op: "append", log: this.#log, seq, bytes }];
    this.#trim(ops);
    out.push({ kind: "persist", ops });
  }

  /** load takes over a stored blob; `entries` are added by `adopt`. Blobs come in order. */
  load(seq: number, bytes: number): void {
    if (this.#blobs.length === 0) {
      this.#first = seq;
      this.#trimmed = seq;
    }
    assert(seq === this.position + 1, "journal has a gap", { seq, position: this.position });
    this.#blobs.push({ bytes, live: 0, entries: [] });
    this.#bytes += bytes;
  }

  /** adopt says that an entry's newest record, of so many bytes, stands in the blob loaded last. */
  adopt(entry: Entry, bytes: number): void {
    this.drop(entry);
    const blob = this.#blobs.at(-1);
    assert(blob !== undefined, "adopt follows load");
    blob.entries.push(entry);
    entry.blob = this.position;
    this.#enliven(entry, blob, bytes);
  }

  #enliven(entry: Entry, blob: Blob, bytes: number): void {
    entry.recordBytes = bytes;
    blob.live++;
    this.#live++;
    this.#liveBytes += bytes;
  }

  #blobOf(seq: number): Blob {
    if (seq === this.position + 1) return this.#open;
    const blob = this.#blobs[seq - this.#first];
    assert(blob !== undefined, "entry is in a blob that is gone", { seq, first: this.#first });
    return blob;
  }

  /** A live entry keeps at most one blob alive, so that of more than twice as many blobs most are dead. */
  get #manyBlobs(): boolean {
    return this.#blobs.length > COMPACT_BLOBS && this.#blobs.length > 2 * this.#live;
  }

  get #manyBytes(): boolean {
    return this.#bytes > COMPACT_BYTES && this.#bytes > 2 * this.#liveBytes;
  }

  /** copyForward moves the front of a log that is too long behind it. The younger half stays: most of what lives there dies soon. */
  #copyForward(): void {
    if (!this.#manyBlobs && !this.#manyBytes) return;
    const keep = Math.max(COMPACT_BLOBS / 2, this.#live);
    const keepBytes = Math.max(COMPACT_BYTES / 2, this.#liveBytes);
    const full = this.#writer.length + Math.max(COPY_BYTES, this.#writer.length);
    let copies = 0;
    let bytes = this.#bytes;
    for (let i = 0; this.#blobs.length - i > keep || bytes > keepBytes; i++) {
      const blob = this.#blobs[i];
      if (blob === undefined) return;
      bytes -= blob.bytes;
      if (blob.live === 0) continue;
      const seq = this.#first + i;
      for (const entry of blob.entries) {
        if (entry.blob !== seq) continue;
        if (copies === COPIES_MAX || this.#writer.length >= full) return;
        this.add(entry);
        copies++;
      }
    }
  }

  #trim(ops: StoreOp[]): void {
    let dead = 0;
    while (dead < this.#blobs.length - 1 && (this.#blobs[dead] as Blob).live === 0) dead++;
    if (dead === 0 || (dead < TRIM_BATCH && !this.#manyBytes)) return;
    for (let i = 0; i < dead; i++) this.#bytes -= (this.#blobs[i] as Blob).bytes;
    this.#blobs.splice(0, dead);
    this.#first += dead;
    this.#trimmed = this.#first;
    ops.push({ op: "trim", log: this.#log, below: this.#trimmed });
  }
}
