import { X509Certificate } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { ClientOf } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { systemEntropy } from "#channel/entropy.ts";
import { createPeerCredentials } from "#channel/tls/peer-credentials.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import {
  DiscoveryService,
  GetPeerRequestSchema,
  HelloRequestSchema,
  ReportSessionsRequestSchema,
  SetPeerEnabledRequestSchema,
  WatchPeersRequestSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { LinkState, type Peer } from "#gen/foedus/discovery/v1alpha1/peer_pb.ts";
import { type Failure, FoedusError } from "#kernel/error.ts";
import { sleep } from "#runtime/clock.ts";
import type { EventReport } from "#runtime/events.ts";
import type { PeerSource } from "#runtime/peers.ts";
import { createClient } from "#runtime/rpc/client/client.ts";
import { createLocalClient } from "#runtime/rpc/client/local-client.ts";
import { createRpcServer, type RpcServer } from "#runtime/rpc/server/server.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { JwtVerifier } from "#runtime/tokens/verify.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { type Credential, type TestHub, testHub } from "../../test/testca/index.ts";
import { Flow } from "../hub/flow.ts";
import { type DiscoveryConfig, discoveryConfigOf } from "./config.ts";
import { createDiscovery, type Discovery } from "./module.ts";
import { type Federation, parseFederation } from "./sources/federation.ts";

/** One running hub: discovery, its server over mutual TLS, and a process that watches it as a service would. */
interface Running {
  readonly pki: TestHub;
  readonly discovery: Discovery;
  readonly server: RpcServer;
  readonly events: EventReport[];
  readonly lines: readonly { readonly message: string; readonly fields: object }[];
  readonly store: MemoryStore;
  readonly metrics: Registry;
  readonly operator: ClientOf<typeof DiscoveryService>;
  readonly service: ClientOf<typeof DiscoveryService>;
  /** Peers as a service of the process that watches sees them. */
  readonly feed: PeerSource;
  readonly flow: Flow;
  port: number;
  credential: Credential;
  stop(): Promise<void>;
}

const der = (credential: Credential): Uint8Array => new X509Certificate(credential.certificatePem).raw;
const running: Running[] = [];
let pki: Record<"a" | "b" | "c", TestHub>;

beforeAll(async () => {
  pki = { a: await testHub("a"), b: await testHub("b"), c: await testHub("c") };
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((hub) => hub.stop()));
});

async function start(
  own: TestHub,
  federation: Federation,
  more: { config?: Partial<DiscoveryConfig>; dialOnly?: boolean; store?: MemoryStore; incarnation?: number } = {},
): Promise<Running> {
  const events: EventReport[] = [];
  const log = memoryLogger();
  const store = more.store ?? new MemoryStore();
  const metrics = new Registry();
  const hub: { port: number; credential: Credential } = { port: 0, credential: own.service() };
  const material = () => ({ cert: hub.credential.certificatePem, key: hub.credential.keyPem });
  const flow: Flow = new Flow({
    hubId: own.hubId,
    services: ["registry-sync"],
    leaf: () => der(hub.credential),
    own: () => [new X509Certificate(own.caPem)],
    discovery: () => service,
    server: () => server,
    onKeySet: (jwks) => verifier.setKeySet(jwks),
    onCas: () => server.rotate({ ...material(), ca: [own.caPem, ...authority.pems()] }),
    onOwnRevoked: () => undefined,
    clock: systemClock,
    log,
  });
  const { authority } = flow;
  const verifier: JwtVerifier = new JwtVerifier({ hubId: own.hubId, clock: systemClock, authority });
  const config = { ...discoveryConfigOf([]).parse(undefined), backoff_base_ms: 20, backoff_max_ms: 100, ...more.config };
  const fatal = Promise.withResolvers<never>();
  fatal.promise.catch(() => undefined);
  const discovery = createDiscovery({
    platform: {
      hubId: own.hubId,
      clock: systemClock,
      entropy: systemEntropy,
      log,
      metrics,
      events: { report: (event) => void events.push(event) },
      incarnation: more.incarnation ?? 1,
      packages: ["foedus.discovery.v1alpha1", "foedus.registry_sync.v1alpha1"],
      software: `test-${own.hubId}`,
      dataDir: "",
      store: () => store,
    },
    config,
    federation,
    ports: {
      dialPeer: ({ address, hubId, caPems }) =>
        createClient(DiscoveryService, {
          address: `${address.host}:${address.port}`,
          credentials: createPeerCredentials({ hubId }, { ...material(), ca: caPems }, systemClock),
          clock: systemClock,
        }),
      ownEndpoints: () =>
        more.dialOnly ? [] : [{ service: "discovery", host: "127.0.0.1", port: hub.port, spiffeId: `spiffe://${own.hubId}/service/hub` }],
      ownLeaf: () => der(hub.credential),
      tokens: verifier,
    },
    onFatal: (error) => fatal.reject(error),
  });
  const [binding] = discovery.bindings;
  const local = (kind: "service" | "operator") =>
    createLocalClient(DiscoveryService, binding!, {
      caller: {
        kind,
        hubId: own.hubId,
        name: "test",
        spiffeId: `spiffe://${own.hubId}/${kind}/test`,
        thumbprint: "",
        notAfterWall: Number.MAX_SAFE_INTEGER,
        level: 0,
        role: 2,
        prefixes: [],
      },
      clock: systemClock,
      log,
      ids: systemEntropy,
    });
  const service: ClientOf<typeof DiscoveryService> = local("service");
  const credentials = createServerCredentials({ ...material(), ca: [own.caPem] });
  const server: RpcServer = createRpcServer({
    bindings: discovery.bindings,
    credentials,
    authority,
    tokens: verifier,
    metrics: new Registry(),
    log,
    clock: systemClock,
    ids: systemEntropy,
  });
  const feed = flow.peers("registry-sync");
  hub.port = await server.listen("127.0.0.1", 0);
  await discovery.start();
  flow.start();
  await until(() => feed.synced === true);
  const made: Running = Object.assign(hub, {
    pki: own,
    discovery,
    server,
    events,
    lines: log.lines,
    store,
    metrics,
    operator: local("operator"),
    service,
    feed,
    flow,
    stop: async () => {
      flow.stop();
      await discovery.stop(100);
      await server.drain(0);
    },
  });
  running.push(made);
  return made;
}

