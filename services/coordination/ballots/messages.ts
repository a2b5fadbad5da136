import { bytes, choice, flag, list, maybeWord, message, type Of, part, text, uint, word } from "#kernel/wire/shape.ts";
import { ID_BYTES, KEY_LINK, LABEL, LOG_MAX, MEMBER_ACTIONS, MEMBER_LIMITS, NAME } from "../members/messages.ts";

/** What is proposed, voted and certified, as `proto/foedus/coordination/v1alpha1/ballots.proto` describes it: tables of fields with their bounds. */

/** SUBJECTS are what a ballot can be about (S1-5). */
export const SUBJECTS = ["RESOURCE_ALLOCATION", "PRIORITY_CHANGE", "FEDERATION_POLICY", "MEMBERSHIP", "ACCUSATION"] as const;
/** Subject is what a ballot is about. */
export type Subject = (typeof SUBJECTS)[number];

/** VOTES are what a voter can say (S1-6). */
export const VOTES = ["APPROVE", "REJECT", "ABSTAIN"] as const;
/** Vote is what a voter says. */
export type Vote = (typeof VOTES)[number];

/** RESULTS are how a ballot can end. */
export const RESULTS = ["APPROVED", "REJECTED", "EXPIRED", "WITHDRAWN"] as const;
/** Result is how a ballot ended. */
export type Result = (typeof RESULTS)[number];

/** BALLOT_LIMITS bound what the book of ballots holds (BK4). */
export const BALLOT_LIMITS = {
  /** Characters of an id. */
  id: 64,
  /** Ballots that are open, of one proposer and in all; beyond those in all, one of each member that has none. */
  openPerProposer: 4,
  open: 64,
  /**
   * Settled ballots that are kept: those that decided something, and those that were withdrawn or expired, which any member can make as many
   * of as it likes; and for how long, ms of log time.
   */
  settled: 128,
  fruitless: 32,
  settledMs: 7 * 86_400_000,
  /** Bytes of the reasoning of one proposal or vote, and of all votes of one ballot. */
  reasoning: 512,
  reasoningOfAll: 32 * 1024,
  /** Changes of one voter's key that a ballot remembers: as many of each as a certificate has room for. */
  keysOfVoter: 4,
  /** Amount of a resource that a ballot can give. */
  amount: 2 ** 40,
  /** Priorities go from 0 to this. */
  priority: 100,
  /** Longest duration of a loan, ms; the policy `max_duration_ms` may be less. */
  loanMs: 365 * 86_400_000,
  /** Longest time that a ballot is open, ms; the policy `ballot_longest_ms` may be less. */
  openMs: 30 * 86_400_000,
  /** Bytes of a certificate. */
  certificate: 1024 * 1024,
} as const;

/** BALLOTS_OPEN is how many ballots are open at the most. */
export const BALLOTS_OPEN = BALLOT_LIMITS.open + MEMBER_LIMITS.members;

/** Changes of keys in one ballot. */
const BALLOT_KEYS = BALLOT_LIMITS.keysOfVoter * MEMBER_LIMITS.members;

const hub = (no: number) => text(no, ID_BYTES, LABEL);
const name = (no: number) => text(no, BALLOT_LIMITS.id, NAME);
const digest = (no: number) => bytes(no, 32, 32);
const signature = (no: number) => bytes(no, 64, 64);
const reasoning = (no: number) => text(no, BALLOT_LIMITS.reasoning);

/** ACTION is what an approved ballot does. */
export const ACTION = choice({
  ...MEMBER_ACTIONS,
  /** The owner lends to the borrower. `agentType` says which agents, where `resource` is `agents`. */
  allocate: message({
    resource: name(1),
    owner: hub(2),
    borrower: hub(3),
    amount: uint(4, BALLOT_LIMITS.amount, 1),
    durationMs: uint(5, BALLOT_LIMITS.loanMs, 1),
    priority: uint(6, BALLOT_LIMITS.priority),
    agentType: text(7, 63),
  }),
  /** What has this id (a hub, an allocation, a request) counts with another priority. */
  prioritize: message({ id: name(1), priority: uint(2, BALLOT_LIMITS.priority) }),
});
/** Action is what an approved ballot does. */
export type Action = Of<typeof ACTION>;

/** SUBJECT_OF tells what an action is about. */
export const SUBJECT_OF: Readonly<Record<Action["kind"], Subject>> = {
  admit: "MEMBERSHIP",
  remove: "MEMBERSHIP",
  weigh: "MEMBERSHIP",
  assign_role: "MEMBERSHIP",
  confirm_failed: "ACCUSATION",
  set_policy: "FEDERATION_POLICY",
  allocate: "RESOURCE_ALLOCATION",
  prioritize: "PRIORITY_CHANGE",
};

