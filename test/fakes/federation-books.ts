import type { Crypto } from "#kernel/crypto.ts";
import { createCrypto, importFeedKey } from "#runtime/crypto.ts";
import { Ballots, statementOf } from "../../services/coordination/ballots/ballots.ts";
import type { Action, BallotCommand, BallotNews, BallotValue, Vote } from "../../services/coordination/ballots/messages.ts";
import { SUBJECT_OF } from "../../services/coordination/ballots/messages.ts";
import { closingBytes, voteBytes } from "../../services/coordination/ballots/statements.ts";
import { ballotsCodec } from "../../services/coordination/codec/ballots-codec.ts";
import { membersCodec } from "../../services/coordination/codec/members-codec.ts";
import type { LogInstant, Outcome } from "../../services/coordination/log/book.ts";
import { Members } from "../../services/coordination/members/members.ts";
import type {
  Candidate,
  Endpoint,
  Engine,
  Founding,
  MemberCommand,
  MemberNews,
  MemberValue,
  SignedFounding,
} from "../../services/coordination/members/messages.ts";
import { foundingBytes, joinBytes, rotationBytes } from "../../services/coordination/members/statements.ts";

/** Key is a signing key of a hub. */
export interface Key {
  readonly crypto: Crypto;
  readonly publicKey: Uint8Array;
}

/** keyOf makes the same key for the same name every time. */
export function keyOf(name: string): Key {
  const key = importFeedKey(createCrypto().hash(new TextEncoder().encode(`key of ${name}`)));
  return { crypto: createCrypto(key), publicKey: Uint8Array.from(key.publicKey) };
}

const at = (host: string, port = 7_400): Endpoint => ({ host, port });

/** candidateOf is what a hub of this name says of itself. */
export function candidateOf(hubId: string, more: Partial<Candidate> = {}): Candidate {
  return {
    hubId,
    incarnation: 1,
    publicKey: keyOf(hubId).publicKey,
    sealingKey: keyOf(`sealing ${hubId}`).publicKey,
    weight: 1,
    primary: at(`${hubId}.example`),
    standbys: [at(`${hubId}-b.example`)],
    ...more,
  };
}

/** foundingOf is a founding entry that all founders have signed. */
export function foundingOf(founders: readonly Candidate[], more: Partial<Founding> = {}): SignedFounding {
  const sorted = [...founders].sort((a, b) => (a.hubId < b.hubId ? -1 : 1));
  const founding: Founding = { federationId: "fed", name: "Federation", engine: "raft", admission: "ballot", founders: sorted, ...more };
  const signatures = founding.founders.map(({ hubId }) => ({ hubId, signature: sign(keyOf(hubId), foundingBytes(founding)) }));
  return { founding, signatures };
}

function sign(key: Key, bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(key.crypto.sign(bytes));
}

/** joinOf asks for the admission of a hub. */
export function joinOf(candidate: Candidate, federationId = "fed", key = keyOf(candidate.hubId)): MemberCommand {
  return { kind: "request_join", candidate, signature: sign(key, joinBytes(federationId, candidate)) };
}

/** Entry is one command of a log. */
export type Entry = { readonly author: string; readonly later: number } & (
  | { readonly book: "members"; readonly command: MemberCommand }
  | { readonly book: "ballots"; readonly command: BallotCommand }
);

/** FederationBooks are both books of one log, with the keys of everybody, and apply commands as the service does. */
export class FederationBooks {
  readonly crypto = createCrypto();
  readonly members = new Members(this.crypto);
  readonly ballots = new Ballots(this.members, this.crypto);
  readonly keys = new Map<string, Key>();
  readonly news: (MemberNews | BallotNews)[] = [];
  /** Refusals of what approved ballots should have done. */
  readonly refused: string[] = [];
  readonly founding: SignedFounding;
  /** Everything that was put into the log, for another copy of the books. */
  readonly log: Entry[] = [];
  index = 0;
  time = 1_000_000;

