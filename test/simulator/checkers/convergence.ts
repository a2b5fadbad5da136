import type { NodeRecord } from "../../../services/registry-sync/messages.ts";
import type { Federation } from "../federation.ts";
import { decodeNode, shows, showsKey, versionOf } from "../nodes.ts";
import { type Checker, connected, listNodes, stateText } from "./checker.ts";

/**
 * Convergence: at rest, what a connected peer holds of a hub is exactly what that hub's share for it shows of the hub's own view:
 * the same nodes, registrations, states and presence, and it is FRESH. What is hidden is not held. Nobody shows third hubs' nodes.
 */
export const convergence: Checker = {
  name: "convergence",
  async check(federation) {
    const { options, oracle } = federation;
    for (let owner = 0; owner < options.hubs; owner++) {
      const own = await listNodes(federation, owner, owner);
      if (own === undefined) {
        oracle.violate("convergence", "liveness", `hub-${owner} did not answer a listing of its own nodes`);
        continue;
      }
      for (let peer = 0; peer < options.hubs; peer++) if (peer !== owner) await comparePeer(federation, owner, peer, own);
    }
  },
};

async function comparePeer(federation: Federation, owner: number, peer: number, own: readonly NodeRecord[]): Promise<void> {
  const { oracle } = federation;
  if (!connected(federation, owner, peer)) return;
  const held = await listNodes(federation, peer, owner);
  const where = `hub-${peer}'s copy of hub-${owner}`;
  if (held === undefined) return oracle.violate("convergence", "liveness", `${where}: no answer`);
  const { share } = federation.trustOf(owner, peer);
  const { rules } = federation.hub(owner);
  const wanted = own.filter(({ node }) => shows(share, rules, decodeNode(node).labels["area"] ?? ""));
  const hidden = held.filter((record) => !wanted.some(({ name }) => name.nodeId === record.name.nodeId));
  for (const { name } of hidden)
    oracle.violate(
      "convergence",
      own.some((record) => record.name.nodeId === name.nodeId) ? "correctness" : "liveness",
      `${where} (${share}) has ${name.nodeId}, which it should not`,
    );
  for (const record of wanted)
    compareNode(
      federation,
      where,
      share,
      record,
      held.find(({ name }) => name.nodeId === record.name.nodeId),
    );
}

function compareNode(federation: Federation, where: string, share: string, wanted: NodeRecord, held: NodeRecord | undefined): void {
  const { oracle, trace, scheduler } = federation;
  const { nodeId } = wanted.name;
  trace.note(scheduler.now, -1, "compared");
  if (held === undefined) return oracle.violate("convergence", "liveness", `${where} (${share}) lacks ${nodeId}`);
  if (versionOf(held.node) !== versionOf(wanted.node))
    return oracle.violate(
      "convergence",
      "liveness",
      `${where} has ${nodeId} version ${versionOf(held.node)} instead of ${versionOf(wanted.node)}`,
    );
  const want = stateText(wanted, (key) => showsKey(share, key));
  const have = stateText(held, () => true);
  if (want !== have) oracle.violate("convergence", "liveness", `${where} (${share}) has ${nodeId} ${have} instead of ${want}`);
  if (held.freshness !== "FRESH")
    oracle.violate("convergence", "liveness", `${where} is ${held.freshness} at rest (${Math.round(held.ageMs)} ms old)`);
  else if (held.online !== wanted.online)
    oracle.violate("convergence", "liveness", `${where} has ${nodeId} ${held.online ? "online" : "offline"}`);
}
