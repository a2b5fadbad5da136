import type { StoreOp } from "#kernel/core.ts";
import type { StoredLog } from "../../../services/coordination/log/engine.ts";

/** Disk is what a replica stores, in memory, quick to copy: the store as an engine sees it at a start. */
export class Disk implements StoredLog {
  readonly logs = new Map<string, Map<number, Uint8Array>>();
  readonly spaces = new Map<string, Map<string, Uint8Array>>();

  apply(ops: readonly StoreOp[]): void {
    for (const op of ops) this.#apply(op);
  }

  /** copy is the disk as it is now. */
  copy(): Disk {
    const disk = new Disk();
    for (const [name, log] of this.logs) disk.logs.set(name, new Map(log));
    for (const [name, space] of this.spaces) disk.spaces.set(name, new Map(space));
    return disk;
  }

  *read(log: string, from: number): Iterable<{ readonly seq: number; readonly bytes: Uint8Array }> {
    const blobs = this.logs.get(log);
    for (const seq of [...(blobs?.keys() ?? [])].sort((a, b) => a - b))
      if (seq >= from) yield { seq, bytes: blobs?.get(seq) as Uint8Array };
  }

  get(space: string, key: string): Uint8Array | undefined {
    return this.spaces.get(space)?.get(key);
  }

  *space(space: string): Iterable<{ readonly key: string; readonly bytes: Uint8Array }> {
    for (const [key, bytes] of [...(this.spaces.get(space) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) yield { key, bytes };
  }

  #log(name: string): Map<number, Uint8Array> {
    let log = this.logs.get(name);
    if (log === undefined) this.logs.set(name, (log = new Map()));
    return log;
  }

  #apply(op: StoreOp): void {
    switch (op.op) {
      case "append":
        if (this.#log(op.log).has(op.seq)) throw new Error(`position ${op.seq} of ${op.log} is taken`);
        this.#log(op.log).set(op.seq, op.bytes);
        return;
      case "trim":
        for (const seq of this.#log(op.log).keys()) if (seq < op.below) this.#log(op.log).delete(seq);
        return;
      case "cut":
        for (const seq of this.#log(op.log).keys()) if (seq >= op.from) this.#log(op.log).delete(seq);
        return;
      case "drop":
        this.logs.delete(op.log);
        return;
      case "put": {
        const space = this.spaces.get(op.space) ?? new Map<string, Uint8Array>();
        this.spaces.set(op.space, space);
        space.set(op.key, op.bytes);
        return;
      }
      case "delete":
        this.spaces.get(op.space)?.delete(op.key);
        return;
      case "clear":
        this.spaces.delete(op.space);
    }
  }
}
