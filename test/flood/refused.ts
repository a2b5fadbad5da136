// A small hub under callers whose every stream is refused, and who keep their half of each open.
import { readFileSync } from "node:fs";
import type { ClientHttp2Session } from "node:http2";
import { methodPath } from "#channel/messages.ts";
import { DiscoveryService } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { Federation } from "../support/federation.ts";
import { endOf, grpcStream, rawH2 } from "../support/raw-h2.ts";
import { rssOf } from "./flood.ts";

/** Flags for small machines, as in the documentation. */
const NODE_OPTIONS = "--max-old-space-size=128";

/** Refused is what became of the hub. */
export interface Refused {
  readonly streams: number;
  readonly statuses: readonly (string | undefined)[];
  /** Most memory of the hub meanwhile, and before the first connection, in MiB. */
  readonly rssMiB: number;
  readonly startMiB: number;
  /** It still answered an operator at the end. */
  readonly served: boolean;
}

/** refusedStreams opens streams on many connections, each from an address of its own, and keeps all connections until the end. */
export async function refusedStreams(connections: number, perConnection: number): Promise<Refused> {
  const federation = await Federation.start({ hubs: [{ id: "home", peers: [], env: { NODE_OPTIONS } }] });
  const home = federation.hub("home");
  const pid = home.pids.get("hub")!;
  const { ca, cert, key } = home.pki("operator-viewer");
  const [caPem, certificatePem, keyPem] = [ca, cert, key].map((file) => readFileSync(file, "utf8")) as [string, string, string];
  const sessions: ClientHttp2Session[] = [];
  const statuses = new Set<string | undefined>();
  const startMiB = Math.round(rssOf(pid));
  let rssMiB = startMiB;
  try {
    for (let i = 0; i < connections; i++) {
      const where = { host: home.host, port: home.basePort, localAddress: `127.77.0.${1 + i}` };
      const session = await rawH2({ ...where, ca: caPem, credential: { certificatePem, keyPem } });
      sessions.push(session);
      // An operator may not say Hello, so each is refused before it has said anything.
      const ends = Array.from({ length: perConnection }, () => endOf(grpcStream(session, methodPath(DiscoveryService.method.hello))));
      for (const { status } of await Promise.all(ends)) statuses.add(status);
      rssMiB = Math.max(rssMiB, Math.round(rssOf(pid)));
    }
    const { peers } = await home.clients().discovery.listPeers({ $typeName: "foedus.discovery.v1alpha1.ListPeersRequest" });
    return { streams: connections * perConnection, statuses: [...statuses], rssMiB, startMiB, served: peers.length === 0 };
  } finally {
    for (const session of sessions) session.destroy();
    await federation.stop();
  }
}
