import { assert } from "#kernel/assert.ts";
import type { StoreOp } from "#kernel/core.ts";
import type { Blob, CommitOutcome, Store } from "#runtime/store/port.ts";

/** MemoryStoreOptions shape the simulated disk. */
export interface MemoryStoreOptions {
  readonly durability?: "full" | "process";
  /**
   * schedule runs a commit's completion later, when the simulator wants it; commits are then asynchronous, and may complete in
   * the order of the caller's choice only one at a time, as the committer has one in flight. Without it they are synchronous.
   */
  readonly schedule?: (complete: () => void) => void;
}

/** Fault is how a commit fails; "untouched": before anything was written, for want of a lock. */
type Fault = "full" | "io" | "untouched";

/**
 * MemoryStore is the store port in memory, with the crashes of a real disk. Under "full" a batch is durable when it is
 * answered; under "process" only after `sync`, as an operating system writes back in its own time.
 */
export class MemoryStore implements Store {
  readonly durability: "full" | "process";
  readonly tailAtRisk: boolean;
  readonly #schedule: ((complete: () => void) => void) | undefined;
  readonly #state: Tables;
  /** What survives a crash of the machine, and the batches that would not. Under "full" they are not used. */
  readonly #synced: Tables | undefined;
  #unsynced: (readonly StoreOp[])[] = [];
  /** The batch whose answer is still to come. */
  #inFlight: readonly StoreOp[] | undefined;
  #faults: Fault[] = [];
  #fault: Fault | undefined;
  #alive = true;

  constructor(options: MemoryStoreOptions = {}, disk?: Tables, tailAtRisk = false) {
    this.durability = options.durability ?? "full";
    this.tailAtRisk = tailAtRisk;
    this.#schedule = options.schedule;
    this.#state = disk?.copy() ?? new Tables();
    this.#synced = this.durability === "process" ? this.#state.copy() : undefined;
  }

