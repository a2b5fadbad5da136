import type { Federation } from "../federation.ts";
import { areaOf, shows, showsKey, takes, versionOf } from "../nodes.ts";
import { type Checker, connected, type Listed, listNodes, stateText } from "./checker.ts";

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

async function comparePeer(federation: Federation, owner: number, peer: number, own: readonly Listed[]): Promise<void> {
  const { oracle } = federation;
  if (!connected(federation, owner, peer)) return;
  const held = await listNodes(federation, peer, owner);
  const where = `hub-${peer}'s copy of hub-${owner}`;
  if (held === undefined) return oracle.violate("convergence", "liveness", `${where}: no answer`);
  const { share } = federation.trustOf(owner, peer);
  const { rules } = federation.hub(owner);
  const { imports } = federation.hub(peer);
  const wanted = own.filter(({ node }) => shows(share, rules, areaOf(node)) && takes(imports, areaOf(node)));
  const hidden = held.filter((record) => !wanted.some(({ nodeId }) => nodeId === record.nodeId));
  for (const { nodeId } of hidden)
    oracle.violate(
      "convergence",
      own.some((record) => record.nodeId === nodeId) ? "correctness" : "liveness",
      `${where} (${share}) has ${nodeId}, which it should not`,
    );
  const keyKept = (key: string): boolean => showsKey(share, key);
  for (const record of wanted)
    compareNode(
      federation,
      `${where} (${share})`,
      keyKept,
      record,
      held.find(({ nodeId }) => nodeId === record.nodeId),
    );
}

function compareNode(
  federation: Federation,
  where: string,
  keyKept: (key: string) => boolean,
  wanted: Listed,
  held: Listed | undefined,
): void {
  const { oracle, trace, scheduler } = federation;
  const { nodeId } = wanted;
  trace.note(scheduler.now, -1, "compared");
  if (held === undefined) return oracle.violate("convergence", "liveness", `${where} lacks ${nodeId}`);
  if (versionOf(held.node) !== versionOf(wanted.node))
    return oracle.violate(
      "convergence",
      "liveness",
      `${where} has ${nodeId} version ${versionOf(held.node)} instead of ${versionOf(wanted.node)}`,
    );
  const want = stateText(wanted, keyKept);
  const have = stateText(held, () => true);
  if (want !== have) oracle.violate("convergence", "liveness", `${where} has ${nodeId} ${have} instead of ${want}`);
  if (held.freshness !== "FRESH")
    oracle.violate("convergence", "liveness", `${where} is ${held.freshness} at rest (${Math.round(held.ageMs)} ms old)`);
  else if (held.online !== wanted.online)
    oracle.violate("convergence", "liveness", `${where} has ${nodeId} ${held.online ? "online" : "offline"}`);
}
