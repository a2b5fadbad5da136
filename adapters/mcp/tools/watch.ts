import * as z from "zod";
import { type NodeFilterInit, plainOf, type RegistryChange, type WatchEvent } from "../../../clients/typescript/index.ts";
import { nodeName, SHOWN_VALUE } from "../node-view.ts";
import { RESULT_MAX_BYTES } from "../result.ts";
import { counted, shown, TEXT_MAX } from "../text.ts";
import { READS, type Tool, type ToolContext, tool } from "../tool.ts";
import { shownValue } from "../values.ts";
import { NODE_NAME, splitName } from "./names.ts";
import { FILTER, filterOf } from "./nodes.ts";

const SECONDS_DEFAULT = 5;
const SECONDS_MAX = 30;
const CHANGES_DEFAULT = 50;
const CHANGES_MAX = 200;

const CHANGE = z.object({
  node: z.string(),
  kind: z.enum(["state", "appeared", "removed", "online", "offline"]).describe("appeared: new, or what its owner says of it changed"),
  name: z.string().nullable().describe("capability, of kind state"),
  value: SHOWN_VALUE,
  after_ms: z.number().describe("since the watch began"),
});

type Change = z.infer<typeof CHANGE>;

/** changeOf shows a change of the registry. */
export function changeOf({ name, change }: WatchEvent, afterMs: number): Change | undefined {
  const base = { node: nodeName(name), name: null, value: null, after_ms: Math.round(afterMs) };
  switch (change.case) {
    case "state":
      return { ...base, kind: "state", name: shown(change.value.key, TEXT_MAX.name), value: shownValue(plainOf(change.value.value)) };
    case "put":
      return { ...base, kind: "appeared" };
    case "removed":
      return { ...base, kind: "removed" };
    case "online":
      return { ...base, kind: change.value ? "online" : "offline" };
    default:
      return undefined;
  }
}

interface Watched {
  readonly node?: string | undefined;
  readonly capability?: string | undefined;
  readonly filter: NodeFilterInit;
  readonly seconds: number;
  readonly limit: number;
}

/** Collected is what a watch saw. */
interface Collected {
  readonly changes: Change[];
  /** Everything that there was had come before the time was over. */
  readonly complete: boolean;
  readonly endedBy: "time" | "limit";
}

/** wanted tells whether a change is one of those that were asked for: the hub filters by the beginning of an id. */
function wanted({ name, change }: WatchEvent, { node, capability }: Watched): boolean {
  if (node !== undefined && name?.nodeId !== splitName(node).nodeId) return false;
  return capability === undefined || change.case !== "state" || change.value.key === capability;
}

async function collect(watched: Watched, { hub, clock, signal }: ToolContext): Promise<Collected> {
  const end = new AbortController();
  const timer = clock.setTimer(watched.seconds * 1_000, () => end.abort());
  // The first failure is told at once: whoever asks for a few seconds has no use for a watch that comes back later.
  const stream = hub.changes({
    filter: watched.filter,
    signal: AbortSignal.any([signal, end.signal]),
    giveUp: () => true,
    latestOnly: true,
  });
  const changes: Change[] = [];
  const began = clock.mono();
  let [complete, bytes] = [false, 0];
  const take = (change: RegistryChange): boolean => {
    if (change.kind === "current") complete = true;
    if (!complete || change.kind !== "event" || !wanted(change.event, watched)) return false;
    const seen = changeOf(change.event, clock.mono() - began);
    if (seen === undefined) return false;
    bytes += Buffer.byteLength(JSON.stringify(seen));
    changes.push(seen);
    return changes.length >= watched.limit || bytes > RESULT_MAX_BYTES / 2;
  };
  try {
    for await (const change of stream) if (take(change)) return { changes, complete, endedBy: "limit" };
  } catch (error) {
    if (!end.signal.aborted || signal.aborted) throw error;
  } finally {
    timer.cancel();
    stream.close();
  }
  return { changes, complete, endedBy: "time" };
}

/** WATCH_NODES follows changes for some seconds. */
export const WATCH_NODES: Tool = tool({
  name: "watch_nodes",
  title: "Watch changes for some seconds",
  description:
    "Wait for changes of state and presence for up to 30 seconds and return those that happened, in order; it ends early when `limit` changes have come. A value that was overtaken while it waited to be sent may be left out. For the present state use read_node.",
  annotations: READS,
  role: "viewer",
  input: z.strictObject({
    node: NODE_NAME.optional().describe("only this node"),
    ...FILTER,
    seconds: z.number().min(0.1).max(SECONDS_MAX).optional().describe(`how long; ${SECONDS_DEFAULT} by default`),
    limit: z.int().min(1).max(CHANGES_MAX).optional().describe(`changes after which it ends; ${CHANGES_DEFAULT} by default`),
  }),
  output: z.object({
    changes: z.array(CHANGE),
    ended_by: z.enum(["time", "limit"]),
    complete: z.boolean().describe("false: the hub had not sent what there was before the time was over, so that changes may be missing"),
  }),
  run: async ({ node, seconds = SECONDS_DEFAULT, limit = CHANGES_DEFAULT, ...args }, context) => {
    const filter = filterOf({ ...args, capability: node === undefined ? args.capability : undefined });
    if (node !== undefined) {
      const { hubId, nodeId } = splitName(node);
      filter.nodeIdPrefix = nodeId;
      if (hubId !== "") filter.hubIds = [hubId];
    }
    const { capability } = args;
    const { changes, complete, endedBy } = await collect({ node, capability, filter, seconds, limit }, context);
    const text = `${counted(changes.length, "change")}${endedBy === "limit" ? "; there may be more" : ` in ${seconds} s`}.`;
    return { text, data: { changes, ended_by: endedBy, complete } };
  },
});