  commit(ops: readonly StoreOp[]): CommitOutcome | Promise<CommitOutcome> {
    assert(this.#alive, "commit on a store that is gone");
    if (this.#schedule === undefined) return this.#complete(ops);
    assert(this.#inFlight === undefined, "two commits in flight");
    const batch = [...ops];
    this.#inFlight = batch;
    return new Promise((resolve) => {
      this.#schedule?.(() => {
        if (!this.#alive) return;
        this.#inFlight = undefined;
        resolve(this.#complete(batch));
      });
    });
  }

  logs(): string[] {
    return [...this.#state.logs]
      .filter(([, blobs]) => blobs.size > 0)
      .map(([name]) => name)
      .sort();
  }

  *read(log: string, from: number): Iterable<Blob> {
    const blobs = this.#state.logs.get(log);
    for (const seq of [...(blobs?.keys() ?? [])].sort((a, b) => a - b)) {
      const bytes = blobs?.get(seq);
      if (seq >= from && bytes !== undefined) yield { seq, bytes };
    }
  }

  *space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }> {
    const entries = [...(this.#state.spaces.get(space) ?? [])];
    entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const [key, bytes] of entries) yield { key, bytes };
  }

  get(space: string, key: string): Uint8Array | undefined {
    return this.#state.spaces.get(space)?.get(key);
  }

  close(): void {
    this.sync();
    this.#alive = false;
  }

  /** failNext makes the next commits fail, one per reason given. */
  failNext(...reasons: Fault[]): void {
    this.#faults.push(...reasons);
  }

  /** failAll makes every commit fail until it is called with undefined. */
  failAll(reason: "full" | "io" | undefined): void {
    this.#fault = reason;
  }

  /** sync writes back what "process" durability left to the operating system. */
  sync(): void {
    for (const batch of this.#unsynced) this.#synced?.apply(batch);
    this.#unsynced = [];
  }

  /**
   * crash ends this store and answers the one that a restart finds. "process": what was answered is there. "machine": under
   * "process" durability only what was synced. The batch in flight had no answer yet, so either may have happened to it:
   * `inFlight` chooses; a torn write is "lost", since a batch is applied entirely or not at all (ST1).
   */
  crash(what: "process" | "machine", inFlight: "lost" | "applied" = "lost", options: MemoryStoreOptions = {}): MemoryStore {
    this.#alive = false;
    const disk = what === "machine" && this.#synced !== undefined ? this.#synced : this.#state;
    if (inFlight === "applied" && this.#inFlight !== undefined && disk === this.#state) disk.apply(this.#inFlight);
    const atRisk = what === "machine" && this.durability === "process";
    return new MemoryStore({ durability: this.durability, ...options }, disk, atRisk);
  }

  /** backup answers an independent copy of the disk as it is now: restoring it is how a hub falls back in time. */
  backup(options: MemoryStoreOptions = {}): MemoryStore {
    return new MemoryStore({ durability: this.durability, ...options }, this.#state);
  }

  #complete(ops: readonly StoreOp[]): CommitOutcome {
    const fault = this.#faults.shift() ?? this.#fault;
    if (fault === "untouched") return { ok: false, reason: "io", message: "the database is locked", untouched: true };
    if (fault !== undefined) return { ok: false, reason: fault, message: fault === "full" ? "the disk is full" : "the disk failed" };
    const taken = this.#state.apply(ops);
    if (taken !== undefined) return { ok: false, reason: "conflict", message: `position is taken: ${taken}` };
    if (this.#synced !== undefined) this.#unsynced.push([...ops]);
    return { ok: true };
  }
}

/** Tables are the content of a store. Bytes are shared, never changed. */
class Tables {
  readonly logs = new Map<string, Map<number, Uint8Array>>();
  readonly spaces = new Map<string, Map<string, Uint8Array>>();

  copy(): Tables {
    const copy = new Tables();
    for (const [name, blobs] of this.logs) copy.logs.set(name, new Map(blobs));
    for (const [name, entries] of this.spaces) copy.spaces.set(name, new Map(entries));
    return copy;
  }

  /** apply does a whole batch or nothing; then it answers the position that was taken. */
  apply(ops: readonly StoreOp[]): string | undefined {
    const undo: (() => void)[] = [];
    for (const op of ops) {
      if (op.op === "append" && this.logs.get(op.log)?.has(op.seq)) {
        for (const back of undo.reverse()) back();
        return `${op.log}/${op.seq}`;
      }
      undo.push(this.#one(op));
    }
    return undefined;
  }

  /** one does an operation and answers how to undo it. */
  #one(op: StoreOp): () => void {
    switch (op.op) {
      case "append": {
        const blobs = tableOf(this.logs, op.log);
        blobs.set(op.seq, op.bytes);
        return () => void blobs.delete(op.seq);
      }
      case "trim": {
        const blobs = tableOf(this.logs, op.log);
        const gone = [...blobs].filter(([seq]) => seq < op.below);
        for (const [seq] of gone) blobs.delete(seq);
        return () => gone.forEach(([seq, bytes]) => void blobs.set(seq, bytes));
      }
      case "cut": {
        const blobs = tableOf(this.logs, op.log);
        const gone = [...blobs].filter(([seq]) => seq >= op.from);
        for (const [seq] of gone) blobs.delete(seq);
        return () => gone.forEach(([seq, bytes]) => void blobs.set(seq, bytes));
      }
      case "drop": {
        const blobs = this.logs.get(op.log);
        this.logs.delete(op.log);
        return () => void (blobs === undefined ? this.logs.delete(op.log) : this.logs.set(op.log, blobs));
      }
      case "put":
      case "delete": {
        const entries = tableOf(this.spaces, op.space);
        const before = entries.get(op.key);
        if (op.op === "put") entries.set(op.key, op.bytes);
        else entries.delete(op.key);
        return () => void (before === undefined ? entries.delete(op.key) : entries.set(op.key, before));
      }
      case "clear": {
        const entries = this.spaces.get(op.space);
        this.spaces.delete(op.space);
        return () => void (entries === undefined ? this.spaces.delete(op.space) : this.spaces.set(op.space, entries));
      }
    }
  }
}

function tableOf<K>(tables: Map<string, Map<K, Uint8Array>>, name: string): Map<K, Uint8Array> {
  let table = tables.get(name);
  if (table === undefined) {
    table = new Map();
    tables.set(name, table);
  }
  return table;
}
