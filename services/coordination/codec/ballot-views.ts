import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type BallotAction,
  BallotActionSchema,
  type Ballot as BallotProto,
  BallotResult,
  BallotSchema,
  BallotVote,
} from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import { type PolicyValue as PolicyValueProto, PolicyValueSchema } from "#gen/foedus/coordination/v1alpha1/members_pb.ts";
import { fail } from "#kernel/error.ts";
import { decode, encode } from "#kernel/wire/shape.ts";
import { showAction } from "../ballots/describe.ts";
import { ACTION, type Action, BALLOT, type Ballot, type Result, type Vote } from "../ballots/messages.ts";
import { POLICY_VALUE, type PolicyValue } from "../members/messages.ts";
import { newestFirst, type Page, pageOf } from "./pages.ts";

/** actionFromProto takes what is proposed from a request. Throws INVALID_FIELD with what is wrong. */
export function actionFromProto(action: BallotAction): Action {
  const decoded = decode(ACTION, toBinary(BallotActionSchema, action));
  if (!decoded.ok) throw fail("INVALID_FIELD", `action: ${decoded.problem}`, { field: "action" });
  return decoded.value;
}

/** ballotToProto gives a ballot to a caller. */
export function ballotToProto(ballot: Ballot): BallotProto {
  return fromBinary(BallotSchema, encode(BALLOT, ballot));
}

/** resultToProto gives the result of a ballot to a caller; UNSPECIFIED while it is open. */
export function resultToProto(result: Result | undefined): BallotResult {
  return result === undefined ? BallotResult.UNSPECIFIED : BallotResult[result];
}

/** actionText says what an action does, as it stands in a sentence after "to". */
export function actionText(action: BallotAction | undefined): string {
  const decoded = action === undefined ? undefined : decode(ACTION, toBinary(BallotActionSchema, action));
  return decoded?.ok === true ? showAction(decoded.value) : "do something that is not known here: upgrade foedus";
}

/** policyToProto gives the value of a policy to a caller. */
export function policyToProto(value: PolicyValue): PolicyValueProto {
  return fromBinary(PolicyValueSchema, encode(POLICY_VALUE, value));
}

/** voteFromProto takes a vote from a request. Throws INVALID_FIELD if there is none. */
export function voteFromProto(vote: BallotVote): Vote {
  switch (vote) {
    case BallotVote.APPROVE:
      return "APPROVE";
    case BallotVote.REJECT:
      return "REJECT";
    case BallotVote.ABSTAIN:
      return "ABSTAIN";
    default:
      throw fail("INVALID_FIELD", "vote: say APPROVE, REJECT or ABSTAIN", { field: "vote" });
  }
}

/** ballotPage gives a page of ballots: open ones first, then the newest first. */
export function ballotPage(all: readonly Ballot[], after: string): Page<BallotProto> {
  // Of one position of the log there may be several.
  const placeOf = ({ opening, result }: Ballot): string =>
    `${result === undefined ? 0 : 1}${newestFirst(opening.index)}${opening.proposal.ballotId}`;
  return pageOf(all, after, { placeOf, write: ballotToProto, sizeOf: (one) => toBinary(BallotSchema, one).length });
}
