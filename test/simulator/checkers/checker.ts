import { type Node, NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { Freshness } from "#gen/foedus/common/v1/value_pb.ts";
import type { NodeRecord } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Federation } from "../federation.ts";
import { valueText } from "../nodes.ts";

/**
 * Checker judges a run after it has come to rest. It asks hubs only what their clients could ask, compares that with what the
 * oracle remembers, and reports each broken promise with `oracle.violate`. It knows nothing of faults.
 */
export interface Checker {
  readonly name: string;
  check(federation: Federation): void | Promise<void>;
}

/** Listed is a node as a listing shows it. */
export interface Listed {
  readonly hubId: string;
  readonly nodeId: string;
  readonly node: Node;
  readonly state: readonly { readonly key: string; readonly value: string }[];
  readonly online: boolean;
  readonly freshness: string;
  readonly ageMs: number;
}

/** listNodes asks a hub for its view of a hub's nodes; undefined when it does not answer. */
export async function listNodes(federation: Federation, viewer: number, owner: number): Promise<readonly Listed[] | undefined> {
  const hubId = federation.hubIds[owner] as string;
  let records: readonly NodeRecord[] | undefined;
  federation
    .hub(viewer)
    .running?.reader.listNodes({ $typeName: LIST, filter: { $typeName: FILTER, ...ANY, hubIds: [hubId] }, ...FIRST_PAGE })
    .then(
      (answer) => {
        records = answer.records;
      },
      (error: unknown) => {
        if (!(error instanceof FoedusError)) federation.fatal(viewer, "listing", error);
      },
    );
  await federation.run(0);
  if (records === undefined) await federation.run(2_000);
  return records?.map(listed);
}

const FRESHNESS: Readonly<Record<number, string>> = {
  [Freshness.FRESH]: "FRESH",
  [Freshness.STALE]: "STALE",
  [Freshness.UNKNOWN]: "UNKNOWN",
};
const LIST = "foedus.registry_sync.v1alpha1.ListNodesRequest";
const FILTER = "foedus.registry_sync.v1alpha1.NodeFilter";
const ANY = { nodeIdPrefix: "", type: "", kind: NodeKind.UNSPECIFIED, capability: "", onlineOnly: false, labels: {} };
const FIRST_PAGE = { pageSize: 1_000, pageToken: "", summary: false };

function listed({ name, node, state, online, freshness, ageMs }: NodeRecord): Listed {
  return {
    hubId: name?.hubId ?? "",
    nodeId: name?.nodeId ?? "",
    node: node as Node,
    state: state.map(({ key, value }) => ({ key, value: valueText(value) })),
    online,
    freshness: FRESHNESS[freshness] ?? "",
    ageMs: Number(ageMs),
  };
}

/** connected: both hubs trust each other enough for sessions, and can reach each other. */
export function connected(federation: Federation, a: number, b: number): boolean {
  const { network } = federation;
  const trusted = federation.trustOf(a, b).level >= 2 && federation.trustOf(b, a).level >= 2;
  return trusted && !(network.natted(a) && network.natted(b));
}

/** stateText writes a node's state for comparison. */
export function stateText(record: Listed, keep: (key: string) => boolean): string {
  return record.state
    .filter(({ key }) => keep(key))
    .map(({ key, value }) => `${key}=${value}`)
    .sort()
    .join(",");
}
