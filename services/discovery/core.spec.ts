import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GetPeerResponseSchema } from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { Prng } from "#kernel/prng.ts";
import type { LinkState } from "#kernel/session/rules.ts";
import { decodeRecord, peerToProto, recordCodec } from "./codec.ts";
import { DiscoveryCore } from "./core.ts";
import type { Effect, Input, Introduction, PeerInfo, PeerSpec } from "./messages.ts";
import { decide, weigh } from "./peers/evidence.ts";
import { LEGAL, linkState, pathTo } from "./peers/link.ts";
import { PEER_SPACE } from "./peers/peer-table.ts";
import type { CoreConfig } from "./settings.ts";

const WALL = 1_800_000_000_000;
const CONFIG: CoreConfig = {
  hubId: "a",
  packageName: "foedus.discovery.v1alpha1",
  minimumEvidence: 2,
  verificationPeriodMs: 86_400_000,
  backoff: { baseMs: 2_000, maxMs: 60_000, factor: 2, jitter: 0.25 },
  expects: ["registry-sync"],
  leafDelayMs: 100,
  reintroduceMs: 60_000,
  releasedAtWall: WALL - 1_000,
  clockRetryMs: 5_000,
  skewWarnMs: 60_000,
};
/** What a hub with the services of CONFIG speaks. */
const PACKAGES = [CONFIG.packageName, "foedus.registry_sync.v1alpha1"];
const LEAF = { thumbprint: "leaf-of-a", der: new Uint8Array([1]) };
const LOST: Failure = { reason: "PEER_UNREACHABLE", message: "nobody answers" };
const B: PeerSpec = {
  hubId: "b",
  addresses: [{ host: "b.example", port: 18_800 }],
  cas: [{ pem: "CA of b", digest: "d1" }],
  revoked: [],
  maxTrust: 2,
  share: "limited",
};

function from(hubId: string, more: Partial<Introduction> = {}): Introduction {
  const endpoints = [{ service: "discovery", host: `${hubId}.example`, port: 18_800, spiffeId: `spiffe://${hubId}/service/hub` }];
  return { hubId, incarnation: 1, software: "1.0", packages: PACKAGES, endpoints, wallMs: WALL, ...more };
}

/** Bench drives a core by hand and writes what goes in and comes out as text. */
class Bench {
  readonly core: DiscoveryCore;
  readonly lines: string[] = [];
  readonly stored = new Map<string, Uint8Array>();
  effects: Effect[] = [];
  mono = 0;
  skew = 0;

  constructor(config: Partial<CoreConfig> = {}, stored?: ReadonlyMap<string, Uint8Array>) {
    this.core = new DiscoveryCore({ config: { ...CONFIG, ...config }, prng: new Prng(1), codec: recordCodec });
    this.core.restore([...(stored ?? [])].map(([hubId, bytes]) => [hubId, decodeRecord(bytes)!] as const));
  }

  get now() {
    return { mono: this.mono, wall: WALL + this.mono + this.skew };
  }

  step(input: Input): Effect[] {
    this.lines.push(`> ${show(input)}`);
    return this.#run((out) => this.core.step(this.now, input, out));
  }

  /** until moves time on, ticking whenever the core asks for it. */
  advance(ms: number): Effect[] {
    const end = this.mono + ms;
    const all: Effect[] = [];
    for (let due = this.core.deadline(); due !== undefined && due <= end; due = this.core.deadline()) {
      this.mono = Math.max(this.mono, due);
      this.lines.push(`+ ${Math.round(this.mono)} ms`);
      all.push(...this.#run((out) => this.core.tick(this.now, out)));
    }
    this.mono = end;
    return all;
  }

  draw(): void {
    this.lines.push(
      ...this.core
        .describe()
        .split("\n")
        .map((line) => `| ${line}`),
    );
  }

  /** start configures peers and one watching service that takes its pushes at once. */
  start(...peers: PeerSpec[]): Effect[] {
    return [...this.step({ kind: "federation", peers }), ...this.step({ kind: "watch", watch: 1, services: ["discovery"], leaf: LEAF })];
  }

  attempt(kind: "hello" | "refresh" = "hello"): number {
    const call = this.effects.findLast((effect) => effect.kind === kind);
    if (call?.kind !== kind) throw new Error(`no ${kind} is under way`);
    return call.attempt;
  }

  answer(peer = "b", expiresInMs = 3_600_000, more: Partial<Introduction> = {}): Effect[] {
    const tokens = [{ thumbprint: LEAF.thumbprint, jwt: `jwt-${this.mono}`, expiresInMs }];
    return this.step({
      kind: "hello_answered",
      peer,
      attempt: this.attempt(),
      from: from(peer, { wallMs: this.now.wall, ...more }),
      tokens,
      level: 2,
    });
  }

  sessions(service: string, state: LinkState, synced: boolean, heard = 0, failure?: Failure): Effect[] {
    return this.step({
      kind: "sessions",
      service,
      reports: [{ hubId: "b", session: { service, state, dialer: "a", rttMs: 4, synced, failure, heard } }],
    });
  }

  #run(work: (out: Effect[]) => void): Effect[] {
    const out: Effect[] = [];
    work(out);
    this.effects.push(...out);
    for (const effect of out) {
      this.lines.push(`  ${show(effect)}`);
      if (effect.kind === "persist")
        for (const op of effect.ops) {
          if (op.op === "put" && op.space === PEER_SPACE) this.stored.set(op.key, op.bytes);
          if (op.op === "delete") this.stored.delete(op.key);
        }
      if (effect.kind === "push")
        out.push(...this.#run((more) => this.core.step(this.now, { kind: "watch_ready", watch: effect.watch }, more)));
    }
    return out;
  }
}

function show(value: Input | Effect): string {
  switch (value.kind) {
    case "persist":
      return `persist ${value.ops.map((op) => `${op.op} ${"key" in op ? op.key : ""}`).join(", ")}`;
    case "observe":
      return value.what === "event"
        ? `event ${value.event} ${value.severity}: ${value.text}`
        : `${value.what} ${value.peer} ${value.direction ?? ""} ${value.result ?? ""}`.trimEnd();
    case "push":
      return `push #${value.watch} ${value.pushes
        .map((push) => {
          if (push.kind !== "view") return push.kind === "removed" ? `-${push.hubId}` : "synced";
          const { hubId, level, endpoint, token, terminated, wake } = push.view;
          return `${hubId}(level=${level} at=${endpoint === undefined ? "-" : `${endpoint.host}:${endpoint.port}`} token=${token?.jwt ?? "-"} wake=${wake}${terminated ? " terminated" : ""})`;
        })
        .join(" ")}`;
    case "hello":
    case "refresh":
      return `${value.kind} ${value.peer} at ${value.address.host}:${value.address.port} leaves=${value.leaves.map(({ thumbprint }) => thumbprint).join(",")}`;
    case "federation":
      return `federation ${value.peers.map(({ hubId }) => hubId).join(",")}`;
    case "watch":
      return `watch #${value.watch} ${value.services.join(" ")} ${value.leaf?.thumbprint ?? "-"}`;
    case "sessions":
      return `sessions ${value.service} ${value.reports.map(({ hubId, session }) => `${hubId}:${session.state}${session.synced ? "+synced" : ""}`).join(",")}`;
    case "peers":
      return `peers ${value.peers.map(({ hubId, state }) => `${hubId}:${state}`).join(",")}`;
    case "grant":
      return `grant ${value.peer} level=${value.level} leaves=${value.leaves.join(",")}`;
    case "refuse":
      return `refuse ${value.failure.reason}`;
    case "hello_failed":
    case "refresh_failed":
      return `${value.kind} ${value.peer} ${value.failure.reason}`;
    case "hello_received":
      return `hello_received from ${value.caller} as ${value.from.hubId}`;
    default:
      return `${value.kind}${"peer" in value ? ` ${value.peer ?? "*"}` : ""}${"enabled" in value ? ` ${value.enabled}` : ""}`;
  }
}

const kinds = (effects: readonly Effect[], kind: Effect["kind"]) => effects.filter((effect) => effect.kind === kind);

describe("transcripts", () => {
  test("S1-28 S0-7 coming up, being lost, coming back", async () => {
    const bench = new Bench();
    bench.start(B);
    bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
    bench.advance(2_000);
    bench.mono += 40;
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true, 1);
    bench.sessions("registry-sync", "SYNCING", false, 1);
    bench.sessions("registry-sync", "OPERATIONAL", true, 1);
    bench.draw();
    bench.sessions("discovery", "RECOVERING", false, 1);
    bench.advance(0);
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true, 2);
    bench.draw();
    await expect(`${bench.lines.join("\n")}\n`).toMatchFileSnapshot("testdata/link.txt");
  });

