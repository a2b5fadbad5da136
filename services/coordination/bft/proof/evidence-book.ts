import { copyOf } from "#kernel/wire/bytes.ts";
import { hubOf, type ReplicaId, type StoredLog } from "../../log/engine.ts";
import type { Settings } from "../options.ts";
import { persist, type Turn } from "../turn.ts";
import { type Evidence, verifyEvidence } from "./evidence.ts";

const SPACE = "bft.evidence";

/**
 * EvidenceBook keeps proofs, each verified, one of a replica and height, of each hub the first few: one is enough to condemn it. A hub signs
 * with one key for all replicas that it ever had, or says that it had, so that it is hubs whose proofs are counted.
 */
export class EvidenceBook {
  readonly #settings: Settings;
  readonly #known = new Map<ReplicaId, Map<number, Uint8Array>>();

  constructor(settings: Settings, stored: StoredLog) {
    this.#settings = settings;
    for (const { bytes } of stored.space(SPACE)) {
      const evidence = verifyEvidence(settings.verifier, bytes);
      if (evidence === undefined) continue;
      const { against, height } = evidence;
      this.#known.set(against, (this.#known.get(against) ?? new Map<number, Uint8Array>()).set(height, bytes));
    }
  }

  /** record keeps a proof and makes it known. It answers what it proves, undefined for nothing, "known" for nothing new. */
  record(turn: Turn, proof: Uint8Array): Evidence | "known" | undefined {
    const evidence = verifyEvidence(this.#settings.verifier, proof);
    if (evidence === undefined) return undefined;
    const { against, height, kind } = evidence;
    const known = this.#known.get(against) ?? new Map<number, Uint8Array>();
    if (known.has(height) || this.#ofHub(hubOf(against)) >= this.#settings.limits.proofsPerHub) return "known";
    const bytes = copyOf(proof);
    this.#known.set(against, known.set(height, bytes));
    persist(turn, { op: "put", space: SPACE, key: `${against}@${height}`, bytes });
    turn.out.push({ kind: "evidence", against, proof: bytes, what: kind });
    return evidence;
  }

  /** has tells whether a proof of this replica and height is kept. */
  has(against: ReplicaId, height: number): boolean {
    return this.#known.get(against)?.has(height) === true;
  }

  /** proofs are all that are kept. */
  *proofs(): Iterable<Uint8Array> {
    for (const known of this.#known.values()) yield* known.values();
  }

  /** accused are the replicas of which there are proofs, sorted. */
  accused(): ReplicaId[] {
    return [...this.#known.keys()].sort();
  }

  /** ofHub is how many proofs are kept of all replicas of a hub. */
  #ofHub(hub: string): number {
    let count = 0;
    for (const [replica, known] of this.#known) if (hubOf(replica) === hub) count += known.size;
    return count;
  }
}
