import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import type { CallOptions } from "#channel/call.ts";
import { RegistrySyncService } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import {
  type SessionFrame,
  SessionFrameSchema,
  type SessionRequest,
  type SessionResponse,
} from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import { fail } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import { showId } from "#kernel/session/rules.ts";
import type { PeerView, SessionReport } from "#runtime/peers.ts";
import { type DuplexPair, duplexPair } from "../../../test/fakes/duplex-pair.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import type { CallContext } from "../rpc/call.ts";
import { createPeerLinks, type PeerLinks, type PeerLinksOptions } from "./peer-links.ts";

type Wire = DuplexPair<SessionRequest, SessionResponse>;
const METHOD = RegistrySyncService.method.session;
const segment = (bytes = 10): SessionFrame =>
  create(SessionFrameSchema, { frame: { case: "segment", value: { segment: new Uint8Array(bytes) } } });

interface Side {
  readonly hubId: string;
  links: PeerLinks<SessionFrame>;
  readonly metrics: Registry;
  readonly events: string[];
  readonly frames: string[];
  readonly heads: string[];
  readonly tokens: string[];
  reports: readonly SessionReport[];
  credits: number;
}

/** World joins the links of several hubs by calls in memory. */
class World {
  readonly clock = new ManualClock();
  readonly log = memoryLogger();
  readonly sides = new Map<string, Side>();
  readonly wires: { readonly wire: Wire; readonly dialer: string; readonly options: CallOptions | undefined; closed: boolean }[] = [];
  /** Dials to nowhere neither succeed nor fail. */
  blackHole = false;
  /** When the certificate that all hubs answer with ends, wall ms. */
  endsAtWall = Number.POSITIVE_INFINITY;
  #seed = 1;

  add(hubId: string, more: Partial<PeerLinksOptions<SessionFrame>> = {}): Side {
    const side: Side = {
      hubId,
      links: undefined as never,
      metrics: new Registry(),
      events: [],
      frames: [],
      heads: [],
      tokens: [],
      reports: [],
      credits: 0,
    };
    side.links = createPeerLinks<SessionFrame>({
      service: "registry-sync",
      method: METHOD,
      hubId,
      incarnation: 7,
      packages: ["foedus.registry_sync.v1alpha1"],
      software: "test",
      clock: this.clock,
      prng: new Prng(this.#seed++),
      log: this.log,
      metrics: side.metrics,
      connect: (view) => {
        // A connection knows the certificate that it was made with.
        const { endsAtWall } = this;
        const session = (options?: CallOptions) => this.#connect(hubId, view, options);
        return { session, endsAtWall: () => endsAtWall, close: () => this.#closed(hubId) };
      },
      tokens: {
        verify: async (token) => {
          side.tokens.push(token);
          if (token === "forged") throw fail("TOKEN_INVALID", "forged");
          return { hubId: token.split("@")[0] ?? "", expiresAtWall: Number(token.split("@")[1]), id: "t" };
        },
      },
      heads: () => [{ hubId, share: "full", epoch: 1n, seq: 42n }],
      onUp: (peer, session, replaced) => side.events.push(`up ${peer} ${showId(session.id)}${replaced === undefined ? "" : " replacing"}`),
      onDown: (peer, _session, failure, willRetry) => side.events.push(`down ${peer} ${failure.reason} ${willRetry}`),
      onFrame: (peer, _session, { frame }) => void side.frames.push(`${peer} ${frame.case}`),
      onHeads: (peer, heads, rttMs) => side.heads.push(`${peer} ${heads[0]?.seq} ${rttMs}`),
      onCredit: () => void side.credits++,
      reporter: {
        report: (reports) => {
          side.reports = reports;
        },
      },
      ...more,
    });
    this.sides.set(hubId, side);
    return side;
  }

  #connect(dialer: string, view: PeerView, options: CallOptions | undefined): Wire["client"] {
    const other = this.sides.get(view.hubId);
    if (this.blackHole) return duplexPair<SessionRequest, SessionResponse>(METHOD, new Promise(() => undefined)).client;
    if (other === undefined) throw fail("PEER_UNREACHABLE", "nothing listens at the address");
    const wire = duplexPair<SessionRequest, SessionResponse>(METHOD);
    this.wires.push({ wire, dialer, options, closed: false });
    const jwt = options?.metadata?.["authorization"]?.slice("Bearer ".length) ?? "";
    const caller = {
      kind: "peer",
      hubId: dialer,
      name: "hub",
      spiffeId: "",
      thumbprint: `leaf-${dialer}`,
      notAfterWall: Infinity,
      level: 3,
      role: 0,
      prefixes: [],
    } as const;
    const context: CallContext = {
      caller,
      method: METHOD,
      signal: new AbortController().signal,
      timeoutMs: undefined,
      token: { expiresAtWall: Number(jwt.split("@")[1]), id: "t" },
    };
    const done = other.links.accept(wire.requests, wire.out, context);
    done.catch(() => undefined);
    wire.serve(done);
    return wire.client;
  }

  #closed(dialer: string): void {
    for (const item of this.wires) if (item.dialer === dialer && item.wire.client.closed) item.closed = true;
  }