  test("D-4 D-15 termination and tokens", async () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    bench.step({ kind: "set_enabled", call: 7, peer: "b", enabled: false });
    bench.step({ kind: "set_enabled", call: 8, peer: "b", enabled: false });
    bench.step({ kind: "hello_received", call: 9, caller: "b", from: from("b"), leaves: ["x"], refused: [] });
    bench.draw();
    bench.step({ kind: "set_enabled", call: 10, peer: "b", enabled: true });
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true, 1);
    bench.sessions("registry-sync", "OPERATIONAL", true, 1);
    bench.advance(1_800_000);
    bench.step({
      kind: "refresh_failed",
      peer: "b",
      attempt: bench.attempt("refresh"),
      failure: { reason: "TOKEN_INVALID", message: "no" },
    });
    bench.draw();
    await expect(`${bench.lines.join("\n")}\n`).toMatchFileSnapshot("testdata/terminate.txt");
  });

  test("B0-2 S4-2 being greeted by a hub that can only dial", async () => {
    const bench = new Bench();
    bench.start({ ...B, addresses: [] });
    bench.draw();
    bench.step({ kind: "hello_received", call: 1, caller: "b", from: from("c"), leaves: [], refused: [] });
    bench.step({ kind: "hello_received", call: 2, caller: "c", from: from("c"), leaves: [], refused: [] });
    bench.step({
      kind: "hello_received",
      call: 3,
      caller: "b",
      from: from("b", { packages: ["foedus.discovery.v9"] }),
      leaves: [],
      refused: [],
    });
    bench.step({
      kind: "hello_received",
      call: 4,
      caller: "b",
      from: from("b", { endpoints: [] }),
      leaves: ["leaf-of-b"],
      refused: [{ thumbprint: "t", why: "no CA of b signed it" }],
    });
    bench.draw();
    await expect(`${bench.lines.join("\n")}\n`).toMatchFileSnapshot("testdata/greeted.txt");
  });
});

