import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import type { CommandEffect } from "./messages.ts";
import { Writer } from "./wire.ts";

/** Name of the log in the service's store. */
export const LOG = "journal";

/** Entry is something that the journal must not lose while it is live. It is written again when the oldest blobs are cleared. */
export interface Entry {
  /** Blob that holds it; 0 if it was never written or is dropped. */
  blob: number;
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
/** The log is compacted when it is longer than this, and mostly dead. */
const COMPACT_BLOBS = 2_048;
const COMPACT_BYTES = 8 * 1024 * 1024;
/** Entries copied forward by one flush, so that compaction never makes a commit long. */
const COPIES_MAX = 256;

/**
 * Journal is what makes an effect happen at most once: an append-only log of blobs, one per step, with everything that
 * is live indexed in memory.
 *
 * J1 what one step writes is one blob; the driver makes the blobs of one turn one transaction.
 * J2 a blob is trimmed only when all before it are trimmed and nothing in it is live: a note that ends an entry is never
 *    trimmed before the entry that it ends.
 * J3 the log stays short: what lives long is copied forward when most of the log is dead.
 */
export class Journal {
  readonly #writer = new Writer(64 * 1024);
  #open: Blob = { bytes: 0, live: 0, entries: [] };
  #blobs: Blob[] = [];
  /** Number of the first blob in #blobs. */
  #first = 1;
  #trimmed = 1;
  #bytes = 0;
  #written = 0;

  /** position is the number of the newest blob; it only rises. */
  get position(): number {
    return this.#first + this.#blobs.length - 1;
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
    entry.write(this.#writer);
    this.#open.entries.push(entry);
    this.#open.live++;
  }

  /** drop says that an entry is no longer needed. */
  drop(entry: Entry): void {
    if (entry.blob === 0) return;
    this.#blobOf(entry.blob).live--;
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
    const ops: StoreOp[] = [{ op: "append", log: LOG, seq, bytes }];
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

  /** adopt says that an entry's newest record stands in the blob loaded last. */
  adopt(entry: Entry): void {
    this.drop(entry);
    const blob = this.#blobs.at(-1);
    assert(blob !== undefined, "adopt follows load");
    blob.live++;
    blob.entries.push(entry);
    entry.blob = this.position;
  }

  #blobOf(seq: number): Blob {
    if (seq === this.position + 1) return this.#open;
    const blob = this.#blobs[seq - this.#first];
    assert(blob !== undefined, "entry is in a blob that is gone", { seq, first: this.#first });
    return blob;
  }

  #copyForward(): void {
    if (this.#blobs.length < COMPACT_BLOBS && this.#bytes < COMPACT_BYTES) return;
    let copies = 0;
    for (let i = 0; i < this.#blobs.length && copies < COPIES_MAX; i++) {
      const blob = this.#blobs[i] as Blob;
      // A front that is mostly alive is not worth moving: the log is that long because so much is kept.
      if (blob.live * 2 > blob.entries.length && blob.live > COPIES_MAX / 4) break;
      const seq = this.#first + i;
      for (const entry of blob.entries) {
        if (entry.blob !== seq) continue;
        this.add(entry);
        copies++;
      }
    }
  }

  #trim(ops: StoreOp[]): void {
    let dead = 0;
    while (dead < this.#blobs.length - 1 && (this.#blobs[dead] as Blob).live === 0) dead++;
    if (dead < TRIM_BATCH) return;
    for (let i = 0; i < dead; i++) this.#bytes -= (this.#blobs[i] as Blob).bytes;
    this.#blobs.splice(0, dead);
    this.#first += dead;
    this.#trimmed = this.#first;
    ops.push({ op: "trim", log: LOG, below: this.#trimmed });
  }
}
