import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Outbound } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { describeHoldings } from "#kernel/bounds/holdings.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import {
  CountRequestSchema,
  CountResponseSchema,
  EchoRequestSchema,
  EchoResponseSchema,
  EchoService,
  GreetRequestSchema,
  ResetRequestSchema,
} from "../../../../test/proto/echo-service.gen.ts";
import { bearer, echoBinding, type Fixture, failureOfCall, serve, tokenFor, until } from "../../../../test/rpc/fixture.ts";
import { endOf, grpcMessage, grpcStream, rawH2 } from "../../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../../test/testca/index.ts";
import type { Caller } from "../call.ts";
import { type Account, Accounts, heldBytesIn } from "./accounts.ts";

const ECHO = methodPath(EchoService.method.echo);
const COUNT = methodPath(EchoService.method.count);
const REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

let alpha: TestHub;
let beta: TestHub;
let gamma: TestHub;
let peer: Credential;
let auth: Readonly<Record<string, string>>;

beforeAll(async () => {
  [alpha, beta, gamma] = await Promise.all([testHub("alpha"), testHub("beta"), testHub("gamma")]);
  peer = beta.service();
  auth = bearer(tokenFor("beta", peer)).metadata;
});

/** noCalls waits until a server holds no call any more. */
const noCalls = (fixture: Fixture) => until(() => fixture.server.calls === 0 && fixture.server.held === 0);

describe("what a caller that is refused, or does not read, holds", () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await serve(alpha, [beta, gamma]);
  });
  afterAll(() => fixture.close());

  test("F-5 a refused stream is reset behind its trailers, though the client keeps its half open", async () => {
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem });
    const ends = await Promise.all(Array.from({ length: 50 }, () => endOf(grpcStream(session, ECHO))));
    expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(["16"]));
    expect(new Set(ends.map(({ resetCode }) => resetCode))).toEqual(new Set([0]));
    await noCalls(fixture);
    session.destroy();
  });

  test("F-5 a stream that failed in its handler, or ended while its client still sends, is reset too", async () => {
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem });
    const stream = grpcStream(session, COUNT, auth);
    stream.write(grpcMessage(encodeMessage(CountRequestSchema, create(CountRequestSchema, { to: 3, fail: true }))));
    stream.end();
    expect((await endOf(stream)).status).toBe("14");
    const open = grpcStream(session, methodPath(EchoService.method.sum), auth);
    open.write(grpcMessage(new Uint8Array([0xff, 0xff])));
    expect(await endOf(open)).toEqual({ status: "3", resetCode: 0 });
    await noCalls(fixture);
    session.destroy();
  });

  test("F-5 calls are bounded per peer over all its connections and certificates, and others are not concerned", async () => {
    const sessions = await Promise.all(
      ["hub", "discovery", "telemetry"].map((name) => rawH2({ port: fixture.port, credential: beta.service(name), ca: alpha.caPem })),
    );
    const perConnection = Math.ceil(LIMITS.callsPerPeer / sessions.length) + 1;
    // Open and silent: a call that waits for its first message.
    const streams = sessions.flatMap((session) => Array.from({ length: perConnection }, () => grpcStream(session, REFLECTION)));
    const refused = await Promise.race(streams.map(endOf));
    expect(refused).toMatchObject({ status: "8" });
    await expect(fixture.dial(gamma.service()).greet(create(GreetRequestSchema))).resolves.toBeDefined();
    await expect(fixture.dial(alpha.node("lamp")).echo(create(EchoRequestSchema, { text: "x" }))).resolves.toBeDefined();
    expect(fixture.server.held).toBeLessThanOrEqual(LIMITS.callsPerPeer);
    for (const session of sessions) session.destroy();
    await noCalls(fixture);
    await expect(fixture.dial(beta.service()).greet(create(GreetRequestSchema))).resolves.toBeDefined();
  });
});

