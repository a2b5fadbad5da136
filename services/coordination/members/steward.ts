import { sameBytes } from "#kernel/wire/shape.ts";
import { hubOf, type LogStatus, type Membership, type ReplicaId, replicaIdOf } from "../log/engine.ts";
import type { FormationFrame } from "../messages.ts";
import type { Around } from "../state/views.ts";
import { Acquaintance } from "./acquaintance.ts";
import { introducedOf } from "./introduction.ts";
import type { Members } from "./members.ts";
import { type SignedFounding, VOTERS } from "./messages.ts";

/** Met is what a peer says of itself on its session. */
export interface Met {
  /** Short id of its federation; empty for none. */
  readonly federation: Uint8Array;
  readonly incarnation: number;
  /** Members as the peer knows them. */
  readonly members: readonly string[];
}

/** Errand is something that a peer is to be told. */
export type Errand =
  | Extract<FormationFrame, { kind: "founded" }>
  | { readonly kind: "dismissed"; readonly federation: Uint8Array; readonly incarnation: number };

/** StewardGround is what it looks at. */
export interface StewardGround {
  readonly hubId: string;
  readonly incarnation: number;
  readonly founding: SignedFounding;
  /** Short id of the federation. */
  readonly federation: Uint8Array;
  readonly members: Members;
  readonly membership: () => Membership;
  /** told are the voters of whom this hub was told when it came in. */
  readonly told: () => readonly ReplicaId[];
  readonly tell: (peer: string, errand: Errand) => void;
}

/**
 * Steward keeps the replicas of a log what the members want them to be, and tells hubs that begin or end to take part.
 *
 * SW1 the engine is brought to the membership that the book of members wants in steps that are each safe: of a hub whose replica is replaced
 *    the old one goes first, so that no hub ever has two; who becomes a voter is a learner before, so that its vote counts only when it has
 *    what was decided. Only where too few voters would be left of a BFT log meanwhile, one follows the other in one step: a replica that
 *    has nothing yet is no worse there than one that has failed.
 * SW2 a member that has not begun gets the founding entry whenever its session comes up, and is told who the voters are now.
 * SW3 a hub that left or was removed takes part until the log is kept without it, so that this can be decided. It learns of it from any voter
 *    if its own state says that it went, or, where members do not lie, does not have it yet; else from a majority of the voters that it
 *    knows: until its own log has it, those of whom it was told.
 * SW4 a hub that cannot know whether those in contact keep the log, as they took the places of those whom it knows while it was away, or had only
 *    just come in, says so.
 */
export class Steward {
  readonly #ground: StewardGround;
  readonly #met = new Map<string, Met>();
  readonly #dismissedBy = new Set<string>();
  /** The newest position whose state was offered here, signed by too few whom this hub knows. */
  #unproven = 0;
  /** The state said at some position that this hub is a member with this replica. Before, who catches up reads of times without it. */
  #belonged: boolean;
  readonly acquaintance: Acquaintance;

  constructor(ground: StewardGround) {
    this.#ground = ground;
    const { hubId, founding, members, membership } = ground;
    this.acquaintance = new Acquaintance({ engine: founding.founding.engine, hubId, members, membership });
    this.#belonged = this.isMember;
  }

