import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import { problemOf as shapeProblem } from "#kernel/wire/shape.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import { type ReplicaId, replicaIdOf } from "../log/engine.ts";
import { lifeProblem, memberActionProblem } from "./actions.ts";
import { Admission, memberOf } from "./admission.ts";
import { describeMembers } from "./describe.ts";
import { endpointOf, Failures } from "./failures.ts";
import {
  type Endpoint,
  type KeyHistory,
  type KeyLink,
  MEMBER_COMMAND,
  MEMBER_LIMITS,
  type Member,
  type MemberAction,
  type MemberCommand,
  type MemberNews,
  type MembersDump,
  type MemberValue,
  type PolicyValue,
  type SignedFounding,
  type TrustedKeys,
  VOTERS,
} from "./messages.ts";
import { Policies } from "./policies.ts";
import { keyInForce, LEADER, linksOf, Roster } from "./roster.ts";
import { foundingDigest, foundingProblem, linkHolds } from "./statements.ts";

type Command<K extends MemberCommand["kind"]> = Extract<MemberCommand, { kind: K }>;
type Action<K extends MemberAction["kind"]> = Extract<MemberAction, { kind: K }>;
type Result = Outcome<MemberValue, MemberNews>;

/** A voter of a ballot, as the book of ballots fixes it at its opening. */
interface Voter {
  readonly hubId: string;
  readonly incarnation: number;
  readonly weight: number;
  readonly keySerial: number;
  readonly publicKey: Uint8Array;
}

const refuse = (reason: Failure["reason"], message: string, field?: string): Result => ({
  ok: false,
  failure: field === undefined ? { reason, message } : { reason, message, field },
});

/**
 * Members is the book of who is in a federation, with which replica, keys, weight and endpoints, what its policies are, and who has which
 * role. The engine's membership follows from it (`wanted`).
 *
 * BM1 a hub comes in by the founding entry, which each founder has signed, or by a request that its own key has signed and, after that,
 *    an approved ballot that names the same replica and key, or, only where the founding entry says `founder`, the word of any founder
 *    that is still a member. It goes by its own word, or as it came; a founder is never removed by a founder.
 * BM2 a hub has one replica at a time, and an incarnation is never used twice, not after the hub left either. A member that asks to join,
 *    with the key that it has, takes another replica in place of the one that it had. A list with a hub or a key twice is refused.
 * BM3 there are at most 7 voters (BFT 30), and no word takes them below what the engine and the policy `min_voters` need.
 * BM4 a key follows another by a higher serial, signed by both. From the position of the log at which it came, nothing counts that is
 *    signed with the one before. The last 16 are remembered, with the positions at which they were in force.
 * BM5 a hub is confirmed failed when accusations of its current life by more than half of the other voters are not older than the policy
 *    `accusation_ms`, in log time; heads count, not weights. Each is signed as every entry of the log is. A higher life of the hub ends them,
 *    and its failure (S1-16).
 * BM6 a confirmed failure takes the hub's roles, each with a new fence, and has its next endpoint dialled, with a new fence; the endpoint
 *    moves once in `failover_hold_ms` at most. What it lost does not come back by itself when it lives again.
 * BM7 a hub with `flaps` confirmed failures within `flap_window_ms` gets no role for a time that doubles with each further one.
 * BM8 seats of voters are stable: who has one keeps it until it leaves, is removed or replaces its replica, also while it has failed; a
 *    free one goes to the learner whose replica is ready, that has not failed, and that has been in for the longest.
 * BM9 a fence is higher than every one given out before, of whatever role or hub.
 * BM10 policies change by ballot only, and of two changes that were based on the same version the first counts (S4-14).
 */
