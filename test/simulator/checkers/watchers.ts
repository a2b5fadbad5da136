import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { versionOf } from "../nodes.ts";
import { type Checker, listNodes } from "./checker.ts";

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
          `${nodeId}@${versionOf(node)} ${[...state].sort().join(",")}`;
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