/** federation says who the peers are; a number is a port on loopback. */
function federation(own: TestHub, peers: readonly { hub: TestHub; port?: number; max_trust?: string }[]): Federation {
  const list = peers.map(({ hub, port, max_trust = "limited" }) => ({
    hub_id: hub.hubId,
    ca: hub.caPem,
    max_trust,
    ...(port === undefined ? {} : { host: "127.0.0.1", port }),
  }));
  return parseFederation(JSON.stringify({ peers: list }), { hubId: own.hubId });
}

/** until waits for something to hold; when it does not, it says how the hubs stand. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = systemClock.mono() + 8_000;
  while (!(await holds())) {
    if (systemClock.mono() > end)
      throw new Error(
        `still waiting:\n${running.map(({ discovery, events }) => `${discovery.describe()}\n${events.map(({ text }) => text).join("\n")}`).join("\n\n")}`,
      );
    await sleep(systemClock, 2);
  }
}

async function peerOf(hub: Running, hubId: string): Promise<Peer> {
  return (await hub.operator.getPeer(create(GetPeerRequestSchema, { hubId }))).peer!;
}

const reaches = (hub: Running, hubId: string, state: LinkState) => until(async () => (await peerOf(hub, hubId)).state === state);
const setEnabled = (hub: Running, hubId: string, enabled: boolean) =>
  hub.operator.setPeerEnabled(create(SetPeerEnabledRequestSchema, { hubId, enabled }));

async function failureOf(call: Promise<unknown>): Promise<Failure> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof FoedusError)) throw new Error("the call should have failed with a FoedusError", { cause: error });
  return error.failure;
}

/** stranger calls a hub's discovery with any certificate. */
function stranger(to: Running, credential: Credential): ClientOf<typeof DiscoveryService> {
  const material = { cert: credential.certificatePem, key: credential.keyPem, ca: [to.pki.caPem] };
  return createClient(DiscoveryService, {
    address: `127.0.0.1:${to.port}`,
    credentials: createPeerCredentials({ hubId: to.pki.hubId }, material, systemClock),
    clock: systemClock,
  });
}

/** pair starts b, which can be dialled, and a, which only dials out. */
async function pair(config: Partial<DiscoveryConfig> = {}): Promise<{ a: Running; b: Running }> {
  const b = await start(pki.b, federation(pki.b, [{ hub: pki.a }]), { config });
  const a = await start(pki.a, federation(pki.a, [{ hub: pki.b, port: b.port, max_trust: "full" }]), { config, dialOnly: true });
  await Promise.all([reaches(a, "b", LinkState.OPERATIONAL), reaches(b, "a", LinkState.OPERATIONAL)]);
  return { a, b };
}

