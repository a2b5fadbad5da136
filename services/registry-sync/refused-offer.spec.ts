import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, expect, test } from "vitest";
import { ListNodesRequestSchema } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { SessionReport } from "#runtime/peers.ts";
import { RegistryClient } from "../../clients/typescript/registry-client.ts";
import { RegistryHub } from "../../test/registry/fixture.ts";
import { until } from "../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../test/testca/index.ts";

let cas: readonly [TestHub, TestHub];
let other: TestHub;
const hubs: RegistryHub[] = [];
beforeAll(async () => {
  cas = await Promise.all([testHub("alpha"), testHub("beta")]);
  other = await cas[1].otherAuthority();
});
afterEach(async () => {
  for (const hub of hubs.splice(0)) {
    await hub.stop();
    hub.remove();
    expect(hub.fatal).toEqual([]);
  }
});

const of = (hub: RegistryHub): SessionReport | undefined => hub.reports[0];
const refusals = (hub: RegistryHub) => hub.events.filter(({ severity, kind }) => severity === "ERROR" && kind === "FEED");

test("F-8 LK4 a feed that is offered under a key that a stranger vouches for: both ends say why nothing is taken, once, and it heals at once", {
  timeout: 30_000,
}, async () => {
  const [a, b] = cas.map((ca) => new RegistryHub(ca)) as [RegistryHub, RegistryHub];
  hubs.push(a, b);
  // TLS shows a good certificate, as alpha dials; the statement is signed by one of another CA that calls itself beta.
  b.identity = other.service();
  await Promise.all([a.start([cas[1]]), b.start([cas[0]])]);
  const gateway = RegistryClient.connect(b.remote(cas[1].gateway("zigbee")));
  await gateway.registerNode({ nodeId: "lamp" });
  a.setPeers([a.viewOf(b)]);
  b.setPeers([b.viewOf(a, { endpoint: undefined })]);

  await until(() => of(a)?.failure?.reason === "FEED_KEY_INVALID" && of(b)?.failure?.reason === "FEED_KEY_INVALID");
  const why = expect.stringMatching(/the feed key statement is not signed|not signed by a CA of beta/);
  expect(of(a)).toMatchObject({ hubId: "beta", state: "SYNCING", synced: false, failure: { message: why } });
  expect(of(b)).toMatchObject({
    hubId: "alpha",
    state: "SYNCING",
    failure: { message: expect.stringContaining("it takes nothing from this hub") },
  });
  // Several offers later it is said no more often.
  const framesIn = (): number => a.module.links?.()[0]?.framesIn ?? 0;
  const before = framesIn();
  await until(() => framesIn() >= before + 2);
  expect(refusals(a)).toMatchObject([
    {
      peer: "beta",
      text: "the peer's feed key is not valid; nothing is taken from it",
      fields: { reason: "FEED_KEY_INVALID", message: why },
    },
  ]);
  expect(framesIn(), "and it is not offered in a loop").toBeLessThan(40);
  const operator = a.local({ kind: "operator" });
  const listed = async () => (await operator.listNodes(create(ListNodesRequestSchema, { filter: { hubIds: ["beta"] } }))).records.length;
  expect(await listed()).toBe(0);

  // Its operator corrects the certificate.
  b.identity = cas[1].service();
  b.setPeers([b.viewOf(a, { endpoint: undefined, wake: 1 })]);
  await until(async () => (await listed()) === 1);
  await until(() => of(a)?.state === "OPERATIONAL" && of(b)?.state === "OPERATIONAL");
  expect([of(a)?.failure, of(b)?.failure]).toEqual([undefined, undefined]);
  gateway.close();
});