  constructor(hubs: readonly (string | Candidate)[] = ["a", "b", "c"], more: Partial<Founding> = {}) {
    const founders = hubs.map((hub) => (typeof hub === "string" ? candidateOf(hub) : hub));
    this.founding = foundingOf(founders, more);
    const [first] = founders;
    if (first === undefined) return;
    this.member(first.hubId, { kind: "found", ...this.founding });
  }

  static bft(hubs: readonly string[] = ["a", "b", "c", "d"]): FederationBooks {
    return new FederationBooks(hubs, { engine: "bft" satisfies Engine });
  }

  /** instant is the next position of the log, at which what is due is done first. */
  instant(later = 0): LogInstant {
    this.index++;
    this.time += later;
    const instant = { index: this.index, term: 1, time: this.time };
    this.news.push(...this.members.expire(instant));
    this.#route(instant, this.ballots.expire(instant));
    return instant;
  }

  #route(instant: LogInstant, news: readonly BallotNews[]): void {
    for (const item of news) {
      this.news.push(item);
      if (item.kind !== "decided" || item.result !== "APPROVED" || item.action.kind === "allocate" || item.action.kind === "prioritize")
        continue;
      const outcome = this.members.carryOut(instant, item.ballotId, item.action);
      if (outcome.ok) this.news.push(...outcome.news);
      else this.refused.push(`${item.ballotId}: ${outcome.failure.reason}`);
    }
  }

  member(author: string, command: MemberCommand, later = 0): Outcome<MemberValue, MemberNews> {
    this.log.push({ book: "members", author, command, later });
    const outcome = this.members.apply(this.instant(later), author, command);
    if (outcome.ok) this.news.push(...outcome.news);
    return outcome;
  }

  ballot(author: string, command: BallotCommand, later = 0): Outcome<BallotValue, BallotNews> {
    this.log.push({ book: "ballots", author, command, later });
    const instant = this.instant(later);
    const outcome = this.ballots.apply(instant, author, command);
    if (outcome.ok) this.#route(instant, outcome.news);
    return outcome;
  }

  /** put applies an entry of another copy's log. */
  put(entry: Entry): Outcome<unknown, unknown> {
    return entry.book === "members"
      ? this.member(entry.author, entry.command, entry.later)
      : this.ballot(entry.author, entry.command, entry.later);
  }

  /** bytes of both books, as a snapshot has them. */
  bytes(): readonly [Uint8Array, Uint8Array] {
    return [membersCodec.dump.encode(this.members.dump()), ballotsCodec.dump.encode(this.ballots.dump())];
  }

  /** restored is another copy that begins with the snapshot of this one. */
  restored(): FederationBooks {
    const [members, ballots] = this.bytes();
    const copy = new FederationBooks([]);
    const dumps = [membersCodec.dump.decode(members), ballotsCodec.dump.decode(ballots)] as const;
    if (!dumps[0].ok || !dumps[1].ok) throw new Error("a snapshot does not read back");
    copy.members.load(dumps[0].value);
    copy.ballots.load(dumps[1].value);
    copy.index = this.index;
    copy.time = this.time;
    return copy;
  }

  key(hubId: string): Key {
    return this.keys.get(hubId) ?? keyOf(hubId);
  }

  propose(ballotId: string, author: string, action: Action, more: Partial<Extract<BallotCommand, { kind: "propose" }>> = {}) {
    return this.ballot(author, {
      kind: "propose",
      ballotId,
      subject: SUBJECT_OF[action.kind],
      action,
      reasoning: "",
      durationMs: 0,
      ...more,
    });
  }

  /** voteOf is the command with which a hub votes, signed; `more` is changed before it is, `after` afterwards. */
  voteOf(
    ballotId: string,
    hubId: string,
    vote: Vote,
    more: Partial<Extract<BallotCommand, { kind: "vote" }>> = {},
    key = this.key(hubId),
  ): Extract<BallotCommand, { kind: "vote" }> {
    const ballot = this.ballots.ballot(ballotId);
    if (ballot === undefined) throw new Error(`no ballot ${ballotId}`);
    const voter = ballot.opening.eligible.find((one) => one.hubId === hubId);
    const unsigned = {
      ballotId,
      openingDigest: Uint8Array.from(this.ballots.digestOf(ballot)),
      incarnation: this.members.member(hubId)?.incarnation ?? 1,
      vote,
      weight: voter?.weight ?? 1,
      keySerial: this.members.key(hubId)?.serial ?? 1,
      asOfIndex: this.index,
      asOfTime: this.time,
      reasoning: "",
      ...more,
    };
    return { kind: "vote", ...unsigned, signature: sign(key, voteBytes(statementOf(ballot.opening, hubId, unsigned))) };
  }

  vote(ballotId: string, hubId: string, vote: Vote, later = 0) {
    return this.ballot(hubId, this.voteOf(ballotId, hubId, vote), later);
  }

  attestOf(ballotId: string, hubId: string, key = this.key(hubId)): Extract<BallotCommand, { kind: "attest" }> {
    const keySerial = this.members.key(hubId)?.serial ?? 1;
    const statement = this.ballots.closing(ballotId, hubId, keySerial, this.index);
    if (statement === undefined) throw new Error(`ballot ${ballotId} is not decided`);
    return { kind: "attest", ballotId, keySerial, asOfIndex: this.index, signature: sign(key, closingBytes(statement)) };
  }

  attest(ballotId: string, hubId: string) {
    return this.ballot(hubId, this.attestOf(ballotId, hubId));
  }

  /** rotationOf is the command with which a hub changes to a key of another name. */
  rotationOf(hubId: string, name: string, serial: number, old = this.key(hubId)): MemberCommand {
    const key = keyOf(name);
    const previous = this.members.key(hubId)?.serial ?? 1;
    const { publicKey } = key;
    const link = { hubId, serial, publicKey, previous };
    const signature = sign(old, rotationBytes("rotate", "fed", link));
    return { kind: "rotate_key", serial, publicKey, signature, proof: sign(key, rotationBytes("hold", "fed", link)) };
  }

  rotate(hubId: string, name: string, serial: number) {
    const outcome = this.member(hubId, this.rotationOf(hubId, name, serial));
    if (outcome.ok) this.keys.set(hubId, keyOf(name));
    return outcome;
  }

  /** admit lets a hub in by a ballot that all members approve. */
  admit(candidate: Candidate, ballotId = `admit-${candidate.hubId}`): void {
    this.member(candidate.hubId, joinOf(candidate));
    const { hubId, incarnation, publicKey, weight } = candidate;
    const author = this.members.members()[0]?.hubId ?? "";
    this.decide(ballotId, author, { kind: "admit", hubId, incarnation, publicKey, weight });
  }

  /** decide has a ballot approved by all. */
  decide(ballotId: string, author: string, action: Action): void {
    const opened = this.propose(ballotId, author, action);
    if (!opened.ok) throw new Error(opened.failure.message);
    for (const { hubId } of this.ballots.ballot(ballotId)?.opening.eligible ?? [])
      if (this.ballots.ballot(ballotId)?.result === undefined) this.vote(ballotId, hubId, "APPROVE");
  }

  /** set changes a policy by a ballot that all approve. */
  set(key: string, value: number): void {
    this.decide(`set-${key}-${this.index}`, this.members.members()[0]?.hubId ?? "", {
      kind: "set_policy",
      key,
      value: { kind: "int", value },
      basis: this.members.policies.version(key),
    });
  }

  wanted(): string {
    const { voters, learners } = this.members.wanted();
    return [...voters, ...learners.map((id) => `(${id})`)].join(" ");
  }
}

/** reasonOf is why something was refused, or ok. */
export function reasonOf(outcome: Outcome<unknown, unknown>): string {
  return outcome.ok ? "ok" : outcome.failure.reason;
}
