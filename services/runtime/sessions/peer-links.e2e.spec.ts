import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterAll, expect, test } from "vitest";
import { type Outbound, RawMessage } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { failureFromProto } from "#channel/failure.ts";
import { methodPath } from "#channel/messages.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import type { SessionControl } from "#gen/foedus/common/v1/session_pb.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { type Failure, fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import type { PeerView } from "#runtime/peers.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { bearer, type Fixture, serve, testTokens, tokenFor, until } from "../../../test/rpc/fixture.ts";
import { endOf, grpcMessage, grpcStream, rawH2 } from "../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import type { CallContext, ServiceBinding } from "../rpc/call.ts";
import { createClient } from "../rpc/client/client.ts";
import { createPeerLinks, type PeerLinks } from "./peer-links.ts";
import { sessionCodec } from "./session-codec.ts";
import type { ControlInit } from "./session-stream.ts";

const SESSION = RegistrySyncService.method.session;
const PACKAGES = ["foedus.registry_sync.v1alpha1"];
const codec = sessionCodec<SessionFrame>(SESSION);
const controlBytes = (frame: ControlInit): Buffer => codec.encode(codec.control({ frame }));
const segmentBytes = (bytes: number): Buffer =>
  codec.encode(create(SessionFrameSchema, { frame: { case: "segment", value: { segment: new Uint8Array(bytes).fill(1) } } }));
const JUNK = Buffer.from([0xff, 0xff]);

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
    packages: PACKAGES,
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

  const raw = new RawMessage(segmentBytes(200_000));
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

test("H2-1 H2-2 the acceptor acts upon nothing behind bytes that are no frame, in the same DATA frame, and says why it ends", async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const b = await start(beta, alpha);
  const credential = alpha.service();
  b.links.setPeers([{ ...viewOf(b, b), hubId: "alpha", endpoint: undefined, token: undefined }]);
  const h2 = await rawH2({ port: b.fixture.port, credential, ca: beta.caPem });
  const stream = grpcStream(h2, methodPath(SESSION), bearer(tokenFor("alpha", credential)).metadata);
  const end = endOf(stream);
  const heard: Buffer[] = [];
  stream.on("data", (bytes: Buffer) => heard.push(bytes));
  const open = { hubId: "alpha", incarnation: 1n, n: 1n, packages: PACKAGES, credit: 1_000_000 };
  stream.write(grpcMessage(controlBytes({ case: "open", value: open })));
  stream.write(grpcMessage(controlBytes({ case: "ping", value: { n: 1n } })));
  await until(() => b.events.includes("up alpha"));
  stream.write(Buffer.concat([JUNK, segmentBytes(1), segmentBytes(2), segmentBytes(3)].map((bytes) => grpcMessage(bytes))));
  expect((await end).status).toBe("3");
  expect(b.events).toEqual(["up alpha", "down alpha INVALID_FIELD"]);
  expect(b.frames).toBe(0);
  expect(Buffer.concat(heard).includes("are not a valid foedus.registry_sync.v1alpha1.SessionRequest")).toBe(true);
  h2.destroy();
});

test("H2-1 H2-2 the dialer acts upon nothing behind bytes that are no frame, and says why it ends before it leaves", async () => {
  const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  const told: Failure[] = [];
  const acceptor = async (requests: AsyncIterable<SessionRequest>, out: Outbound<SessionResponse>): Promise<void> => {
    const say = (...all: Buffer[]): void => {
      for (const bytes of all) out.send(new RawMessage(bytes));
    };
    const take = ({ frame }: SessionControl): void => {
      const value = { hubId: "beta", packages: PACKAGES, credit: 1_000_000 };
      if (frame.case === "open")
        say(controlBytes({ case: "open", value: { ...value, incarnation: frame.value.incarnation, n: frame.value.n } }));
      if (frame.case === "ping") say(JUNK, segmentBytes(1), segmentBytes(2), segmentBytes(3));
      if (frame.case === "terminated" && frame.value.failure !== undefined) told.push(failureFromProto(frame.value.failure));
    };
    for await (const { frame } of requests) if (frame?.frame.case === "control") take(frame.frame.value);
  };
  const binding = bindingOf(() => ({ accept: acceptor }) as unknown as PeerLinks<SessionFrame>);
  const fixture = await serve(beta, [alpha], { bindings: [binding], tokens: testTokens() });
  const a = await start(alpha, beta);
  a.links.setPeers([viewOf(a, { ...a, hub: beta, fixture })]);
  await until(() => told.length > 0);
  expect(told.map(({ reason }) => reason)).toEqual(["INVALID_FIELD"]);
  expect(a.events).toEqual(["up beta", "down beta INVALID_FIELD"]);
  expect(a.frames).toBe(0);
  await fixture.close();
});
