// A hub and a gateway with a network between them that holds back the bytes of a connection that was cut, and delivers them later.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { get, stateOf } from "../support/acts.ts";
import { Federation, type HubProcess, until } from "../support/federation.ts";
import { Relay } from "../support/relay.ts";

describe("a network that delivers the bytes of a cut connection late", () => {
  let federation: Federation;
  let hub: HubProcess;
  let relay: Relay;
  let registry: RegistryClient;
  let close: () => void;

  beforeAll(async () => {
    federation = await Federation.start({ hubs: [{ id: "home", peers: [] }] });
    hub = federation.hub("home");
    const at = { host: hub.host, port: hub.basePort + 50 };
    relay = await Relay.listen(at, { host: hub.host, port: hub.basePort });
    const pki = hub.pki("gateway-zigbee");
    const [ca, cert, key] = [pki.ca, pki.cert, pki.key].map((file) => readFileSync(file, "utf8")) as [string, string, string];
    const client = createClient(RegistrySyncService, {
      address: `${at.host}:${at.port}`,
      credentials: createPeerCredentials({ hubId: "home", name: "hub" }, { ca: [ca], cert, key }, systemClock),
      clock: systemClock,
    });
    registry = RegistryClient.connect(client);
    close = () => client.close();
  }, 60_000);

  afterAll(async () => {
    registry?.close();
    close?.();
    await relay?.close();
    await federation?.stop();
  });

  const shown = async (nodeId: string): Promise<unknown> => stateOf(await get(hub.clients(), "home", nodeId), "count");
  /** settled resolves when the hub has read and done what it was sent before, on whichever connection: it turned its loop several times. */
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await registry.registerNode({ nodeId: "other", type: `turn-${i}` });
  };

  test("F-28 what was acknowledged stays, also after SIGKILL and a restart, when the bytes of the cut connection come at last", async () => {
    const capabilities = [{ name: "count", type: ValueType.DOUBLE, readable: true }];
    await registry.registerAll([{ nodeId: "late", type: "meter", capabilities }]);
    const updater = registry.updater();
    updater.set("late", "count", 1);
    await updater.drain();
    const held = relay.hold();
    updater.set("late", "count", 5);
    await until("the bytes on the way", () => held.bytes > 0);
    // For the client the connection is cut; for the hub it is there, and silent.
    held.cut();
    updater.set("late", "count", 10);
    await updater.drain();
    expect(await shown("late")).toBe(10);
    await held.release();
    await settled();
    expect(await shown("late")).toBe(10);
    await hub.end("SIGKILL");
    await hub.start();
    expect(await shown("late")).toBe(10);
    updater.set("late", "count", 11);
    await updater.drain();
    expect(await shown("late")).toBe(11);
  }, 60_000);
});