describe("dialling", () => {
  test("S0-7 B0-1 waits grow from 2 s to 60 s and only a finished Hello resets them", () => {
    const bench = new Bench();
    bench.start(B);
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
      const before = bench.mono;
      waits.push(bench.core.deadline()! - before);
      bench.advance(waits.at(-1)!);
    }
    for (const [i, wait] of waits.entries()) {
      const full = Math.min(60_000, 2_000 * 2 ** i);
      expect(wait).toBeGreaterThanOrEqual(full * 0.75);
      expect(wait).toBeLessThanOrEqual(full);
    }
    bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
    expect(bench.core.describe()).toContain("attempts=9");
    bench.advance(60_000);
    bench.answer();
    expect(bench.core.describe()).toContain("attempts=0");
  });

  test("D-18 being heard from wakes one dial and resets nothing", () => {
    const bench = new Bench();
    bench.start(B);
    for (let i = 0; i < 5; i++) {
      bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
      bench.advance(60_000);
    }
    bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
    const out = bench.sessions("registry-sync", "CONNECTING", false, 1);
    expect(kinds(out, "hello")).toHaveLength(1);
    expect(bench.core.describe()).toContain("attempts=6");
    bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
    expect(kinds(bench.sessions("registry-sync", "CONNECTING", false, 2), "hello")).toHaveLength(0);
  });

  test("D-18 news of a higher level wakes the dials of all services, once; the same level again and a lower one wake none", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    const wakes = (level: number): number[] => {
      bench.advance(10_000);
      return bench
        .step({ kind: "announced", peer: "b", level })
        .flatMap((effect) => (effect.kind === "push" ? effect.pushes : []))
        .flatMap((push) => (push.kind === "view" ? [push.view.wake] : []));
    };
    wakes(2);
    expect([wakes(2), wakes(1)]).toEqual([[], []]);
    const [before = 0] = wakes(2);
    expect([wakes(2), wakes(1), wakes(3)]).toEqual([[], [], [before + 1]]);
  });

  test("S2-15 several addresses are tried in turn without waiting in between, and one where another hub answers not again for a time", () => {
    const bench = new Bench();
    const at = (host: string) => ({ host, port: 1 });
    bench.start({ ...B, addresses: [at("one"), at("two"), at("three")] });
    const tried: string[] = [];
    for (let i = 0; i < 6; i++) {
      const hello = bench.effects.findLast((effect) => effect.kind === "hello")!;
      if (hello.kind !== "hello") throw new Error("no hello");
      tried.push(hello.address.host);
      const foreign: Failure = { reason: "UNKNOWN_IDENTITY", message: "another hub", facts: { presented: "spiffe://c/service/hub" } };
      bench.step({ kind: "hello_failed", peer: "b", attempt: hello.attempt, failure: hello.address.host === "two" ? foreign : LOST });
      if (tried.at(-1) === "three") bench.advance(30_000);
    }
    expect(tried).toEqual(["one", "two", "three", "one", "three", "one"]);
  });

  describe("H2-8 an address at which another hub answered", () => {
    const foreign: Failure = { reason: "IDENTITY_MISMATCH", message: "another hub", facts: { presented: "spiffe://c/service/hub" } };
    const at = (host: string) => ({ host, port: 1 });
    /** run answers every Hello for so long; undefined is the answer of the peer itself. Results in when which address was tried. */
    const run = (hosts: string[], minutes: number, reply: (host: string, tries: number) => Failure | undefined) => {
      const bench = new Bench();
      const tried: { readonly host: string; readonly minute: number }[] = [];
      let effects = bench.start({ ...B, addresses: hosts.map(at) });
      for (let minute = 0; minute < minutes; minute++) {
        let hello = effects.find((effect) => effect.kind === "hello");
        while (hello?.kind === "hello") {
          const { host } = hello.address;
          tried.push({ host, minute });
          const failure = reply(host, tried.filter((one) => one.host === host).length);
          if (failure === undefined) effects = bench.answer();
          else effects = bench.step({ kind: "hello_failed", peer: "b", attempt: hello.attempt, failure });
          expect(tried.length).toBeLessThan(10_000);
          hello = effects.find((effect) => effect.kind === "hello");
        }
        effects = bench.advance(60_000);
      }
      return tried;
    };
    const triesOf = (tried: ReturnType<typeof run>, name: string) => tried.filter(({ host }) => host === name).map(({ minute }) => minute);

    test("is tried again as soon as nobody answers at the others", () => {
      const tried = run(["one", "two"], 60, (host, tries) => (host === "one" ? LOST : tries === 1 ? foreign : undefined));
      expect(triesOf(tried, "two")[1]).toBeLessThanOrEqual(2);
    });

    test("is tried again each time after twice as long while the peer answers elsewhere", () => {
      const tried = run(["one", "two", "three"], 1_440, (host) => (host === "one" ? LOST : host === "two" ? foreign : undefined));
      const minutes = triesOf(tried, "two");
      expect(minutes.length).toBeGreaterThan(7);
      for (const [i, minute] of minutes.entries()) expect(minute).toBeGreaterThanOrEqual(2 ** i - 1);
      expect(triesOf(tried, "three").length).toBeGreaterThan(1_000);
    });
  });

  test("no Hello is sent while the clock is not plausible; it is said once and retried", () => {
    const bench = new Bench();
    bench.skew = -WALL;
    const out = [...bench.start(B), ...bench.advance(11_000)];
    expect(kinds(out, "hello")).toEqual([]);
    expect(out.filter((effect) => effect.kind === "observe" && effect.event === "CLOCK")).toHaveLength(1);
    bench.skew = 0;
    expect(kinds(bench.advance(5_000), "hello")).toHaveLength(1);
  });

  test("a late answer to a call that was given up changes nothing", () => {
    const bench = new Bench();
    bench.start(B);
    const attempt = bench.attempt();
    bench.step({ kind: "set_enabled", call: 1, peer: "b", enabled: false });
    bench.step({ kind: "hello_answered", peer: "b", attempt, from: from("b"), tokens: [], level: 3 });
    expect(bench.core.describe()).toContain("b TERMINATED level=none");
  });

  test("a new leaf is offered with a Hello soon; a leaf that the peer refuses is not offered again and again", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true);
    bench.sessions("registry-sync", "OPERATIONAL", true);
    bench.step({ kind: "watch", watch: 2, services: ["registry-sync"], leaf: { thumbprint: "second", der: new Uint8Array([2]) } });
    expect(kinds(bench.advance(99), "hello")).toHaveLength(0);
    const [hello] = kinds(bench.advance(1), "hello");
    expect(hello).toMatchObject({ leaves: [{ thumbprint: "leaf-of-a" }, { thumbprint: "second" }] });
    const out = bench.answer();
    expect(out.some((effect) => effect.kind === "observe" && effect.text?.includes("gave no token for 1 of our certificates"))).toBe(true);
    expect(kinds(bench.advance(600_000), "hello")).toHaveLength(0);
  });
});