describe("two hubs over mutual TLS", { timeout: 20_000 }, () => {
  test("S0-4 S1-28 S4-15 B0-1 a hub that only dials out and one that is dialled become operational, each level explained", async () => {
    const { a, b } = await pair();
    const there = await peerOf(a, "b");
    expect(there.decision).toBe("FULL: 2 of 2 needed methods hold (certificate, operator-pin) and the operator's ceiling is FULL");
    expect(there).toMatchObject({ level: 3, levelThere: 2, software: "test-b", attempts: 0 });
    const here = await peerOf(b, "a");
    expect(here.decision).toContain("LIMITED: 2 of 2 needed methods hold");
    expect(here).toMatchObject({ level: 2, endpoints: [], software: "test-a" });
    expect(here.sessions).toMatchObject([{ service: "discovery", state: LinkState.OPERATIONAL, dialer: "a" }]);
    expect(Math.abs(Number(there.clockSkewMs))).toBeLessThan(1_000);
    expect(b.events.filter(({ kind }) => kind === "TRUST_DECIDED").map(({ text }) => text)).toEqual([
      expect.stringContaining("trust in a is LIMITED"),
    ]);
    const text = await a.metrics.metrics();
    expect(text).toContain('foedus_discovery_peers{state="operational"} 1');
    expect(text).toContain('foedus_discovery_hello_total{direction="out",result="ok"} 1');
    expect(text).toContain('foedus_discovery_trust_level{peer="b"} 3');
    expect(a.discovery.describe()).toContain("b OPERATIONAL level=FULL");
  });

  test("S1-28 a link above MINIMAL also needs the sessions of the other services, synchronised", async () => {
    const { a } = await pair();
    const report = (state: LinkState, synced: boolean) =>
      a.service.reportSessions(
        create(ReportSessionsRequestSchema, {
          service: "registry-sync",
          reports: [{ hubId: "b", session: { service: "registry-sync", state, synced } }],
        }),
      );
    await report(LinkState.CONNECTING, false);
    expect((await peerOf(a, "b")).state).toBe(LinkState.RECOVERING);
    await report(LinkState.OPERATIONAL, true);
    expect((await peerOf(a, "b")).state).toBe(LinkState.OPERATIONAL);
  });

  test("tokens are refreshed at half life and pushed to the watching service", async () => {
    const { a } = await pair({ token_ttl_ms: 1_000 });
    const tokenOf = () => a.feed.current()[0]?.token;
    const first = tokenOf()!;
    expect(first.expiresAtWall - first.issuedAtWall).toBe(1_000);
    await until(() => (tokenOf()?.issuedAtWall ?? 0) >= first.issuedAtWall + 900);
    expect((await peerOf(a, "b")).state).toBe(LinkState.OPERATIONAL);
    const text = await a.metrics.metrics();
    expect(text).toContain('foedus_discovery_hello_total{direction="out",result="ok"} 1');
  });

  test("B0-2 a Hello with another hub's id is refused", async () => {
    const { b } = await pair();
    const client = stranger(b, pki.a.service());
    const failure = await failureOf(client.hello(create(HelloRequestSchema, { hubId: "c", packages: ["foedus.discovery.v1alpha1"] })));
    expect(failure.reason).toBe("IDENTITY_MISMATCH");
    expect(b.events.some(({ kind, text }) => kind === "ACCESS_REFUSED" && text.includes("not the hub_id in the message"))).toBe(true);
    client.close();
  });

  test("B0-2 a certificate for another hub's name, and a hub that nobody configured, are refused", async () => {
    const { b } = await pair();
    b.discovery.setFederation(federation(b.pki, [{ hub: pki.a }, { hub: pki.c }]));
    await until(() => b.feed.current().length === 2);
    const forger = stranger(b, pki.c.impersonating("a"));
    expect(
      (await failureOf(forger.hello(create(HelloRequestSchema, { hubId: "a", packages: ["foedus.discovery.v1alpha1"] })))).reason,
    ).toBe("FOREIGN_CA");
    forger.close();
    b.discovery.setFederation(federation(b.pki, [{ hub: pki.a }]));
    await until(() => b.feed.current().length === 1);
    const unknown = stranger(b, pki.c.service());
    const failure = await failureOf(
      unknown.hello(create(HelloRequestSchema, { hubId: "c", packages: ["foedus.discovery.v1alpha1"] }), { timeoutMs: 2_000 }),
    );
    expect(["PEER_UNREACHABLE", "UNKNOWN_IDENTITY", "DEADLINE_EXPIRED"]).toContain(failure.reason);
    unknown.close();
  });

  test("a leaf of another hub, of a node, or of a foreign CA gets no token, and that is an event", async () => {
    const { b } = await pair();
    const client = stranger(b, pki.a.service());
    const good = pki.a.service("registry-sync");
    const leaves = [good, pki.c.service(), pki.a.node(), pki.c.impersonating("a"), pki.a.expired()].map(der);
    const answer = await client.hello(
      create(HelloRequestSchema, { hubId: "a", packages: ["foedus.discovery.v1alpha1"], leaves: [...leaves, new Uint8Array([1, 2])] }),
    );
    expect(answer.tokens.map(({ thumbprint }) => thumbprint)).toEqual([thumbprintOf(new X509Certificate(good.certificatePem))]);
    expect(b.events.filter(({ kind, text }) => kind === "ACCESS_REFUSED" && text.startsWith("no token for"))).toHaveLength(5);
    expect(JSON.stringify([b.events, b.lines])).not.toContain(answer.tokens[0]!.jwt);
    client.close();
  });

  test("D-4 D-15 a terminated link is ended on both sides, idempotently, and comes back when enabled", async () => {
    const { a, b } = await pair();
    expect((await setEnabled(b, "a", false)).peer!.state).toBe(LinkState.TERMINATED);
    expect((await setEnabled(b, "a", false)).peer!.state).toBe(LinkState.TERMINATED);
    await reaches(a, "b", LinkState.RECOVERING);
    expect(b.feed.current()[0]).toMatchObject({ terminated: true, token: undefined });
    expect((await setEnabled(b, "a", true)).peer!.state).not.toBe(LinkState.TERMINATED);
    await setEnabled(b, "a", true);
    await setEnabled(a, "b", false);
    await setEnabled(a, "b", true);
    await Promise.all([reaches(a, "b", LinkState.OPERATIONAL), reaches(b, "a", LinkState.OPERATIONAL)]);
  });

  test("a restart keeps peers, levels and the keys: tokens of before stay valid", async () => {
    const { b } = await pair();
    const keySet = b.discovery.keySet();
    await b.stop();
    running.splice(running.indexOf(b), 1);
    const again = await start(pki.b, federation(pki.b, [{ hub: pki.a }]), { store: b.store.crash("process"), incarnation: 2 });
    expect(again.discovery.keySet()).toBe(keySet);
    expect(await peerOf(again, "a")).toMatchObject({ level: 2, software: "test-a" });
    expect(again.feed.current()).toMatchObject([{ hubId: "a", level: 2 }]);
  });

  test("a new certificate is introduced with a Hello and the session moves to it without going down", async () => {
    const { a, b } = await pair();
    const before = a.feed.current()[0]!.token!;
    const session = a.discovery.sessions()[0]!.session!;
    a.credential = pki.a.service();
    a.discovery.leafChanged();
    a.flow.restart();
    await until(() => (a.feed.current()[0]?.token?.issuedAtWall ?? 0) > before.issuedAtWall);
    await until(() => (a.discovery.sessions()[0]?.session?.n ?? 0) > session.n);
    expect((await peerOf(b, "a")).state).toBe(LinkState.OPERATIONAL);
    expect(a.events.filter(({ fields }) => fields?.["to"] === "RECOVERING")).toEqual([]);
  });

  test("D-10 rotated keys are pushed to watchers before they sign", async () => {
    const { b } = await pair();
    const pushed: string[] = [];
    const stop = new AbortController();
    const watch = b.service.watchPeers(create(WatchPeersRequestSchema, { service: "telemetry", leaf: der(b.credential) }), {
      signal: stop.signal,
    });
    const first = Promise.withResolvers<void>();
    const reading = (async () => {
      for await (const { push } of watch) {
        if (push.case === "jwks") pushed.push(push.value);
        if (push.case === "synced") first.resolve();
      }
    })().catch(() => undefined);
    await first.promise;
    await b.discovery.rotateKeys();
    await until(() => pushed.length === 2);
    expect(JSON.parse(pushed[1]!).keys).toHaveLength(2);
    expect(JSON.stringify(b.lines)).not.toContain('"d":');
    stop.abort();
    await reading;
  });

  test("D-6 D-12 S0-7 a dead peer delays nothing: the hub is ready, other peers become operational, and the dead one is retried", async () => {
    const b = await start(pki.b, federation(pki.b, [{ hub: pki.a }]));
    const a = await start(
      pki.a,
      federation(pki.a, [
        { hub: pki.c, port: 1 },
        { hub: pki.b, port: b.port },
      ]),
      { dialOnly: true },
    );
    expect(a.discovery.readiness()).toEqual({ ready: true });
    await reaches(a, "b", LinkState.OPERATIONAL);
    await until(async () => (await peerOf(a, "c")).attempts >= 2);
    expect((await peerOf(a, "c")).failure).toBeDefined();
  });

  test("S0-23 without a federation the hub runs, and a certificate of another hub is no leaf to watch with", async () => {
    const a = await start(pki.a, federation(pki.a, []));
    expect(a.discovery.readiness()).toEqual({ ready: true });
    expect(a.feed.current()).toEqual([]);
    const watch = a.service.watchPeers(create(WatchPeersRequestSchema, { service: "telemetry", leaf: der(pki.b.service()) }));
    expect((await failureOf(watch[Symbol.asyncIterator]().next())).reason).toBe("INVALID_FIELD");
    expect((await failureOf(peerOf(a, "b"))).reason).toBe("PEER_NOT_FOUND");
  });
});
