import { create } from "@bufbuild/protobuf";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { type Failure, FoedusError, type Reason } from "#kernel/error.ts";
import { nearest } from "#runtime/config/shape.ts";
import { CliError, EXIT } from "../exit.ts";
import { parseNode } from "../parse.ts";
import { clean } from "../print/format.ts";
import type { Connection } from "./connect.ts";
import { showsNothing } from "./cut-off.ts";
import { didYouMean } from "./did-you-mean.ts";

/** COMPARED_MAX is how many nodes a mistyped one is compared with at most. */
export const COMPARED_MAX = 5_000;
const PAGE = 1_000;
/** knownHubs lists the hubs whose nodes the hub knows, itself among them. */
export async function knownHubs(connection: Connection, signal: AbortSignal): Promise<string[]> {
  const { hubs } = await connection.registry.listNodes(create(ListNodesRequestSchema, { pageSize: 1, summary: true }), { signal });
  return hubs.map(({ hubId }) => hubId);
}

/** mustBeKnown refuses a hub that is neither known by its nodes nor a peer: an empty list would look like a hub without nodes. */
export async function mustBeKnown(connection: Connection, hubIds: readonly string[], signal: AbortSignal): Promise<void> {
  const hubs = await knownHubs(connection, signal);
  if (hubIds.every((hubId) => hubs.includes(hubId))) return;
  const { peers } = await connection.discovery.listPeers(create(ListPeersRequestSchema), { signal });
  const known = [...new Set([...hubs, ...peers.map(({ hubId }) => hubId)])];
  const unknown = hubIds.find((hubId) => !known.includes(hubId));
  if (unknown !== undefined)
    throw new CliError(EXIT.notFound, `no hub named ${unknown} is known here`, didYouMean(unknown, known, "See `foedus peers`."));
}

/** nodesLike lists ids of nodes to compare a mistyped one with: those of one hub, or of all if it is empty. */
export async function nodesLike(connection: Connection, hubId: string, signal: AbortSignal): Promise<string[]> {
  const filter = { hubIds: hubId === "" ? [] : [hubId] };
  const names: string[] = [];
  let pageToken = "";
  do {
    const request = create(ListNodesRequestSchema, { filter, pageSize: PAGE, pageToken, summary: true });
    const page = await connection.registry.listNodes(request, { signal });
    for (const { name } of page.records) if (name !== undefined) names.push(`${name.hubId}/${name.nodeId}`);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && names.length < COMPARED_MAX);
  return names;
}

/** withNodes makes a call about a node; when there is no such node, the error names the one that was probably meant. */
export function withNodes<T>(connection: Connection, text: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("NODE_NOT_FOUND", call, async () => {
    const { hubId, nodeId } = parseNode(text);
    const hubs = await knownHubs(connection, signal);
    const hidden = hubId === "" || hubs.includes(hubId) ? undefined : await showsNothing(connection, hubId, signal);
    if (hidden !== undefined) return { message: `there is no node ${text}: ${hidden.message}`, remedy: hidden.remedy };
    if (hubId !== "" && !hubs.includes(hubId))
      return { message: `there is no node ${text}: no hub named ${hubId} is known here`, remedy: didYouMean(hubId, hubs) };
    const names = await nodesLike(connection, hubId, signal);
    const near = nearest(
      nodeId,
      names.map((name) => name.slice(name.indexOf("/") + 1)),
    );
    const found = near === undefined ? undefined : names.find((name) => name.endsWith(`/${near}`));
    const list = `List the nodes with \`foedus nodes${hubId === "" ? "" : ` --hub-id ${hubId}`}\`.`;
    return { message: `there is no node ${text}`, remedy: found === undefined ? list : `Did you mean ${clean(found)}?` };
  });
}

/** withPeers makes a call about a peer; when there is no such peer, the error names the one that was probably meant. */
export function withPeers<T>(connection: Connection, hubId: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("PEER_NOT_FOUND", call, async () => noPeer(hubId, await peersOf(connection, signal)));
}

/** withSessions makes a call that needs sessions with peers; when there is none because there is no such peer, the error names the one meant. */
export function withSessions<T>(connection: Connection, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  return corrected("PEER_UNREACHABLE", call, async ({ facts }) => {
    const hubId = facts?.["hub_id"];
    if (hubId === undefined) return undefined;
    const known = await peersOf(connection, signal);
    return known.includes(hubId) ? undefined : noPeer(hubId, known);
  });
}

async function peersOf(connection: Connection, signal: AbortSignal): Promise<string[]> {
  const { peers } = await connection.discovery.listPeers(create(ListPeersRequestSchema), { signal });
  return peers.map(({ hubId }) => hubId);
}

function noPeer(hubId: string, known: readonly string[]): Better {
  const add = "Add it in the hub's folder with `foedus peer invite` or `foedus peer add`.";
  return { message: `there is no peer ${clean(hubId)}`, remedy: didYouMean(hubId, known, add) || add };
}

/** Better is what is said instead of a failure: the sentence, and what to do. */
export interface Better {
  readonly message: string;
  readonly remedy: string;
}

/** corrected makes a call; if it fails for a reason, the error says what `words` finds, if that finds anything better. */
export async function corrected<T>(
  reason: Reason,
  call: () => Promise<T>,
  words: (failure: Failure) => Promise<Better | undefined>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof FoedusError) || error.failure.reason !== reason) throw error;
    // A hub that cannot be asked for candidates has still answered.
    const better = await words(error.failure).catch(() => undefined);
    if (better === undefined) throw error;
    // The sentence says what was typed; the field of the request is nothing that was.
    const { field: _field, ...failure } = error.failure;
    throw new CliError(EXIT.notFound, better.message, better.remedy, { failure, cause: error });
  }
}