describe("trust", () => {
  const at = (certificateAtWall: number, pinnedCas = 1) => weigh({ certificateAtWall, pinnedCas, pinnedAtWall: WALL }, WALL, CONFIG);

  test("S4-2 S4-3 S4-4 S4-5 S4-6 the level is the least of ceiling and evidence, in one sentence", () => {
    expect(decide(at(0), 3, CONFIG)).toEqual({ level: 0, sentence: "none: no handshake yet" });
    expect(decide(at(WALL - 86_400_000), 3, CONFIG)).toEqual({
      level: 0,
      sentence: "none: the last handshake is older than the verification period",
    });
    expect(decide(at(WALL, 0), 3, CONFIG)).toEqual({ level: 1, sentence: "MINIMAL: only 1 of 2 needed methods hold (certificate)" });
    expect(decide(at(WALL), 1, CONFIG).level).toBe(1);
    expect(decide(at(WALL), 2, CONFIG)).toEqual({
      level: 2,
      sentence: "LIMITED: 2 of 2 needed methods hold (certificate, operator-pin) and the operator's ceiling is LIMITED",
    });
    expect(decide(at(WALL), 3, CONFIG).level).toBe(3);
    expect(decide(at(WALL), 3, { ...CONFIG, minimumEvidence: 3 }).level).toBe(1);
  });

  test("S1-33 DI2 DI8 a peer that was proved to have broken a protocol is MINIMAL, also after a restart, until an operator enables it again", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    expect(bench.core.describe()).toContain("level=LIMITED");
    bench.step({ kind: "misconduct", peer: "b", service: "coordination", sentence: "b broke the protocol: it voted twice" });
    bench.step({ kind: "misconduct", peer: "b", service: "coordination", sentence: "and again" });
    bench.step({ kind: "misconduct", peer: "stranger", service: "coordination", sentence: "who is that" });
    const said = "MINIMAL: coordination has a proof: b broke the protocol: it voted twice; an operator gives the trust back";
    expect(bench.core.describe()).toContain(said);
    const record = decodeRecord(bench.stored.get("b")!);
    expect(record.misconduct).toContain("voted twice");
    expect(record.minTokenIssuedAtWall).toBe(bench.now.wall);
    bench.step({ kind: "set_enabled", call: 7, peer: "b", enabled: true });
    bench.advance(1);
    expect(decodeRecord(bench.stored.get("b")!).misconduct).toBeUndefined();
    expect(bench.core.describe()).not.toContain("proof");
  });

  test("S1-33 what a peer did gives it no level that its evidence does not", () => {
    expect(decide(at(0), 3, CONFIG, "it lied").level).toBe(0);
    expect(decide(at(WALL), 3, CONFIG, "it lied")).toEqual({ level: 1, sentence: "MINIMAL: it lied; an operator gives the trust back" });
  });

  test("S4-3 evidence is renewed by a Hello before it lapses, and without one the level falls", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 0);
    bench.sessions("discovery", "OPERATIONAL", true);
    bench.sessions("registry-sync", "OPERATIONAL", true);
    expect(kinds(bench.advance(86_400_000 * 0.9 - 1), "hello")).toHaveLength(0);
    expect(kinds(bench.advance(1), "hello")).toHaveLength(1);
    const out = bench.advance(86_400_000 * 0.1);
    expect(out.some((effect) => effect.kind === "observe" && effect.event === "TRUST_DECIDED" && effect.severity === "WARNING")).toBe(true);
    expect(bench.core.describe()).toContain("level=none");
  });

  test("S4-3 a lowered ceiling counts at once; a withdrawn CA voids tokens and handshake until the hub proves itself again", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    bench.step({ kind: "federation", peers: [{ ...B, maxTrust: 1 }] });
    expect(bench.core.describe()).toContain("level=MINIMAL");
    bench.step({ kind: "federation", peers: [{ ...B, cas: [...B.cas, { pem: "next", digest: "d2" }] }] });
    expect(bench.core.describe()).toContain("level=LIMITED");
    bench.mono += 10;
    const out = bench.step({ kind: "federation", peers: [{ ...B, cas: [{ pem: "next", digest: "d2" }] }] });
    expect(bench.core.describe()).toContain("level=none attempts=0 tokens=0");
    expect(kinds(out, "hello")).toHaveLength(1);
    const push = out.findLast((effect) => effect.kind === "push");
    expect(push).toMatchObject({ pushes: [{ view: { caPems: ["next"], bundleSeq: 3, minTokenIssuedAtWall: WALL + 10 } }] });
  });

  test("F-27 a change of trust while the clock was ahead does not void the tokens of after it was set right", () => {
    const bench = new Bench();
    bench.start(B);
    bench.skew = 365 * 86_400_000;
    bench.step({ kind: "set_enabled", call: 7, peer: "b", enabled: false });
    bench.step({ kind: "set_enabled", call: 8, peer: "b", enabled: true });
    bench.skew = 0;
    bench.mono += 5;
    const out = bench.step({ kind: "hello_received", call: 9, caller: "b", from: from("b"), leaves: ["x"], refused: [] });
    expect(kinds(out, "grant")).toHaveLength(1);
    const told = [...out, ...bench.advance(1_000)].flatMap((effect) => (effect.kind === "push" ? effect.pushes : []));
    const views = told.flatMap((push) => ("view" in push && push.view !== undefined ? [push.view] : []));
    expect(views.at(-1)?.minTokenIssuedAtWall).toBeLessThanOrEqual(WALL + 5);
  });

  test("D-15 a revoked leaf is told to every service and to the next dial at once; an answer that is under way no longer counts", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    const leaf = { thumbprint: "stolen", digest: "0a" };
    const out = bench.step({ kind: "federation", peers: [{ ...B, revoked: [leaf] }] });
    expect(out.findLast((effect) => effect.kind === "push")).toMatchObject({ pushes: [{ view: { hubId: "b", revoked: ["stolen"] } }] });
    expect(kinds(out, "hello")).toMatchObject([{ revoked: ["stolen"] }]);
    expect(out.find((effect) => effect.kind === "observe" && effect.event === "CREDENTIAL")).toMatchObject({
      severity: "WARNING",
      fields: { revoked: "0a" },
    });
    // Another one while the Hello is under way: what the first server says is not listened to any more.
    const again = bench.step({ kind: "federation", peers: [{ ...B, revoked: [leaf, { thumbprint: "other", digest: "0b" }] }] });
    expect(kinds(again, "hello")).toMatchObject([{ revoked: ["stolen", "other"] }]);
    const [first] = kinds(out, "hello");
    const attempt = (first as { attempt: number }).attempt;
    bench.step({ kind: "hello_answered", peer: "b", attempt, from: from("b", { software: "of the thief" }), tokens: [], level: 3 });
    const listed = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
    expect(listed).toMatchObject([{ peers: [{ software: "1.0", caDigests: ["d1"], revokedDigests: ["0a", "0b"] }] }]);
    expect(kinds(bench.step({ kind: "federation", peers: [{ ...B, revoked: [leaf] }] }), "hello")).toEqual([]);
  });

  test("a restart remembers level, endpoints, termination and bundle version; a removed peer is forgotten", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    const again = new Bench({}, bench.stored);
    again.start({ ...B, addresses: [{ host: "moved.example", port: 18_800 }] });
    expect(again.core.describe()).toContain("level=LIMITED");
    const listed = kinds(again.step({ kind: "list", call: 7, peer: "b" }), "peers");
    expect(listed).toMatchObject([{ peers: [{ endpoints: [{ service: "discovery", host: "b.example" }] }] }]);
    bench.step({ kind: "set_enabled", call: 1, peer: "b", enabled: false });
    const off = new Bench({}, bench.stored);
    off.start(B);
    expect(off.core.describe()).toContain("b TERMINATED");
    off.step({ kind: "federation", peers: [] });
    expect(off.stored.size).toBe(0);
    expect(off.core.describe()).toBe("peers=0 watchers=1");
  });

  test("endpoints outside of the peer's own trust domain are ignored, and that is an event", () => {
    const bench = new Bench();
    bench.start(B);
    const out = bench.answer("b", 3_600_000, {
      endpoints: [{ service: "registry-sync", host: "evil", port: 1, spiffeId: "spiffe://c/service/hub" }],
    });
    expect(out.some((effect) => effect.kind === "observe" && effect.event === "ACCESS_REFUSED")).toBe(true);
    expect(JSON.stringify(kinds(out, "push"))).not.toContain("evil");
  });

  test("a clock skew beyond the bound is reported once", () => {
    const bench = new Bench();
    bench.start(B);
    bench.mono += 100;
    const out = bench.answer("b", 3_600_000, { wallMs: WALL + 50 + 61_000 });
    expect(out.filter((effect) => effect.kind === "observe" && effect.event === "CLOCK")).toMatchObject([{ fields: { skew_ms: "61000" } }]);
    expect(bench.core.gauges("b", bench.mono)?.skewMs).toBe(61_000);
  });

  test("a hub that does not say what its clock reads is not told to be decades off", () => {
    const bench = new Bench();
    bench.start(B);
    bench.mono += 100;
    const out = bench.answer("b", 3_600_000, { wallMs: 0 });
    expect(out.filter((effect) => effect.kind === "observe" && effect.event === "CLOCK")).toEqual([]);
    expect(bench.core.gauges("b", bench.mono)?.skewMs).toBe(0);
  });
});

