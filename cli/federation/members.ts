import { create } from "@bufbuild/protobuf";
import type { Ballot } from "#gen/foedus/coordination/v1alpha1/ballots_pb.ts";
import {
  GetFederationRequestSchema,
  type GetFederationResponse,
  ListBallotsRequestSchema,
} from "#gen/foedus/coordination/v1alpha1/coordination_service_pb.ts";
import { corrected } from "../reach/candidates.ts";
import type { Connection } from "../reach/connect.ts";
import { didYouMean, meant } from "../reach/did-you-mean.ts";
import { everyPage } from "../reach/pages.ts";

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

/** allBallots are the ballots that a hub has; one that ended while they were read is there once. */
export async function allBallots({ coordination }: Coordination, signal: AbortSignal): Promise<Ballot[]> {
  const pages = await everyPage("ballots", (after) => coordination.listBallots(create(ListBallotsRequestSchema, { after }), { signal }));
  const ballots = pages.flatMap((page) => page.ballots);
  return [...new Map(ballots.map((ballot) => [ballot.opening?.proposal?.ballotId ?? "", ballot])).values()];
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
