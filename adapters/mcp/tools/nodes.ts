import * as z from "zod";
import { create, registrySync } from "../../../clients/typescript/schema.ts";
import { HUB_FRESHNESS, hubFreshness, NODE_DETAIL, NODE_SUMMARY, nodeDetail, nodeSummary } from "../node-view.ts";
import { RESULT_MAX_BYTES } from "../result.ts";
import { counted } from "../text.ts";
import { READS, type Tool, tool } from "../tool.ts";
import { CAPABILITY, HUB_ID, NODE_NAME, recordOf } from "./names.ts";

const KINDS = { device: 1, agent: 2 } as const;

const PAGE_DEFAULT = 20;
const PAGE_MAX = 50;
const HUBS_MAX = 50;

/** FILTER are the arguments that select nodes. */
export const FILTER = {
  hub: HUB_ID.optional().describe("only nodes of this hub"),
  type: z.string().max(255).optional().describe("only nodes of exactly this type, such as light"),
  kind: z.enum(["device", "agent"]).optional(),
  capability: CAPABILITY.optional().describe("only nodes with this capability"),
  online_only: z.boolean().optional(),
  prefix: z.string().max(63).optional().describe("only nodes whose id begins with this"),
};

/** filterOf builds the hub's filter of them. */
export function filterOf(args: z.infer<z.ZodObject<typeof FILTER>>): registrySync.NodeFilter {
  const { hub, type = "", kind, capability = "", online_only: onlineOnly = false, prefix = "" } = args;
  const hubIds = hub === undefined ? [] : [hub];
  return create(registrySync.NodeFilterSchema, {
    hubIds,
    type,
    kind: kind === undefined ? 0 : KINDS[kind],
    capability,
    onlineOnly,
    nodeIdPrefix: prefix,
  });
}

/** FIND_NODES lists nodes. */
export const FIND_NODES: Tool = tool({
  name: "find_nodes",
  title: "Find devices and agents",
  description:
    "List the devices and agents that this hub knows: its own, and those that other hubs share with it. Filter by hub, type, kind, capability or the beginning of the id; read on with next_page. What a hub does not share is not listed. `hubs` says how current each hub's part is: an empty part that is stale is not proof that there is nothing.",
  annotations: READS,
  role: "viewer",
  input: z.strictObject({
    ...FILTER,
    limit: z.int().min(1).max(PAGE_MAX).optional().describe(`nodes in the answer; ${PAGE_DEFAULT} by default`),
    page: z.string().max(512).optional().describe("next_page of the answer before, with the same filter"),
  }),
  output: z.object({
    nodes: z.array(NODE_SUMMARY),
    total: z.number().describe("nodes that match, on all pages"),
    next_page: z.string().nullable(),
    hubs: z.array(HUB_FRESHNESS),
  }),
  run: async ({ limit = PAGE_DEFAULT, page = "", ...filter }, { hub, signal }) => {
    for (let pageSize = limit; ; pageSize = Math.ceil(pageSize / 2)) {
      const request = create(registrySync.ListNodesRequestSchema, { filter: filterOf(filter), pageSize, pageToken: page, summary: true });
      const answer = await hub.clients.registry.listNodes(request, { signal });
      const nodes = answer.records.map(nodeSummary);
      // What is left out of a page would be missing for good: a shorter page is asked for.
      if (pageSize > 1 && Buffer.byteLength(JSON.stringify(nodes)) > RESULT_MAX_BYTES / 2) continue;
      const hubs = answer.hubs.slice(0, HUBS_MAX).map(hubFreshness);
      const data = { nodes, total: answer.total, next_page: answer.nextPageToken || null, hubs };
      return {
        text: `${nodes.length} of ${counted(answer.total, "node")}.${data.next_page === null ? "" : " More with next_page."}`,
        data,
      };
    }
  },
});

/** READ_NODE shows one node. */
export const READ_NODE: Tool = tool({
  name: "read_node",
  title: "Read one device or agent",
  description:
    "Show one node: what it can do (capabilities with type, range and whether this hub may run them), its last known state, and how current that is. Look at freshness and confirmed_ms_ago before you rely on a value.",
  annotations: READS,
  role: "viewer",
  input: z.strictObject({
    node: NODE_NAME.describe("hub/node"),
    capability: CAPABILITY.optional().describe("show only this capability and its value"),
    max_age_ms: z.int().min(0).max(86_400_000).optional().describe("fail rather than answer with something older"),
  }),
  output: NODE_DETAIL,
  run: async ({ node, capability, max_age_ms: maxAge }, { hub, signal }) => {
    const record = await recordOf(hub, node, signal, maxAge);
    const data = nodeDetail(record, capability, RESULT_MAX_BYTES / 2);
    const age = data.confirmed_ms_ago === null ? "never confirmed" : `confirmed ${data.confirmed_ms_ago} ms ago`;
    const text = `${data.node} is ${data.online ? "online" : "offline"}; what follows is ${data.freshness} (${age}).`;
    return { text, data };
  },
});
