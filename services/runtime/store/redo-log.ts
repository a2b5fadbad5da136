import { closeSync, constants, existsSync, fdatasyncSync, fstatSync, fsyncSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import type { StoreOp } from "#kernel/core.ts";
import { fail } from "#kernel/error.ts";

/**
 * Room for records, bytes: a new file has little, and doubles it each time it is used up until there is plenty. At 10,000 state
 * changes per second the most lasts some ten seconds.
 */
const FIRST_ROOM = 256 * 1024;
const MOST_ROOM = 4 * 1024 * 1024;
/** The first block says whose file it is. */
const HEAD = 4_096;
const MAGIC = "FDUSREDO";
const VERSION = 1;
/** Length, checksum and number in front of each record. */
const RECORD_HEAD = 16;

const OPS = ["append", "trim", "drop", "put", "delete", "clear"] as const;

/**
 * RedoLog makes batches durable by one short write into a file that is laid out beforehand, so that a commit costs the disk one
 * write and the file system nothing: no growth, no change of metadata, no journal of its own that other files share. The store
 * takes each batch without a sync, and this file holds all batches since the store was last synced (write-ahead redo log;
 * Haerder and Reuter, "Principles of Transaction-Oriented Database Recovery", 1983).
 *
 * R1 a batch that `append` took survives power loss; batches are numbered without gaps.
 * R2 `replay` yields, in order, all batches from the given number on that were taken and not given up by `restart`. To apply
 *    again what the store has already does no harm: the last change of each blob wins.
 * R3 a torn record ends the replay: it was never answered. It is told from a whole one by CRC-32 over number and content.
 * R4 as in SQLite, a write is trusted not to damage bytes outside its range (powersafe overwrite).
 */
export class RedoLog {
  readonly #path: string;
  readonly #file: number;
  readonly #synced: boolean;
  /** Where the room ends. */
  #end: number;
  readonly #most: number;
  readonly #seed: number;
  #next: number;
  #offset = HEAD;
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #length = 0;

  /**
   * The file of a store, made if it is missing; it may grow to that much room, bytes. `storeId` ties both together, `next` is the number of the next
   * batch. It throws STORE_UNAVAILABLE for a file of another store, UPGRADE_NEEDED for one of newer software.
   */
  constructor(path: string, storeId: string, next: number, mostRoom = MOST_ROOM) {
    this.#path = path;
    this.#most = mostRoom;
    this.#seed = crc32(storeId);
    this.#next = next;
    if (!existsSync(path)) layOut(path, storeId, Math.min(FIRST_ROOM, mostRoom));
    // Where the flag is missing, a call follows each write instead.
    const sync: number | undefined = constants.O_DSYNC;
    this.#synced = sync !== undefined;
    this.#file = openSync(path, constants.O_RDWR | (sync ?? 0));
    this.#checkHead(storeId);
    this.#end = fstatSync(this.#file).size;
  }

  /** next is the number of the next batch. */
  get next(): number {
    return this.#next;
  }

  /** fits tells whether a batch finds room; if not, the store must be synced and `restart` called. Bytes of large blobs decide. */
  fits(ops: readonly StoreOp[]): boolean {
    let bytes = RECORD_HEAD;
    for (let i = 0; i < ops.length; i++) {
      const op = ops[i] as StoreOp;
      // Names are short: 3 bytes at most per UTF-16 unit, and two of them.
      bytes += 32 + ("log" in op ? 3 * op.log.length : 3 * op.space.length) + ("key" in op ? 3 * op.key.length : 0);
      if ("bytes" in op) bytes += op.bytes.length;
    }
    return this.#offset + bytes <= this.#end;
  }

  /** append makes a batch durable. It throws the system's error if the disk refuses, and leaves nothing behind then. */
  append(ops: readonly StoreOp[]): void {
    this.#encode(ops);
    let written = 0;
    try {
      while (written < this.#length)
        written += writeSync(this.#file, this.#buffer, written, this.#length - written, this.#offset + written);
      if (!this.#synced) fdatasyncSync(this.#file);
    } catch (error) {
      this.#erase();
      throw error;
    }
    this.#offset += this.#length;
    this.#next++;
  }

  /** undo takes the newest batch back: the store refused it after all. */
  undo(): void {
    this.#offset -= this.#length;
    this.#next--;
    this.#erase();
  }

  /** restart begins the file anew: the store is synced, and holds all batches below `next`. */
  restart(): void {
    this.#offset = HEAD;
    if (this.#buffer.length > 1024 * 1024) this.#buffer = Buffer.allocUnsafe(64 * 1024);
  }

  /**
   * replay yields the batches from `next` on; afterwards `next` is the number after the last. It throws STORE_UNAVAILABLE if the
   * file begins after that number: then store and file are not of the same time.
   */
  *replay(): Iterable<StoreOp[]> {
    const all = Buffer.alloc(Math.max(0, this.#end - HEAD));
    const size = readSync(this.#file, all, 0, all.length, HEAD);
    for (let at = 0; at + RECORD_HEAD <= size; ) {
      const length = all.readUInt32LE(at);
      const end = at + RECORD_HEAD + length;
      if (length === 0 || end > size) return;
      if (crc32(all.subarray(at + 8, end), this.#seed) !== all.readUInt32LE(at + 4)) return;
      const number = all.readUIntLE(at + 8, 6);
      if (at === 0 && number > this.#next)
        throw fail("STORE_UNAVAILABLE", `${this.#path} is newer than the store beside it; put back both from the same backup`);
      // Older than the store: the file was about to begin anew.
      if (number !== this.#next) return;
      yield decode(all.subarray(at + RECORD_HEAD, end));
      this.#next++;
      at = end;
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #checkHead(storeId: string): void {
    const head = Buffer.alloc(HEAD);
    readSync(this.#file, head, 0, HEAD, 0);
    const magic = head.toString("latin1", 0, MAGIC.length);
    const version = head.readUInt32LE(MAGIC.length);
    const owner = head.toString("latin1", MAGIC.length + 5, MAGIC.length + 5 + head.readUInt8(MAGIC.length + 4));
    let wrong: string | undefined;
    if (magic !== MAGIC) wrong = "is damaged or not a file of this software; restore a backup";
    else if (version !== VERSION) wrong = `was written by newer software (format ${version}); run that version`;
    else if (owner !== storeId) wrong = "belongs to another store; put back both from the same backup";
    if (wrong === undefined) return;
    this.close();
    throw fail(version > VERSION && magic === MAGIC ? "UPGRADE_NEEDED" : "STORE_UNAVAILABLE", `${this.#path} ${wrong}`);
  }

  /** widen doubles the room, once it was too little. A disk that refuses leaves it as it is. */
  widen(): void {
    const room = this.#end - HEAD;
    const more = Math.min(room, this.#most - room);
    if (more <= 0) return;
    try {
      fill(this.#file, this.#end, more);
      fsyncSync(this.#file);
      this.#end += more;
    } catch {
      // What could be laid out is used after the next start.
    }
  }

  /** erase makes sure that what was refused is not replayed. If even that fails, the next batch takes its place. */
  #erase(): void {
    try {
      writeSync(this.#file, Buffer.alloc(RECORD_HEAD), 0, RECORD_HEAD, this.#offset);
    } catch {
      // The disk refuses everything; the batch itself was refused already.
    }
  }

  #encode(ops: readonly StoreOp[]): void {
    this.#length = RECORD_HEAD;
    for (let i = 0; i < ops.length; i++) this.#op(ops[i] as StoreOp);
    const length = this.#length;
    this.#buffer.writeUInt32LE(length - RECORD_HEAD, 0);
    this.#buffer.writeUIntLE(this.#next, 8, 6);
    this.#buffer.writeUInt16LE(0, 14);
    this.#buffer.writeUInt32LE(crc32(this.#buffer.subarray(8, length), this.#seed), 4);
  }

  #op(op: StoreOp): void {
    this.#grow(1);
    this.#buffer[this.#length++] = OPS.indexOf(op.op);
    this.#text("log" in op ? op.log : op.space);
    if (op.op === "append") this.#number(op.seq);
    else if (op.op === "trim") this.#number(op.below);
    else if (op.op === "put" || op.op === "delete") this.#text(op.key);
    if (op.op === "append" || op.op === "put") this.#bytes(op.bytes);
  }

  #text(text: string): void {
    this.#grow(4 + 3 * text.length);
    const bytes = this.#buffer.write(text, this.#length + 4);
    this.#buffer.writeUInt32LE(bytes, this.#length);
    this.#length += 4 + bytes;
  }

  /** Numbers of logs are below 2^48; a trim may name more, and means all. */
  #number(value: number): void {
    this.#grow(6);
    this.#length = this.#buffer.writeUIntLE(Math.min(value, 2 ** 48 - 1), this.#length, 6);
  }

  #bytes(bytes: Uint8Array): void {
    this.#grow(4 + bytes.length);
    this.#buffer.writeUInt32LE(bytes.length, this.#length);
    this.#buffer.set(bytes, this.#length + 4);
    this.#length += 4 + bytes.length;
  }

  #grow(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(2 * this.#buffer.length, this.#length + more));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** layOut writes the whole file once: blocks that are only promised would have to be allocated by the writes that follow. */
function layOut(path: string, storeId: string, room: number): void {
  const draft = `${path}.new`;
  const file = openSync(draft, "w", 0o600);
  try {
    const head = Buffer.alloc(HEAD);
    head.write(MAGIC, 0, "latin1");
    head.writeUInt32LE(VERSION, MAGIC.length);
    head.writeUInt8(storeId.length, MAGIC.length + 4);
    head.write(storeId, MAGIC.length + 5, "latin1");
    fill(file, HEAD, room);
    writeSync(file, head, 0, HEAD, 0);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function fill(file: number, from: number, bytes: number): void {
  const zeros = Buffer.alloc(Math.min(bytes, 256 * 1024));
  for (let at = from; at < from + bytes; at += zeros.length) writeSync(file, zeros, 0, Math.min(zeros.length, from + bytes - at), at);
}

function decode(record: Buffer): StoreOp[] {
  const ops: StoreOp[] = [];
  let at = 0;
  const text = (): string => {
    const length = record.readUInt32LE(at);
    at += 4 + length;
    return record.toString("utf8", at - length, at);
  };
  const number = (): number => {
    at += 6;
    return record.readUIntLE(at - 6, 6);
  };
  const bytes = (): Uint8Array => {
    const length = record.readUInt32LE(at);
    at += 4 + length;
    return record.subarray(at - length, at);
  };
  while (at < record.length) {
    const op = OPS[record[at++] as number];
    const name = text();
    if (op === "append") ops.push({ op, log: name, seq: number(), bytes: bytes() });
    else if (op === "trim") ops.push({ op, log: name, below: number() });
    else if (op === "put") ops.push({ op, space: name, key: text(), bytes: bytes() });
    else if (op === "delete") ops.push({ op, space: name, key: text() });
    else if (op === "clear") ops.push({ op, space: name });
    else if (op === "drop") ops.push({ op, log: name });
    else throw new Error(`redo log has an operation of kind ${record[at - 1]}`);
  }
  return ops;
}
