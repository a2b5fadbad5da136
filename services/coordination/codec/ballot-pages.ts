import { toBinary } from "@bufbuild/protobuf";
import { type Ballot as BallotMessage, BallotSchema } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import type { Ballot } from "../ballots/messages.ts";
import { ballotToProto } from "./ballot-views.ts";

/** Bytes of a page: with all that a member may add to one more ballot it fits into a message. */
const PAGE_BYTES = 512 * 1024;

/** BallotPage is some ballots, and where those behind them begin; empty if there are none. */
export interface BallotPage {
  readonly ballots: readonly BallotMessage[];
  readonly next: string;
}

/** ballotPage gives as many ballots as fit into a message: open ones first, then the newest first, from behind `after` on, the `next` of another page. */
export function ballotPage(all: readonly Ballot[], after: string): BallotPage {
  const rest = all
    .map((ballot) => ({ ballot, place: placeOf(ballot) }))
    .filter(({ place }) => place > after)
    .sort((a, b) => (a.place < b.place ? -1 : 1));
  const ballots: BallotMessage[] = [];
  let bytes = 0;
  for (const [i, { ballot }] of rest.entries()) {
    const message = ballotToProto(ballot);
    bytes += toBinary(BallotSchema, message).length;
    if (bytes > PAGE_BYTES && i > 0) return { ballots, next: rest[i - 1]?.place ?? "" };
    ballots.push(message);
  }
  return { ballots, next: "" };
}

/** placeOf sorts ballots as texts, of at most 75 bytes: of one position of the log there may be several. */
function placeOf({ opening, result }: Ballot): string {
  const age = (2 ** 48 - opening.index).toString(36).padStart(10, "0");
  return `${result === undefined ? 0 : 1}${age}${opening.proposal.ballotId}`;
}
