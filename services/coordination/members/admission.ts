import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import { sameBytes } from "#kernel/wire/shape.ts";
import type { LogInstant } from "../log/book.ts";
import type { Candidate, Join, Member, MemberAction, MemberNews } from "./messages.ts";
import { JOINS_MAX, MEMBER_LIMITS, VOTERS } from "./messages.ts";
import type { Policies } from "./policies.ts";
import { keyInForce, noMember, type Roster } from "./roster.ts";
import { joinBytes } from "./statements.ts";

/** AdmittedBy says how a hub came in: by which ballot, or by which founder. */
export interface AdmittedBy {
  readonly by: Member["admittedBy"];
  readonly ref: string;
}

type Admit = Omit<Extract<MemberAction, { kind: "admit" }>, "kind">;

const refuse = (reason: Failure["reason"], message: string, field?: string): Failure =>
  field === undefined ? { reason, message } : { reason, message, field };

const TOO_MANY = refuse("LIMIT_EXCEEDED", "too many hubs have left this federation for one more to be told from them; found a new one");

/** memberOf is a member as it comes in. */
export function memberOf(candidate: Candidate, weight: number, at: LogInstant, { by, ref }: AdmittedBy, fence: number): Member {
  const { hubId, incarnation, publicKey, sealingKey, primary, standbys } = candidate;
  const none = new Uint8Array(0);
  return {
    hubId,
    incarnation,
    keys: [{ serial: 1, publicKey, previous: 0, signature: none, proof: none, from: at.index, until: 0 }],
    sealingSerial: 1,
    sealingKey,
    weight,
    primary,
    standbys,
    dialled: 0,
    fence,
    movedAt: 0,
    admittedBy: by,
    admittedRef: ref,
    admittedIndex: at.index,
    admittedTime: at.time,
    voter: false,
    ready: by === "founding",
    life: 0,
    failed: false,
    accusations: [],
    failures: [],
    dampedUntil: 0,
  };
}

/** Admission is how hubs come into a federation and go out of it (BM1 to BM4). */
export class Admission {
  /** By hub and sponsor: a request that somebody made up in another hub's name keeps that hub's own from nobody. */
  readonly #joins = new Map<string, Join>();
  readonly #retired = new Map<string, number>();
  readonly #roster: Roster;
  readonly #policies: Policies;
  readonly #crypto: Pick<Crypto, "verify">;

  constructor(roster: Roster, policies: Policies, crypto: Pick<Crypto, "verify">) {
    this.#roster = roster;
    this.#policies = policies;
    this.#crypto = crypto;
  }

