import { LinkState, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { FoedusError } from "#kernel/error.ts";
import type { Federation } from "../federation.ts";
import type { Checker } from "./checker.ts";

const SERVICES = ["command-forwarding", "discovery", "registry-sync"];

/**
 * Links: at rest each hub shows each peer with which it can be linked as OPERATIONAL, with a session of each service that both levels
 * allow; each knows the level that it gives and the one that it is given; and nobody is said to run twice who does not.
 */
export const links: Checker = {
  name: "links",
  async check(federation) {
    const { options, oracle } = federation;
    if (!options.discovery) return;
    for (const { no } of federation.hubs) {
      const peers = await listPeers(federation, no);
      if (peers === undefined) oracle.violate("links", "liveness", `hub-${no} did not answer a listing of its peers`);
      for (const peer of peers ?? []) comparePeer(federation, no, peer);
    }
  },
};

async function listPeers(federation: Federation, no: number): Promise<readonly Peer[] | undefined> {
  let found: readonly Peer[] | undefined;
  federation
    .hub(no)
    .running?.discovery?.operator.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" })
    .then(
      ({ peers }) => {
        found = peers;
      },
      (error: unknown) => {
        if (!(error instanceof FoedusError)) federation.fatal(no, "listing of peers", error);
      },
    );
  await federation.run(0);
  if (found === undefined) await federation.run(2_000);
  return found;
}

function comparePeer(federation: Federation, no: number, peer: Peer): void {
  const { hubIds, network, options, oracle, trace, scheduler } = federation;
  const { hubId, level, levelThere, sessions, copies, ownCopies } = peer;
  const where = `hub-${no}'s link to ${hubId}`;
  if (copies.length > 0 || ownCopies.length > 0)
    oracle.violate("links", "correctness", `${where}: two copies are said to run, at ${[...copies, ...ownCopies].join(" and ")}`);
  const other = hubIds.indexOf(hubId);
  if (network.natted(no) && network.natted(other)) return;
  const [given, got] = [federation.trustOf(no, other).level, federation.trustOf(other, no).level];
  trace.note(scheduler.now, no, "link compared");
  // Who waits for what a liar said that there is more of does not call the link operational.
  if (no === options.hostile || other === options.hostile) return;
  if (level !== given) oracle.violate("links", "liveness", `${where}: its level is ${level} instead of ${given} (${peer.decision})`);
  if (levelThere !== got) oracle.violate("links", "liveness", `${where}: it gives level ${got}, which is taken for ${levelThere}`);
  const wanted = Math.min(given, got) < 2 ? ["discovery"] : SERVICES;
  const up = sessions.filter(({ state, synced }) => state === LinkState.OPERATIONAL && synced).map(({ service }) => service);
  const missing = wanted.filter((service) => !up.includes(service));
  const why = `${Object.keys(LinkState)[peer.state]}, ${up.length}/${wanted.length}, without ${missing.join(" ") || "nothing"}; ${peer.failure?.message ?? "no reason"}`;
  if (peer.state !== LinkState.OPERATIONAL || missing.length > 0)
    oracle.violate("links", "liveness", `${where} is not operational at rest: ${why}`);
}