describe("watchers", () => {
  test("DI7 all views first, then synced, then each change once; unchanged views are not sent", () => {
    const bench = new Bench();
    const [first] = kinds(bench.start(B, { ...B, hubId: "c" }), "push");
    expect(first).toMatchObject({
      pushes: [{ view: { hubId: "b", level: 0, caPems: ["CA of b"] } }, { view: { hubId: "c" } }, { kind: "synced" }],
    });
    expect(kinds(bench.step({ kind: "federation", peers: [B, { ...B, hubId: "c" }] }), "push")).toEqual([]);
    expect(kinds(bench.step({ kind: "federation", peers: [B] }), "push")).toMatchObject([{ pushes: [{ kind: "removed", hubId: "c" }] }]);
  });

  test("S1-28 a peer of level MINIMAL needs only discovery's session", () => {
    const bench = new Bench();
    bench.start({ ...B, maxTrust: 1 });
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true);
    expect(bench.core.describe()).toContain("b OPERATIONAL level=MINIMAL");
  });

  test("S1-28 a service of this hub that dies takes its sessions along; one that is back soon does not", () => {
    const bench = new Bench();
    bench.start(B);
    const watch = (id: number): Effect[] => bench.step({ kind: "watch", watch: id, services: ["registry-sync"], leaf: LEAF });
    watch(2);
    bench.answer();
    bench.sessions("discovery", "OPERATIONAL", true);
    bench.sessions("registry-sync", "OPERATIONAL", true);
    bench.step({ kind: "watch_end", watch: 2 });
    bench.advance(4_999);
    watch(3);
    bench.advance(10_000);
    expect(bench.core.describe()).toContain("b OPERATIONAL");
    bench.step({ kind: "watch_end", watch: 3 });
    bench.advance(5_000);
    expect(bench.core.describe()).toContain("b RECOVERING");
  });

  test("a session that is refused for its token leads to a new Hello, not to a storm of them", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer();
    const refused: Failure = { reason: "TOKEN_INVALID", message: "no such key" };
    bench.sessions("discovery", "CONNECTING", false, 0, refused);
    for (let i = 0; i < 5; i++) bench.sessions("discovery", "CONNECTING", false, 0, refused);
    expect(kinds(bench.advance(1_999), "hello")).toHaveLength(0);
    expect(kinds(bench.advance(1), "hello")).toHaveLength(1);
  });
});

