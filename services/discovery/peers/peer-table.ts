import type { Now } from "#kernel/instant.ts";
import type { Prng } from "#kernel/prng.ts";
import type { Effect, PeerRecord, PeerSpec, RecordCodec } from "../messages.ts";
import type { CoreConfig } from "../settings.ts";
import { newPeer, type Peer } from "./peer.ts";

/** PEER_SPACE is the space of the store that holds peer records by hub id. */
export const PEER_SPACE = "peers";

/** TableOptions are what a table is made of. */
export interface TableOptions {
  readonly config: CoreConfig;
  readonly prng: Prng;
  readonly codec: RecordCodec;
}

/** PeerTable keeps the peers, what an earlier run stored of them, and of which of them the watchers have to be told. */
export class PeerTable {
  readonly config: CoreConfig;
  readonly #prng: Prng;
  readonly #codec: RecordCodec;
  readonly #peers = new Map<string, Peer>();
  readonly #stored = new Map<string, PeerRecord>();
  readonly #touched = new Set<string>();

  constructor({ config, prng, codec }: TableOptions) {
    this.config = config;
    this.#prng = prng;
    this.#codec = codec;
  }

  get size(): number {
    return this.#peers.size;
  }

  /** restore takes what an earlier run stored, before the first peer is added. */
  restore(records: Iterable<readonly [string, PeerRecord]>): void {
    for (const [hubId, record] of records) this.#stored.set(hubId, record);
  }

  get(hubId: string): Peer | undefined {
    return this.#peers.get(hubId);
  }

  peers(): Iterable<Peer> {
    return this.#peers.values();
  }

  hubIds(): Iterable<string> {
    return this.#peers.keys();
  }

  /** sorted lists the peers by their hub ids. */
  sorted(): Peer[] {
    return [...this.#peers.values()].sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
  }

  /** known lists the peers, and the hubs of which only a record is left. */
  known(): string[] {
    return [...this.#peers.keys(), ...this.#stored.keys()];
  }

  /** add makes a peer of what the configuration says and an earlier run left. True if there was something left. */
  add(now: Now, spec: PeerSpec): { readonly peer: Peer; readonly restored: boolean } {
    const stored = this.#stored.get(spec.hubId);
    this.#stored.delete(spec.hubId);
    const peer = newPeer(now, spec, stored, this.#prng, this.config.backoff);
    this.#peers.set(spec.hubId, peer);
    return { peer, restored: stored !== undefined };
  }

  /** remove forgets a hub and what is stored of it. True if it was a peer. */
  remove(hubId: string, out: Effect[]): boolean {
    this.#stored.delete(hubId);
    out.push({ kind: "persist", ops: [{ op: "delete", space: PEER_SPACE, key: hubId }] });
    return this.#peers.delete(hubId);
  }

  persist(peer: Peer, out: Effect[]): void {
    out.push({ kind: "persist", ops: [{ op: "put", space: PEER_SPACE, key: peer.hubId, bytes: this.#codec.encode(peer.record) }] });
  }

  /** touch notes that a hub may look different to the watchers now. */
  touch(hubId: string): void {
    this.#touched.add(hubId);
  }

  /** takeTouched hands over the hubs that were touched since the last time. */
  takeTouched(each: (hubId: string) => void): void {
    for (const hubId of this.#touched) each(hubId);
    this.#touched.clear();
  }
}
