import type { Membership, ReplicaId } from "../log/engine.ts";
import { hubOf } from "../log/engine.ts";
import { BFT_BOUNDS } from "./frames.ts";

/** Members are the voters of one height, and how many of them are enough for what. Of n, at most f = ⌊(n - 1) / 3⌋ may lie. */
export class Members {
  /** Sorted: the index of a replica is its number in votes. */
  readonly replicas: readonly ReplicaId[];
  readonly membership: Membership;
  /** f. */
  readonly faulty: number;

  constructor(membership: Membership) {
    this.membership = membership;
    this.replicas = membership.voters;
    this.faulty = Math.floor((this.replicas.length - 1) / 3);
  }

  get size(): number {
    return this.replicas.length;
  }

  /** indexOf is the number of a voter, -1 for who is none. */
  indexOf(replica: ReplicaId): number {
    return this.replicas.indexOf(replica);
  }

  /** isQuorum tells whether so many are more than two thirds. Exactly two thirds are not. */
  isQuorum(count: number): boolean {
    return 3 * count > 2 * this.size;
  }

  /** areDistinct tells whether signers are named in order, each once. */
  areDistinct(signers: readonly { readonly voter: number }[]): boolean {
    return signers.every(({ voter }, i) => i === 0 || (signers[i - 1] as { voter: number }).voter < voter);
  }

  /** hasHonest tells whether among so many there is an honest one: f + 1. */
  hasHonest(count: number): boolean {
    return count > this.faulty;
  }
}

/** ProposerRule names the proposer of a round by its number: a pure function. */
export type ProposerRule = (height: number, round: number, members: Members) => number;

/** roundRobin gives each member its turn, height by height and round by round. */
export const roundRobin: ProposerRule = (height, round, members) => (height + round) % members.size;

/**
 * problemOf tells what is wrong with a membership of a BFT log, or undefined: 4 to 30 voters, lists sorted, no hub twice, no joint change.
 */
export function problemOf({ voters, outgoing, learners }: Membership): string | undefined {
  if (voters.length < BFT_BOUNDS.votersMin)
    return `a log that endures lies has at least ${BFT_BOUNDS.votersMin} voters: add hubs, or found it with Raft`;
  if (voters.length > BFT_BOUNDS.votersMax)
    return `a log that endures lies has at most ${BFT_BOUNDS.votersMax} voters: make the others learners`;
  if (learners.length > BFT_BOUNDS.learnersMax) return `a log has at most ${BFT_BOUNDS.learnersMax} learners`;
  if (outgoing.length > 0) return "a change of members takes effect at one height: leave `outgoing` empty";
  for (const list of [voters, learners])
    for (let i = 1; i < list.length; i++)
      if ((list[i - 1] as string) >= (list[i] as string)) return "lists of members are sorted, and nobody is in one twice";
  const all = [...voters, ...learners];
  if (all.some((replica) => replica.length > BFT_BOUNDS.nameLength || !/^[^/]+\/[1-9]\d{0,15}$/.test(replica)))
    return "a replica is named `<hub id>/<incarnation>`";
  return new Set(all.map(hubOf)).size === all.length ? undefined : "a hub has one replica in a log: remove its old one in the same change";
}
