import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeKind } from "#gen/foedus/common/v1/node_pb.ts";
import { ListNodesRequestSchema, RegisterNodeRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import { start } from "../cli/fixture.ts";
import { Federation } from "../support/federation.ts";
import { until } from "../support/until.ts";
import { foreignPki, hasOpenssl } from "../testca/foreign.ts";

/** What other CAs give to a hub: cert-manager and step-ca sign with ECDSA, and often through an intermediate. */
const HUBS = {
  plain: undefined,
  ecdsa: { ca: "p384", leaf: "p256", intermediate: true, name: "/CN=Corporate Root" },
  edwards: { ca: "ed25519", leaf: "ed25519", keyIds: false },
} as const;
type Id = keyof typeof HUBS;
const IDS = Object.keys(HUBS) as Id[];

describe.skipIf(!hasOpenssl)("certificates of other authorities (skipped without openssl)", () => {
  let federation: Federation;

  beforeAll(async () => {
    const peersOf = (id: Id) => IDS.filter((other) => other !== id).map((hub) => ({ hub }));
    federation = await Federation.prepare({
      hubs: IDS.map((id) => ({ id, mode: id === "edwards" ? "split" : "single", peers: peersOf(id) })),
    });
    for (const id of IDS) {
      const options = HUBS[id];
      const hub = federation.hub(id);
      if (options !== undefined) foreignPki(hub.pkiDir, id, { ...options, ip: hub.host });
      if (id !== "ecdsa") continue;
      // The hub itself is given the root alone; its peers pin the intermediate with it.
      copyFileSync(join(hub.pkiDir, "ca.pem"), join(hub.dir, "root.pem"));
      copyFileSync(join(hub.pkiDir, "chain.pem"), join(hub.pkiDir, "ca.pem"));
      const file = join(hub.dir, "hub.json");
      const config = JSON.parse(readFileSync(file, "utf8")) as { tls: object };
      writeFileSync(file, JSON.stringify({ ...config, tls: { ...config.tls, ca: "root.pem" } }));
    }
    await Promise.all([...federation.hubs.values()].map((hub) => hub.start()));
  }, 120_000);
  afterAll(() => federation?.stop());

  test("F-8 hubs with RSA, ECDSA through an intermediate, and Ed25519 become operational, single and split", async () => {
    await federation.operational(60_000);
  }, 90_000);

  test("F-8 their feeds arrive at each other", async () => {
    for (const id of IDS) {
      const clients = federation.hub(id).clients("gateway-zigbee");
      await clients.registry.registerNode(
        create(RegisterNodeRequestSchema, { node: { nodeId: `lamp-of-${id}`, kind: NodeKind.DEVICE, type: "light" } }),
      );
    }
    for (const id of IDS) {
      const clients = federation.hub(id).clients();
      await until(
        `${id} holding the nodes of all`,
        async () => {
          const { records } = await clients.registry.listNodes(create(ListNodesRequestSchema));
          const held = records.map(({ name }) => name?.nodeId ?? "").sort();
          if (
            held.join() !==
            IDS.map((other) => `lamp-of-${other}`)
              .sort()
              .join()
          )
            throw new Error(held.join());
          return true;
        },
        60_000,
      );
    }
  }, 120_000);

  test("F-25 doctor judges these certificates as the hubs do", async () => {
    for (const id of IDS) {
      const { out, err } = await start(["doctor", "--json"], { cwd: federation.hub(id).dir }).done;
      expect(err).toBe("");
      const { findings } = JSON.parse(out) as { findings: { check: string; severity: string; message: string }[] };
      expect(findings.filter(({ check }) => check === "certificate" || check === "trust")).toEqual([]);
    }
  }, 180_000);
});
