import type { Crypto } from "#kernel/crypto.ts";
import { inDomain } from "#kernel/wire/bytes.ts";
import { encode } from "#kernel/wire/shape.ts";
import {
  CLOSING_STATEMENT,
  type ClosingStatement,
  OPENING,
  type Opening,
  type SignedVote,
  VOTE_LIST,
  VOTE_STATEMENT,
  type VoteStatement,
} from "./messages.ts";

const VOTE_DOMAIN = "foedus.coordination.vote.v1";
const CLOSING_DOMAIN = "foedus.coordination.ballot-result.v1";
const OPENING_DOMAIN = "foedus.coordination.ballot.v1";

/** openingDigest stands for a ballot in every vote: SHA-256 over all that was fixed when it opened. */
export function openingDigest(opening: Opening, crypto: Pick<Crypto, "hash">): Uint8Array {
  return crypto.hash(inDomain(OPENING_DOMAIN, encode(OPENING, opening)));
}

/** votesDigest stands for all votes of a ballot, which are sorted by hub id. */
export function votesDigest(votes: readonly SignedVote[], crypto: Pick<Crypto, "hash">): Uint8Array {
  return crypto.hash(encode(VOTE_LIST, { votes }));
}

/** voteBytes is what a voter signs. */
export function voteBytes(statement: VoteStatement): Uint8Array {
  return inDomain(VOTE_DOMAIN, encode(VOTE_STATEMENT, statement));
}

/** closingBytes is what a hub signs that saw how a ballot ended. */
export function closingBytes(statement: ClosingStatement): Uint8Array {
  return inDomain(CLOSING_DOMAIN, encode(CLOSING_STATEMENT, statement));
}