describe("answers that nobody reads", () => {
  const MIB = 1024 * 1024;
  const sendLots = async (to: number, out: Outbound<ReturnType<typeof create<typeof CountResponseSchema>>>) => {
    const padding = new Uint8Array(MIB / 2);
    for (let n = 1; n <= to && !out.closed; n++) out.send(create(CountResponseSchema, { n, padding }));
  };

  test("S-2 unread bytes are bounded per caller over all its connections; a reader beside it is served", async () => {
    const binding = echoBinding();
    const count = async (request: { to: number }, out: never) => sendLots(request.to, out);
    const fixture = await serve(alpha, [beta, gamma], { bindings: [{ ...binding, handlers: { ...binding.handlers, count } }] });
    const sessions = await Promise.all(
      [1, 2, 3, 4].map(() => rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem, windowBytes: 0 })),
    );
    const body = grpcMessage(encodeMessage(CountRequestSchema, create(CountRequestSchema, { to: 4 })));
    const streams = sessions.flatMap((session) =>
      Array.from({ length: 20 }, () => {
        const stream = grpcStream(session, COUNT, { ...auth, "grpc-timeout": "1H" });
        stream.end(body);
        return stream;
      }),
    );
    const ends = streams.map(endOf);
    // 80 streams ask for 160 MiB.
    await until(() => fixture.server.unreadBytes > LIMITS.unreadBytesPerPeer - 4 * MIB);
    await Promise.race(ends);
    expect(fixture.server.unreadBytes).toBeLessThanOrEqual(LIMITS.unreadBytesPerPeer + MIB);
    expect(describeHoldings(fixture.server.shared())).toMatch(/calls count=\d+ bytes=\d{8} holders=1\n {4}peer beta count=\d+ bytes=\d{8}/);
    const third = gamma.service();
    const read: number[] = [];
    for await (const { n } of fixture.dial(third).count(create(CountRequestSchema, { to: 4 }), bearer(tokenFor("gamma", third))))
      read.push(n);
    expect(read).toEqual([1, 2, 3, 4]);
    for (const session of sessions) session.destroy();
    await noCalls(fixture);
    expect(fixture.server.unreadBytes).toBe(0);
    await fixture.close();
  });

  test("S-2 no answers are made for an own caller of whom half of what may wait is not read, and few in one turn of the event loop", async () => {
    const binding = echoBinding();
    const made = { all: 0, mostPerTurn: 0 };
    let turn = 0;
    const ticks = () => {
      if (turn++ >= 0) setImmediate(ticks);
    };
    ticks();
    const inTurn = new Map<number, number>();
    const text = "x".repeat(MIB / 2);
    // As a listing does: some milliseconds of work for half a MiB.
    const echo = () => {
      for (const until = performance.now() + 4; performance.now() < until; );
      inTurn.set(turn, (inTurn.get(turn) ?? 0) + 1);
      made.all++;
      made.mostPerTurn = Math.max(made.mostPerTurn, inTurn.get(turn) as number);
      return create(EchoResponseSchema, { text });
    };
    const fixture = await serve(alpha, [], { bindings: [{ ...binding, handlers: { ...binding.handlers, echo } }] });
    const admin = alpha.operator("admin", "admin");
    const sessions = await Promise.all([1, 2].map(() => rawH2({ port: fixture.port, credential: admin, ca: alpha.caPem, windowBytes: 0 })));
    const body = grpcMessage(encodeMessage(EchoRequestSchema, create(EchoRequestSchema)));
    const streams = sessions.flatMap((session) =>
      Array.from({ length: 100 }, () => {
        const stream = grpcStream(session, ECHO, { "grpc-timeout": "1H" });
        stream.end(body);
        return stream;
      }),
    );
    const refused = Promise.all(streams.map((stream) => endOf(stream))).then((ends) => ends.filter(({ status }) => status === "8").length);
    // 200 calls ask for 100 MiB.
    await until(() => made.all * (MIB / 2) >= LIMITS.unreadBytesPerCaller / 2);
    await expect(fixture.dial(alpha.node("other")).echo(create(EchoRequestSchema))).resolves.toBeDefined();
    // What changes something answers in few bytes: who has not read everything may still say what has changed.
    await expect(fixture.dial(admin).reset(create(ResetRequestSchema))).resolves.toBeDefined();
    expect(fixture.server.unreadBytes).toBeLessThan(LIMITS.unreadBytesPerCaller * 0.75);
    for (const session of sessions) session.destroy();
    await refused;
    turn = Number.NEGATIVE_INFINITY;
    await noCalls(fixture);
    expect(made.all).toBeLessThanOrEqual(LIMITS.unreadBytesPerCaller / 2 / (MIB / 2) + 8);
    expect(made.mostPerTurn).toBeLessThanOrEqual(8);
    await fixture.close();
  });

  test("S-2 an answer that is not read is given up after ten seconds, whatever deadline its caller named", async () => {
    const { setTimer } = systemClock;
    const clock = { ...systemClock, setTimer: (delayMs: number, fn: () => void) => setTimer(delayMs / 100, fn) };
    const fixture = await serve(alpha, [beta], { clock, limits: { defaultTimeoutMs: 1e9, keepaliveTimeMs: 1e7, keepaliveTimeoutMs: 1e7 } });
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem, windowBytes: 0 });
    const stream = grpcStream(session, ECHO, { ...auth, "grpc-timeout": "1H" });
    stream.end(grpcMessage(encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "x".repeat(100_000) }))));
    await until(() => fixture.server.unreadBytes > 0);
    expect((await endOf(stream)).resetCode).toBe(8);
    expect(fixture.server.unreadBytes).toBe(0);
    session.destroy();
    await fixture.close();
  });

  test("S-2 messages on a stream cost as calls do", async () => {
    const SLOW = { perSecond: 0.001, burst: 5 };
    const fixture = await serve(alpha, [beta], { rates: () => ({ cheap: SLOW, normal: SLOW }) });
    const sum = fixture.dial(peer).sum(bearer(tokenFor("beta", peer)));
    for (let n = 0; n < 10; n++) sum.send({ $typeName: "foedus.test.v1.SumRequest", n: 1 } as never);
    sum.end();
    expect(
      await failureOfCall(
        (async () => {
          for await (const _ of sum.responses);
        })(),
      ),
    ).toMatchObject({ reason: "RATE_LIMITED" });
    await fixture.close();
  });
});

