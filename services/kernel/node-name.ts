import { isHubId } from "./hub-id.ts";

/** NodeName names a node everywhere. Two hubs may use the same node id; the pair never conflicts. */
export interface NodeName {
  readonly hubId: string;
  readonly nodeId: string;
}

/** Same rule as `foedus.common.v1.NodeRef.node_id`. It has no `/`, so that keys and paths split without doubt. */
const NODE_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$/;

/** isNodeId tells whether a text can be the id of a node: 1 to 63 of letters, digits, `.`, `_`, `:` and `-`. */
export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}

/** nodeKey writes a name as one string, `hub/node`, unique for the pair. */
export function nodeKey(hubId: string, nodeId: string): string {
  return `${hubId}/${nodeId}`;
}

/** parseNodeKey reads what `nodeKey` wrote; undefined if it is not a valid name. */
export function parseNodeKey(key: string): NodeName | undefined {
  const slash = key.indexOf("/");
  const hubId = key.slice(0, Math.max(0, slash));
  const nodeId = key.slice(slash + 1);
  return slash > 0 && isHubId(hubId) && isNodeId(nodeId) ? { hubId, nodeId } : undefined;
}

/** parseNodeText reads what people type: `hub/node`, or a bare `node` (hubId is then empty). Undefined if it is neither. */
export function parseNodeText(text: string): NodeName | undefined {
  if (text.includes("/")) return parseNodeKey(text);
  return isNodeId(text) ? { hubId: "", nodeId: text } : undefined;
}

/** NodeResolution is the answer to which node a name means. */
export type NodeResolution =
  | { readonly kind: "found"; readonly hubId: string }
  | { readonly kind: "not-found" }
  | { readonly kind: "ambiguous"; readonly candidates: readonly string[] };

/**
 * resolveNode decides which hub's node is meant. `hubs` are the hubs that have a node of that id, in any order.
 * With a hub id only that hub counts. Without one: the own hub first, else the only one that has it, else it is ambiguous;
 * the candidates are sorted hub ids.
 */
export function resolveNode(hubId: string, ownHubId: string, hubs: readonly string[]): NodeResolution {
  if (hubId !== "") return hubs.includes(hubId) ? { kind: "found", hubId } : { kind: "not-found" };
  if (hubs.includes(ownHubId)) return { kind: "found", hubId: ownHubId };
  const [first, ...others] = [...new Set(hubs)].sort();
  if (first === undefined) return { kind: "not-found" };
  return others.length === 0 ? { kind: "found", hubId: first } : { kind: "ambiguous", candidates: [first, ...others] };
}
