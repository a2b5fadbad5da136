import type { Crypto } from "#kernel/crypto.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { ReplicaId } from "../../log/engine.ts";
import type { Manifest, Proposal, Vote } from "../frames.ts";
import { bytesOfHex } from "../hex.ts";
import { writeMembership } from "../record.ts";

/** Each kind of signed bytes begins with a word of its own, so that none can be taken for another, or for what the key signs elsewhere. */
const DOMAIN = {
  vote: "foedus/coordination/bft/vote/1",
  proposal: "foedus/coordination/bft/proposal/1",
  manifest: "foedus/coordination/bft/manifest/1",
} as const;

/** KeyOf gives the raw Ed25519 key (32 bytes) with which a replica signs; undefined for who is not known. */
export type KeyOf = (replica: ReplicaId) => Uint8Array | undefined;

/** Verifier is what it takes to check signatures of a federation. */
export interface Verifier {
  readonly federation: string;
  readonly crypto: Pick<Crypto, "hash" | "verify">;
  readonly keyOf: KeyOf;
}

/**
 * voteBytes are what a voter signs (`SignedVote` of the schema). The replica is named: a hub signs with the same key under its next incarnation,
 * which has nothing to do with what the one before it did.
 */
export function voteBytes(federation: string, voter: ReplicaId, vote: Omit<Vote, "voter" | "signature">): Uint8Array {
  return new ProtoWriter()
    .text(1, DOMAIN.vote)
    .text(2, federation)
    .text(3, voter)
    .uint(4, vote.height)
    .uint(5, vote.round)
    .uint(6, vote.step)
    .bytes(7, bytesOfHex(vote.value))
    .uint(8, vote.relies + 1)
    .finish();
}

/** proposalBytes are what a proposer signs (`SignedProposal`). */
export function proposalBytes(federation: string, proposer: ReplicaId, proposal: Omit<Proposal, "signature">): Uint8Array {
  return new ProtoWriter()
    .text(1, DOMAIN.proposal)
    .text(2, federation)
    .text(3, proposer)
    .uint(4, proposal.height)
    .uint(5, proposal.round)
    .bytes(6, bytesOfHex(proposal.value))
    .uint(7, proposal.size)
    .uint(8, proposal.validRound + 1)
    .finish();
}

/** manifestBytes are what voters sign of a state (`SignedManifest`). */
export function manifestBytes(federation: string, manifest: Manifest): Uint8Array {
  return new ProtoWriter()
    .text(1, DOMAIN.manifest)
    .text(2, federation)
    .uint(3, manifest.index)
    .uint(4, manifest.term)
    .uint(5, manifest.time)
    .bytes(6, bytesOfHex(manifest.previous))
    .message(7, (inner) => writeMembership(inner, manifest.membership))
    .bytes(8, manifest.digest)
    .uint(9, manifest.size)
    .finish();
}

/** isSigned tells whether a replica signed these bytes. */
export function isSigned({ crypto, keyOf }: Verifier, replica: ReplicaId | undefined, data: Uint8Array, signature: Uint8Array): boolean {
  const key = replica === undefined ? undefined : keyOf(replica);
  return key !== undefined && signature.length === 64 && crypto.verify(key, data, signature);
}