  view(hubId: string, peer: string, more: Partial<PeerView> = {}): PeerView {
    const expiresAtWall = this.clock.wall() + 3_600_000;
    return {
      hubId: peer,
      level: 3,
      share: "full",
      endpoint: { host: peer, port: 1, spiffeId: `spiffe://${peer}/service/hub` },
      token: { jwt: `${hubId}@${expiresAtWall}`, issuedAtWall: this.clock.wall(), expiresAtWall },
      caPems: ["ca-1"],
      bundleSeq: 1,
      revoked: [],
      minTokenIssuedAtWall: 0,
      terminated: false,
      wake: 0,
      ...more,
    };
  }

  async turn(): Promise<void> {
    for (let i = 0; i < 8; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      this.clock.turn();
    }
  }

  async pass(ms: number, stepMs = 1_000): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(stepMs, left));
      await this.turn();
    }
  }
}

/** twoHubs: a dials b; b knows a and, unless `both`, cannot dial it. */
async function twoHubs(both = false, more: Partial<PeerLinksOptions<SessionFrame>> = {}): Promise<{ world: World; a: Side; b: Side }> {
  const world = new World();
  const [a, b] = [world.add("a", more), world.add("b", more)];
  b.links.setPeers([world.view("b", "a", both ? {} : { endpoint: undefined })]);
  a.links.setPeers([world.view("a", "b")]);
  await world.turn();
  return { world, a, b };
}

