import type { Crypto } from "#kernel/crypto.ts";
import type { Failure } from "#kernel/error.ts";
import { compareText } from "#kernel/wire/bytes.ts";
import { encode, problemOf, sameBytes } from "#kernel/wire/shape.ts";
import type { Book, LogInstant, Outcome } from "../log/book.ts";
import type { KeyLink } from "../members/messages.ts";
import { isMoreThan } from "../members/policies.ts";
import { linkHolds } from "../members/statements.ts";
import { describeBallots } from "./describe.ts";
import { aboutOf, actionProblem, type Electorate } from "./electorate.ts";
import {
  type Action,
  type Attestation,
  BALLOT_COMMAND,
  BALLOT_LIMITS,
  BALLOTS_OPEN,
  type Ballot,
  type BallotCommand,
  type BallotNews,
  type BallotsDump,
  type BallotValue,
  CERTIFICATE,
  type ClosingStatement,
  type Eligible,
  type Opening,
  type Result,
  type SignedVote,
  SUBJECT_OF,
  type Subject,
  type VoteStatement,
} from "./messages.ts";
import { closingBytes, openingDigest, voteBytes, votesDigest } from "./statements.ts";
import { certainResult, resultAt, tallyOf, weightOf } from "./tally.ts";

type Command<K extends BallotCommand["kind"]> = Extract<BallotCommand, { kind: K }>;
type Answer = Outcome<BallotValue, BallotNews>;

/** Subjects that need the policy `strict_majority`. */
const STRICT: ReadonlySet<Subject> = new Set(["MEMBERSHIP", "FEDERATION_POLICY"]);

const encoder = new TextEncoder();

const refuse = (reason: Failure["reason"], message: string, field?: string): Answer => ({
  ok: false,
  failure: field === undefined ? { reason, message } : { reason, message, field },
});

/** insertion puts an item into a list that is sorted by hub id. */
function insertion<T>(items: readonly T[], item: T, hubOf: (item: T) => string): readonly T[] {
  return [...items, item].sort((a, b) => compareText(hubOf(a), hubOf(b)));
}

/**
 * Ballots is the book of what a federation decides together (S1-5, S1-6).
 *
 * BA1 who may vote, with which weight and key, the majority, the quorum and the deadline are fixed when a ballot opens; a vote counts only
 *    if it is signed over the digest of all that. Nobody votes about its own removal or failure.
 * BA2 one vote of each hub: the first stands. The same again changes nothing; another one is refused with DOUBLE_VOTE.
 * BA3 a vote is taken before the deadline, in log time, from a hub that is still a member, with the key and the replica that are in force
 *    at that position of the log.
 * BA4 ABSTAIN counts for the quorum of participation and for nothing else. APPROVED needs that more than `participation` of all weight has
 *    voted, and more than `majority` of the weight that said APPROVE or REJECT approved: exactly as much is not enough. With a quorum and
 *    no majority it is REJECTED, without a quorum EXPIRED.
 * BA5 a ballot ends at its deadline, or as soon as no further vote can change the result, or when its proposer withdraws it.
 * BA6 what was decided has a certificate that anyone verifies (`certificate.ts`) when voters with more than half of all weight have signed
 *    that this is the result, and these are all votes. Votes alone are none: some may have been left out, or have come too late for the log.
 * BA7 reasoning is kept as it was signed, bounded for each vote and for all votes of one ballot.
 * BA8 nothing is taken that would make a certificate worthless: the key of a vote or attestation follows from that of the opening, by changes
 *    that each key before has signed and that are remembered. Who left and came back has another key, or another membership, and no say.
 * BA9 what was decided is forgotten only for something else that was, or after its time: no member takes the others' certificates away by
 *    opening ballots that come to nothing. Nor do some keep another from opening one.
 */
