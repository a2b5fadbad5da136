import { problemOf, sameBytes } from "#kernel/wire/shape.ts";
import { hubOf, incarnationOf, type Membership, type ReplicaId, replicaIdOf } from "../log/engine.ts";
import type { Members } from "./members.ts";
import { INTRODUCED, type Introduced, VOTERS } from "./messages.ts";

/** introducedOf are the voters of a log with their keys, for a hub that comes in: what it has is the founding entry, which may be old. */
export function introducedOf({ voters }: Pick<Membership, "voters">, members: Pick<Members, "key">): Introduced[] {
  return voters.flatMap((replica) => {
    const key = members.key(hubOf(replica));
    return key === undefined ? [] : [{ hubId: hubOf(replica), incarnation: incarnationOf(replica), publicKey: key.publicKey }];
  });
}

/** isIntroduction tells whether voters that a peer names can be voters: a hub and a key once, no more than a log has. */
export function isIntroduction(voters: readonly Introduced[]): boolean {
  if (voters.length > Math.max(VOTERS.bft.max, VOTERS.raft.max)) return false;
  const isAlone = ({ hubId, publicKey }: Introduced, i: number): boolean =>
    voters.slice(0, i).every((other) => other.hubId !== hubId && !sameBytes(other.publicKey, publicKey));
  // What is kept of a peer's word is read again at each start.
  return voters.every((voter, i) => problemOf(INTRODUCED, voter) === undefined && isAlone(voter, i));
}

/** sameVoters tells whether two introductions are the same. */
export function sameVoters(a: readonly Introduced[], b: readonly Introduced[]): boolean {
  return (
    a.length === b.length &&
    a.every((one, i) => {
      const other = b[i] as Introduced;
      return one.hubId === other.hubId && one.incarnation === other.incarnation && sameBytes(one.publicKey, other.publicKey);
    })
  );
}

/** introducedReplicas are the replicas of introduced voters. */
export function introducedReplicas(voters: readonly Introduced[]): ReplicaId[] {
  return voters.map(({ hubId, incarnation }) => replicaIdOf(hubId, incarnation)).sort((a, b) => (a < b ? -1 : 1));
}
