import type { Crypto } from "#kernel/crypto.ts";
import { copyOf } from "#kernel/wire/bytes.ts";
import type { EngineSnapshot, Membership } from "../../log/engine.ts";
import type { Manifest } from "./record.ts";

/** Snapshot is a manifest with its parts. */
export interface Snapshot {
  readonly manifest: Manifest;
  readonly parts: readonly Uint8Array[];
}

/** SnapshotBox keeps the newest snapshot of a replica, as it is stored and sent. */
export class SnapshotBox {
  #snapshot: Snapshot | undefined;

  constructor(snapshot: Snapshot | undefined) {
    this.#snapshot = snapshot;
  }

  get snapshot(): Snapshot | undefined {
    return this.#snapshot;
  }

  /** index is the position that the snapshot stands for; 0 if there is none. */
  get index(): number {
    return this.#snapshot?.manifest.index ?? 0;
  }

  put(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
  }
}

/** cutState makes a snapshot of the application's state. */
export function cutState(
  at: { readonly index: number; readonly term: number; readonly time: number; readonly membership: Membership },
  state: Uint8Array,
  partBytes: number,
  crypto: Crypto,
): Snapshot {
  const parts: Uint8Array[] = [];
  for (let from = 0; from < state.length; from += partBytes) parts.push(copyOf(state, from, Math.min(from + partBytes, state.length)));
  const digests = parts.map((part) => crypto.hash(part));
  return { manifest: { sender: "", ...at, length: state.length, partBytes, digests }, parts };
}

/** engineSnapshot is a snapshot as the application gets it. */
export function engineSnapshot({ manifest, parts }: Snapshot): EngineSnapshot {
  const { index, term, time, membership, length } = manifest;
  const state = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    state.set(part, at);
    at += part.length;
  }
  return { index, term, time, membership, state };
}

/** partLength is how long a part is. */
export function partLength({ length, partBytes }: Manifest, part: number): number {
  return Math.min(partBytes, length - part * partBytes);
}

/** sameBytes compares. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
