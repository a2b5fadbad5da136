import { toBinary } from "@bufbuild/protobuf";
import { type Ballot as BallotMessage, BallotSchema } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import type { Ballot } from "../ballots/messages.ts";
import { ballotToProto } from "./ballot-views.ts";
import { newestFirst, type Page, pageOf } from "./pages.ts";

/** ballotPage gives a page of ballots: open ones first, then the newest first. */
export function ballotPage(all: readonly Ballot[], after: string): Page<BallotMessage> {
  return pageOf(all, after, { placeOf, write: ballotToProto, sizeOf: (one) => toBinary(BallotSchema, one).length });
}

/** placeOf is of at most 75 bytes: of one position of the log there may be several. */
function placeOf({ opening, result }: Ballot): string {
  return `${result === undefined ? 0 : 1}${newestFirst(opening.index)}${opening.proposal.ballotId}`;
}