  /** meet takes what a peer says of itself; undefined when its session is gone. */
  meet(peer: string, met: Met | undefined): void {
    const belongs = met !== undefined && sameBytes(met.federation, this.#ground.federation);
    this.acquaintance.met(peer, belongs ? met.members : undefined);
    if (met === undefined) {
      this.#met.delete(peer);
      return;
    }
    this.#met.set(peer, met);
    this.introduce(peer);
    this.#dismiss(peer, met);
  }

  /** introduce gives the founding entry to a member that has not begun (SW2). */
  introduce(peer: string): void {
    const { members, founding, membership, tell } = this.#ground;
    const member = members.member(peer);
    if (member === undefined || this.#met.get(peer)?.federation.length !== 0) return;
    tell(peer, { kind: "founded", founding, incarnation: member.incarnation, voters: introducedOf(membership(), members) });
  }

  /** dismissAll tells each hub in contact whose replica does not keep the log any more (SW3), as the membership is another one. */
  dismissAll(): void {
    this.#belonged ||= this.isMember;
    this.acquaintance.widened();
    for (const [peer, met] of this.#met) this.#dismiss(peer, met);
  }

  /** dismissed takes a peer's word that this replica does not keep the log any more; true if it is to be believed (SW3). */
  dismissed(peer: string, incarnation: number): boolean {
    const { hubId } = this.#ground;
    const voters = this.#voters;
    if (incarnation !== this.#ground.incarnation || peer === hubId || !voters.map(hubOf).includes(peer)) return false;
    this.#dismissedBy.add(peer);
    const isEnough = this.#ground.founding.founding.engine === "raft" ? !this.isMember : this.hasGone;
    return isEnough || 2 * this.#dismissedBy.size > voters.length;
  }

  /** unproven notes that the state at a position was offered that this hub could not check. */
  unproven(index: number): void {
    this.#unproven = Math.max(this.#unproven, index);
  }

  /** around is how this hub stands to the others. */
  around(log: Pick<LogStatus, "committed">): Omit<Around, "inContact"> {
    const { hubId, incarnation } = this.#ground;
    return { self: replicaIdOf(hubId, incarnation), fellows: this.#fellows, strangers: this.#strangers(log), isMember: this.isMember };
  }

  /** #fellows are the hubs in contact that say that they belong to the federation. */
  get #fellows(): string[] {
    return [...this.#met].flatMap(([peer, { federation }]) => (sameBytes(federation, this.#ground.federation) ? [peer] : [])).sort();
  }

  /** #strangers are those of whom this hub cannot know that they keep the log, where it knows nobody else that it could take the log from (SW4). */
  #strangers({ committed }: Pick<LogStatus, "committed">): string[] {
    const fellows = this.#fellows;
    if (this.#ground.founding.founding.engine === "raft") return fellows.filter((peer) => !this.acquaintance.takes(peer));
    const replicas = new Map(fellows.map((peer) => [replicaIdOf(peer, this.#met.get(peer)?.incarnation ?? 0), peer]));
    const known = this.#voters;
    if (known.filter((replica) => replicas.has(replica)).length > Math.floor((known.length - 1) / 3)) return [];
    if (this.#unproven > committed) return fellows;
    const { learners } = this.#ground.membership();
    return [...replicas].flatMap(([replica, peer]) => ([...known, ...learners].includes(replica) ? [] : [peer]));
  }

  /** #voters are the voters that this hub knows. */
  get #voters(): readonly ReplicaId[] {
    const { hubId, incarnation, founding, membership, told } = this.#ground;
    const { voters, outgoing, learners } = membership();
    if ([...voters, ...outgoing, ...learners].includes(replicaIdOf(hubId, incarnation))) return voters;
    const founders = founding.founding.founders.map((founder) => replicaIdOf(founder.hubId, founder.incarnation));
    return [told(), voters, founders].find(({ length }) => length > 0) as readonly ReplicaId[];
  }

  /** hasGone: the state said that this hub was a member with this replica, and says so no more. */
  get hasGone(): boolean {
    return this.#belonged && !this.isMember;
  }

  /** isMember: the state says that this hub is one, with this replica. */
  get isMember(): boolean {
    return this.#ground.members.member(this.#ground.hubId)?.incarnation === this.#ground.incarnation;
  }

  /** next is the step to the membership that is wanted (SW1); undefined if there is none to be done now. */
  next({
    membership,
  }: Pick<LogStatus, "membership">): { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] } | undefined {
    const { voters, learners } = this.#ground.members.wanted();
    if (membership.outgoing.length > 0 || (same(membership.voters, voters) && same(membership.learners, learners))) return undefined;
    const known = [...membership.voters, ...membership.learners];
    const wanted = [...voters, ...learners];
    const room = (id: string): boolean => !known.some((other) => other !== id && hubOf(other) === hubOf(id) && !wanted.includes(other));
    const kept = voters.filter((id) => known.includes(id));
    // Where too few would be left for a while, the new replica has its seat at once, as one that has failed and catches up.
    const isTooFew = this.#ground.founding.founding.engine === "bft" && kept.length < VOTERS.bft.min;
    const nextVoters = isTooFew ? voters : kept;
    const later = voters.filter((id) => !known.includes(id) && !nextVoters.includes(id));
    const nextLearners = [...learners, ...later].filter(room).sort((a, b) => (a < b ? -1 : 1));
    if (nextVoters.length === 0 || (same(membership.voters, nextVoters) && same(membership.learners, nextLearners))) return undefined;
    return { voters: nextVoters, learners: nextLearners };
  }

  #dismiss(peer: string, { federation, incarnation }: Met): void {
    // A replica that was let in at a position that is not known here yet.
    if (incarnation >= this.#ground.members.nextIncarnation(peer)) return;
    if (!sameBytes(federation, this.#ground.federation) || this.#ground.members.member(peer)?.incarnation === incarnation) return;
    const { voters, outgoing, learners } = this.#ground.membership();
    if ([...voters, ...outgoing, ...learners].includes(replicaIdOf(peer, incarnation))) return;
    this.#ground.tell(peer, { kind: "dismissed", federation, incarnation });
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