test("A2 what all callers may hold is a quarter of a small heap", () => {
  const MIB = 1024 * 1024;
  expect([64, 128, 512, 8192].map((heap) => heldBytesIn(heap * MIB) / MIB)).toEqual([16, 32, 128, 128]);
  const accounts = new Accounts(systemClock, heldBytesIn(128 * MIB));
  const peers = Array.from({ length: 40 }, (_, i) => accounts.of({ kind: "peer", hubId: `p${i}`, name: "hub" } as never));
  for (let i = 0; i < 400; i++) {
    const account = peers[i % peers.length]!;
    // Whoever holds nothing may begin, with one message.
    if (account.bytes > 0 && account.fits(MIB)) account.requests(MIB);
    if (account.bytes === 0) account.requests(1);
    if (account.decode(4 * MIB)) expect(accounts.heldBytes).toBeLessThanOrEqual(28 * MIB);
  }
  expect(accounts.heldBytes).toBeGreaterThan(16 * MIB);
  expect(accounts.heldBytes).toBeLessThanOrEqual(28 * MIB + peers.length);
});

describe("S-2 open calls take memory, whatever they carry", () => {
  const KIND = { hubId: "alpha", name: "", spiffeId: "" };
  const caller = (kind: "gateway" | "peer", name: string) =>
    ({ ...KIND, kind, name, spiffeId: `spiffe://alpha/${kind}/${name}`, hubId: kind === "peer" ? name : "alpha" }) as unknown as Caller;

  test("all callers together have room for as many as the heap has, and nobody takes it all", () => {
    const accounts = new Accounts(systemClock, heldBytesIn(128 * 1024 * 1024));
    const begin = (account: Account): number => {
      let begun = 0;
      for (; begun < 10_000 && account.mayBegin(); begun++) account.called(1);
      return begun;
    };
    const most = begin(accounts.of(caller("gateway", "greedy")));
    expect(most).toBeGreaterThan(1_000);
    for (let i = 0; i < 30; i++) begin(accounts.of(caller("gateway", `g${i}`)));
    const all = accounts.sum(({ calls }) => calls);
    expect(all).toBeLessThanOrEqual(4_096 + 31);
    const late = accounts.of(caller("gateway", "late"));
    expect(late.mayBegin(), "whoever has none may always begin").toBe(true);
    const peer = accounts.of(caller("peer", "beta"));
    peer.called(1);
    expect(peer.mayBegin()).toBe(false);
    for (const account of [accounts.of(caller("gateway", "greedy"))]) account.called(-account.calls);
    expect(late.mayBegin()).toBe(true);
  });
});
