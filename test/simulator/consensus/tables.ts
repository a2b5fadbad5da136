import type { StoreOp } from "#kernel/core.ts";
import type { Blob } from "#runtime/store/port.ts";

/** Tables are the content of a store. Bytes are shared, never changed. */
export class Tables {
  readonly #logs = new Map<string, Map<number, Uint8Array>>();
  readonly #spaces = new Map<string, Map<string, Uint8Array>>();

  copy(): Tables {
    const copy = new Tables();
    for (const [name, blobs] of this.#logs) copy.#logs.set(name, new Map(blobs));
    for (const [name, entries] of this.#spaces) copy.#spaces.set(name, new Map(entries));
    return copy;
  }

  logNames(): string[] {
    return [...this.#logs].flatMap(([name, blobs]) => (blobs.size > 0 ? [name] : [])).sort();
  }

  read(log: string, from: number): Blob[] {
    const blobs = [...(this.#logs.get(log) ?? [])].flatMap(([seq, bytes]) => (seq >= from ? [{ seq, bytes }] : []));
    return blobs.sort((a, b) => a.seq - b.seq);
  }

  entries(space: string): { readonly key: string; readonly bytes: Uint8Array }[] {
    const entries = [...(this.#spaces.get(space) ?? [])].map(([key, bytes]) => ({ key, bytes }));
    return entries.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
  }

  get(space: string, key: string): Uint8Array | undefined {
    return this.#spaces.get(space)?.get(key);
  }

  /** apply does a whole batch, in order. A position that is taken ends the process, so what was done before it may stay. */
  apply(ops: readonly StoreOp[]): string | undefined {
    for (const op of ops) {
      const taken = this.#one(op);
      if (taken !== undefined) return taken;
    }
    return undefined;
  }

  #one(op: StoreOp): string | undefined {
    switch (op.op) {
      case "append": {
        const blobs = tableOf(this.#logs, op.log);
        if (blobs.has(op.seq)) return `${op.log}/${op.seq}`;
        blobs.set(op.seq, op.bytes);
        return undefined;
      }
      case "trim":
        this.#remove(op.log, 0, op.below);
        return undefined;
      case "cut":
        this.#remove(op.log, op.from, Number.POSITIVE_INFINITY);
        return undefined;
      case "drop":
        this.#logs.delete(op.log);
        return undefined;
      case "put":
        tableOf(this.#spaces, op.space).set(op.key, op.bytes);
        return undefined;
      case "delete":
        this.#spaces.get(op.space)?.delete(op.key);
        return undefined;
      case "clear":
        this.#spaces.delete(op.space);
        return undefined;
    }
  }

  #remove(log: string, from: number, below: number): void {
    const blobs = this.#logs.get(log);
    if (blobs !== undefined) for (const seq of [...blobs.keys()]) if (seq >= from && seq < below) blobs.delete(seq);
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