export class Members implements Book<MemberCommand, MemberValue, MemberNews, MembersDump> {
  readonly #crypto: Pick<Crypto, "hash" | "verify">;
  readonly #roster = new Roster();
  readonly #changed = new Map<string, { readonly value: PolicyValue; readonly version: number }>();
  /** policies that hold; their defaults before the founding. */
  readonly policies = new Policies(this.#changed);
  readonly #admission: Admission;
  readonly #failures: Failures;
  #founding: SignedFounding | undefined;
  #founded = { index: 0, time: 0 };
  #digest: Uint8Array | undefined;

  constructor(crypto: Pick<Crypto, "hash" | "verify">) {
    this.#crypto = crypto;
    this.#admission = new Admission(this.#roster, this.policies, crypto);
    this.#failures = new Failures(this.#roster, this.policies);
  }

  // What others ask of it.

  /** founding is the entry that others verify certificates from; undefined before it. */
  get founding(): SignedFounding | undefined {
    return this.#founding;
  }

  /** federation names the federation, by its id and the digest of its founding. */
  federation(): { readonly id: string; readonly digest: Uint8Array } | undefined {
    const id = this.#founding?.founding.federationId;
    return id === undefined || this.#digest === undefined ? undefined : { id, digest: this.#digest };
  }

  /** wanted is the membership that the engine is to have. */
  wanted(): { readonly voters: readonly ReplicaId[]; readonly learners: readonly ReplicaId[] } {
    return this.#roster.wanted();
  }

  member(hubId: string): Member | undefined {
    return this.#roster.get(hubId);
  }

  /** members by hub id. */
  members(): readonly Member[] {
    return this.#roster.all();
  }

  /** replicaOf is the replica of a member; undefined of a hub that is none. */
  replicaOf(hubId: string): ReplicaId | undefined {
    const member = this.member(hubId);
    return member === undefined ? undefined : replicaIdOf(hubId, member.incarnation);
  }

  /** endpoint at which a hub is dialled, with the fence of who answers there. */
  endpoint(hubId: string): { readonly endpoint: Endpoint; readonly fence: number } | undefined {
    const member = this.#roster.get(hubId);
    return member === undefined ? undefined : { endpoint: endpointOf(member), fence: member.fence };
  }

  /** role says who has a role, and with which fence. */
  role(name: string): { readonly hubId: string; readonly fence: number } | undefined {
    return this.#roster.role(name);
  }

  /** nextIncarnation is the lowest that a hub can take for a new replica. */
  nextIncarnation(hubId: string): number {
    return this.#admission.lastIncarnation(hubId) + 1;
  }

  /** canOperate tells whether hubs that are in contact are enough to decide: more than half of the voters, of BFT two thirds (S1-18). */
  canOperate(active: ReadonlySet<string>): boolean {
    const voters = this.#roster.voters();
    const there = voters.filter(({ hubId }) => active.has(hubId)).length;
    return this.#roster.engine === "raft" ? 2 * there > voters.length : 3 * there > 2 * voters.length;
  }

  /** eligible are the voters of a ballot, by hub id: members with a weight. Nobody votes about itself: `about` has no vote. */
  eligible(about?: string): readonly Voter[] {
    return this.#roster
      .all()
      .filter(({ hubId, weight }) => weight > 0 && hubId !== about)
      .map((member) => {
        const { serial: keySerial, publicKey } = keyInForce(member);
        return { hubId: member.hubId, incarnation: member.incarnation, weight: member.weight, keySerial, publicKey };
      });
  }

  /** key of a member that is in force, with the position from which on it is. */
  key(hubId: string): { readonly serial: number; readonly publicKey: Uint8Array; readonly from: number } | undefined {
    const member = this.#roster.get(hubId);
    return member === undefined ? undefined : keyInForce(member);
  }

  /** links are the steps from one key of a member to a later one, as far as they are remembered. */
  links(hubId: string, after: number, through: number): readonly KeyLink[] {
    const member = this.#roster.get(hubId);
    return member === undefined ? [] : linksOf(member, after, through);
  }

  /** trustedKeys are all keys of members that are remembered: what a verifier who trusts this hub checks certificates with. */
  trustedKeys(): TrustedKeys | undefined {
    const federation = this.federation();
    if (federation === undefined) return undefined;
    const keys = this.#roster
      .all()
      .flatMap(({ hubId, weight, keys: records }) =>
        records.map(({ serial, publicKey, from, until }) => ({ hubId, serial, publicKey, weight, from, until })),
      );
    return { federationId: federation.id, foundingDigest: federation.digest, keys };
  }

  /** keyHistory are all changes of keys that are remembered: for a verifier who has the founding entry. */
  keyHistory(): KeyHistory {
    return { links: this.#roster.all().flatMap((member) => linksOf(member, 0, Number.MAX_SAFE_INTEGER)) };
  }

  // The book.

  apply(at: LogInstant, author: string, command: MemberCommand): Result {
    const malformed = shapeProblem(MEMBER_COMMAND, command);
    if (malformed !== undefined) return refuse("INVALID_FIELD", `${malformed.path} ${malformed.message}`, malformed.path);
    if (command.kind === "found") return this.#found(at, author, command);
    const founding = this.#founding?.founding;
    if (founding === undefined) return refuse("NOT_CONFIGURED", "this log has no founding entry yet; found the federation first");
    if (command.kind === "request_join") return this.#requestJoin(at, author, command);
    const member = this.#roster.get(author);
    if (member === undefined) return refuse("ACCESS_DENIED", `hub ${author} is no member of federation ${founding.federationId}`);
    return this.#ofMember(at, member, command);
  }

  #ofMember(at: LogInstant, author: Member, command: Exclude<MemberCommand, { kind: "found" | "request_join" }>): Result {
    switch (command.kind) {
      case "admit":
      case "remove":
        return this.#byFounder(at, author, command);
      case "leave":
        return this.#go(author.hubId, false, "");
      case "replace":
        return this.#replace(author, command);
      case "ready":
        return this.#ready(author, command);
      case "rotate_key":
        return this.#rotate(at, author, command);
      case "set_sealing_key":
        if (command.serial <= author.sealingSerial)
          return refuse("ALREADY_EXISTS", `serial ${author.sealingSerial} is in force; a new key has a higher one`, "serial");
        this.#roster.put({ ...author, sealingSerial: command.serial, sealingKey: command.sealingKey });
        return done(author.hubId, [{ kind: "key_rotated", hubId: author.hubId, serial: command.serial, sealing: true }]);
      case "set_endpoints":
        return this.#setEndpoints(at, author, command);
      case "accuse":
        return this.#accuse(at, author, command);
      case "refute":
        return this.#refute(author, command);
    }
  }

  /** carryOut does what an approved ballot says. A refusal means that the federation has changed since the ballot opened. */
  carryOut(at: LogInstant, ballot: string, action: MemberAction): Result {
    const problem = this.actionProblem(action);
    if (problem !== undefined) return { ok: false, failure: problem };
    switch (action.kind) {
      case "admit":
        return this.#admit(at, action, "ballot", ballot);
      case "remove":
        return this.#go(action.hubId, true, ballot);
      case "weigh":
        this.#roster.put({ ...(this.#roster.get(action.hubId) as Member), weight: action.weight });
        return done(action.hubId, [{ kind: "weighed", hubId: action.hubId, weight: action.weight }]);
      case "assign_role":
        return this.#assign(action);
      case "confirm_failed": {
        const news: MemberNews[] = [];
        this.#failures.confirm(at.time, this.#roster.get(action.hubId) as Member, news);
        return done(action.hubId, news);
      }
      case "set_policy": {
        const { key, value, basis } = action;
        this.#changed.set(key, { value, version: basis + 1 });
        return done("", [{ kind: "policy_changed", key, value, version: basis + 1, ballot }]);
      }
    }
  }

  /** actionProblem says why an action cannot be carried out as things are, or undefined. */
  actionProblem(action: MemberAction): Failure | undefined {
    return memberActionProblem(this.#roster, this.#admission, this.policies, action);
  }

  #found(at: LogInstant, author: string, { founding, signatures }: Command<"found">): Result {
    if (this.#founding !== undefined)
      return refuse("ALREADY_EXISTS", `this log is that of federation ${this.#founding.founding.federationId} already`);
    const problem = foundingProblem({ founding, signatures }, this.#crypto);
    if (problem !== undefined) return { ok: false, failure: problem };
    if (!founding.founders.some(({ hubId }) => hubId === author)) return refuse("ACCESS_DENIED", `hub ${author} is no founder`);
    this.#setFounding({ founding, signatures });
    this.#founded = { index: at.index, time: at.time };
    const roster = this.#roster;
    for (const founder of founding.founders)
      roster.put(memberOf(founder, founder.weight, at, { by: "founding", ref: founding.federationId }, roster.nextFence()));
    roster.fillSeats();
    const { federationId, engine } = founding;
    const news: MemberNews[] = [{ kind: "founded", federationId, engine }, { kind: "seats_changed" }];
    roster.settleRoles(news);
    return done("", news);
  }

  #setFounding(founding: SignedFounding | undefined): void {
    this.#founding = founding;
    this.#digest = founding === undefined ? undefined : foundingDigest(founding.founding, this.#crypto);
    this.#roster.engine = founding?.founding.engine ?? "raft";
  }

  #requestJoin(at: LogInstant, author: string, { candidate, signature }: Command<"request_join">): Result {
    const { federationId } = (this.#founding as SignedFounding).founding;
    const { hubId, incarnation } = candidate;
    const member = this.#roster.get(hubId);
    const failure = this.#admission.request(at, federationId, author, candidate, signature);
    if (failure !== undefined) return { ok: false, failure };
    if (member !== undefined) return this.#replace(member, candidate);
    return done(hubId, [{ kind: "join_requested", hubId, incarnation, sponsor: author }]);
  }

  #byFounder(at: LogInstant, author: Member, command: Command<"admit" | "remove">): Result {
    const { admission } = (this.#founding as SignedFounding).founding;
    const verb = command.kind === "admit" ? "admits" : "removes";
    if (admission !== "founder") return refuse("ACCESS_DENIED", `this federation ${verb} hubs by ballot; propose it there`);
    if (author.admittedBy !== "founding")
      return refuse("ACCESS_DENIED", `hub ${author.hubId} is no founder, and only founders do this alone`);
    if (command.kind === "remove" && this.#roster.get(command.hubId)?.admittedBy === "founding")
      return refuse("ACCESS_DENIED", `hub ${command.hubId} is a founder, which only a ballot removes`);
    const problem = this.actionProblem(command);
    if (problem !== undefined) return { ok: false, failure: problem };
    return command.kind === "admit" ? this.#admit(at, command, "founder", author.hubId) : this.#go(command.hubId, true, author.hubId);
  }

  #admit(at: LogInstant, action: Command<"admit">, by: "ballot" | "founder", ref: string): Result {
    const news: MemberNews[] = [];
    this.#admission.admit(at, action, { by, ref }, news);
    return done(action.hubId, news);
  }

  #go(hubId: string, removed: boolean, ref: string): Result {
    const failure = this.#admission.goProblem(hubId);
    if (failure !== undefined) return { ok: false, failure };
    const news: MemberNews[] = [];
    this.#admission.go(hubId, removed, ref, news);
    return done(hubId, news);
  }

  #replace(author: Member, { incarnation }: Pick<Command<"replace">, "incarnation">): Result {
    const { hubId, incarnation: before } = author;
    const failure = this.#admission.incarnationProblem(hubId, incarnation, "incarnation");
    if (failure !== undefined) return { ok: false, failure };
    // The new replica has nothing yet: it learns first, unless its seat is one of the last ones.
    const least = Math.max(this.policies.int("min_voters"), VOTERS[this.#roster.engine].min);
    const keepsSeat = author.voter && this.#roster.seatsWithout(hubId) < least;
    this.#roster.put({ ...author, incarnation, ready: false, voter: keepsSeat });
    this.#roster.fillSeats();
    return done(hubId, [{ kind: "replaced", hubId, incarnation, before }, { kind: "seats_changed" }]);
  }

  #ready(author: Member, { incarnation }: Command<"ready">): Result {
    const { hubId } = author;
    if (incarnation !== author.incarnation)
      return refuse("TOO_STALE", `the replica of hub ${hubId} is incarnation ${author.incarnation}; another one has no say`, "incarnation");
    if (author.ready) return { ok: true, value: { hubId, changed: false }, news: [] };
    const voters = this.#roster.voters().length;
    this.#roster.put({ ...author, ready: true });
    this.#roster.fillSeats();
    return done(hubId, this.#roster.voters().length > voters ? [{ kind: "seats_changed" }] : []);
  }

  #rotate(at: LogInstant, author: Member, { serial, publicKey, signature, proof }: Command<"rotate_key">): Result {
    const { hubId } = author;
    const { federationId } = (this.#founding as SignedFounding).founding;
    const old = keyInForce(author);
    if (serial <= old.serial) return refuse("ALREADY_EXISTS", `serial ${old.serial} is in force; a new key has a higher one`, "serial");
    const failure = this.#admission.keyProblem(publicKey, "publicKey");
    if (failure !== undefined) return { ok: false, failure };
    const link: KeyLink = { hubId, serial, publicKey, previous: old.serial, signature, proof };
    if (!linkHolds(federationId, link, old.publicKey, this.#crypto))
      return refuse("SIGNATURE_INVALID", `a new key is signed by the one with serial ${old.serial} and by itself`, "signature");
    const record = { serial, publicKey, previous: old.serial, signature, proof, from: at.index, until: 0 };
    const keys = [...author.keys.slice(0, -1), { ...old, until: at.index }, record].slice(-MEMBER_LIMITS.keys);
    this.#roster.put({ ...author, keys });
    return done(hubId, [{ kind: "key_rotated", hubId, serial, sealing: false }]);
  }

  #setEndpoints(at: LogInstant, author: Member, { primary, standbys }: Command<"set_endpoints">): Result {
    const all = [primary, ...standbys].map(({ host, port }) => `${host.toLowerCase()} ${port}`);
    if (new Set(all).size < all.length)
      return refuse("INVALID_FIELD", "an endpoint is named twice; each standby is another one", "standbys");
    const before = endpointOf(author);
    const stays = before.host.toLowerCase() === primary.host.toLowerCase() && before.port === primary.port;
    // Who is to act now needs the data first: that it does not answer yet moves nothing back (`failover_hold_ms`).
    const movedAt = stays ? author.movedAt : at.time;
    const member = { ...author, primary, standbys, dialled: 0, fence: this.#roster.nextFence(), movedAt };
    this.#roster.put(member);
    return done(member.hubId, [{ kind: "endpoint_moved", hubId: member.hubId, endpoint: primary, fence: member.fence, failover: false }]);
  }

  #accuse(at: LogInstant, author: Member, { hubId, life }: Command<"accuse">): Result {
    if (!author.voter) return refuse("NOT_A_VOTER", `hub ${author.hubId} is a learner; voters tell who has failed`);
    if (hubId === author.hubId) return refuse("INVALID_FIELD", "a hub does not accuse itself; it leaves", "hubId");
    if (author.failed) return refuse("ACCESS_DENIED", `hub ${author.hubId} counts as failed itself; refute that first`);
    const accused = this.#roster.get(hubId);
    if (accused === undefined) return refuse("PEER_NOT_FOUND", `hub ${hubId} is no member`, "hubId");
    const failure = lifeProblem(accused, life);
    if (failure !== undefined) return { ok: false, failure };
    if (accused.failed) return { ok: true, value: { hubId, changed: false }, news: [] };
    const news: MemberNews[] = [];
    this.#failures.accuse(at.time, author.hubId, accused, news);
    return done(hubId, news);
  }

  #refute(author: Member, { life }: Command<"refute">): Result {
    if (life <= author.life)
      return refuse("TOO_STALE", `hub ${author.hubId} has said that it lives with ${author.life}; a refutation has a higher life`, "life");
    const news: MemberNews[] = [];
    this.#failures.refute(author, life, news);
    return done(author.hubId, news);
  }

  #assign({ role, hubId, standbys }: Action<"assign_role">): Result {
    const before = this.#roster.role(role)?.hubId ?? "";
    const fence = this.#roster.nextFence();
    this.#roster.setRole({ role, hubId, standbys, fence });
    return done(hubId, [{ kind: "role_moved", role, hubId, before, fence }]);
  }

  due(): number | undefined {
    let due = this.#admission.dueAt();
    for (const member of this.#roster.each()) due = Math.min(due, this.#failures.dueOf(member));
    return due === Number.POSITIVE_INFINITY ? undefined : due;
  }

  expire(at: LogInstant): readonly MemberNews[] {
    const news: MemberNews[] = [];
    this.#admission.expire(at.time, news);
    this.#failures.expire(at.time, news);
    return news;
  }

  dump(): MembersDump {
    return {
      founding: this.#founding,
      foundedIndex: this.#founded.index,
      foundedTime: this.#founded.time,
      members: this.#roster.all(),
      joins: this.#admission.joins(),
      retired: this.#admission.retired(),
      roles: this.#roster.roles(),
      fence: this.#roster.fence,
      policies: [...this.#changed].map(([key, item]) => ({ key, ...item })).sort((a, b) => compareText(a.key, b.key)),
    };
  }

  load(data: MembersDump): void {
    this.#setFounding(data.founding);
    this.#founded = { index: data.foundedIndex, time: data.foundedTime };
    this.#roster.clear();
    for (const member of data.members) this.#roster.put(member);
    for (const role of data.roles) this.#roster.setRole(role);
    this.#roster.fence = data.fence;
    this.#admission.load(data.joins, data.retired);
    this.#changed.clear();
    for (const { key, value, version } of data.policies) this.#changed.set(key, { value, version });
  }

  describe(): string {
    return describeMembers(this.dump(), this.role(LEADER)?.hubId);
  }
}

function done(hubId: string, news: readonly MemberNews[]): Result {
  return { ok: true, value: { hubId, changed: true }, news };
}
