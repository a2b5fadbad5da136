import { copyOf } from "#kernel/wire/bytes.ts";
import type { ReplicaId, StoredLog } from "../../log/engine.ts";
import type { Settings } from "../options.ts";
import { persist, type Turn } from "../turn.ts";
import { type Evidence, verifyEvidence } from "./evidence.ts";

const SPACE = "bft.evidence";

/** EvidenceBook keeps proofs, each verified, one of a replica and height, of each replica the first few: one is enough to condemn it. */
export class EvidenceBook {
  readonly #settings: Settings;
  readonly #known = new Map<ReplicaId, Map<number, Uint8Array>>();

  constructor(settings: Settings, stored: StoredLog) {
    this.#settings = settings;
    for (const { bytes } of stored.space(SPACE)) {
      const evidence = verifyEvidence(settings.verifier, bytes);
      if (evidence !== undefined) this.#of(evidence.against).set(evidence.height, bytes);
    }
  }

  /** record keeps a proof and makes it known. It answers what it proves, undefined for nothing, "known" for nothing new. */
  record(turn: Turn, proof: Uint8Array): Evidence | "known" | undefined {
    const evidence = verifyEvidence(this.#settings.verifier, proof);
    if (evidence === undefined) return undefined;
    const { against, height, kind } = evidence;
    const known = this.#of(against);
    if (known.has(height) || known.size >= this.#settings.limits.proofsPerReplica) return "known";
    const bytes = copyOf(proof);
    known.set(height, bytes);
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

  #of(against: ReplicaId): Map<number, Uint8Array> {
    let known = this.#known.get(against);
    if (known === undefined) this.#known.set(against, (known = new Map()));
    return known;
  }
}
