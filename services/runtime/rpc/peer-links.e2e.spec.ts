import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterAll, expect, test } from "vitest";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { systemClock } from "#runtime/clock.ts";
import type { PeerView } from "#runtime/peers.ts";
import { createPeerCredentials } from "#runtime/tls/credentials.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { type Fixture, serve, testTokens, tokenFor, until } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import type { CallContext, Outbound, ServiceBinding } from "./call.ts";
import { RawMessage } from "./call.ts";
import { createClient } from "./client.ts";
import { createPeerLinks, type PeerLinks } from "./peer-links.ts";
import { sessionCodec } from "./session-codec.ts";

const SESSION = RegistrySyncService.method.session;

/** bindingOf serves sessions and nothing else of the service. */
function bindingOf(links: () => PeerLinks<SessionFrame>): ServiceBinding {
  const others = RegistrySyncService.methods.map(
    ({ localName }) => [localName, () => Promise.reject(fail("NOT_CONFIGURED", "not in this test"))] as const,
  );
  const session = (requests: AsyncIterable<SessionRequest>, out: Outbound<SessionResponse>, context: CallContext): Promise<void> =>
    links().accept(requests, out, context);
  return { service: RegistrySyncService, handlers: { ...Object.fromEntries(others), session } };
}

interface Hub {
  readonly hub: TestHub;
  readonly fixture: Fixture;
  readonly links: PeerLinks<SessionFrame>;
  readonly identity: Credential;
  readonly events: string[];
  bytes: number;
  frames: number;
}

const running: Hub[] = [];

async function start(hub: TestHub, peer: TestHub): Promise<Hub> {
  const identity = hub.service();
  const tokens = testTokens();
  const box: { links?: PeerLinks<SessionFrame> } = {};
  const fixture = await serve(hub, [peer], { bindings: [bindingOf(() => box.links as PeerLinks<SessionFrame>)], tokens });
  const events: string[] = [];
  const links = createPeerLinks<SessionFrame>({
    service: "registry-sync",
    method: SESSION,
    hubId: hub.hubId,
    incarnation: 1,
    packages: ["foedus.registry_sync.v1alpha1"],
    software: "test",
    clock: systemClock,
    prng: new Prng(hub.hubId.length),
    log: memoryLogger(),
    metrics: new Registry(),
    tokens,
    connect: (view, { windowBytes }) =>
      createClient(RegistrySyncService, {
        flowControlWindowBytes: windowBytes,
        address: `${view.endpoint?.host}:${view.endpoint?.port}`,
        credentials: createPeerCredentials(
          { hubId: view.hubId, name: "hub" },
          { cert: identity.certificatePem, key: identity.keyPem, ca: view.caPems },
          systemClock,
        ),
        clock: systemClock,
      }),
    onUp: (name) => events.push(`up ${name}`),
    onDown: (name, _session, failure) => events.push(`down ${name} ${failure.reason}`),
    onFrame: (_peer, _session, _frame, bytes) => {
      started.bytes += bytes;
      started.frames++;
    },
    backoff: { baseMs: 50, maxMs: 200, factor: 2, jitter: 0.25 },
    times: { settleMs: 50 },
  });
  box.links = links;
  const started: Hub = { hub, fixture, links, identity, events, bytes: 0, frames: 0 };
  running.push(started);
  return started;
}

function viewOf(own: Hub, peer: Hub, more: Partial<PeerView> = {}): PeerView {
  const expiresAtWall = systemClock.wall() + 600_000;
  return {
    hubId: peer.hub.hubId,
    level: 3,
    share: "full",
    endpoint: { host: "127.0.0.1", port: peer.fixture.port, spiffeId: `spiffe://${peer.hub.hubId}/service/hub` },
    token: { jwt: tokenFor(own.hub.hubId, own.identity, expiresAtWall), issuedAtWall: systemClock.wall(), expiresAtWall },
    caPems: [peer.hub.caPem],
    bundleSeq: 1,
    revoked: [],
    minTokenIssuedAtWall: 0,
    terminated: false,
    wake: 0,
    ...more,
  };
}

afterAll(async () => {
  for (const { links } of running) await links.stop(1_000);
  for (const { fixture } of running) await fixture.close();
});

test("S0-1 B0-1 two hubs over mutual TLS: dial each other, settle on one session, carry 64 MiB both ways, survive a cut, say goodbye", {
  timeout: 60_000,
}, async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const [a, b] = [await start(alpha, beta), await start(beta, alpha)];
  a.links.setPeers([viewOf(a, b)]);
  b.links.setPeers([viewOf(b, a)]);
  const agreed = (): boolean =>
    a.links.current("beta") !== undefined && JSON.stringify(a.links.current("beta")?.id) === JSON.stringify(b.links.current("alpha")?.id);
  await until(() => agreed() && a.fixture.server.calls + b.fixture.server.calls === 2);

  const raw = new RawMessage(
    sessionCodec<SessionFrame>(SESSION).encode(
      create(SessionFrameSchema, { frame: { case: "segment", value: { segment: new Uint8Array(200_000).fill(1) } } }),
    ),
  );
  const count = 320;
  let [toB, toA] = [0, 0];
  await until(() => {
    while (toB < count && a.links.writable("beta") && a.links.send("beta", raw)) toB++;
    while (toA < count && b.links.writable("alpha") && b.links.send("alpha", raw)) toA++;
    return a.frames === count && b.frames === count;
  });
  expect(a.bytes).toBe(count * raw.bytes.length);
  expect(b.bytes).toBe(count * raw.bytes.length);
  expect(a.links.status()[0]?.rttMs).toBeGreaterThan(0);
  expect([...a.events, ...b.events].filter((event) => event.startsWith("down"))).toEqual([]);

  a.fixture.server.cut("beta");
  b.fixture.server.cut("alpha");
  await until(() => [...a.events, ...b.events].some((event) => event.startsWith("down")));
  await until(agreed);

  // D-15: less than 2 s from the decision to the end.
  const decidedAt = systemClock.mono();
  a.links.setPeers([viewOf(a, b, { level: 1 })]);
  await until(() => b.events.at(-1) === "down alpha TRUST_TOO_LOW");
  expect(systemClock.mono() - decidedAt).toBeLessThan(2_000);
  a.links.setPeers([viewOf(a, b)]);
  await until(agreed);

  await a.links.stop(5_000);
  await until(() => b.events.at(-1) === "down alpha SHUTTING_DOWN");
  expect(a.links.current("beta")).toBeUndefined();
});
