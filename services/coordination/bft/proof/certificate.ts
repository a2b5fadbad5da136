import type { ReplicaId } from "../../log/engine.ts";
import { type Attestation, BFT_BOUNDS, type Certificate, type Manifest, NIL, NO_ROUND, type Proposal, STEP, type Vote } from "../frames.ts";
import { Members, problemOf } from "../members.ts";
import { isSigned, manifestBytes, proposalBytes, type Verifier, voteBytes } from "./signed.ts";

/*
 * Certificates are proofs that anyone checks who knows the members of the height and their keys, without asking anybody.
 *
 * BC1 a certificate holds if more than two thirds of the members signed, each counted once, and every signature in it is good: one that is
 *    not, or a voter that is named twice or out of order, refuses the whole.
 * BC2 what was signed names the federation, the height, the round, the step, the value and the round relied on: nothing can be moved.
 * BC3 a decision is proved by a commit certificate whose value is the hash of the batch.
 * BC4 a snapshot comes with the signatures of more than two thirds of the voters that it names, and is proved by those of f + 1 of the voters
 *    whom the reader trusts already: so that an honest one of these vouches for it. Signatures of others it may not be able to verify.
 */

const ID = /^[0-9a-f]{64}$/;

/** isIndex tells whether a number from the wire is a whole one from 0 to below `end`. */
export function isIndex(value: number, end: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < end;
}

/** isValueId tells whether a text names a value. */
export function isValueId(value: unknown): boolean {
  return typeof value === "string" && ID.test(value);
}

/** isWellFormed tells whether a vote can be one of n members at all, before its signature is looked at. */
export function isWellFormed(vote: Vote, n: number): boolean {
  const { height, round, step, value, relies, voter } = vote;
  if (!isIndex(height, BFT_BOUNDS.heights) || !isIndex(round, BFT_BOUNDS.rounds) || !isIndex(voter, n)) return false;
  if (step !== STEP.PREVOTE && step !== STEP.PRECOMMIT) return false;
  if (value !== NIL && !isValueId(value)) return false;
  if (relies === NO_ROUND) return true;
  return step === STEP.PREVOTE && value !== NIL && isIndex(relies, round);
}

/** isVoteSigned checks the signature of a vote that is well formed. */
export function isVoteSigned(verifier: Verifier, members: readonly ReplicaId[], vote: Vote): boolean {
  const voter = members[vote.voter];
  return voter !== undefined && isSigned(verifier, voter, voteBytes(verifier.federation, voter, vote), vote.signature);
}

/** isProposalSigned checks a proposal by the proposer that its round has. */
export function isProposalSigned(verifier: Verifier, proposer: ReplicaId | undefined, proposal: Proposal): boolean {
  return proposer !== undefined && isSigned(verifier, proposer, proposalBytes(verifier.federation, proposer, proposal), proposal.signature);
}

/** votesOf are the votes of a certificate, each for itself. */
export function votesOf({ height, round, step, value, votes }: Certificate): Vote[] {
  return votes.map((vote) => ({ height, round, step, value, relies: vote.relies, voter: vote.voter, signature: vote.signature }));
}

/** isCertificateFormed tells whether a certificate has enough voters, each once (BC1). Signatures are not looked at. */
export function isCertificateFormed(members: Members, certificate: Certificate): boolean {
  const { votes } = certificate;
  return (
    members.isQuorum(votes.length) && votesOf(certificate).every((vote) => isWellFormed(vote, members.size)) && members.areDistinct(votes)
  );
}

/** isCertificate checks a certificate of either step (BC1, BC2). */
export function isCertificate(verifier: Verifier, members: Members, certificate: Certificate): boolean {
  return isCertificateFormed(members, certificate) && votesOf(certificate).every((vote) => isVoteSigned(verifier, members.replicas, vote));
}

/**
 * verifyCommitCertificate tells whether the members of a height decided its value (BC3): offline, from the members and their keys. The reader
 * checks that the value is the hash of the batch that it is shown.
 */
export function verifyCommitCertificate(verifier: Verifier, voters: readonly ReplicaId[], certificate: Certificate): boolean {
  const membership = { voters, outgoing: [], learners: [] };
  if (problemOf(membership) !== undefined) return false;
  const { step, value } = certificate;
  return step === STEP.PRECOMMIT && value !== NIL && isCertificate(verifier, new Members(membership), certificate);
}

/** isManifestFormed tells whether the numbers and ids of a manifest from the wire are what they can be. */
export function isManifestFormed({ index, term, time, previous, digest, size }: Manifest): boolean {
  if (!isIndex(index, BFT_BOUNDS.heights) || !isIndex(term, BFT_BOUNDS.rounds) || !isIndex(time, Number.MAX_SAFE_INTEGER)) return false;
  return isValueId(previous) && digest.length === 32 && isIndex(size, BFT_BOUNDS.stateBytes + 1);
}

/** KeysOf gives the keys with which a replica's hub may have signed a statement about a state. */
export type KeysOf = (replica: ReplicaId) => readonly Uint8Array[];

/**
 * judgeManifest tells what the signatures of a snapshot are worth (BC4): "proven" by f + 1 of the voters that the reader knows, from the log or
 * from whoever let it in, so that an honest one is among them; "unproven" where fewer of those can be verified, which is nobody's fault: voters
 * have been replaced, or have other keys; "bad" for what no honest replica sends.
 */
export function judgeManifest(
  { federation, crypto }: Pick<Verifier, "federation" | "crypto">,
  keysOf: KeysOf,
  trusted: readonly Members[],
  manifest: Manifest,
  attestations: readonly Attestation[],
): "proven" | "unproven" | "bad" {
  if (problemOf(manifest.membership) !== undefined) return "bad";
  const members = new Members(manifest.membership);
  if (!members.isQuorum(attestations.length) || !members.areDistinct(attestations)) return "bad";
  if (!attestations.every(({ voter, signature }) => isIndex(voter, members.size) && signature.length === 64)) return "bad";
  const data = manifestBytes(federation, manifest);
  const known = attestations.filter(({ voter }) => trusted.some((those) => those.indexOf(members.replicas[voter] as ReplicaId) >= 0));
  const signers = known.filter(({ voter, signature }) =>
    keysOf(members.replicas[voter] as ReplicaId).some((key) => crypto.verify(key, data, signature)),
  );
  const isProven = trusted.some((those) =>
    those.hasHonest(signers.filter(({ voter }) => those.indexOf(members.replicas[voter] as ReplicaId) >= 0).length),
  );
  return isProven ? "proven" : "unproven";
}