/** PROPOSAL is a proposal as the log took it. */
export const PROPOSAL = message({
  ballotId: name(1),
  proposer: hub(2),
  subject: word(3, SUBJECTS),
  action: part(4, ACTION),
  reasoning: reasoning(5),
  /** How long it is open, ms of log time. */
  durationMs: uint(6, BALLOT_LIMITS.openMs, 1_000),
});
/** Proposal is a proposal as the log took it. */
export type Proposal = Of<typeof PROPOSAL>;

/** ELIGIBLE is a voter of a ballot, as it was when the ballot opened. */
export const ELIGIBLE = message({
  hubId: hub(1),
  /** Of its replica. */
  incarnation: uint(2, LOG_MAX, 1),
  weight: uint(3, MEMBER_LIMITS.weight, 1),
  keySerial: uint(4, LOG_MAX, 1),
  publicKey: bytes(5, 32, 32),
});
/** Eligible is a voter of a ballot. */
export type Eligible = Of<typeof ELIGIBLE>;

const FRACTION = message({ numerator: uint(1, 1_000), denominator: uint(2, 1_000, 1) });

/** OPENING is all that is fixed when a ballot opens. Its digest is what every vote is about. */
export const OPENING = message({
  federationId: hub(1),
  foundingDigest: digest(2),
  proposal: part(3, PROPOSAL),
  /** By hub id. */
  eligible: list(4, MEMBER_LIMITS.members, ELIGIBLE),
  /** More than this of the weight that says APPROVE or REJECT approves. */
  majority: part(5, FRACTION),
  /** More than this of all weight has to vote. */
  participation: part(6, FRACTION),
  index: uint(7, LOG_MAX),
  term: uint(8, LOG_MAX),
  /** Log time of the opening, and from which on votes are too late. */
  time: uint(9),
  deadline: uint(10),
});
/** Opening is all that is fixed when a ballot opens. */
export type Opening = Of<typeof OPENING>;

/** VOTE_STATEMENT is what a voter signs. */
export const VOTE_STATEMENT = message({
  federationId: hub(1),
  ballotId: name(2),
  /** SHA-256 of the encoded Opening: the whole proposal, and all voters with their weights and keys. */
  openingDigest: digest(3),
  hubId: hub(4),
  incarnation: uint(5, LOG_MAX, 1),
  vote: word(6, VOTES),
  weight: uint(7, MEMBER_LIMITS.weight, 1),
  /** Serial of the key that signs. */
  keySerial: uint(8, LOG_MAX, 1),
  /** Position of the log, and its time, that the voter had applied when it signed. */
  asOfIndex: uint(9, LOG_MAX),
  asOfTime: uint(10),
  reasoning: reasoning(11),
});
/** VoteStatement is what a voter signs. */
export type VoteStatement = Of<typeof VOTE_STATEMENT>;

/** SIGNED_VOTE is a vote that anyone can check. */
export const SIGNED_VOTE = message({ statement: part(1, VOTE_STATEMENT), signature: signature(2) });
/** SignedVote is a vote that anyone can check. */
export type SignedVote = Of<typeof SIGNED_VOTE>;

/** VOTE_LIST is what the digest of all votes of a ballot is made of. */
export const VOTE_LIST = message({ votes: list(1, MEMBER_LIMITS.members, SIGNED_VOTE) });

/** CLOSING_STATEMENT is what a hub signs that saw how a ballot ended: that these are all its votes. */
export const CLOSING_STATEMENT = message({
  federationId: hub(1),
  ballotId: name(2),
  openingDigest: digest(3),
  votesDigest: digest(4),
  result: word(5, RESULTS),
  hubId: hub(6),
  keySerial: uint(7, LOG_MAX, 1),
  asOfIndex: uint(8, LOG_MAX),
});
/** ClosingStatement is what a hub signs that saw how a ballot ended. */
export type ClosingStatement = Of<typeof CLOSING_STATEMENT>;

/** ATTESTATION is a hub's signature under a ClosingStatement, of which the rest follows from the ballot. */
export const ATTESTATION = message({
  hubId: hub(1),
  keySerial: uint(2, LOG_MAX, 1),
  asOfIndex: uint(3, LOG_MAX),
  signature: signature(4),
});
/** Attestation is a hub's signature under a ClosingStatement. */
export type Attestation = Of<typeof ATTESTATION>;