describe("peer links", () => {
  test("S0-1 a hub that can only dial and one that can only be dialled use one session both ways", async () => {
    const { world, a, b } = await twoHubs();
    expect(a.events).toEqual(["up b a/7.1"]);
    expect(b.events).toEqual(["up a a/7.1"]);
    expect(a.links.send("b", segment())).toBe(true);
    expect(b.links.send("a", segment())).toBe(true);
    await world.turn();
    expect(a.frames).toEqual(["b segment"]);
    expect(b.frames).toEqual(["a segment"]);
    expect(a.links.writable("b")).toBe(true);
    expect(a.heads).toEqual(["b 42 -1", "b 42 0"]);
    expect(a.links.describe()).toContain("b OPERATIONAL a/7.1");
    await world.pass(60_000);
    expect(a.heads.length).toBe(10);
    // One session, which has two streams.
    expect(world.wires.length).toBe(2);
  });

  test("PROTOCOL C11 a session is replaced before the certificate ends that the peer answered with, and none is down for it", async () => {
    const world = new World();
    const [a, b] = [world.add("a"), world.add("b")];
    world.endsAtWall = world.clock.wall() + 600_000;
    b.links.setPeers([world.view("b", "a", { endpoint: undefined })]);
    a.links.setPeers([world.view("a", "b")]);
    await world.turn();
    await world.pass(530_000);
    expect(a.events).toEqual(["up b a/7.1"]);
    world.endsAtWall += 600_000;
    await world.pass(70_000);
    expect(a.events).toEqual(["up b a/7.1", "up b a/7.2 replacing"]);
    // The peer does not renew this one: it is asked once.
    await world.pass(600_000);
    expect(a.events.slice(2)).toEqual(["up b a/7.3 replacing"]);
  });

  test("PROTOCOL C11 S-1 a peer that answers with ever other certificates near their end has a session replaced once a minute at most", async () => {
    const world = new World();
    const [a, b] = [world.add("a"), world.add("b")];
    let asked = 0;
    Object.defineProperty(world, "endsAtWall", { get: () => world.clock.wall() + 10_000 + (asked++ % 7) });
    b.links.setPeers([world.view("b", "a", { endpoint: undefined })]);
    a.links.setPeers([world.view("a", "b")]);
    await world.turn();
    await world.pass(300_000);
    const replaced = a.events.filter((event) => event.includes("replacing")).length;
    expect([replaced >= 2, replaced <= 6], String(replaced)).toEqual([true, true]);
  });

  test("S0-6 a link is pinged every 15 s and each ping is answered at once", async () => {
    const { world, a, b } = await twoHubs();
    await world.pass(2_000);
    const told = (): number[] => [a.heads.length, b.heads.length];
    const [first] = [told()];
    await world.pass(11_000);
    expect(told()).toEqual(first);
    for (let minute = 1; minute <= 4; minute++) {
      await world.pass(15_000);
      // Each side pings once and answers once in that time, and both frames carry heads.
      expect(told()).toEqual(first!.map((before) => before + 2 * minute));
    }
    expect([...a.events, ...b.events].filter((event) => event.startsWith("down"))).toEqual([]);
  });

  test("D-17 hubs that dial each other at once settle on the session of the smaller id without losing one", async () => {
    const { world, a, b } = await twoHubs(true, { times: {} });
    a.links.redial();
    await world.pass(20_000);
    expect(a.links.current("b")?.id).toEqual(b.links.current("a")?.id);
    expect([...a.events, ...b.events].filter((event) => event.startsWith("down"))).toEqual([]);
    expect(world.wires.filter(({ wire }) => !wire.client.closed).length).toBe(2);
    expect(a.links.redial("b")).toBeUndefined();
    await world.turn();
    const current = a.links.current("b")?.id;
    expect(current?.n).toBeGreaterThan(1);
    expect(b.links.current("a")?.id).toEqual(current);
    expect([...a.events, ...b.events].filter((event) => event.startsWith("down"))).toEqual([]);
  });

  test("S0-9 sending answers false without a session", async () => {
    const { world, a } = await twoHubs();
    expect(a.links.send("nobody", segment())).toBe(false);
    world.wires[0]?.wire.cut();
    await world.turn();
    expect(a.events.at(-1)).toBe("down b PEER_UNREACHABLE true");
    expect(a.links.send("b", segment())).toBe(false);
    expect(a.links.writable("b")).toBe(false);
    expect(a.links.status()[0]).toMatchObject({ state: "RECOVERING", failure: { reason: "PEER_UNREACHABLE" }, attempts: 1 });
    await world.pass(2_000);
    expect(a.links.status()[0]).toMatchObject({ state: "OPERATIONAL", attempts: 2, session: { n: 2 } });
    expect(a.links.send("b", segment())).toBe(true);
  });

  test("B0-5 a half-open link is found by both and replaced", async () => {
    const { world, a, b } = await twoHubs();
    world.wires[0]?.wire.silence();
    await world.pass(40_000);
    expect(a.events.slice(1)).toEqual(["down b PEER_UNREACHABLE true", "up b a/7.2"]);
    expect(b.links.current("a")?.id.n).toBe(2);
    await world.pass(10_000);
    expect(world.wires[0]?.closed).toBe(true);
  });

  test("S0-8 a dial that hangs is given up after 10 s; S0-7 one that fails is tried again later", async () => {
    const world = new World();
    const a = world.add("a");
    world.blackHole = true;
    a.links.setPeers([world.view("a", "b")]);
    await world.pass(10_000);
    expect(a.links.status()[0]).toMatchObject({ state: "CONNECTING", attempts: 1, failure: { reason: "PEER_UNREACHABLE" } });
    world.blackHole = false;
    await world.pass(120_000);
    expect(a.links.status()[0]?.attempts).toBeGreaterThan(3);
    expect(a.links.status()[0]?.attempts).toBeLessThan(9);
    const attempts = a.links.status()[0]?.attempts ?? 0;
    // D-18: another service heard of the peer.
    const b = world.add("b");
    b.links.setPeers([world.view("b", "a", { endpoint: undefined })]);
    a.links.setPeers([world.view("a", "b", { wake: 1 })]);
    await world.turn();
    expect(a.links.status()[0]).toMatchObject({ state: "OPERATIONAL", attempts: attempts + 1 });
  });

  test("D-15 a level that no longer allows the session ends it at once, on both sides", async () => {
    const { world, a, b } = await twoHubs();
    b.links.setPeers([world.view("b", "a", { level: 1, endpoint: undefined })]);
    await world.turn();
    expect(b.events.at(-1)).toBe("down a TRUST_TOO_LOW false");
    expect(a.events.at(-1)).toBe("down b TRUST_TOO_LOW true");
    expect(b.links.status()[0]?.failure?.reason).toBe("TRUST_TOO_LOW");
  });

  test("S0-4 each frame is authorised by the level of now", async () => {
    const { world, a, b } = await twoHubs(false, { times: { minLevel: 1 } });
    b.links.setPeers([world.view("b", "a", { level: 1, endpoint: undefined })]);
    expect(a.links.current("b")).toBeDefined();
    a.links.send("b", segment());
    await world.turn();
    expect(b.frames).toEqual([]);
    expect(b.events.at(-1)).toBe("down a TRUST_TOO_LOW false");
    expect(a.events.at(-1)).toMatch(/^down b TRUST_TOO_LOW/);
  });

  test.each([
    ["a CA of the peer", { caPems: ["ca-2"] }],
    ["the peer's leaf", { revoked: ["leaf-a"] }],
    ["the peer's tokens", { minTokenIssuedAtWall: 1_900_000_000_000 }],
  ])("D-15 withdrawing %s ends its sessions and lets it prove itself again", async (_what, change) => {
    const { world, b } = await twoHubs();
    b.links.setPeers([world.view("b", "a", { endpoint: undefined, ...change })]);
    await world.turn();
    expect(b.events.at(-1)).toBe("down a UNKNOWN_IDENTITY false");
    await world.pass(3_000);
    expect(b.events.at(-1)).toBe("up a a/7.2");
  });

  test("a renewed token is passed on; without one the session ends 30 s after the old", async () => {
    const { world, a, b } = await twoHubs();
    const short = world.clock.wall() + 60_000;
    const token = (jwt: string, expiresAtWall: number) => ({ token: { jwt, issuedAtWall: 0, expiresAtWall } });
    a.links.setPeers([world.view("a", "b", token(`a@${short}`, short))]);
    a.links.setPeers([world.view("a", "b", token(`forged`, short + 3_600_000))]);
    await world.turn();
    expect(b.tokens).toEqual(["forged"]);
    a.links.setPeers([world.view("a", "b", token(`forged`, short + 3_700_000))]);
    await world.turn();
    // F-31: said once, as what it is, and without a stack.
    const said = world.log.lines.filter(({ message }) => message.startsWith("renewed token"));
    expect(said.map(({ level }) => level)).toEqual(["info", "debug"]);
    expect(said.every(({ fields }) => "failure" in fields && !("err" in fields))).toBe(true);
    expect(b.events).toEqual(["up a a/7.1"]);
    const later = world.clock.wall() + 7_200_000;
    a.links.setPeers([world.view("a", "b", token(`a@${later}`, later))]);
    await world.turn();
    expect(b.tokens).toEqual(["forged", "forged", `a@${later}`]);
    await world.pass(7_200_000 + 29_000, 15_000);
    expect(b.events).toEqual(["up a a/7.1"]);
    await world.pass(2_000);
    expect(b.events.at(-1)).toBe("down a TOKEN_EXPIRED false");
    expect(a.links.status()[0]?.state).toBe("RECOVERING");
    // Without a valid token it does not dial.
    await world.pass(60_000);
    expect(a.links.status()[0]?.attempts).toBe(1);
  });

  test("D-4 termination by an operator holds until the peer is enabled again", async () => {
    const { world, a, b } = await twoHubs();
    for (let i = 0; i < 2; i++) a.links.setPeers([world.view("a", "b", { terminated: true })]);
    await world.turn();
    expect(b.events.at(-1)).toBe("down a TERMINATED false");
    await world.pass(300_000, 10_000);
    expect(a.links.status()).toMatchObject([{ hubId: "b", state: "TERMINATED", attempts: 1 }]);
    a.links.setPeers([world.view("a", "b", { terminated: true })]);
    await world.turn();
    expect(a.links.status()[0]?.state).toBe("TERMINATED");
    a.links.setPeers([world.view("a", "b")]);
    await world.turn();
    expect(a.links.status()[0]?.state).toBe("OPERATIONAL");
    a.links.setPeers([]);
    await world.turn();
    expect(a.links.status()).toEqual([]);
    expect(b.events.at(-1)).toBe("down a PEER_NOT_FOUND false");
  });

  test("D-11 a new address is dialled and replaces the session without a gap", async () => {
    const { world, a, b } = await twoHubs();
    a.links.setPeers([world.view("a", "b", { endpoint: { host: "elsewhere", port: 2, spiffeId: "spiffe://b/service/hub" } })]);
    await world.turn();
    expect(a.events).toEqual(["up b a/7.1", "up b a/7.2 replacing"]);
    expect(b.events).toEqual(["up a a/7.1", "up a a/7.2 replacing"]);
    expect(world.wires[0]?.closed).toBe(true);
    expect(world.wires[2]?.options?.metadata?.["authorization"]).toMatch(/^Bearer a@/);
  });

  test("D-13 a token for a renewed certificate is dialled with, and replaces the session that rests on the old one", async () => {
    const { world, a, b } = await twoHubs();
    const later = world.clock.wall() + 3_600_000;
    const bound = (thumbprint: string) => {
      const claims = Buffer.from(JSON.stringify({ cnf: { "x5t#S256": thumbprint } })).toString("base64url");
      return { token: { jwt: `a@${later}@.${claims}.`, issuedAtWall: 0, expiresAtWall: later } };
    };
    a.links.setPeers([world.view("a", "b", bound("old"))]);
    await world.turn();
    a.links.setPeers([world.view("a", "b", bound("old"))]);
    await world.turn();
    expect(a.events).toEqual(["up b a/7.1"]);
    a.links.setPeers([world.view("a", "b", bound("new"))]);
    await world.turn();
    expect(a.events).toEqual(["up b a/7.1", "up b a/7.2 replacing"]);
    expect(b.events).toEqual(["up a a/7.1", "up a a/7.2 replacing"]);
    // F-31: the session that it cannot be for does not get it.
    expect(b.tokens).toEqual([]);
    expect(world.wires[2]?.options?.metadata?.["authorization"]).toBe(`Bearer ${bound("new").token.jwt}`);
  });

  test("S0-12 stop says SHUTTING_DOWN, and cuts who does not finish within the grace", async () => {
    const { world, a, b } = await twoHubs();
    const stopped = a.links.stop(10_000);
    await world.turn();
    await stopped;
    expect(b.events.at(-1)).toBe("down a SHUTTING_DOWN false");
    const other = await twoHubs();
    other.world.wires[0]?.wire.silence();
    let over = false;
    const late = other.a.links.stop(1_000).then(() => {
      over = true;
    });
    await other.world.turn();
    expect(over).toBe(false);
    await other.world.pass(1_000);
    await late;
    expect(over).toBe(true);
  });

  test("reports and status say how each link stands", async () => {
    const { world, a, b } = await twoHubs(false, { synchronises: true });
    expect(b.reports).toMatchObject([
      { hubId: "a", service: "registry-sync", state: "SYNCING", dialer: "a", synced: false, failure: undefined },
    ]);
    const heard = b.reports[0]?.heard ?? 0;
    expect(heard).toBeGreaterThan(0);
    b.links.synced("a");
    await world.pass(16_000);
    expect(b.links.status()[0]?.lastFrameAgeMs).toBeLessThanOrEqual(1_000);
    // What a ping tells is told with what else comes within five seconds.
    await world.pass(5_000);
    expect(b.reports).toMatchObject([{ state: "OPERATIONAL", synced: true, rttMs: 0 }]);
    expect(b.reports[0]?.heard).toBeGreaterThan(heard);
    a.links.disconnect("b", { reason: "OVERLOADED", message: "too much" });
    await world.turn();
    expect(b.reports).toMatchObject([{ state: "RECOVERING", synced: false, dialer: "", failure: { reason: "OVERLOADED" } }]);
  });

  test("D-21 a slow service is told from a dead peer by credit", async () => {
    const gate = Promise.withResolvers<void>();
    const { world, a, b } = await twoHubs(false, { windowBytes: 64 * 1024, onFrame: () => gate.promise });
    let sent = 0;
    while (a.links.send("b", segment(10_000))) sent++;
    await world.pass(90_000);
    expect(sent).toBeLessThan(16);
    expect(a.links.writable("b")).toBe(false);
    expect(a.links.counters("mirror")).toMatchObject([
      { peer: "b", mount: "mirror", waiting: true, backpressure: 1, lastEvent: "operational" },
    ]);
    expect([...a.events, ...b.events].filter((event) => event.startsWith("down"))).toEqual([]);
    gate.resolve();
    await world.turn();
    expect(a.links.writable("b")).toBe(true);
    expect(a.credits).toBeGreaterThan(0);
  });

  test("metrics show configured peers only, and forget them", async () => {
    const { world, a } = await twoHubs();
    a.links.send("b", segment());
    await world.turn();
    const text = await a.metrics.metrics();
    expect(text).toContain('foedus_session_state{service="registry-sync",peer="b"} 4');
    expect(text).toMatch(/foedus_session_frames_total\{service="registry-sync",peer="b",direction="out"\} [1-9]/);
    expect(text).toMatch(/foedus_session_bytes_total\{service="registry-sync",peer="b",direction="in"\} [1-9]/);
    expect(text).toContain('foedus_session_reconnects_total{service="registry-sync",peer="b"} 0');
    expect(text).toContain('foedus_session_rtt_seconds{service="registry-sync",peer="b"} 0');
    a.links.setPeers([]);
    await world.turn();
    expect(await a.metrics.metrics()).not.toContain('peer="b"');
  });

  test("a caller that is not a known peer is sent away", async () => {
    const { world, b } = await twoHubs();
    const stranger = world.add("stranger");
    stranger.links.setPeers([world.view("stranger", "b")]);
    await world.turn();
    expect(stranger.events).toEqual([]);
    expect(stranger.links.status()[0]?.failure?.reason).toBe("PEER_NOT_FOUND");
    expect(b.links.status().length).toBe(1);
  });
});
