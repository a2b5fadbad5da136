import type { Crypto } from "#kernel/crypto.ts";
import { decode, sameBytes } from "#kernel/wire/shape.ts";
import { type KeyHistory, SIGNED_FOUNDING, type TrustedKeys } from "../members/messages.ts";
import { type Fraction, isMoreThan } from "../members/policies.ts";
import { foundingDigest, foundingProblem, keyOfBytes, linkHolds } from "../members/statements.ts";
import { showAction } from "./describe.ts";
import { aboutOf } from "./electorate.ts";
import { BALLOT_LIMITS, CERTIFICATE, type Certificate, type Eligible, type Opening, SUBJECT_OF, type Tally } from "./messages.ts";
import { closingBytes, openingDigest, voteBytes, votesDigest } from "./statements.ts";
import { hasQuorum, resultAt, tallyOf, weightOf } from "./tally.ts";

/** TrustAnchor is what a verifier believes before it looks at a certificate. */
export type TrustAnchor =
  /** Keys of members with the positions at which they were in force, from a hub that the verifier trusts. */
  | { readonly kind: "keys"; readonly trusted: TrustedKeys }
  /**
   * The founding entry, encoded. `history` are changes of founders' keys, each signed by the key before: who stole an old key could write
   * others, so they are taken from a hub that is trusted, and two that contradict each other are refused.
   */
  | { readonly kind: "founding"; readonly statement: Uint8Array; readonly history?: KeyHistory };

/** Distrust is why a certificate shows nothing. */
export type Distrust =
  | "TOO_LARGE"
  | "MALFORMED"
  | "ANCHOR_INVALID"
  | "OTHER_FEDERATION"
  | "OPENING_INVALID"
  | "NOT_A_VOTER"
  | "DOUBLE_VOTE"
  | "WRONG_DIGEST"
  | "WRONG_WEIGHT"
  | "LATE_VOTE"
  | "KEY_UNKNOWN"
  | "KEY_ROTATED_OUT"
  | "WRONG_SIGNATURE"
  | "NO_QUORUM"
  | "WRONG_RESULT"
  | "MISSING_SIGNATURE"
  | "NOT_VOUCHED";

/** Verdict is what a certificate shows, as a sentence for people too. */
export type Verdict =
  | { readonly ok: true; readonly certificate: Certificate; readonly tally: Tally; readonly sentence: string }
  | { readonly ok: false; readonly reason: Distrust; readonly sentence: string };

type Verifier = Pick<Crypto, "hash" | "verify">;

const HALF: Fraction = { numerator: 1, denominator: 2 };

/** Refusal ends the verification; it does not leave this file. */
class Refusal extends Error {
  readonly reason: Distrust;

  constructor(reason: Distrust, sentence: string) {
    super(sentence);
    this.reason = reason;
  }
}

function demand(condition: boolean, reason: Distrust, sentence: () => string): asserts condition {
  if (!condition) throw new Refusal(reason, sentence());
}

/** ascending tells whether hubs are sorted, and none is there twice. */
function ascending(hubs: readonly string[]): boolean {
  return hubs.every((hubId, i) => i === 0 || (hubs[i - 1] as string) < hubId);
}

/** Anchor knows the keys and weights that a verifier believes. */
interface Anchor {
  readonly federationId: string;
  readonly foundingDigest: Uint8Array;
  /** Weights of who vouches for the list of voters. */
  readonly weights: ReadonlyMap<string, number>;
  /** check throws unless a key that signs is believed, or is nothing that this anchor knows about. True if it is believed. */
  check(hubId: string, serial: number, publicKey: Uint8Array, asOfIndex: number): boolean;
}

function anchorOf(anchor: TrustAnchor, crypto: Verifier): Anchor {
  return anchor.kind === "keys" ? anchorOfKeys(anchor.trusted) : anchorOfFounding(anchor.statement, anchor.history, crypto);
}

function anchorOfKeys({ federationId, foundingDigest: digest, keys }: TrustedKeys): Anchor {
  return {
    federationId,
    foundingDigest: digest,
    weights: new Map(keys.map(({ hubId, weight }) => [hubId, weight])),
    check: (hubId, serial, publicKey, asOfIndex) => {
      const key = keys.find((one) => one.hubId === hubId && one.serial === serial);
      demand(key !== undefined && sameBytes(key.publicKey, publicKey), "KEY_UNKNOWN", () => {
        return `key ${serial} of hub ${hubId} is not among those that are trusted here`;
      });
      demand(key.from <= asOfIndex, "KEY_UNKNOWN", () => `key ${serial} of hub ${hubId} was not in force yet when it signed`);
      demand(
        key.until === 0 || asOfIndex < key.until,
        "KEY_ROTATED_OUT",
        () => `key ${serial} of hub ${hubId} was replaced before it signed`,
      );
      return true;
    },
  };
}

