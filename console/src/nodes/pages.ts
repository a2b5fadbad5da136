import { CallError, call, RPC } from "../api.ts";
import type { NodePage, NodeRecord } from "../types.ts";

/** Filter is what a list of nodes is limited to; what is empty limits nothing. */
export interface Filter {
  readonly prefix: string;
  readonly hub: string;
  readonly type: string;
  readonly kind: string;
  readonly capability: string;
  readonly onlineOnly: boolean;
}

/** NO_FILTER lets all nodes pass. */
export const NO_FILTER: Filter = { prefix: "", hub: "", type: "", kind: "", capability: "", onlineOnly: false };

/** Nodes of a page: enough for two screens, and few for the hub. */
const PAGE_SIZE = 100;

/** Listed is what is known of a list. */
export interface Listed {
  readonly records: readonly NodeRecord[];
  readonly total: number;
  /** Where the next page begins; empty at the end. */
  readonly next: string;
  readonly hubs: NonNullable<NodePage["hubs"]>;
}

/** filterOf is a filter as the schema has it. */
export function filterOf(filter: Filter): object {
  const { prefix, hub, type, kind, capability, onlineOnly } = filter;
  return {
    ...(prefix === "" ? {} : { nodeIdPrefix: prefix }),
    ...(hub === "" ? {} : { hubIds: [hub] }),
    ...(type === "" ? {} : { type }),
    ...(kind === "" ? {} : { kind }),
    ...(capability === "" ? {} : { capability }),
    ...(onlineOnly ? { onlineOnly } : {}),
  };
}

/** keyOf names a node in the page. */
export function keyOf({ name }: Pick<NodeRecord, "name">): string {
  return `${name.hubId}/${name.nodeId}`;
}

function page(filter: Filter, pageToken: string, signal: AbortSignal): Promise<NodePage> {
  return call<NodePage>(RPC.listNodes, { filter: filterOf(filter), pageSize: PAGE_SIZE, summary: true, pageToken }, { signal });
}

/** firstPage begins a list. */
export async function firstPage(filter: Filter, signal: AbortSignal): Promise<Listed> {
  const { records = [], total = 0, nextPageToken = "", hubs = [] } = await page(filter, "", signal);
  return { records, total, next: nextPageToken, hubs };
}

/** nextPage goes on with a list. A hub that does not keep it any more lists again, and the page takes what is beyond what it has. */
export async function nextPage(filter: Filter, listed: Listed, signal: AbortSignal): Promise<Listed> {
  let token = listed.next;
  let have: readonly NodeRecord[] = listed.records;
  for (let renewed = false; ; ) {
    try {
      const { records = [], nextPageToken = "", total = 0, hubs = [] } = await page(filter, token, signal);
      have = merged(have, records);
      token = nextPageToken;
      if (have.length > listed.records.length || token === "") return { records: have, total, next: token, hubs };
    } catch (error) {
      if (renewed || !(error instanceof CallError) || error.reason !== "POSITION_EXPIRED") throw error;
      renewed = true;
      token = "";
    }
  }
}

/** merged adds records, and puts newer ones in the place of older ones. Order is by hub and id, as the hub lists. */
export function merged(old: readonly NodeRecord[], more: readonly NodeRecord[]): readonly NodeRecord[] {
  const byKey = new Map(old.map((record) => [keyOf(record), record]));
  for (const record of more) byKey.set(keyOf(record), record);
  return [...byKey.values()];
}
