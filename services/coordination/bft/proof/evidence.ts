import { ProtoReader, WireError } from "#kernel/wire/proto-reader.ts";
import { ProtoWriter } from "#kernel/wire/proto-writer.ts";
import type { ReplicaId } from "../../log/engine.ts";
import { BFT_BOUNDS, type Proposal, type Vote } from "../frames.ts";
import { isAmnesia } from "../height/vote-keeper.ts";
import { sameBytes } from "../hex.ts";
import { readOr, readProposal, readVote, writeProposal, writeVote } from "../record.ts";
import { isProposalSigned, isVoteSigned, isWellFormed } from "./certificate.ts";
import { proposalBytes, type Verifier, voteBytes } from "./signed.ts";

/*
 * Evidence is two signed messages of one replica that no honest one signs both.
 *
 * BE1 sound: an honest replica, which writes what it signs before it sends it, is never named, whatever others send and however often it
 *    restarts.
 * BE2 complete: who sees two such messages of one height records them and tells all others. Of one replica and one height the first proof
 *    stands for all.
 * BE3 anyone who has the replica's key verifies it, without the log and without the members of that height.
 */

/** EvidenceKind says what was broken: two votes in one step, two proposals in one round, or a vote against the own lock. */
export type EvidenceKind = "equivocation" | "proposals" | "amnesia";

const KINDS: readonly EvidenceKind[] = ["equivocation", "proposals", "amnesia"];

/** Evidence is a proof, read. */
export interface Evidence {
  readonly against: ReplicaId;
  readonly kind: EvidenceKind;
  readonly height: number;
}

/** voteProof makes a proof of two votes of `against` (`Evidence` of the schema). The order is by their bytes, so that it has one form. */
export function voteProof(federation: string, kind: "equivocation" | "amnesia", against: ReplicaId, first: Vote, second: Vote): Uint8Array {
  const pair =
    kind === "amnesia" || before(voteBytes(federation, against, first), voteBytes(federation, against, second))
      ? [first, second]
      : [second, first];
  const w = new ProtoWriter().uint(1, KINDS.indexOf(kind) + 1).text(2, against);
  for (const vote of pair) w.message(3, (inner) => writeVote(inner, { ...vote, voter: 0 }));
  return w.finish();
}

/** proposalProof makes a proof of two proposals of `against`. */
export function proposalProof(federation: string, against: ReplicaId, first: Proposal, second: Proposal): Uint8Array {
  const pair = before(proposalBytes(federation, against, first), proposalBytes(federation, against, second))
    ? [first, second]
    : [second, first];
  const w = new ProtoWriter().uint(1, KINDS.indexOf("proposals") + 1).text(2, against);
  for (const proposal of pair) w.message(4, (inner) => writeProposal(inner, proposal));
  return w.finish();
}

function before(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return (a[i] as number) < (b[i] as number);
  return a.length < b.length;
}

/** verifyEvidence reads a proof and checks all of it (BE3); undefined for what proves nothing. */
export function verifyEvidence(verifier: Verifier, proof: Uint8Array): Evidence | undefined {
  if (proof.length > BFT_BOUNDS.proofBytes) return undefined;
  const read = readOr(() => readProof(proof));
  if (read === undefined) return undefined;
  const { kind, against, votes, proposals } = read;
  if (kind === "proposals") {
    const [first, second] = proposals;
    if (first === undefined || second === undefined || proposals.length !== 2 || votes.length !== 0) return undefined;
    if (first.height !== second.height || first.round !== second.round) return undefined;
    if (!before(proposalBytes(verifier.federation, against, first), proposalBytes(verifier.federation, against, second))) return undefined;
    return proposals.every((proposal) => isProposalSigned(verifier, against, proposal))
      ? { against, kind, height: first.height }
      : undefined;
  }
  const [first, second] = votes;
  if (first === undefined || second === undefined || votes.length !== 2 || proposals.length !== 0) return undefined;
  if (first.voter !== 0 || second.voter !== 0 || !isWellFormed(first, 1) || !isWellFormed(second, 1)) return undefined;
  if (kind === "amnesia" ? !isAmnesia(first, second) : !isEquivocation(verifier.federation, against, first, second)) return undefined;
  return votes.every((vote) => isVoteSigned(verifier, [against], vote)) ? { against, kind, height: first.height } : undefined;
}

function isEquivocation(federation: string, against: ReplicaId, first: Vote, second: Vote): boolean {
  const { height, round, step } = first;
  if (second.height !== height || second.round !== round || second.step !== step) return false;
  const bytes = voteBytes(federation, against, second);
  return before(voteBytes(federation, against, first), bytes) && !sameBytes(voteBytes(federation, against, first), bytes);
}

function readProof(proof: Uint8Array): {
  readonly kind: EvidenceKind;
  readonly against: ReplicaId;
  readonly votes: readonly Vote[];
  readonly proposals: readonly Proposal[];
} {
  const r = new ProtoReader(proof);
  let kind: EvidenceKind | undefined;
  let against = "";
  const votes: Vote[] = [];
  const proposals: Proposal[] = [];
  for (let field = r.next(); field !== 0; field = r.next())
    if (field === 1) kind = KINDS[r.uint(KINDS.length) - 1];
    else if (field === 2) against = r.text(BFT_BOUNDS.nameLength);
    else if (field === 3) votes.push(r.message(512, readVote));
    else if (field === 4) proposals.push(r.message(512, readProposal));
    else r.unknown();
  if (kind === undefined || against === "") throw new WireError("the proof says nothing");
  return { kind, against, votes, proposals };
}
