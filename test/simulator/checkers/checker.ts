import type { NodeRecord } from "../../../services/registry-sync/messages.ts";
import type { Federation } from "../federation.ts";

/**
 * Checker judges a run after it has come to rest. It asks hubs only what their clients could ask, compares that with what the
 * oracle remembers, and reports each broken promise with `oracle.violate`. It knows nothing of faults.
 */
export interface Checker {
  readonly name: string;
  check(federation: Federation): void | Promise<void>;
}

/** listNodes asks a hub for its view of a hub's nodes. */
export async function listNodes(federation: Federation, viewer: number, owner: number): Promise<readonly NodeRecord[] | undefined> {
  let records: readonly NodeRecord[] | undefined;
  federation.hub(viewer).running?.registry.list(federation.hubIds[owner] as string, (answer) => {
    records = answer;
  });
  if (records === undefined) await federation.run(2_000);
  return records;
}

/** connected: both hubs trust each other enough for sessions, and can reach each other. */
export function connected(federation: Federation, a: number, b: number): boolean {
  const { network } = federation;
  const trusted = federation.trustOf(a, b).level >= 2 && federation.trustOf(b, a).level >= 2;
  return trusted && !(network.natted(a) && network.natted(b));
}

/** stateText writes a node's state for comparison. */
export function stateText(record: NodeRecord, keep: (key: string) => boolean): string {
  return record.state
    .filter(({ key }) => keep(key))
    .map(({ key, value }) => `${key}=${String(value)}`)
    .sort()
    .join(",");
}
