import type { Membership, ReplicaId } from "../../log/engine.ts";

/** majorityOf is how many of `n` voters are more than half of them. */
export function majorityOf(n: number): number {
  return Math.floor(n / 2) + 1;
}

/** A majority of nobody is never reached: a membership without voters decides nothing. */
function reachedBy(voters: readonly ReplicaId[], valueOf: (replica: ReplicaId) => number): number {
  if (voters.length === 0) return Number.NEGATIVE_INFINITY;
  const values = voters.map(valueOf).sort((a, b) => b - a);
  return values[majorityOf(voters.length) - 1] as number;
}

/**
 * reached is the largest value that a majority of voters has at least, and during a joint change a majority of either list.
 * -Infinity where there is no voter.
 */
export function reached(membership: Membership, valueOf: (replica: ReplicaId) => number): number {
  const { voters, outgoing } = membership;
  const incoming = reachedBy(voters, valueOf);
  return outgoing.length === 0 ? incoming : Math.min(incoming, reachedBy(outgoing, valueOf));
}

/** isQuorum tells whether those for whom `has` is true can decide. */
export function isQuorum(membership: Membership, has: (replica: ReplicaId) => boolean): boolean {
  return reached(membership, (replica) => (has(replica) ? 1 : 0)) === 1;
}