function anchorOfFounding(statement: Uint8Array, history: KeyHistory | undefined, crypto: Verifier): Anchor {
  const read = decode(SIGNED_FOUNDING, statement);
  demand(
    read.ok,
    "ANCHOR_INVALID",
    () =>
      `this is no founding entry, or a damaged one (${read.ok ? "" : read.problem}); foedus federation founding <file> writes one at a member`,
  );
  const problem = foundingProblem(read.value, crypto);
  demand(problem === undefined, "ANCHOR_INVALID", () => `the founding entry is not valid: ${problem?.message}`);
  const { founding } = read.value;
  const known = new Map(founding.founders.map(({ hubId, publicKey }) => [`${hubId} 1`, publicKey]));
  for (const link of history?.links ?? []) {
    const before = known.get(`${link.hubId} ${link.previous}`);
    if (before === undefined || link.serial <= link.previous || !linkHolds(founding.federationId, link, before, crypto)) continue;
    const other = known.get(`${link.hubId} ${link.serial}`);
    demand(other === undefined || sameBytes(other, link.publicKey), "ANCHOR_INVALID", () => {
      return `hub ${link.hubId} has two keys with serial ${link.serial} in this history: somebody has signed with a key that was replaced`;
    });
    known.set(`${link.hubId} ${link.serial}`, link.publicKey);
  }
  return {
    federationId: founding.federationId,
    foundingDigest: foundingDigest(founding, crypto),
    weights: new Map(founding.founders.map(({ hubId, weight }) => [hubId, weight])),
    check: (hubId, serial, publicKey) => {
      const key = known.get(`${hubId} ${serial}`);
      return key !== undefined && sameBytes(key, publicKey);
    },
  };
}

/** Check is the verification of one certificate. */
class Check {
  readonly #certificate: Certificate;
  readonly #opening: Opening;
  readonly #anchor: Anchor;
  readonly #crypto: Verifier;
  readonly #digest: Uint8Array;
  readonly #eligible: ReadonlyMap<string, Eligible>;
  /** Keys of voters, by hub and serial: those of the opening, and those that links lead to. */
  readonly #keys = new Map<string, Uint8Array>();
  /** Who has signed something about this very opening, with a key that the anchor believes. */
  readonly #vouchers = new Set<string>();

  constructor(certificate: Certificate, anchor: Anchor, crypto: Verifier) {
    this.#certificate = certificate;
    this.#opening = certificate.opening;
    this.#anchor = anchor;
    this.#crypto = crypto;
    this.#digest = openingDigest(certificate.opening, crypto);
    this.#eligible = new Map(certificate.opening.eligible.map((voter) => [voter.hubId, voter]));
  }

  run(): Tally {
    this.#federation();
    this.#openingHolds();
    this.#links();
    this.#votes();
    const tally = this.#resultHolds();
    this.#attestations();
    this.#vouched();
    return tally;
  }

