import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import type { Federation } from "../federation.ts";
import { versionOf } from "../nodes.ts";
import { type Checker, listNodes } from "./checker.ts";

/**
 * partial: import rules kept the node out at some time. What came then is not known when they let it in, unless a snapshot brings it later,
 * at a position that a watcher may have already.
 */
function partial(federation: Federation, viewer: number, owner: number, nodeId: string): boolean {
  return viewer !== owner && federation.hub(viewer).imports && federation.hub(owner).refusable.has(nodeId);
}

/** Watchers: a copy kept by following a Watch is what a listing shows. (That events make sense in their order is checked as they come.) */
export const watchers: Checker = {
  name: "watchers",
  async check(federation) {
    const { oracle, options, hubIds } = federation;
    for (let viewer = 0; viewer < options.hubs; viewer++) {
      for (let owner = 0; owner < options.hubs; owner++) {
        const records = await listNodes(federation, viewer, owner);
        const copies = federation.hub(viewer).clients.watcher.hubs.get(hubIds[owner] as string);
        const text = (nodeId: string, node: Node, state: readonly string[]): string =>
          `${nodeId}@${versionOf(node)} ${partial(federation, viewer, owner, nodeId) ? "" : [...state].sort().join(",")}`;
        const listed = (records ?? [])
          .map(({ nodeId, node, state }) =>
            text(
              nodeId,
              node,
              state.map(({ key, value }) => `${key}=${value}`),
            ),
          )
          .sort();
        const watched = [...(copies ?? [])]
          .map(([nodeId, { node, state }]) =>
            text(
              nodeId,
              node,
              [...state].map(([key, value]) => `${key}=${value}`),
            ),
          )
          .sort();
        if (listed.join("\n") !== watched.join("\n"))
          oracle.violate(
            "watchers",
            "correctness",
            `hub-${viewer}'s watcher of hub-${owner} has\n${watched.join("\n")}\ninstead of\n${listed.join("\n")}`,
          );
      }
    }
  },
};
