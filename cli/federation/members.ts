import { create } from "@bufbuild/protobuf";
import type { Ballot } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  GetFederationRequestSchema,
  type GetFederationResponse,
  ListBallotsRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { CliError, EXIT } from "../exit.ts";
import { corrected } from "../reach/candidates.ts";
import type { Connection } from "../reach/connect.ts";
import { didYouMean, meant } from "../reach/did-you-mean.ts";

type Coordination = Pick<Connection, "coordination">;

const federationOf = ({ coordination }: Coordination, signal: AbortSignal): Promise<GetFederationResponse> =>
  coordination.getFederation(create(GetFederationRequestSchema), { signal });

/** withMembers makes a call about members; if one of the hubs is none, the error names the one that was probably meant. */
export function withMembers<T>(connection: Coordination, hubs: readonly string[], signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("PEER_NOT_FOUND", call, async () => {
    const known = (await federationOf(connection, signal)).members.map(({ hubId }) => hubId);
    const unknown = hubs.find((hub) => !known.includes(hub));
    if (unknown === undefined) return undefined;
    const remedy = didYouMean(unknown, known, "List them with `foedus federation members`.");
    return { message: `hub ${unknown} is no member of the federation`, remedy };
  });
}

/** withJoins makes a call about a hub that has asked to join; if it has not, the error names the one that was probably meant. */
export function withJoins<T>(connection: Coordination, hub: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("PEER_NOT_FOUND", call, async () => {
    const { joins } = await federationOf(connection, signal);
    const remedy = meant(hub, joins);
    return remedy === undefined ? undefined : { message: `hub ${hub} has not asked to join`, remedy };
  });
}

/** More ballots than a hub keeps. */
const BALLOTS_MAX = 2_000;

/** allBallots reads page after page; what has no end is no answer of a hub that can be believed. */
export async function allBallots({ coordination }: Coordination, signal: AbortSignal): Promise<Ballot[]> {
  const ballots = new Map<string, Ballot>();
  for (let after = "", read = 0; ; ) {
    const page = await coordination.listBallots(create(ListBallotsRequestSchema, { after }), { signal });
    for (const ballot of page.ballots) ballots.set(ballot.opening?.proposal?.ballotId ?? "", ballot);
    read += page.ballots.length;
    if (page.next === "") return [...ballots.values()];
    if (page.next <= after || page.ballots.length === 0 || read > BALLOTS_MAX)
      throw new CliError(EXIT.failed, "the hub lists ballots without an end", "See whether it runs the software that it should.");
    after = page.next;
  }
}

/** withBallots makes a call about a ballot; if there is none of that id, the error names the one that was probably meant. */
export function withBallots<T>({ coordination }: Coordination, id: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("BALLOT_CLOSED", call, async () => {
    const ballots = await allBallots({ coordination }, signal);
    const known = ballots.map(({ opening }) => opening?.proposal?.ballotId ?? "");
    if (known.includes(id)) return undefined;
    return { message: `there is no ballot ${id}`, remedy: meant(id, known) ?? "List them with `foedus federation ballot`." };
  });
}