  /** joins that wait, by hub id; of one that several members have brought, by sponsor. */
  joins(): Join[] {
    return [...this.#joins.values()].sort((a, b) => compareText(a.candidate.hubId, b.candidate.hubId) || compareText(a.sponsor, b.sponsor));
  }

  /** retired hubs with their last incarnations, by hub id. */
  retired(): { readonly hubId: string; readonly incarnation: number }[] {
    return [...this.#retired].map(([hubId, incarnation]) => ({ hubId, incarnation })).sort((a, b) => compareText(a.hubId, b.hubId));
  }

  load(joins: readonly Join[], retired: readonly { readonly hubId: string; readonly incarnation: number }[]): void {
    this.#joins.clear();
    this.#retired.clear();
    for (const join of joins) this.#joins.set(keyOf(join.candidate.hubId, join.sponsor), join);
    for (const { hubId, incarnation } of retired) this.#retired.set(hubId, incarnation);
  }

  /** lastIncarnation of a hub, member or not; 0 if it never had any. */
  lastIncarnation(hubId: string): number {
    return this.#roster.get(hubId)?.incarnation ?? this.#retired.get(hubId) ?? 0;
  }

  /** incarnationProblem says why a hub cannot have a replica of that incarnation (BM2). `next` in the facts is one that it can have. */
  incarnationProblem(hubId: string, incarnation: number, field: string): Failure | undefined {
    const last = this.lastIncarnation(hubId);
    if (incarnation > last) return undefined;
    return {
      ...refuse(
        "ALREADY_EXISTS",
        `hub ${hubId} has used incarnation ${last} already, and none is used twice: start its replica anew with ${last + 1} or higher`,
        field,
      ),
      facts: { next: String(last + 1) },
    };
  }

  /** request notes that a hub asks to join, or says why not. A member that asks wants another replica: nothing of that is noted here. */
  request(at: LogInstant, federationId: string, author: string, candidate: Candidate, signature: Uint8Array): Failure | undefined {
    const member = this.#roster.get(candidate.hubId);
    const problem = member === undefined ? this.#requestProblem(author, candidate) : this.#returnProblem(author, member, candidate);
    if (problem !== undefined) return problem;
    if (!this.#crypto.verify(candidate.publicKey, joinBytes(federationId, candidate), signature))
      return refuse("SIGNATURE_INVALID", "the request is not signed by the key that is in it; sign it with that key", "signature");
    if (member !== undefined) return undefined;
    const expires = at.time + this.#policies.int("join_ms");
    this.#joins.set(keyOf(candidate.hubId, author), { candidate, sponsor: author, index: at.index, expires });
    return undefined;
  }

  /** #returnProblem says why a member cannot take another replica; `author` brings its request. */
  #returnProblem(author: string, member: Member, { hubId, incarnation, publicKey }: Candidate): Failure | undefined {
    const problem = this.incarnationProblem(hubId, incarnation, "candidate.incarnation");
    if (problem !== undefined) return problem;
    if (!sameBytes(keyInForce(member).publicKey, publicKey))
      return refuse(
        "IDENTITY_MISMATCH",
        `hub ${hubId} is a member with another key; restore its key file, or have the members remove it and join anew`,
        "candidate.publicKey",
      );
    return this.#roster.get(author) === undefined
      ? refuse("ACCESS_DENIED", `${author} is no member, and only members bring requests of others`)
      : undefined;
  }

  #requestProblem(author: string, candidate: Candidate): Failure | undefined {
    const { hubId, incarnation } = candidate;
    if (author !== hubId && this.#roster.get(author) === undefined)
      return refuse("ACCESS_DENIED", `${author} is no member, and only members bring requests of others`);
    const keyProblem = this.keyProblem(candidate.publicKey, "candidate.publicKey");
    if (keyProblem !== undefined) return keyProblem;
    const problem = this.incarnationProblem(hubId, incarnation, "candidate.incarnation");
    if (problem !== undefined) return problem;
    if (!this.#isTold(hubId)) return TOO_MANY;
    if (this.#joins.has(keyOf(hubId, author))) return undefined;
    const own = this.joins().filter(({ sponsor }) => sponsor === author).length;
    // However many requests others have brought, a member brings one.
    const isFirst = own === 0 && this.#roster.get(author) !== undefined;
    if (this.#joins.size >= (isFirst ? JOINS_MAX : MEMBER_LIMITS.joins))
      return refuse("LIMIT_EXCEEDED", `${this.#joins.size} requests to join wait already; decide about some, or wait until they expire`);
    return own < MEMBER_LIMITS.joinsPerSponsor
      ? undefined
      : refuse("LIMIT_EXCEEDED", `${author} has brought ${own} requests that wait; let members decide about them first`);
  }

  /** keyProblem says why nobody can sign with a key from now on: it is, or was, that of a member. */
  keyProblem(publicKey: Uint8Array, field: string): Failure | undefined {
    const holder = this.#roster.all().find(({ keys }) => keys.some((key) => sameBytes(key.publicKey, publicKey)));
    return holder === undefined
      ? undefined
      : refuse("ALREADY_EXISTS", `this key is or was that of hub ${holder.hubId}; make one that nobody has used`, field);
  }

  /** admitProblem says why a hub cannot be let in, or undefined. */
  admitProblem({ hubId, incarnation, publicKey }: Admit): Failure | undefined {
    const requests = this.joins().filter(({ candidate }) => candidate.hubId === hubId);
    if (this.#roster.get(hubId) !== undefined) return refuse("ALREADY_EXISTS", `hub ${hubId} is a member already`, "hubId");
    if (requests.length === 0)
      return refuse("PEER_NOT_FOUND", `hub ${hubId} does not ask to join, or its request has expired; have it ask first`, "hubId");
    if (this.#asked(hubId, incarnation, publicKey) === undefined)
      return refuse(
        "IDENTITY_MISMATCH",
        `hub ${hubId} asks to join with another replica or key than this; look at its request again`,
        "publicKey",
      );
    const keyProblem = this.keyProblem(publicKey, "publicKey");
    if (keyProblem !== undefined) return keyProblem;
    if (!this.#isTold(hubId)) return TOO_MANY;
    return this.#roster.size < MEMBER_LIMITS.members
      ? undefined
      : refuse("LIMIT_EXCEEDED", `the federation has ${MEMBER_LIMITS.members} members, and no room for more`);
  }

  /** isTold tells whether there is room for the number of a hub's replica also when all members have left (BM2). */
  #isTold(hubId: string): boolean {
    return this.#retired.has(hubId) || this.#retired.size + this.#roster.size < MEMBER_LIMITS.retired;
  }

  /** asked is the request of a hub for this replica, with this key. */
  #asked(hubId: string, incarnation: number, publicKey: Uint8Array): Join | undefined {
    return this.joins().find(
      ({ candidate }) => candidate.hubId === hubId && candidate.incarnation === incarnation && sameBytes(candidate.publicKey, publicKey),
    );
  }

  /** admit lets a hub in that `admitProblem` finds nothing wrong with. */
  admit(at: LogInstant, action: Admit, how: AdmittedBy, news: MemberNews[]): void {
    const { hubId, incarnation, weight, publicKey } = action;
    const { candidate } = this.#asked(hubId, incarnation, publicKey) as Join;
    for (const [key, join] of this.#joins) if (join.candidate.hubId === hubId) this.#joins.delete(key);
    this.#retired.delete(hubId);
    this.#roster.put(memberOf(candidate, weight, at, how, this.#roster.nextFence()));
    news.push({ kind: "admitted", hubId, incarnation, by: how.by, ref: how.ref }, { kind: "seats_changed" });
  }

  /** goProblem says why a hub cannot go: too few would be left to decide, or nobody with a weight. */
  goProblem(hubId: string): Failure | undefined {
    const member = this.#roster.get(hubId);
    if (member === undefined) return noMember(hubId, "hubId");
    if (this.#roster.size === 1)
      return refuse("VALUE_OUT_OF_RANGE", `hub ${hubId} is the last one, and the federation ends with it; --force leaves it all the same`);
    const least = Math.max(this.#policies.int("min_voters"), VOTERS[this.#roster.engine].min);
    if (member.voter && this.#roster.seatsWithout(hubId) < least)
      return refuse(
        "VALUE_OUT_OF_RANGE",
        `without hub ${hubId} fewer than ${least} voters would be left; admit another hub first`,
        "hubId",
      );
    return this.hasWeightWithout(hubId)
      ? undefined
      : refuse(
          "VALUE_OUT_OF_RANGE",
          `without hub ${hubId} no member has any weight, and nothing could be decided; give another one a weight first`,
        );
  }

  /** hasWeightWithout tells whether others than this hub have a weight. */
  hasWeightWithout(hubId: string): boolean {
    return this.#roster.all().some((member) => member.hubId !== hubId && member.weight > 0);
  }

  /** go lets a hub out that `goProblem` finds nothing wrong with. What it accused others of goes with it. */
  go(hubId: string, removed: boolean, ref: string, news: MemberNews[]): void {
    const roster = this.#roster;
    this.#retired.set(hubId, this.lastIncarnation(hubId));
    roster.delete(hubId);
    for (const member of roster.all()) {
      const accusations = member.accusations.filter(({ by }) => by !== hubId);
      if (accusations.length < member.accusations.length) roster.put({ ...member, accusations });
    }
    roster.fillSeats();
    news.push({ kind: "gone", hubId, removed, ref }, { kind: "seats_changed" });
    roster.settleRoles(news);
  }

  /** dueAt is when the first request expires. */
  dueAt(): number {
    return Math.min(...this.joins().map(({ expires }) => expires));
  }

  /** expire forgets requests that waited for too long. */
  expire(time: number, news: MemberNews[]): void {
    for (const { candidate, sponsor, expires } of this.joins()) {
      if (expires > time) continue;
      this.#joins.delete(keyOf(candidate.hubId, sponsor));
      news.push({ kind: "join_expired", hubId: candidate.hubId });
    }
  }
}

function keyOf(hubId: string, sponsor: string): string {
  return `${hubId} ${sponsor}`;
}
