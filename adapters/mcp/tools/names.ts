import * as z from "zod";
import type { Hub } from "../../../clients/typescript/index.ts";
import { create, registrySync } from "../../../clients/typescript/schema.ts";
import { ToolError } from "../tool.ts";

/** HUB_ID is an argument that names a hub. */
export const HUB_ID = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, "write the id of a hub, such as home");

/** NODE_NAME is an argument that names a node. */
export const NODE_NAME = z
  .string()
  .regex(/^(?:[a-z0-9][a-z0-9-]{0,62}\/)?[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/, "write hub/node, as find_nodes shows it");

/** CAPABILITY is an argument that names a capability. */
export const CAPABILITY = z.string().min(1).max(127);

/** splitName takes hub/node apart; the hub of a bare id is empty: the own hub first, else a unique match. */
export function splitName(text: string): { readonly hubId: string; readonly nodeId: string } {
  const at = text.indexOf("/");
  return at < 0 ? { hubId: "", nodeId: text } : { hubId: text.slice(0, at), nodeId: text.slice(at + 1) };
}

/** recordOf asks the hub for a node. Throws FoedusError, such as NODE_NOT_FOUND. */
export async function recordOf(hub: Hub, text: string, signal: AbortSignal, maxAgeMs?: number): Promise<registrySync.NodeRecord> {
  const staleness = maxAgeMs === undefined ? {} : { maxStalenessMs: BigInt(maxAgeMs) };
  const request = create(registrySync.GetNodeRequestSchema, { name: splitName(text), ...staleness });
  const { record } = await hub.clients.registry.getNode(request, { signal });
  if (record?.node === undefined)
    throw new ToolError("NODE_NOT_FOUND", "the hub answered without the node", "List the nodes with find_nodes.");
  return record;
}