export class Ballots implements Book<BallotCommand, BallotValue, BallotNews, BallotsDump> {
  readonly #crypto: Pick<Crypto, "hash" | "verify">;
  readonly #electorate: Electorate;
  readonly #problem: (action: Action) => Failure | undefined;
  readonly #ballots = new Map<string, Ballot>();

  /** `problem` says why another book could not carry an action out. */
  constructor(
    electorate: Electorate,
    crypto: Pick<Crypto, "hash" | "verify">,
    problem: (action: Action) => Failure | undefined = () => undefined,
  ) {
    this.#problem = problem;
    this.#electorate = electorate;
    this.#crypto = crypto;
  }

  /** ballot of an id, as long as it is kept. */
  ballot(ballotId: string): Ballot | undefined {
    return this.#ballots.get(ballotId);
  }

  /** ballots that are open or kept, by id. */
  ballots(): readonly Ballot[] {
    return [...this.#ballots.values()].sort((a, b) => compareText(idOf(a), idOf(b)));
  }

  /** digestOf is what the votes of a ballot are about. */
  digestOf(ballot: Ballot): Uint8Array {
    return openingDigest(ballot.opening, this.#crypto);
  }

  /** closing is what `hubId` signs to attest how a ballot ended; undefined while it is open, or if there is nothing to attest. */
  closing(ballotId: string, hubId: string, keySerial: number, asOfIndex: number): ClosingStatement | undefined {
    const ballot = this.#ballots.get(ballotId);
    if (ballot?.result !== "APPROVED" && ballot?.result !== "REJECTED") return undefined;
    const { federationId } = ballot.opening;
    const digests = { openingDigest: this.digestOf(ballot), votesDigest: votesDigest(ballot.votes, this.#crypto) };
    return { federationId, ballotId, ...digests, result: ballot.result, hubId, keySerial, asOfIndex };
  }

  /** certificate of a ballot, or the sentence that says why there is none (yet). */
  certificate(ballotId: string): Uint8Array | string {
    const ballot = this.#ballots.get(ballotId);
    if (ballot === undefined) return `no ballot ${ballotId} is known here; settled ones are kept for 7 days`;
    const { opening, votes, result, attestations, keys } = ballot;
    if (result === undefined) return `ballot ${ballotId} is open until log time ${opening.deadline}; ask again when it is decided`;
    if (result !== "APPROVED" && result !== "REJECTED")
      return `ballot ${ballotId} is ${result}: nothing was decided that could be certified`;
    if (!isCertified(ballot))
      return `voters with ${attested(ballot)} of ${weightOf(opening.eligible)} weight have attested the result of ballot ${ballotId}; more than half is needed`;
    return encode(CERTIFICATE, { opening, votes, result, attestations, keys });
  }

  apply(at: LogInstant, author: string, command: BallotCommand): Answer {
    const malformed = problemOf(BALLOT_COMMAND, command);
    if (malformed !== undefined) return refuse("INVALID_FIELD", `${malformed.path} ${malformed.message}`, malformed.path);
    if (this.#electorate.member(author) === undefined) return refuse("ACCESS_DENIED", `hub ${author} is no member of this federation`);
    if (command.kind === "propose") return this.#propose(at, author, command);
    const ballot = this.#ballots.get(command.ballotId);
    if (ballot === undefined) return refuse("BALLOT_CLOSED", `there is no ballot ${command.ballotId}`, "ballotId");
    switch (command.kind) {
      case "vote":
        return this.#vote(at, author, ballot, command);
      case "withdraw":
        return this.#withdraw(at, author, ballot);
      case "attest":
        return this.#attest(at, author, ballot, command);
    }
  }

  #propose(at: LogInstant, author: string, command: Command<"propose">): Answer {
    const { ballotId, subject, action, reasoning } = command;
    const { policies } = this.#electorate;
    const federation = this.#electorate.federation();
    if (federation === undefined) return refuse("NOT_CONFIGURED", "this log has no founding entry yet; found the federation first");
    if (this.#ballots.has(ballotId))
      return refuse("ALREADY_EXISTS", `there is a ballot ${ballotId} already; choose another id`, "ballotId");
    if (SUBJECT_OF[action.kind] !== subject)
      return refuse("INVALID_FIELD", `this action is a matter of ${SUBJECT_OF[action.kind]}, not of ${subject}`, "subject");
    const longest = policies.int("ballot_longest_ms");
    const durationMs = command.durationMs === 0 ? Math.min(policies.int("ballot_ms"), longest) : command.durationMs;
    if (durationMs < 1_000 || durationMs > longest)
      return refuse("VALUE_OUT_OF_RANGE", `a ballot is open for 1000 to ${longest} ms`, "durationMs");
    const open = this.ballots().filter(({ result }) => result === undefined);
    const own = open.filter(({ opening }) => opening.proposal.proposer === author).length;
    // However many others have open, a member has its say (BA9).
    if (open.length >= (own === 0 ? BALLOTS_OPEN : BALLOT_LIMITS.open))
      return refuse("LIMIT_EXCEEDED", `${open.length} ballots are open; wait until some are decided`);
    if (own >= BALLOT_LIMITS.openPerProposer)
      return refuse("LIMIT_EXCEEDED", `hub ${author} has ${own} ballots open; withdraw one, or wait`);
    const failure = actionProblem(this.#electorate, action) ?? this.#problem(action);
    if (failure !== undefined) return { ok: false, failure };
    const eligible = this.#electorate.eligible(aboutOf(action));
    if (eligible.length === 0) return refuse("NOT_A_VOTER", "no hub has a vote in this matter");
    const opening: Opening = {
      federationId: federation.id,
      foundingDigest: federation.digest,
      proposal: { ballotId, proposer: author, subject, action, reasoning, durationMs },
      eligible,
      majority: policies.fraction(STRICT.has(subject) ? "strict_majority" : "majority"),
      participation: policies.fraction("participation"),
      index: at.index,
      term: at.term,
      time: at.time,
      deadline: at.time + durationMs,
    };
    const ballot: Ballot = {
      opening,
      votes: [],
      result: undefined,
      closedIndex: 0,
      closedTime: 0,
      early: false,
      attestations: [],
      keys: [],
    };
    this.#ballots.set(ballotId, ballot);
    return answer(ballot, [{ kind: "opened", opening, digest: this.digestOf(ballot) }]);
  }

  #vote(at: LogInstant, author: string, ballot: Ballot, command: Command<"vote">): Answer {
    const voter = ballot.opening.eligible.find(({ hubId }) => hubId === author);
    if (voter === undefined) return refuse("NOT_A_VOTER", `hub ${author} has no vote in ballot ${command.ballotId}`);
    const cast = ballot.votes.find(({ statement }) => statement.hubId === author)?.statement.vote;
    // Also when it is over: whoever says two things is told so, and is counted.
    if (cast !== undefined && cast !== command.vote)
      return refuse(
        "DOUBLE_VOTE",
        `hub ${author} has said ${cast} in ballot ${command.ballotId} already, and the first vote stands`,
        "vote",
      );
    if (cast !== undefined) return answer(ballot, [], false);
    if (ballot.result !== undefined || at.time >= ballot.opening.deadline) return closed(ballot);
    const failure = this.#voteProblem(at, ballot, voter, command);
    if (failure !== undefined) return { ok: false, failure };
    const statement = statementOf(ballot.opening, author, command);
    const key = this.#electorate.key(author);
    if (key === undefined || !this.#crypto.verify(key.publicKey, voteBytes(statement), command.signature))
      return refuse("SIGNATURE_INVALID", `the vote is not signed by the key of hub ${author} with serial ${key?.serial}`, "signature");
    const keys = this.#keysWith(ballot, voter, key);
    if ("reason" in keys) return { ok: false, failure: keys };
    const votes = insertion(ballot.votes, { statement, signature: command.signature }, voteHub);
    const { ballotId, vote, weight } = command;
    const news: BallotNews[] = [{ kind: "voted", ballotId, hubId: author, vote, weight }];
    const next: Ballot = { ...ballot, votes, keys };
    const result = certainResult(tallyOf(ballot.opening.eligible, votes), ballot.opening);
    return answer(result === undefined ? this.#keep(next) : this.#close(at, next, result, true, news), news);
  }

  #voteProblem(at: LogInstant, { opening, votes }: Ballot, voter: Eligible, command: Command<"vote">): Failure | undefined {
    if (!sameBytes(command.openingDigest, openingDigest(opening, this.#crypto)))
      return wrong(
        "IDENTITY_MISMATCH",
        `the vote is about another ballot than ${command.ballotId} as it was opened; look at it again`,
        "openingDigest",
      );
    if (command.weight !== voter.weight)
      return wrong("VALUE_OUT_OF_RANGE", `the weight of hub ${voter.hubId} in this ballot is ${voter.weight}`, "weight");
    const incarnation = this.#electorate.member(voter.hubId)?.incarnation;
    if (command.incarnation !== incarnation)
      return wrong("TOO_STALE", `the replica of hub ${voter.hubId} is incarnation ${incarnation}; another one has no vote`, "incarnation");
    const { asOfIndex, asOfTime } = command;
    if (asOfIndex < opening.index || asOfIndex >= at.index || asOfTime < opening.time || asOfTime > at.time)
      return wrong("VALUE_OUT_OF_RANGE", "a vote is made as of a position of the log between the opening and its own", "asOfIndex");
    const failure = this.#keyProblem(voter.hubId, command.keySerial, asOfIndex);
    if (failure !== undefined) return failure;
    const bytes = encoder.encode(command.reasoning).length;
    const kept = votes.reduce((sum, { statement }) => sum + encoder.encode(statement.reasoning).length, 0);
    return bytes > 0 && kept + bytes > BALLOT_LIMITS.reasoningOfAll
      ? wrong("LIMIT_EXCEEDED", "there is no room for more reasoning in this ballot; vote without", "reasoning")
      : undefined;
  }

  /** #keyProblem says why a signature as of a position does not count: the key is not in force, or was not yet. */
  #keyProblem(hubId: string, serial: number, asOfIndex: number): Failure | undefined {
    const key = this.#electorate.key(hubId);
    if (key?.serial !== serial)
      return wrong("SIGNATURE_INVALID", `the key of hub ${hubId} that is in force has serial ${key?.serial}`, "keySerial");
    return asOfIndex >= key.from
      ? undefined
      : wrong("SIGNATURE_INVALID", "it is signed as of a position at which its key was not in force yet", "asOfIndex");
  }

  /** #keysWith are the keys that a certificate carries, with those up to one that somebody signs with now; or why none leads there (BA8). */
  #keysWith({ opening, keys }: Ballot, voter: Eligible, key: { serial: number; publicKey: Uint8Array }): readonly KeyLink[] | Failure {
    const { hubId } = voter;
    const own = keys.filter((link) => link.hubId === hubId);
    const last = own.at(-1);
    const { serial, publicKey } = last ?? { serial: voter.keySerial, publicKey: voter.publicKey };
    if (key.serial === serial && sameBytes(key.publicKey, publicKey)) return keys;
    const more = this.#electorate.links(hubId, serial, key.serial);
    const [next] = more;
    const isTooMany = own.length + more.length > BALLOT_LIMITS.keysOfVoter;
    if (isTooMany || next?.previous !== serial || !linkHolds(opening.federationId, next, publicKey, this.#crypto)) {
      const message = `hub ${hubId} has changed its key too often since the ballot opened, or came back with another one: nobody could verify what it says now`;
      return wrong("SIGNATURE_INVALID", message, "keySerial");
    }
    return [...keys, ...more].sort((a, b) => compareText(a.hubId, b.hubId) || a.serial - b.serial);
  }

  #withdraw(at: LogInstant, author: string, ballot: Ballot): Answer {
    const { proposer, ballotId } = ballot.opening.proposal;
    if (proposer !== author) return refuse("ACCESS_DENIED", `only hub ${proposer}, which proposed it, withdraws ballot ${ballotId}`);
    if (ballot.result === "WITHDRAWN") return answer(ballot, [], false);
    if (ballot.result !== undefined) return closed(ballot);
    const news: BallotNews[] = [];
    return answer(this.#close(at, ballot, "WITHDRAWN", false, news), news);
  }

  #attest(at: LogInstant, author: string, ballot: Ballot, command: Command<"attest">): Answer {
    const { ballotId, keySerial, asOfIndex, signature } = command;
    const voter = ballot.opening.eligible.find(({ hubId }) => hubId === author);
    if (voter === undefined) return refuse("NOT_A_VOTER", `hub ${author} has no vote in ballot ${ballotId}`);
    if (ballot.attestations.some(({ hubId }) => hubId === author)) return answer(ballot, [], false);
    if (ballot.result !== "APPROVED" && ballot.result !== "REJECTED")
      return refuse("BALLOT_CLOSED", `ballot ${ballotId} is ${ballot.result ?? "open"}, and there is nothing to attest`, "ballotId");
    // Once it can be shown to anyone, more signatures would only make it longer.
    if (isCertified(ballot)) return answer(ballot, [], false);
    if (asOfIndex < ballot.closedIndex || asOfIndex >= at.index)
      return refuse(
        "VALUE_OUT_OF_RANGE",
        "a result is attested as of a position of the log at or after the one that decided it",
        "asOfIndex",
      );
    const failure = this.#keyProblem(author, keySerial, asOfIndex);
    if (failure !== undefined) return { ok: false, failure };
    const key = this.#electorate.key(author);
    const statement = this.closing(ballotId, author, keySerial, asOfIndex);
    if (key === undefined || statement === undefined || !this.#crypto.verify(key.publicKey, closingBytes(statement), signature))
      return refuse("SIGNATURE_INVALID", `the result is not signed by the key of hub ${author}, or is another one here`, "signature");
    const attestation: Attestation = { hubId: author, keySerial, asOfIndex, signature };
    const keys = this.#keysWith(ballot, voter, key);
    if ("reason" in keys) return { ok: false, failure: keys };
    const attestations = insertion(ballot.attestations, attestation, ({ hubId }) => hubId);
    const next = this.#keep({ ...ballot, attestations, keys });
    return answer(next, isCertified(next) ? [{ kind: "certified", ballotId }] : []);
  }

  #keep(ballot: Ballot): Ballot {
    this.#ballots.set(idOf(ballot), ballot);
    return ballot;
  }

  #close(at: LogInstant, ballot: Ballot, result: Result, early: boolean, news: BallotNews[]): Ballot {
    const { proposal, eligible } = ballot.opening;
    const { ballotId, subject, action } = proposal;
    const next = this.#keep({ ...ballot, result, closedIndex: at.index, closedTime: at.time, early });
    const attest = decides(next) ? votesDigest(ballot.votes, this.#crypto) : new Uint8Array(0);
    news.push({ kind: "decided", ballotId, subject, action, result, tally: tallyOf(eligible, ballot.votes), early, attest });
    this.#forget(at.time);
    return next;
  }

  /** #forget lets go of settled ballots that are too old or too many (BA9). */
  #forget(time: number): void {
    const settled = this.ballots()
      .filter(({ result }) => result !== undefined)
      .sort((a, b) => a.closedIndex - b.closedIndex || compareText(idOf(a), idOf(b)));
    const [decided, fruitless] = [settled.filter(decides), settled.filter((ballot) => !decides(ballot))];
    const old = settled.filter(({ closedTime }) => closedTime + BALLOT_LIMITS.settledMs <= time);
    for (const ballot of [...decided.slice(0, -BALLOT_LIMITS.settled), ...fruitless.slice(0, -BALLOT_LIMITS.fruitless), ...old])
      this.#ballots.delete(idOf(ballot));
  }

  due(): number | undefined {
    let due = Number.POSITIVE_INFINITY;
    for (const { opening, result, closedTime } of this.#ballots.values())
      due = Math.min(due, result === undefined ? opening.deadline : closedTime + BALLOT_LIMITS.settledMs);
    return due === Number.POSITIVE_INFINITY ? undefined : due;
  }

  expire(at: LogInstant): readonly BallotNews[] {
    const news: BallotNews[] = [];
    const over = this.ballots()
      .filter(({ opening, result }) => result === undefined && opening.deadline <= at.time)
      .sort((a, b) => a.opening.deadline - b.opening.deadline || compareText(idOf(a), idOf(b)));
    for (const ballot of over) {
      const { opening, votes } = ballot;
      this.#close(at, ballot, resultAt(tallyOf(opening.eligible, votes), opening), false, news);
    }
    this.#forget(at.time);
    return news;
  }

  dump(): BallotsDump {
    return { ballots: this.ballots() };
  }

  load(data: BallotsDump): void {
    this.#ballots.clear();
    for (const ballot of data.ballots) this.#ballots.set(idOf(ballot), ballot);
  }

  describe(): string {
    return describeBallots(this.ballots());
  }
}

function idOf({ opening }: Ballot): string {
  return opening.proposal.ballotId;
}

/** decides tells whether a ballot has come to something that can be certified. */
function decides({ result }: Ballot): boolean {
  return result === "APPROVED" || result === "REJECTED";
}

const voteHub = ({ statement }: SignedVote): string => statement.hubId;

const wrong = (reason: Failure["reason"], message: string, field: string): Failure => ({ reason, message, field });

function answer(ballot: Ballot, news: readonly BallotNews[], changed = true): Answer {
  const { opening, result } = ballot;
  return { ok: true, value: { ballotId: idOf(ballot), deadline: opening.deadline, result, changed }, news };
}

function closed(ballot: Ballot): Answer {
  const { opening, result } = ballot;
  if (result === "WITHDRAWN") return refuse("BALLOT_CLOSED", `ballot ${idOf(ballot)} was withdrawn`, "ballotId");
  if (result !== undefined && ballot.early) return refuse("BALLOT_CLOSED", `ballot ${idOf(ballot)} is ${result} already`, "ballotId");
  return refuse(
    "DEADLINE_EXPIRED",
    `votes in ballot ${idOf(ballot)} counted until log time ${opening.deadline}, and it is over`,
    "ballotId",
  );
}

/** attested is the weight of who has attested a result. */
function attested({ opening, attestations }: Ballot): number {
  return weightOf(opening.eligible.filter(({ hubId }) => attestations.some((one) => one.hubId === hubId)));
}

/** isCertified tells whether the result can be shown to anyone (BA6). */
function isCertified(ballot: Ballot): boolean {
  const { opening, result } = ballot;
  if (result !== "APPROVED" && result !== "REJECTED") return false;
  return isMoreThan({ numerator: 1, denominator: 2 }, attested(ballot), weightOf(opening.eligible));
}

/** statementOf is what a voter signed, as its command and the ballot say it together. */
export function statementOf(opening: Opening, hubId: string, command: Omit<Command<"vote">, "kind" | "signature">): VoteStatement {
  const { ballotId, incarnation, vote, weight, keySerial, asOfIndex, asOfTime, reasoning } = command;
  const { federationId } = opening;
  const { openingDigest: digest } = command;
  return { federationId, ballotId, openingDigest: digest, hubId, incarnation, vote, weight, keySerial, asOfIndex, asOfTime, reasoning };
}
