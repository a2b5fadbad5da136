import type { StoreOp } from "#kernel/core.ts";
import { type Chunks, type Manifest, missingIn } from "../checkpoint/checkpoint.ts";
import type { SagaStore } from "./saga.ts";

/** Held are the chunks that a destination has. They are stored by windows, as a write costs the whole hub more than its bytes do. */
export class Held {
  readonly #store: SagaStore;
  readonly #windowBytes: number;
  readonly #all = new Map<string, Uint8Array>();
  /** What is not stored yet, and its bytes. */
  readonly #fresh = new Map<string, Uint8Array>();
  #freshBytes = 0;

  /** Begins with chunks that are stored. */
  constructor(store: SagaStore, windowBytes: number, stored: Chunks) {
    this.#store = store;
    this.#windowBytes = windowBytes;
    for (const [digest, bytes] of stored) this.#all.set(digest, bytes);
  }

  /** all is what is held, by digest. */
  get all(): Chunks {
    return this.#all;
  }

  get bytes(): number {
    let bytes = 0;
    for (const chunk of this.#all.values()) bytes += chunk.length;
    return bytes;
  }

  /** add takes chunks, and gives what is to be written now: all of it as soon as nothing of the manifest is missing. */
  add(found: Chunks, manifest: Manifest): readonly StoreOp[] {
    for (const [digest, bytes] of found) {
      this.#all.set(digest, bytes);
      this.#fresh.set(digest, bytes);
      this.#freshBytes += bytes.length;
    }
    return this.#freshBytes >= this.#windowBytes || missingIn(manifest, this.#all).length === 0 ? this.#written() : [];
  }

  /** keep goes on with what is in a manifest, and gives what is to be written for it. */
  keep({ chunks }: Manifest): readonly StoreOp[] {
    const wanted = new Set(chunks.map(({ digest }) => digest));
    for (const held of [this.#all, this.#fresh]) for (const digest of held.keys()) if (!wanted.has(digest)) held.delete(digest);
    return [...this.#store.keep(wanted), ...this.#written()];
  }

  /** clear drops all of it. */
  clear(): readonly StoreOp[] {
    this.#all.clear();
    this.#fresh.clear();
    return this.#store.keep(new Set());
  }

  #written(): StoreOp[] {
    const ops = this.#store.add(this.#fresh);
    this.#fresh.clear();
    this.#freshBytes = 0;
    return ops;
  }
}