describe("link states", () => {
  test("DI6 S1-28 the path between any two derived states is legal", () => {
    const bool = fc.boolean();
    const facts = fc.record({ enabled: bool, dialable: bool, helloing: bool, introduced: bool, up: bool, wasUp: bool });
    fc.assert(
      fc.property(fc.array(facts, { maxLength: 30 }), (list) => {
        let state: LinkState = "INIT";
        let wasUp = false;
        for (const given of list) {
          // As in the core: `wasUp` stays until the operator ends the link.
          wasUp = given.enabled && (wasUp || given.up);
          const goal = linkState({ ...given, wasUp });
          for (const next of pathTo(state, goal)) {
            expect(LEGAL[state]).toContain(next);
            state = next;
          }
          expect(state).toBe(goal);
        }
      }),
      { seed: 7, numRuns: 500 },
    );
  });

  test("DI1 DI3 DI6 any sequence of inputs keeps transitions legal, Hellos single, and the level below the ceiling", () => {
    const op = fc.nat({ max: 11 });
    fc.assert(
      fc.property(fc.array(fc.tuple(op, fc.nat({ max: 70_000 })), { maxLength: 60 }), (ops) => {
        const bench = new Bench();
        bench.start(B);
        let [n, enabled] = [0, true];
        for (const [what, ms] of ops) {
          const pending = bench.effects.findLast((effect) => effect.kind === "hello");
          const attempt = pending?.kind === "hello" ? pending.attempt : 0;
          n++;
          if (what === 2) enabled = !enabled;
          if (what === 0) bench.answer();
          else if (what === 1) bench.step({ kind: "hello_failed", peer: "b", attempt, failure: LOST });
          else if (what === 2) bench.step({ kind: "set_enabled", call: n, peer: "b", enabled });
          else if (what === 3) bench.sessions("discovery", "OPERATIONAL", true, n);
          else if (what === 4) bench.sessions("discovery", "RECOVERING", false, n);
          else if (what === 5) bench.sessions("registry-sync", ms % 2 === 0 ? "OPERATIONAL" : "SYNCING", ms % 2 === 0, n);
          else if (what === 6) bench.step({ kind: "hello_received", call: n, caller: "b", from: from("b"), leaves: [], refused: [] });
          else if (what === 7)
            bench.step({ kind: "federation", peers: ms % 5 === 0 ? [] : [{ ...B, maxTrust: ((ms % 3) + 1) as 1 | 2 | 3 }] });
          else if (what === 8)
            bench.step({
              kind: "watch",
              watch: 2 + n,
              services: ["registry-sync"],
              leaf: { thumbprint: `leaf-${n}`, der: new Uint8Array() },
            });
          else bench.advance(ms);
        }
        let state: LinkState | undefined = "INIT";
        let open: number | undefined;
        for (const effect of bench.effects) {
          if (effect.kind === "observe" && effect.what === "peer_added") state = "INIT";
          if (effect.kind === "observe" && effect.event === "LINK_STATE" && effect.fields?.["to"] !== undefined) {
            expect(effect.fields["from"]).toBe(state);
            expect(LEGAL[state!]).toContain(effect.fields["to"]);
            state = effect.fields["to"] as LinkState;
          }
          if (effect.kind === "hello") {
            expect(effect.attempt).toBeGreaterThan(open ?? 0);
            open = effect.attempt;
            expect(state).not.toBe("TERMINATED");
          }
          if (effect.kind === "push")
            for (const push of effect.pushes) if (push.kind === "view") expect(push.view.level).toBeLessThanOrEqual(3);
        }
      }),
      { seed: 11, numRuns: 300 },
    );
  });
});