/** CERTIFICATE shows to anyone how a ballot ended (`certificate.ts`). */
export const CERTIFICATE = message({
  opening: part(1, OPENING),
  /** By hub id. */
  votes: list(2, MEMBER_LIMITS.members, SIGNED_VOTE),
  result: word(3, RESULTS),
  /** By hub id. */
  attestations: list(4, MEMBER_LIMITS.members, ATTESTATION),
  /** By hub id and serial: keys that came while it was open, or before a hub attested. */
  keys: list(5, BALLOT_KEYS, KEY_LINK),
});
/** Certificate shows to anyone how a ballot ended. */
export type Certificate = Of<typeof CERTIFICATE>;

const BALLOT_ONLY = message({ ballotId: name(1) });

/** BALLOT_COMMAND is what a hub may put into the log about ballots. */
export const BALLOT_COMMAND = choice({
  propose: message({
    ballotId: name(1),
    subject: word(2, SUBJECTS),
    action: part(3, ACTION),
    reasoning: reasoning(4),
    /** 0 for what the policy `ballot_ms` says. */
    durationMs: uint(5, BALLOT_LIMITS.openMs),
  }),
  vote: message({
    ballotId: name(1),
    openingDigest: digest(2),
    incarnation: uint(3, LOG_MAX, 1),
    vote: word(4, VOTES),
    weight: uint(5, MEMBER_LIMITS.weight, 1),
    keySerial: uint(6, LOG_MAX, 1),
    asOfIndex: uint(7, LOG_MAX),
    asOfTime: uint(8),
    reasoning: reasoning(9),
    signature: signature(10),
  }),
  withdraw: BALLOT_ONLY,
  attest: message({ ballotId: name(1), keySerial: uint(2, LOG_MAX, 1), asOfIndex: uint(3, LOG_MAX), signature: signature(4) }),
});
/** BallotCommand is what a hub may put into the log about ballots. */
export type BallotCommand = Of<typeof BALLOT_COMMAND>;

/** BALLOT is a ballot as the log knows it. */
export const BALLOT = message({
  opening: part(1, OPENING),
  /** By hub id. */
  votes: list(2, MEMBER_LIMITS.members, SIGNED_VOTE),
  /** Missing while it is open. */
  result: maybeWord(3, RESULTS),
  closedIndex: uint(4, LOG_MAX),
  closedTime: uint(5),
  /** It was decided before its deadline, as the result could not change any more. */
  early: flag(6),
  /** By hub id. */
  attestations: list(7, MEMBER_LIMITS.members, ATTESTATION),
  /** By hub id and serial. */
  keys: list(8, BALLOT_KEYS, KEY_LINK),
});
/** Ballot is a ballot as the log knows it. */
export type Ballot = Of<typeof BALLOT>;

/** BALLOTS_DUMP is the whole book, by ballot id. */
export const BALLOTS_DUMP = message({ ballots: list(1, BALLOTS_OPEN + BALLOT_LIMITS.settled + BALLOT_LIMITS.fruitless, BALLOT) });
/** BallotsDump is the whole book. */
export type BallotsDump = Of<typeof BALLOTS_DUMP>;

/** TALLY counts weights. */
export const TALLY = message({
  approve: uint(1),
  reject: uint(2),
  abstain: uint(3),
  /** Of who has not voted. */
  missing: uint(4),
});
/** Tally counts weights. */
export type Tally = Of<typeof TALLY>;

/** BALLOT_NEWS is what becomes known when the book of ballots changes. */
export const BALLOT_NEWS = choice({
  /** Who is eligible may vote: on this digest. */
  opened: message({ opening: part(1, OPENING), digest: digest(2) }),
  voted: message({ ballotId: name(1), hubId: hub(2), vote: word(3, VOTES), weight: uint(4, MEMBER_LIMITS.weight, 1) }),
  /**
   * A ballot is over. If APPROVED, `action` is to be carried out at this very position of the log. If `attest`, the digest of all votes, is
   * not empty, each voter is asked to sign the result (`Ballots.closing`) and to put that into the log as `attest`.
   */
  decided: message({
    ballotId: name(1),
    subject: word(2, SUBJECTS),
    action: part(3, ACTION),
    result: word(4, RESULTS),
    tally: part(5, TALLY),
    early: flag(6),
    attest: bytes(7, 32),
  }),
  /** Its certificate can be had from now on. */
  certified: BALLOT_ONLY,
});
/** BallotNews is what becomes known when the book of ballots changes. */
export type BallotNews = Of<typeof BALLOT_NEWS>;

/** BallotValue is what the author of a command is answered. */
export interface BallotValue {
  readonly ballotId: string;
  /** Log time from which on votes are too late. */
  readonly deadline: number;
  /** Undefined while it is open. */
  readonly result: Result | undefined;
  /** False where everything was so already. */
  readonly changed: boolean;
}
