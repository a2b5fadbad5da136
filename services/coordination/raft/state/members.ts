import { assert } from "#kernel/assert.ts";
import { hubOf, type Membership, type ReplicaId } from "../../log/engine.ts";

/** NOBODY is the membership of a replica that has not been told of any. */
export const NOBODY: Membership = { voters: [], outgoing: [], learners: [] };

interface Placed {
  readonly index: number;
  readonly membership: Membership;
}

/** isVoterOf tells whether a replica decides in a membership, in either list of a joint one. */
export function isVoterOf(membership: Membership, replica: ReplicaId): boolean {
  return membership.voters.includes(replica) || membership.outgoing.includes(replica);
}

/** isMemberOf tells whether a replica is in a membership at all. */
export function isMemberOf(membership: Membership, replica: ReplicaId): boolean {
  return isVoterOf(membership, replica) || membership.learners.includes(replica);
}

/** everyoneIn lists the replicas of a membership, each once, sorted. */
export function everyoneIn({ voters, outgoing, learners }: Membership): ReplicaId[] {
  return [...new Set([...voters, ...outgoing, ...learners])].sort();
}

/**
 * Members knows which membership counts. The rule:
 *
 * RG1 in force is the newest membership at or below the commit index (of the log, else of the snapshot). It counts for elections,
 *    decisions, reads, and for whom a leader sends to. What is not committed never counts, so that cutting it takes nothing back.
 */
export class Members {
  /** Those of the snapshot (or the beginning) and of the log after it, in order. */
  #placed: Placed[];
  #commit: number;
  #active: Placed;

  constructor(first: Placed) {
    this.#placed = [first];
    this.#commit = first.index;
    this.#active = first;
  }

  /** active is the membership in force. */
  get active(): Membership {
    return this.#active.membership;
  }

  /** activeIndex is the position that brought it. */
  get activeIndex(): number {
    return this.#active.index;
  }

  /** pending is the membership of the log that is not committed yet. */
  get pending(): Placed | undefined {
    const newest = this.#placed.at(-1) as Placed;
    return newest.index > this.#commit ? newest : undefined;
  }

  /** note takes the membership of an entry that was appended. */
  note(index: number, membership: Membership): void {
    assert(index > (this.#placed.at(-1) as Placed).index, "memberships are in order", { index });
    this.#placed.push({ index, membership });
  }

  /** cut forgets those of entries that were cut from a position on. */
  cut(from: number): void {
    assert(from > this.#commit, "what is committed is never cut", { from, commit: this.#commit });
    while ((this.#placed.at(-1) as Placed).index >= from) this.#placed.pop();
  }

  /** commit moves the commit index on; true if another membership is in force now. */
  commit(index: number): boolean {
    this.#commit = index;
    const before = this.#active;
    this.#active = this.#find(index);
    return this.#active !== before;
  }

  /** at is the membership in force at a committed position, which is not before the snapshot. */
  at(index: number): Membership {
    assert(index <= this.#commit, "a membership that is not committed is not in force", { index, commit: this.#commit });
    return this.#find(index).membership;
  }

  /** trim forgets what is older than the membership in force at a position. */
  trim(index: number): void {
    const keep = this.#placed.indexOf(this.#find(index));
    this.#placed.splice(0, keep);
  }

  /** reset begins anew with that of a snapshot. */
  reset(first: Placed): void {
    this.#placed = [first];
    this.#commit = first.index;
    this.#active = first;
  }

  /** knows tells whether a replica is in the membership in force, or in the one that may follow it. */
  knows(replica: ReplicaId): boolean {
    const { pending } = this;
    return isMemberOf(this.active, replica) || (pending !== undefined && isMemberOf(pending.membership, replica));
  }

  /** isReplaced tells whether a newer replica of the same hub is a member. What is left of the older one is not listened to. */
  isReplaced(replica: ReplicaId): boolean {
    if (this.knows(replica)) return false;
    const hub = hubOf(replica);
    const incarnation = incarnationOf(replica);
    const newer = (other: ReplicaId): boolean => hubOf(other) === hub && incarnationOf(other) > incarnation;
    return everyoneIn(this.active).some(newer) || (this.pending !== undefined && everyoneIn(this.pending.membership).some(newer));
  }

  #find(index: number): Placed {
    for (let i = this.#placed.length - 1; i > 0; i--) {
      const placed = this.#placed[i] as Placed;
      if (placed.index <= index) return placed;
    }
    return this.#placed[0] as Placed;
  }
}

function incarnationOf(replica: ReplicaId): number {
  return Number(replica.slice(replica.indexOf("/") + 1));
}