  #federation(): void {
    const { federationId, foundingDigest: digest } = this.#opening;
    const same = federationId === this.#anchor.federationId && sameBytes(digest, this.#anchor.foundingDigest);
    demand(same, "OTHER_FEDERATION", () => {
      const other =
        federationId === this.#anchor.federationId ? `another federation that is called ${federationId} too` : `federation ${federationId}`;
      return `the certificate is one of ${other}, and not of the one that is trusted here (${this.#anchor.federationId})`;
    });
  }

  #openingHolds(): void {
    const { eligible, proposal, majority, participation, time, deadline } = this.#opening;
    const fits = ({ numerator, denominator }: Fraction): boolean => 2 * numerator >= denominator && numerator < denominator;
    const keys = new Set(eligible.map(({ publicKey }) => keyOfBytes(publicKey)));
    const about = aboutOf(proposal.action);
    const sound =
      SUBJECT_OF[proposal.action.kind] === proposal.subject &&
      deadline === time + proposal.durationMs &&
      fits(majority) &&
      fits(participation) &&
      ascending(eligible.map(({ hubId }) => hubId)) &&
      keys.size === eligible.length &&
      eligible.every(({ hubId }) => hubId !== about);
    demand(
      sound,
      "OPENING_INVALID",
      () => `ballot ${proposal.ballotId} cannot have been opened like this: its terms contradict each other`,
    );
  }

  #links(): void {
    for (const { hubId, keySerial, publicKey } of this.#opening.eligible) this.#keys.set(`${hubId} ${keySerial}`, publicKey);
    for (const link of this.#certificate.keys) {
      const { hubId, serial, previous } = link;
      const before = this.#keys.get(`${hubId} ${previous}`);
      demand(before !== undefined && serial > previous && !this.#keys.has(`${hubId} ${serial}`), "KEY_UNKNOWN", () => {
        return `key ${serial} of hub ${hubId} follows none that this certificate knows`;
      });
      demand(linkHolds(this.#opening.federationId, link, before, this.#crypto), "WRONG_SIGNATURE", () => {
        return `the change of hub ${hubId} to key ${serial} is not signed by key ${previous}`;
      });
      this.#keys.set(`${hubId} ${serial}`, link.publicKey);
    }
  }

  /** #signed throws unless a voter has signed something with a key that is believed. */
  #signed(voter: Eligible, serial: number, asOfIndex: number, bytes: Uint8Array, signature: Uint8Array): void {
    const { hubId, keySerial } = voter;
    demand(
      serial >= keySerial,
      "KEY_ROTATED_OUT",
      () => `hub ${hubId} signed with key ${serial}, which was replaced by ${keySerial} before the ballot`,
    );
    const key = this.#keys.get(`${hubId} ${serial}`);
    demand(key !== undefined, "KEY_UNKNOWN", () => `key ${serial} of hub ${hubId} is not in the certificate`);
    // A key that a link leads to is signed by the one before.
    const believed = this.#anchor.check(hubId, serial, key, asOfIndex) || this.#anchor.check(hubId, keySerial, voter.publicKey, asOfIndex);
    demand(this.#crypto.verify(key, bytes, signature), "WRONG_SIGNATURE", () => `the signature of hub ${hubId} is wrong`);
    if (believed) this.#vouchers.add(hubId);
  }

  #votes(): void {
    const { votes } = this.#certificate;
    const { federationId, proposal, index, time, deadline } = this.#opening;
    for (const [i, { statement, signature }] of votes.entries()) {
      const { hubId, keySerial, asOfIndex, asOfTime } = statement;
      const before = votes[i - 1]?.statement.hubId;
      demand(before !== hubId, "DOUBLE_VOTE", () => `hub ${hubId} is there with two votes`);
      demand(before === undefined || before < hubId, "MALFORMED", () => "votes are not sorted by hub id");
      const voter = this.#eligible.get(hubId);
      demand(voter !== undefined, "NOT_A_VOTER", () => `hub ${hubId} has no vote in this ballot`);
      demand(
        statement.federationId === federationId,
        "OTHER_FEDERATION",
        () => `hub ${hubId} voted in federation ${statement.federationId}`,
      );
      const about = statement.ballotId === proposal.ballotId && sameBytes(statement.openingDigest, this.#digest);
      demand(about, "WRONG_DIGEST", () => `hub ${hubId} voted on something else than this proposal and this list of voters`);
      const weighs = statement.weight === voter.weight && statement.incarnation >= voter.incarnation;
      demand(weighs, "WRONG_WEIGHT", () => `hub ${hubId} voted with weight ${statement.weight}, and has ${voter.weight} in this ballot`);
      const inTime = asOfIndex >= index && asOfTime >= time && asOfTime < deadline;
      demand(inTime, "LATE_VOTE", () => `hub ${hubId} voted before the ballot opened or after its deadline`);
      this.#signed(voter, keySerial, asOfIndex, voteBytes(statement), signature);
    }
  }

  #resultHolds(): Tally {
    const { votes, result } = this.#certificate;
    const tally = tallyOf(this.#opening.eligible, votes);
    demand(hasQuorum(tally, this.#opening), "NO_QUORUM", () => {
      return `voters with ${tally.missing} of ${weightOf(this.#opening.eligible)} weight did not vote: too few took part to decide anything`;
    });
    const real = resultAt(tally, this.#opening);
    const { numerator, denominator } = this.#opening.majority;
    demand(real === result, "WRONG_RESULT", () => {
      const { approve, reject } = tally;
      return `the certificate says ${result}, and ${approve} to ${reject} is ${real}: more than ${numerator}/${denominator} has to approve`;
    });
    return tally;
  }

  #attestations(): void {
    const { attestations, votes, result } = this.#certificate;
    const { federationId, proposal, index, eligible } = this.#opening;
    demand(
      ascending(attestations.map(({ hubId }) => hubId)),
      "DOUBLE_VOTE",
      () => "a hub has attested twice, or attestations are not sorted",
    );
    const digests = { openingDigest: this.#digest, votesDigest: votesDigest(votes, this.#crypto) };
    let weight = 0;
    for (const { hubId, keySerial, asOfIndex, signature } of attestations) {
      const voter = this.#eligible.get(hubId);
      demand(voter !== undefined, "NOT_A_VOTER", () => `hub ${hubId} attests, and has no vote in this ballot`);
      demand(asOfIndex >= index, "LATE_VOTE", () => `hub ${hubId} attested before the ballot opened`);
      const statement = { federationId, ballotId: proposal.ballotId, ...digests, result, hubId, keySerial, asOfIndex };
      this.#signed(voter, keySerial, asOfIndex, closingBytes(statement), signature);
      weight += voter.weight;
    }
    const all = weightOf(eligible);
    demand(isMoreThan(HALF, weight, all), "MISSING_SIGNATURE", () => {
      return `hubs with ${weight} of ${all} weight attest that this is the result, and more than half has to: votes may be missing, or be too late`;
    });
  }

  /** #vouched throws unless those who are trusted have signed for this list of voters: anybody can write one and sign it alone. */
  #vouched(): void {
    const about = aboutOf(this.#opening.proposal.action);
    let all = 0;
    let vouch = 0;
    for (const [hubId, weight] of this.#anchor.weights) {
      if (hubId === about) continue;
      all += weight;
      if (this.#vouchers.has(hubId)) vouch += weight;
    }
    demand(isMoreThan(HALF, vouch, all), "NOT_VOUCHED", () => {
      return `hubs with ${vouch} of the ${all} weight that is trusted here have signed; give the keys of the members at that time`;
    });
  }
}

/**
 * verifyCertificate tells what a certificate shows to somebody who was not there and asks nobody.
 *
 * The opening in it lists the voters with weights and keys; each vote is signed over its digest. Votes alone show nothing: somebody could
 * leave some out, or show some that came after the deadline, or after the ballot was withdrawn. So voters with more than half of all weight
 * have signed that this is the result in the log, and these are all votes. Somebody could also write an opening of its own: more than half
 * of the weight that the anchor trusts, without that of the hub that the ballot is about, must have signed for
 * this one, with keys that the anchor knows. With trusted keys each signature must be as of a position at which its key was in force;
 * with a founding entry, keys that changed while the ballot was open are in the certificate, and earlier changes in `history`.
 * Every byte of a certificate is signed or follows from what is.
 */
export function verifyCertificate(bytes: Uint8Array, anchor: TrustAnchor, crypto: Verifier): Verdict {
  if (bytes.length > BALLOT_LIMITS.certificate)
    return {
      ok: false,
      reason: "TOO_LARGE",
      sentence: `a certificate has at most ${BALLOT_LIMITS.certificate} bytes, and this has ${bytes.length}`,
    };
  const read = decode(CERTIFICATE, bytes);
  if (!read.ok)
    return {
      ok: false,
      reason: "MALFORMED",
      sentence: `this is no certificate of a ballot, or a damaged one (${read.problem}); foedus federation ballot <id> --certificate <file> writes one`,
    };
  const certificate = read.value;
  try {
    const tally = new Check(certificate, anchorOf(anchor, crypto), crypto).run();
    return { ok: true, certificate, tally, sentence: sentenceOf(certificate, tally) };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, reason: error.reason, sentence: error.message };
    throw error;
  }
}

function sentenceOf({ opening, result, attestations }: Certificate, { approve, reject, abstain, missing }: Tally): string {
  const { proposal, federationId, majority } = opening;
  const { ballotId, proposer, action } = proposal;
  return (
    `federation ${federationId} has ${result} ballot ${ballotId} of hub ${proposer}: to ${showAction(action)} ` +
    `(approve ${approve}, reject ${reject}, abstain ${abstain}, not voted ${missing}; ` +
    `more than ${majority.numerator}/${majority.denominator} was needed; ${attestations.length} hubs attest that)`
  );
}
