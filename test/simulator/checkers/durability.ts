import { versionOf } from "../nodes.ts";
import { type Checker, listNodes } from "./checker.ts";

/** Durability: every write that was acknowledged, and not overwritten, is in its owner's state, whatever crashed in between. */
export const durability: Checker = {
  name: "durability",
  async check(federation) {
    const { oracle, options } = federation;
    for (let hub = 0; hub < options.hubs; hub++) {
      const records = await listNodes(federation, hub, hub);
      if (records === undefined) continue;
      const values = new Map<string, string>();
      for (const { nodeId, node, state } of records) {
        values.set(nodeId, String(versionOf(node)));
        for (const { key, value } of state) values.set(`${nodeId}.${key}`, value);
      }
      for (const subject of oracle.subjects.values()) {
        if (subject.hub !== hub) continue;
        const acceptable = oracle.acceptable(subject);
        const value = values.get(subject.name);
        if (!acceptable.has(value))
          oracle.violate(
            "durability",
            "correctness",
            `hub-${hub} has ${subject.name} = ${value}, acknowledged was ${[...acceptable].join(" | ")}`,
          );
      }
    }
  },
};
