import { hubOf, type Membership, type ReplicaId } from "../../log/engine.ts";
import type { RaftTuning } from "../config.ts";
import { isReplicaId } from "../frames.ts";
import { everyoneIn } from "../state/members.ts";
import { isQuorum } from "../state/quorum.ts";
import type { Replica } from "../state/replica.ts";
import type { Replication } from "./replication.ts";

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}

/** changeProblem tells why final lists cannot follow a membership, whatever the replicas do; undefined if they can. Lists are sorted. */
export function changeProblem(
  now: Membership,
  voters: readonly ReplicaId[],
  learners: readonly ReplicaId[],
  tuning: RaftTuning,
): string | undefined {
  const all = [...voters, ...learners].sort();
  if (!all.every(isReplicaId)) return "each replica is named <hub id>/<incarnation>";
  if (voters.length === 0) return "a log needs a voter";
  if (voters.length > tuning.voters) return `a log has at most ${tuning.voters} voters: make some of them learners`;
  if (learners.length > tuning.learners) return `a log has at most ${tuning.learners} learners`;
  const hubs = all.map(hubOf);
  const twice = hubs.find((hub, i) => hub === hubs[i - 1]);
  if (twice !== undefined) return `${twice} is in the lists twice: a hub has one replica`;
  const members = everyoneIn(now);
  const other = all.find((id) => !members.includes(id) && members.some((member) => hubOf(member) === hubOf(id)));
  if (other !== undefined) return `another replica of ${hubOf(other)} is a member: remove it before ${other} is added`;
  return undefined;
}

/**
 * Change carries out one change of the membership: one entry if the voters stay the same, else a joint one and the one that ends it.
 *
 * Which membership is in force says RG1 (members.ts). Besides:
 * RD1 one change is under way at a time, and none begins before an entry of the leader's own term is committed (zoo 13). The entry of a change
 *    is written when the one before it is committed, so that who has it knows that.
 * RD2 only a learner that has nearly everything becomes a voter.
 * RD3 none begins after which nothing could be decided: a majority of the new voters is heard.
 * RD4 a leader that finds a joint membership in force ends it, whoever began it.
 */
export class Change {
  readonly #r: Replica;
  readonly #replication: Replication;
  #call: number | undefined;
  /** The position of the entry that began it. */
  #from = 0;

  constructor(r: Replica, replication: Replication) {
    this.#r = r;
    this.#replication = replication;
  }

  /** isUnderWay tells whether a change is not done yet, this leader's or one that it found. */
  get isUnderWay(): boolean {
    return this.#r.members.pending !== undefined || this.#r.membership.outgoing.length > 0;
  }

  begin(call: number, wantedVoters: readonly ReplicaId[], wantedLearners: readonly ReplicaId[]): void {
    const r = this.#r;
    const [voters, learners] = [[...wantedVoters].sort(), [...wantedLearners].sort()];
    if (!this.#replication.reads.isCurrent || this.isUnderWay)
      return r.refuse(call, "OVERLOADED", "another change of the membership is not decided yet: try again when it is");
    const problem = changeProblem(r.membership, voters, learners, r.tuning) ?? this.#strange(voters);
    if (problem !== undefined) return r.refuse(call, "INVALID_FIELD", problem);
    const behind = this.#behind(voters);
    if (behind !== undefined) return r.refuse(call, "TOO_STALE", behind);
    if (!isQuorum({ voters, outgoing: [], learners: [] }, (id) => this.#isHeard(id)))
      return r.refuse(
        call,
        "NO_QUORUM",
        "a majority of the new voters is not heard, so that nothing could be decided any more: choose others",
      );
    const now = r.membership;
    if (same(voters, now.voters) && same(learners, now.learners)) {
      r.out.push({ kind: "done", call });
      return;
    }
    this.#call = call;
    const outgoing = same(voters, now.voters) ? [] : now.voters;
    this.#from = this.#replication.write([], { voters, outgoing, learners }).index;
  }

  /** onCommit goes on when more is decided. */
  onCommit(): void {
    const r = this.#r;
    const { voters, outgoing, learners } = r.membership;
    if (outgoing.length > 0) {
      if (r.members.pending === undefined && this.#replication.reads.isCurrent)
        this.#replication.write([], { voters, outgoing: [], learners });
    } else if (this.#call !== undefined && r.members.activeIndex >= this.#from) {
      r.out.push({ kind: "done", call: this.#call });
      this.#call = undefined;
    }
  }

  /** abandon is the end of this leader's part. */
  abandon(): void {
    if (this.#call === undefined) return;
    this.#r.refuse(this.#call, "OUTCOME_UNKNOWN", "this replica no longer leads: look at the membership before the change is tried again");
    this.#call = undefined;
  }

  /** strange names a new voter that is no learner yet. */
  #strange(voters: readonly ReplicaId[]): string | undefined {
    const { membership } = this.#r;
    const id = voters.find((voter) => !membership.voters.includes(voter) && !membership.learners.includes(voter));
    return id === undefined ? undefined : `${id} is not a learner: add it as one before it becomes a voter`;
  }

  /** behind names a new voter that is not ready. */
  #behind(voters: readonly ReplicaId[]): string | undefined {
    const r = this.#r;
    for (const id of voters) {
      if (r.membership.voters.includes(id)) continue;
      const peer = this.#replication.peers.get(id);
      const lag = r.log.last - (peer?.match ?? 0);
      if (peer?.state !== "replicate" || lag > r.tuning.promoteLag)
        return `${id} lacks ${lag} entries: wait until it has caught up before it becomes a voter`;
      if (!this.#isHeard(id)) return `${id} is not heard: a voter must be reachable`;
    }
    return undefined;
  }

  #isHeard(id: ReplicaId): boolean {
    const { self, now, tuning } = this.#r;
    return id === self || now.mono - (this.#replication.peers.get(id)?.heardAt ?? Number.NEGATIVE_INFINITY) <= tuning.electionMs;
  }
}
