// What two hubs have between them: the sessions of services, all through one port.
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { ListPeersRequestSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { ListLinkCountersRequestSchema } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { type Clients, Federation, until } from "../../test/support/federation.ts";
import { loadHubConfig, type RunningHub, startHub } from "./index.ts";
import { withSessions } from "./services.ts";

const running: RunningHub[] = [];
let federation: Federation | undefined;
let clients: Clients | undefined;

afterEach(async () => {
  clients?.close();
  await Promise.all(running.splice(0).map((hub) => hub.stop()));
  await federation?.stop();
});

test("S3-3 S3-29 link, mirror and invoke are three sessions between two hubs, and share one port", async () => {
  federation = await Federation.prepare({
    logLevel: "error",
    hubs: [
      // Only home dials, so that all there is between the two is at the factory's door.
      { id: "home", reachable: false, peers: [{ hub: "factory" }] },
      { id: "factory", peers: [{ hub: "home" }] },
    ],
  });
  const [home, factory] = [federation.hub("home"), federation.hub("factory")];
  for (const { dir } of [factory, home]) running.push(await startHub({ ...loadHubConfig({ file: join(dir, "hub.json") }), runs: "hub" }));
  const { discovery, telemetry } = (clients = home.clients());
  const peer = await until("the link", async () => {
    const { peers } = await discovery.listPeers(create(ListPeersRequestSchema));
    return peers[0]?.state === LinkState.OPERATIONAL && peers[0];
  });
  const mounts = await until("frames on all of them", async () => {
    const { links } = await telemetry.listLinkCounters(create(ListLinkCountersRequestSchema));
    return links.length === withSessions().length && links.every(({ framesIn, framesOut }) => framesIn > 0n && framesOut > 0n) && links;
  });
  expect(mounts.map(({ peer, service, mount }) => `${peer} ${service} ${mount}`)).toEqual(
    expect.arrayContaining(["factory command-forwarding invoke", "factory discovery link", "factory registry-sync mirror"]),
  );
  const up = peer.sessions.filter(({ state, dialer }) => state === LinkState.OPERATIONAL && dialer === "home");
  expect(up.map(({ service }) => service).sort()).toEqual(withSessions().sort());
  expect([...new Set(peer.endpoints.map(({ host, port }) => `${host}:${port}`))]).toEqual([`${factory.host}:${factory.basePort}`]);
}, 40_000);
