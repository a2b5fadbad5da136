import { compareText } from "#kernel/wire/bytes.ts";
import type { Endpoint, Member, MemberNews } from "./messages.ts";
import { MEMBER_LIMITS } from "./messages.ts";
import type { Policies } from "./policies.ts";
import type { Roster } from "./roster.ts";

/** Longest time of being damped, ms of log time, unless the policy says more. */
const DAMPED_MAX_MS = 3_600_000;

/** endpointOf is the endpoint of a member that is dialled now. */
export function endpointOf(member: Member): Endpoint {
  return member.dialled === 0 ? member.primary : (member.standbys[member.dialled - 1] ?? member.primary);
}

/** Failures decides when a hub counts as failed, and what then becomes of what it did (BM5 to BM7, S1-15 to S1-17). */
export class Failures {
  readonly #roster: Roster;
  readonly #policies: Policies;

  constructor(roster: Roster, policies: Policies) {
    this.#roster = roster;
    this.#policies = policies;
  }

  /** needed is how many accusers confirm a failure: more than half of the other voters. */
  needed(hubId: string): number {
    const others = this.#roster.voters().filter((voter) => voter.hubId !== hubId).length;
    return Math.floor(others / 2) + 1;
  }

  /** accuse notes an accusation, renews it if there is one, and confirms the failure if it is the last one needed. */
  accuse(time: number, by: string, accused: Member, news: MemberNews[]): void {
    const accusations = [...accused.accusations.filter((one) => one.by !== by), { by, time }].sort((a, b) => compareText(a.by, b.by));
    const member = { ...accused, accusations };
    this.#roster.put(member);
    const needed = this.needed(member.hubId);
    const accusers = this.#counted(time, member);
    if (accused.accusations.every((one) => one.by !== by)) news.push({ kind: "accused", hubId: member.hubId, by, accusers, needed });
    if (accusers >= needed) this.confirm(time, member, news);
  }

  #counted(time: number, { accusations }: Member): number {
    const window = this.#policies.int("accusation_ms");
    return accusations.filter((one) => one.time + window > time && this.#roster.get(one.by)?.voter === true).length;
  }

  /** confirm makes a hub a failed one. */
  confirm(time: number, accused: Member, news: MemberNews[]): void {
    const { hubId, life } = accused;
    const window = this.#policies.int("flap_window_ms");
    const failures = [...accused.failures.filter((one) => one.time + window > time), { time }].slice(-MEMBER_LIMITS.failures);
    const dampedUntil = Math.max(accused.dampedUntil, this.#dampedUntil(time, failures.length));
    this.#roster.put({ ...accused, failed: true, accusations: [], failures, dampedUntil });
    news.push({ kind: "failed", hubId, life });
    if (dampedUntil > accused.dampedUntil) news.push({ kind: "damped", hubId, until: dampedUntil });
    this.#moveEndpoint(time, hubId, news);
    this.#roster.settleRoles(news);
  }

  #dampedUntil(time: number, failures: number): number {
    const over = failures - this.#policies.int("flaps");
    if (over < 0) return 0;
    const first = this.#policies.int("damp_ms");
    return time + Math.min(first * 2 ** over, Math.max(first, DAMPED_MAX_MS));
  }

  /** #moveEndpoint has the next endpoint dialled, unless the last move is too short a time ago. */
  #moveEndpoint(time: number, hubId: string, news: MemberNews[]): void {
    const member = this.#roster.get(hubId);
    if (member === undefined || member.standbys.length === 0 || time < this.#movesAgainAt(member)) return;
    const moved = {
      ...member,
      dialled: (member.dialled + 1) % (member.standbys.length + 1),
      fence: this.#roster.nextFence(),
      movedAt: time,
    };
    this.#roster.put(moved);
    news.push({ kind: "endpoint_moved", hubId, endpoint: endpointOf(moved), fence: moved.fence, failover: true });
  }

  #movesAgainAt({ movedAt }: Member): number {
    return movedAt === 0 ? 0 : movedAt + this.#policies.int("failover_hold_ms");
  }

  /** refute notes that a hub lives. */
  refute(member: Member, life: number, news: MemberNews[]): void {
    this.#roster.put({ ...member, life, failed: false, accusations: [] });
    news.push({ kind: "refuted", hubId: member.hubId, life });
    this.#roster.settleRoles(news);
  }

  /** dueOf is when something about a member changes by itself: accusations go, a failed hub's further standby is tried, damping ends. */
  dueOf(member: Member): number {
    const window = this.#policies.int("accusation_ms");
    let due = Number.POSITIVE_INFINITY;
    for (const { time } of member.accusations) due = Math.min(due, time + window);
    if (member.dampedUntil > 0) due = Math.min(due, member.dampedUntil);
    if (member.failed && member.dialled < member.standbys.length) due = Math.min(due, this.#movesAgainAt(member));
    return due;
  }

  /** expire does what `dueOf` announced. */
  expire(time: number, news: MemberNews[]): void {
    const window = this.#policies.int("accusation_ms");
    let freed = false;
    for (const member of this.#roster.all()) {
      if (this.dueOf(member) > time) continue;
      const ends = member.dampedUntil > 0 && member.dampedUntil <= time;
      freed ||= ends;
      const accusations = member.accusations.filter((one) => one.time + window > time);
      this.#roster.put({ ...member, accusations, dampedUntil: ends ? 0 : member.dampedUntil });
      // Further standbys are tried in turn, none twice: with the last one it waits for a word of the hub, or of its accusers.
      if (member.failed && member.dialled < member.standbys.length) this.#moveEndpoint(time, member.hubId, news);
    }
    if (freed) this.#roster.settleRoles(news);
  }
}
