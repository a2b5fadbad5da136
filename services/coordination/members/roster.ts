import type { Failure } from "#kernel/error.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import type { ReplicaId } from "../log/engine.ts";
import { replicaIdOf } from "../log/engine.ts";
import type { Engine, FederationRole, KeyLink, KeyRecord, Member, MemberNews } from "./messages.ts";
import { MEMBER_LIMITS, VOTERS } from "./messages.ts";

/** LEADER is the role that every federation has. */
export const LEADER = "leader";

/** keyInForce is the key with which a member signs now. */
export function keyInForce(member: Member): KeyRecord {
  return member.keys.at(-1) as KeyRecord;
}

/** linksOf are the steps from one of a member's keys to another, as far as they are remembered. */
export function linksOf(member: Member, after: number, through: number): KeyLink[] {
  return member.keys
    .filter(({ serial }) => serial > after && serial <= through && serial > 1)
    .map(({ serial, publicKey, previous, signature, proof }) => ({ hubId: member.hubId, serial, publicKey, previous, signature, proof }));
}

/** noMember refuses what needs a member; `field` names it. */
export function noMember(hubId: string, field: string): Failure {
  return {
    reason: "PEER_NOT_FOUND",
    message: `hub ${hubId} is no member of the federation; foedus federation members lists them`,
    field,
  };
}

/** longestFirst orders members by how long they have been in. */
function longestFirst(a: Member, b: Member): number {
  return a.admittedIndex - b.admittedIndex || compareText(a.hubId, b.hubId);
}

/** Roster is who is in a federation, who of them decides (BM8), and who has which role (BM9). Members are never changed, only replaced. */
export class Roster {
  readonly #members = new Map<string, Member>();
  readonly #roles = new Map<string, FederationRole>();
  engine: Engine = "raft";
  /** Last fence that was given out. */
  fence = 0;

  get(hubId: string): Member | undefined {
    return this.#members.get(hubId);
  }

  put(member: Member): void {
    this.#members.set(member.hubId, member);
  }

  delete(hubId: string): void {
    this.#members.delete(hubId);
  }

  get size(): number {
    return this.#members.size;
  }

  /** each member, in no order that counts: for what is looked at after every step. */
  each(): Iterable<Member> {
    return this.#members.values();
  }

  /** all members, by hub id. */
  all(): Member[] {
    return [...this.#members.values()].sort((a, b) => compareText(a.hubId, b.hubId));
  }

  /** roles, by name. */
  roles(): FederationRole[] {
    return [...this.#roles.values()].sort((a, b) => compareText(a.role, b.role));
  }

  role(name: string): FederationRole | undefined {
    return this.#roles.get(name);
  }

  setRole(role: FederationRole): void {
    this.#roles.set(role.role, role);
  }

  clear(): void {
    this.#members.clear();
    this.#roles.clear();
  }

  /** nextFence gives out a fence. */
  nextFence(): number {
    return ++this.fence;
  }

  /** wanted is the membership that the engine is to have: one replica of each hub. Both lists are sorted. */
  wanted(): { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] } {
    const ids = (voter: boolean): ReplicaId[] =>
      this.all()
        .filter((member) => member.voter === voter)
        .map(({ hubId, incarnation }) => replicaIdOf(hubId, incarnation))
        .sort(compareText);
    return { voters: ids(true), learners: ids(false) };
  }

  voters(): Member[] {
    return this.all().filter(({ voter }) => voter);
  }

  /** waiting are the learners that may have a seat, in the order in which they get one. `without` is one that is about to go. */
  #waiting(without?: string): Member[] {
    return this.all()
      .filter(({ hubId, voter, ready, failed }) => hubId !== without && !voter && ready && !failed)
      .sort(longestFirst);
  }

  /** seatsWithout is how many voters there would be without a hub, after free seats are filled. */
  seatsWithout(hubId: string): number {
    const left = this.voters().filter((voter) => voter.hubId !== hubId).length;
    return Math.min(VOTERS[this.engine].max, left + this.#waiting(hubId).length);
  }

  /** fillSeats gives free seats to who waits (BM8). */
  fillSeats(): void {
    const free = VOTERS[this.engine].max - this.voters().length;
    for (const member of this.#waiting().slice(0, Math.max(0, free))) this.put({ ...member, voter: true });
  }

  /** mayAct tells whether a hub can be given a role. */
  mayAct(hubId: string): boolean {
    const member = this.#members.get(hubId);
    return member !== undefined && !member.failed && member.dampedUntil === 0;
  }

  /** settleRoles takes every role from who is gone, has failed or is damped, and gives it on; `leader` is there as soon as anybody can be it. */
  settleRoles(news: MemberNews[]): void {
    for (const role of this.roles()) {
      const standbys = role.standbys.filter((hubId) => this.#members.has(hubId));
      if (this.mayAct(role.hubId)) {
        if (standbys.length < role.standbys.length) this.setRole({ ...role, standbys });
        continue;
      }
      const next = standbys.find((hubId) => this.mayAct(hubId)) ?? this.#longestStanding();
      if (next === role.hubId) continue;
      if (next !== undefined) {
        this.setRole({ role: role.role, hubId: next, standbys: standbys.filter((hubId) => hubId !== next), fence: this.nextFence() });
        news.push({ kind: "role_moved", role: role.role, hubId: next, before: role.hubId, fence: this.fence });
      } else if (!this.#members.has(role.hubId)) {
        this.#roles.delete(role.role);
        news.push({ kind: "role_vacant", role: role.role, before: role.hubId });
      }
    }
    const leader = this.#roles.has(LEADER) ? undefined : this.#longestStanding();
    if (leader === undefined) return;
    this.setRole({ role: LEADER, hubId: leader, standbys: [], fence: this.nextFence() });
    news.push({ kind: "role_moved", role: LEADER, hubId: leader, before: "", fence: this.fence });
  }

  /** #longestStanding is the voter that acts when no standby can: one that is not damped, if there is any. */
  #longestStanding(): string | undefined {
    const alive = this.voters().filter(({ failed }) => !failed);
    const [first] = [...alive.filter(({ dampedUntil }) => dampedUntil === 0).sort(longestFirst), ...alive.sort(longestFirst)];
    return first?.hubId;
  }

  /** mayAddRole tells whether there is room for a role of this name; LEADER has its place also while nobody can be it. */
  mayAddRole(name: string): boolean {
    const places = MEMBER_LIMITS.roles - (name === LEADER || this.#roles.has(LEADER) ? 0 : 1);
    return this.#roles.has(name) || this.#roles.size < places;
  }
}
