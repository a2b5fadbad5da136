import type { Node } from "#gen/foedus/common/v1/node_pb.ts";
import { OUTCOME, OUTCOME_NAMES } from "../../../services/command-forwarding/messages.ts";
import type { Federation } from "../federation.ts";
import { areaOf, shows, takes } from "../nodes.ts";
import type { CommandOp } from "../oracle.ts";
import { type Checker, connected, listNodes } from "./checker.ts";

/** Long enough for a command and its answer on the slowest network and disk that is drawn. */
const PROBE_MS = 9_000;

/**
 * Reachable: at rest, a command to a node that the caller is shown and may invoke is done. (That an answer comes is checked for every
 * command; this is about links that stay up and say no for ever.)
 */
export const reachable: Checker = {
  name: "reachable",
  async check(federation) {
    const { oracle } = federation;
    // An owner whose journal fell back in time learns that from the first command, which then has no known outcome.
    if (oracle.rewound.includes(true)) await probe(federation);
    for (const { id, caller, target, nodeId, calls } of await probe(federation)) {
      const answer = calls[0]?.answer;
      if (answer?.outcome === OUTCOME.DONE) continue;
      const told = answer === undefined ? "nothing" : `${OUTCOME_NAMES[answer.outcome]} (${answer.reason})`;
      oracle.violate(
        "reachable",
        "liveness",
        `${id}: hub-${caller} asked hub-${target} to do something with ${nodeId} at rest and was told ${told}`,
      );
    }
  },
};

async function probe(federation: Federation): Promise<CommandOp[]> {
  const { options } = federation;
  const probes: CommandOp[] = [];
  for (let owner = 0; owner < options.hubs; owner++) {
    const nodes = (await listNodes(federation, owner, owner)) ?? [];
    for (let caller = 0; caller < options.hubs; caller++) {
      if (caller !== owner && !connected(federation, owner, caller)) continue;
      const node = nodes.find(({ node: bytes, online }) => online && (caller === owner || visible(federation, owner, caller, bytes)));
      if (node === undefined) continue;
      const op = federation
        .hub(caller)
        .newOp({ target: owner, nodeId: node.nodeId, capability: "do", timeoutMs: PROBE_MS - 1_000, keyed: false });
      federation.hub(caller).clients.command(op);
      probes.push(op);
    }
  }
  await federation.run(PROBE_MS);
  return probes;
}

function visible(federation: Federation, owner: number, caller: number, node: Node): boolean {
  const area = areaOf(node);
  return shows(federation.trustOf(owner, caller).share, federation.hub(owner).rules, area) && takes(federation.hub(caller).imports, area);
}