describe("what a peer says of itself", () => {
  const many = Array.from({ length: 2_600 }, (_, i) => ({
    service: `s${i}`,
    host: "b.example",
    port: 18_800,
    spiffeId: "spiffe://b/service/hub",
  }));
  const own = from("b").endpoints;
  const endpointsOf = (bench: Bench) => {
    const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
    return (answer as { peers: readonly PeerInfo[] }).peers[0]!.endpoints;
  };

  test("S-9 endpoints are bounded and shaped in an answer as in a call, and in a table that was stored before they were", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 3_600_000, { endpoints: [...own, ...many] });
    expect(endpointsOf(bench).length).toBe(16);
    const odd = ["", "a b", "\u001b[31m", "x".repeat(300), "[::1"].map((host) => ({ ...own[0]!, host }));
    const names = ["", "Hub", "a/b", "\u202e"].map((service) => ({ ...own[0]!, service }));
    bench.step({
      kind: "hello_received",
      call: 1,
      caller: "b",
      from: from("b", { endpoints: [...odd, ...names] }),
      leaves: [],
      refused: [],
    });
    expect(endpointsOf(bench)).toEqual([]);
    const poisoned = decodeRecord(bench.stored.get("b")!)!;
    const bytes = recordCodec.encode({ ...poisoned, endpoints: many, software: "x".repeat(10_000), lastGood: { host: "a b", port: 1 } });
    const again = new Bench({}, new Map([["b", bytes]]));
    again.start(B);
    expect(endpointsOf(again).length).toBe(16);
    const [answer] = kinds(again.step({ kind: "list", call: 8, peer: "b" }), "peers");
    expect((answer as { peers: readonly PeerInfo[] }).peers[0]!.software.length).toBe(63);
  });

  test("a peer that was just added may not know us yet: that is no warning before ten seconds, and then one; a known one warns at once", () => {
    const failures = (bench: Bench, times: number): string[] => {
      for (let i = 0; i < times; i++) {
        bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: LOST });
        bench.advance(20_000);
      }
      return bench.lines.flatMap((line) => /event CREDENTIAL (INFO|WARNING): Hello to b/.exec(line)?.[1] ?? []);
    };
    const fresh = new Bench();
    fresh.start(B);
    expect(failures(fresh, 6)).toEqual(["INFO", "WARNING"]);
    const known = new Bench({}, new Map(fresh.stored));
    known.start(B);
    expect(failures(known, 3)).toEqual(["WARNING"]);
  });

  test("S-9 F-8 tokens that expire at once, and renewals that are refused, do not make calls tighter than the backoff", () => {
    for (const life of [1, 50, 900, 3_999]) {
      const bench = new Bench();
      bench.start(B);
      let calls = 0;
      let seen = 0;
      // An answer takes 100 ms.
      for (let ms = 0; ms < 600_000; ms += 100) {
        bench.advance(100);
        const fresh = bench.effects.slice(seen);
        seen = bench.effects.length;
        for (const effect of fresh) {
          if (effect.kind !== "hello" && effect.kind !== "refresh") continue;
          calls++;
          const tokens = [{ thumbprint: LEAF.thumbprint, jwt: "j", expiresInMs: life }];
          const { peer, attempt } = effect;
          if (effect.kind === "hello") bench.step({ kind: "hello_answered", peer, attempt, from: from("b"), tokens, level: 2 });
          else bench.step({ kind: "refresh_failed", peer, attempt, failure: { reason: "TOKEN_INVALID", message: "no" } });
        }
      }
      // Waits of 2, 4, 8 … 60 s: some fifteen in ten minutes, and at most as many refreshes before them.
      expect(calls, `tokens of ${life} ms`).toBeLessThan(40);
    }
  });

  test("F-17 a token that expired without renewal is withdrawn from the services, without another input", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 60_000);
    bench.advance(30_001);
    const out = bench.advance(30_000);
    const views = kinds(out, "push").flatMap((push) => (push as { pushes: readonly { view?: { token: unknown } }[] }).pushes);
    expect(views.at(-1)?.view?.token).toBe(undefined);
    expect(views.length).toBeGreaterThan(0);
  });

  test("S1-28 no session is dialled, waited for or shown of a service that the peer has not, until it says that it has", () => {
    const bench = new Bench({ expects: ["registry-sync", "of-tomorrow"] });
    const shown = (): PeerInfo => {
      const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
      return (answer as { peers: readonly PeerInfo[] }).peers[0]!;
    };
    const dialled = (): unknown => {
      const watched = bench.step({ kind: "watch", watch: 2, services: ["of-tomorrow"], leaf: LEAF });
      bench.step({ kind: "watch_end", watch: 2 });
      return kinds(watched, "push").flatMap((push) => (push as { pushes: readonly { view?: { endpoint: unknown } }[] }).pushes)[0]?.view
        ?.endpoint;
    };
    bench.start(B);
    bench.answer("b", 3_600_000, { endpoints: [] });
    for (const service of ["discovery", "registry-sync"]) bench.sessions(service, "OPERATIONAL", true, 1);
    bench.sessions("of-tomorrow", "DISCOVERING", false);
    expect(shown().state).toBe("OPERATIONAL");
    expect(shown().sessions.map(({ service }) => service)).toEqual(["discovery", "registry-sync"]);
    expect(dialled()).toBe(undefined);

    // It was upgraded: its next Hello says so.
    const packages = [...PACKAGES, "foedus.of_tomorrow.v1alpha1"];
    bench.step({ kind: "hello_received", call: 9, caller: "b", from: from("b", { packages, endpoints: [] }), leaves: ["x"], refused: [] });
    expect(shown().state).not.toBe("OPERATIONAL");
    expect(dialled()).toMatchObject({ host: "b.example" });
    bench.sessions("of-tomorrow", "OPERATIONAL", true, 1);
    expect(shown().state).toBe("OPERATIONAL");
  });

  test("S1-28 a session that stands is shown and counts for the link, whatever the peer says that it has", () => {
    const bench = new Bench();
    const shown = (): PeerInfo => {
      const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
      return (answer as { peers: readonly PeerInfo[] }).peers[0]!;
    };
    bench.start(B);
    bench.answer("b", 3_600_000, { packages: [CONFIG.packageName, "foedus.registry_sync."] });
    bench.sessions("discovery", "OPERATIONAL", true, 1);
    bench.sessions("registry-sync", "SYNCING", false, 1);
    expect(shown()).toMatchObject({ state: "RECOVERING", sessions: [{ service: "discovery" }, { service: "registry-sync" }] });
    bench.sessions("registry-sync", "OPERATIONAL", true, 1);
    expect(shown()).toMatchObject({ state: "OPERATIONAL", sessions: [{ service: "discovery" }, { service: "registry-sync" }] });
    // It does not have it, as it said, and nothing is to be had of it any more.
    bench.sessions("registry-sync", "RECOVERING", false, 1);
    expect(shown()).toMatchObject({ state: "OPERATIONAL", sessions: [{ service: "discovery" }] });
  });

  test("S1-28 nor is one waited for of a service that is newer than this discovery, if the peer has not got it", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 3_600_000);
    for (const service of ["discovery", "registry-sync"]) bench.sessions(service, "OPERATIONAL", true, 1);
    bench.sessions("of-tomorrow", "DISCOVERING", false);
    const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
    expect((answer as { peers: readonly PeerInfo[] }).peers[0]).toMatchObject({ state: "OPERATIONAL" });
  });

  test("F-8 why nothing is taken over a link that stands is said of the peer, and no more when it is", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 3_600_000);
    bench.sessions("discovery", "OPERATIONAL", true, 1);
    bench.sessions("registry-sync", "OPERATIONAL", true, 1);
    const shown = (): PeerInfo => {
      const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
      return (answer as { peers: readonly PeerInfo[] }).peers[0]!;
    };
    expect(shown()).toMatchObject({ state: "OPERATIONAL", failure: undefined });
    const refused: Failure = { reason: "FEED_KEY_INVALID", message: "the feed key statement is malformed" };
    bench.sessions("registry-sync", "SYNCING", false, 1, refused);
    expect(shown().state).not.toBe("OPERATIONAL");
    expect(shown().failure).toEqual(refused);
    bench.sessions("registry-sync", "OPERATIONAL", true, 1);
    expect(shown()).toMatchObject({ state: "OPERATIONAL", failure: undefined });
    // A session that was lost and comes back is no refusal: nobody stops waiting for it.
    bench.sessions("registry-sync", "RECOVERING", false, 1, LOST);
    expect(shown().failure).toBe(undefined);
  });

  test("F-3 any clock reading can be shown", () => {
    const bench = new Bench();
    bench.start(B);
    bench.answer("b", 3_600_000, { wallMs: -(2 ** 63) });
    const [answer] = kinds(bench.step({ kind: "list", call: 7, peer: "b" }), "peers");
    const [info] = (answer as { peers: readonly PeerInfo[] }).peers;
    expect(toBinary(GetPeerResponseSchema, create(GetPeerResponseSchema, { peer: peerToProto(info!) })).length).toBeGreaterThan(10);
  });

  test("F-24 a peer without a configured address is not dialled, whatever it advertises", () => {
    const bench = new Bench();
    bench.start({ ...B, addresses: [] });
    bench.step({ kind: "hello_received", call: 1, caller: "b", from: from("b"), leaves: [], refused: [] });
    const out = bench.advance(3_600_000);
    expect(kinds(bench.effects, "hello")).toEqual([]);
    const views = [...bench.effects, ...out].filter((effect) => effect.kind === "push").flatMap((push) => push.pushes);
    expect(views.filter((push) => push.kind === "view" && push.view.endpoint !== undefined)).toEqual([]);
  });

  test("F-24 an address that neither the operator nor the peer names any more is not dialled", () => {
    const bench = new Bench();
    bench.start(B);
    bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: { reason: "PEER_UNREACHABLE", message: "no" } });
    const elsewhere = [{ ...own[0]!, host: "elsewhere.example" }];
    bench.step({ kind: "hello_received", call: 1, caller: "b", from: from("b", { endpoints: elsewhere }), leaves: [], refused: [] });
    for (let i = 0; i < 4 && !bench.effects.some((e) => e.kind === "hello" && e.address.host === "elsewhere.example"); i++) {
      bench.advance(70_000);
      if (bench.effects.findLast((e) => e.kind === "hello")?.address.host !== "elsewhere.example")
        bench.step({ kind: "hello_failed", peer: "b", attempt: bench.attempt(), failure: { reason: "PEER_UNREACHABLE", message: "no" } });
    }
    bench.answer("b", 3_600_000, { endpoints: elsewhere });
    expect(bench.effects.findLast((e) => e.kind === "hello")?.address.host).toBe("elsewhere.example");
    const before = bench.effects.length;
    bench.step({ kind: "hello_received", call: 2, caller: "b", from: from("b", { endpoints: [] }), leaves: [], refused: [] });
    bench.advance(3_600_000);
    const dialled = bench.effects.slice(before).flatMap((e) => (e.kind === "hello" || e.kind === "refresh" ? [e.address.host] : []));
    expect(dialled.length).toBeGreaterThan(0);
    expect(new Set(dialled)).toEqual(new Set(["b.example"]));
  });
});

