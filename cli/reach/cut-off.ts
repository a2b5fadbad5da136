import { create } from "@bufbuild/protobuf";
import { TrustLevel } from "#gen/foedus/common/v1/access_pb.ts";
import { GetPeerRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { clean } from "../print/format.ts";
import type { Connection } from "./connect.ts";

/** Cause is why nothing is exchanged with a peer, and what to do about it. */
export interface Cause {
  /** Part of a sentence. */
  readonly message: string;
  readonly remedy: string;
}

/** closedTo says who trusts whom too little for any service but discovery; empty if nobody, or if that is not known yet. */
export function closedTo({ hubId, level, levelThere }: Peer): string {
  if (level === TrustLevel.MINIMAL) return `this hub trusts ${clean(hubId)} only minimally`;
  return levelThere === TrustLevel.MINIMAL ? `${clean(hubId)} trusts this hub only minimally` : "";
}

/** cutOff says why waiting for a peer is of no use; undefined if the link stands, or if it is not known to be anybody's decision. `self` is our own hub. */
export function cutOff(peer: Peer, self: string): Cause | undefined {
  const hubId = clean(peer.hubId);
  if (peer.state === LinkState.TERMINATED)
    return { message: `the link to ${hubId} was ended here`, remedy: `Bring it back with \`foedus peers enable ${hubId}\`.` };
  const closed = closedTo(peer);
  if (closed !== "" && peer.level === TrustLevel.MINIMAL) {
    const raised = peer.maxTrust > TrustLevel.MINIMAL;
    const remedy = raised
      ? `Its ceiling is higher, but its evidence is not enough: \`foedus peers ${hubId}\` shows what is missing.`
      : `To open it: \`foedus peer trust ${hubId} limited\`.`;
    return { message: closed, remedy };
  }
  if (closed !== "")
    return { message: closed, remedy: `Ask the operator of ${hubId} to open it, there: \`foedus peer trust ${self} limited\`.` };
  return undefined;
}

/** causeOf asks the hub what keeps it from a peer: a decision, or what the link fails with. Undefined if neither is known. */
export async function causeOf(connection: Connection, hubId: string, signal: AbortSignal): Promise<Cause | undefined> {
  const peer = await peerOf(connection, hubId, signal);
  return peer && reasonFor(peer, connection);
}

function reasonFor(peer: Peer, connection: Connection): Cause | undefined {
  const decided = cutOff(peer, connection.target.hubId);
  if (decided !== undefined || peer.state === LinkState.OPERATIONAL || peer.failure === undefined) return decided;
  const { message } = peer.failure;
  return {
    message: clean(message),
    remedy: `Details: \`foedus peers ${clean(peer.hubId)}\`; in the hub's folder \`foedus doctor\` says what to do.`,
  };
}

/** showsNothing says why a hub has no nodes here although it is a peer; undefined if it is none. */
export async function showsNothing(connection: Connection, hubId: string, signal: AbortSignal): Promise<Cause | undefined> {
  const peer = await peerOf(connection, hubId, signal);
  if (peer === undefined) return undefined;
  const shown = `${clean(hubId)} is a peer, but shows this hub no nodes`;
  const cause = reasonFor(peer, connection);
  if (cause !== undefined) return { ...cause, message: `${shown}, because ${cause.message}` };
  if (peer.state !== LinkState.OPERATIONAL)
    return { message: `${shown}: there is no link yet`, remedy: `See \`foedus peers ${clean(hubId)}\`.` };
  const remedy = `Ask its operator; there, \`foedus share test ${connection.target.hubId}\` says what the share shows and which rule decides.`;
  return { message: `${shown}: the share that it gives this hub selects none`, remedy };
}

async function peerOf(connection: Connection, hubId: string, signal: AbortSignal): Promise<Peer | undefined> {
  // Who may not ask for peers is answered without the cause.
  const answer = await connection.discovery.getPeer(create(GetPeerRequestSchema, { hubId }), { signal }).catch(() => undefined);
  return answer?.peer;
}