describe("two copies of a hub", () => {
  const meet = (bench: Bench, run: string, incarnation: number): Effect[] => {
    bench.mono += 1_000;
    const address = `10.0.0.${incarnation}`;
    return bench.step({
      kind: "hello_received",
      call: 1,
      caller: "b",
      address,
      from: from("b", { run, incarnation }),
      leaves: [],
      refused: [],
    });
  };
  const errors = (out: Effect[]) => out.filter((effect) => effect.kind === "observe" && effect.severity === "ERROR");

  test("F-23 a peer whose runs go back and forth is named, with both addresses, once, and is told so itself", () => {
    const bench = new Bench();
    bench.start(B);
    const out = [meet(bench, "aa", 4), meet(bench, "bb", 5), meet(bench, "aa", 4), meet(bench, "bb", 5), meet(bench, "aa", 4)];
    expect(out.slice(0, 4).flatMap(errors)).toEqual([]);
    expect(errors(out[4]!)).toMatchObject([
      {
        event: "SESSION",
        peer: "b",
        text: expect.stringContaining("two copies of hub b run: at 10.0.0.4 (start 4) and at 10.0.0.5 (start 5)"),
      },
    ]);
    expect(errors(meet(bench, "bb", 5))).toEqual([]);
    const copies = ["10.0.0.4 (start 4)", "10.0.0.5 (start 5)"];
    expect(kinds(meet(bench, "aa", 4), "grant")).toMatchObject([{ copies }]);
    expect(bench.core.gauges("b", bench.mono)).toMatchObject({ copies: 2, ownCopies: 0 });
    const [listed] = kinds(bench.step({ kind: "list", call: 2, peer: "b" }), "peers");
    expect(listed).toMatchObject({ peers: [{ copies, ownCopies: [] }] });
  });

  test("F-23 clones that were started at the same time have one incarnation, and are told apart by their runs", () => {
    const bench = new Bench();
    bench.start(B);
    const out = ["aa", "bb", "aa", "bb", "aa"].flatMap((run) => meet(bench, run, 5));
    expect(errors(out)).toHaveLength(1);
  });

  test("F-23 a hub of the version before, which sends no run, is told apart by its incarnation", () => {
    const bench = new Bench();
    bench.start(B);
    expect(errors([4, 5, 4, 5, 4].flatMap((incarnation) => meet(bench, "", incarnation)))).toHaveLength(1);
  });

  test("F-23 what a peer says of copies of this hub is an event, a number and an answer", () => {
    const bench = new Bench();
    bench.start(B);
    const copies = ["10.0.0.4 (start 4)", "10.0.0.5 (start 5)"];
    const out = bench.step({ kind: "hello_answered", peer: "b", attempt: bench.attempt(), from: from("b"), tokens: [], level: 2, copies });
    expect(errors(out)).toMatchObject([
      { event: "SESSION", text: expect.stringMatching(/^b says: two copies of hub a run: at 10\.0\.0\.4/) },
    ]);
    expect(bench.core.gauges("b", bench.mono)).toMatchObject({ copies: 0, ownCopies: 2 });
  });
});

describe("time jumps", () => {
  test("F-17 whatever the jump between two inputs: after a tick nothing is due, and no service is left with a token that has expired", () => {
    const jump = fc.oneof(fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 0, max: 100 * 86_400_000 }));
    const act = fc.record({ jump, what: fc.integer({ min: 0, max: 6 }), life: fc.integer({ min: 1, max: 7_200_000 }) });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const bench = new Bench();
        bench.start(B);
        for (const { jump: ms, what, life } of acts) {
          bench.mono += ms;
          const attempt = bench.effects.findLast((effect) => effect.kind === "hello")?.attempt ?? 0;
          const tokens = [{ thumbprint: LEAF.thumbprint, jwt: "jwt", expiresInMs: life }];
          if (what === 0) bench.step({ kind: "hello_answered", peer: "b", attempt, from: from("b"), tokens, level: 2 });
          if (what === 1) bench.step({ kind: "hello_failed", peer: "b", attempt, failure: LOST });
          if (what === 2) bench.step({ kind: "hello_received", call: 1, caller: "b", from: from("b"), leaves: ["x"], refused: [] });
          if (what === 3) bench.sessions("discovery", "OPERATIONAL", true);
          if (what === 4) bench.sessions("discovery", "RECOVERING", false, 0, LOST);
          bench.advance(0);
          const due = bench.core.deadline();
          expect(due === undefined || due > bench.mono).toBe(true);
          const view = bench.effects
            .flatMap((effect) => (effect.kind === "push" ? effect.pushes : []))
            .findLast((push) => push.kind === "view");
          if (view?.kind === "view" && view.view.token !== undefined) expect(view.view.token.expiresAtWall).toBeGreaterThan(bench.now.wall);
        }
      }),
    );
  });
});
