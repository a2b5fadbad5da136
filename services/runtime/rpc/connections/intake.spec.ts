import type { ServerHttp2Stream } from "node:http2";
import { Duplex } from "node:stream";
import { gzipSync } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { EchoRequestSchema, EchoService, SessionRequestSchema } from "../../../../test/proto/echo-service.gen.ts";
import { bearer, echoBinding, type Fixture, serve, tokenFor, until } from "../../../../test/rpc/fixture.ts";
import { endOf, grpcMessage, grpcStream, rawH2 } from "../../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../../test/testca/index.ts";
import type { CallContext } from "../call.ts";
import { Accounts } from "./accounts.ts";
import { Intake } from "./intake.ts";

const MIB = 1024 * 1024;
const ECHO = methodPath(EchoService.method.echo);
const COUNT = methodPath(EchoService.method.count);
const SESSION = methodPath(EchoService.method.session);
const REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const HEALTH = "/grpc.health.v1.Health/Check";

let alpha: TestHub;
let beta: TestHub;
let peer: Credential;
let auth: Readonly<Record<string, string>>;
let fixture: Fixture;

beforeAll(async () => {
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  peer = beta.service();
  auth = { ...bearer(tokenFor("beta", peer)).metadata, "grpc-timeout": "99999H" };
});
afterEach(() => fixture.close());

/** halfSent is the frame of a message of 1 MiB, and as many of its bytes. */
function halfSent(bytes: number): Buffer {
  const head = Buffer.alloc(5 + bytes, 1);
  head.writeUInt8(0, 0);
  head.writeUInt32BE(MIB + 1, 1);
  return head;
}

/** fast is a clock on which ten seconds go by in a tenth of one. */
function fast(): Clock {
  const { mono, setTimer } = systemClock;
  return { ...systemClock, mono: () => mono() * 100, setTimer: (delayMs, fn) => setTimer(delayMs / 100, fn) };
}

const connect = (credential: Credential) => rawH2({ port: fixture.port, credential, ca: alpha.caPem });
const said = (text: string) => encodeMessage(SessionRequestSchema, create(SessionRequestSchema, { frame: { case: "say", value: text } }));
const noCalls = () => until(() => fixture.server.calls === 0 && fixture.server.held === 0);

describe("A1 requests of which a part has arrived", () => {
  test.each([
    ["a peer, unary, before it shows a token", () => peer, HEALTH],
    ["a peer, on a stream that may be idle", () => peer, SESSION],
    ["an own caller", () => alpha.node("lamp"), ECHO],
  ] as const)("are paid for by %s", { timeout: 120_000 }, async (_name, credential, path) => {
    // Node sometimes does not tell that a client went away in the middle of a write; the silence is noticed then, and after a minute at
    // the latest (HE1).
    fixture = await serve(alpha, [beta], { limits: { keepaliveTimeMs: 3_000, keepaliveTimeoutMs: 3_000 } });
    const sessions = await Promise.all([1, 2].map(() => connect(credential())));
    const body = halfSent(MIB - 64 * 1024);
    let most = 0;
    const streams = sessions.flatMap((session) => Array.from({ length: 20 }, () => grpcStream(session, path, auth)));
    const ended: (string | undefined)[] = [];
    for (const stream of streams) {
      void endOf(stream).then(({ status }) => ended.push(status));
      stream.write(body);
      await until(() => stream.closed || stream.bufferSize === 0 || stream.writableLength === 0);
      most = Math.max(most, fixture.server.requestBytes);
    }
    await until(() => {
      most = Math.max(most, fixture.server.requestBytes);
      return ended.length >= 40 - 35;
    });
    expect(most).toBeLessThanOrEqual(LIMITS.unreadBytesPerPeer);
    expect(await fixture.metric("foedus_rpc_requests_refused_total", { reason: "bytes" })).toBeGreaterThan(0);
    expect(new Set(ended)).toEqual(new Set(["8"]));
    for (const session of sessions) session.destroy();
    await noCalls();
    expect(fixture.server.requestBytes).toBe(0);
  });

  test("A2 count as what they take in memory while their calls are under way, and no longer", async () => {
    fixture = await serve(alpha, [beta]);
    const session = await connect(peer);
    // Fields that nobody knows, which a newer peer may send: 60 KiB of them become some 6 MiB.
    const unknown = Buffer.from([0xf8, 0x3f, 0]);
    const request = Buffer.concat([
      encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "!hang" })),
      ...Array(20_000).fill(unknown),
    ]);
    const ended: (string | undefined)[] = [];
    const streams = Array.from({ length: 12 }, () => grpcStream(session, ECHO, auth));
    for (const stream of streams) {
      void endOf(stream).then(({ status }) => ended.push(status));
      stream.end(grpcMessage(request));
    }
    await until(() => fixture.seen.contexts.length + ended.length === 12);
    expect(new Set(ended)).toEqual(new Set(["8"]));
    expect(ended.length).toBeGreaterThan(4);
    expect(fixture.seen.contexts.length).toBeGreaterThan(2);
    session.destroy();
    await noCalls();
    expect(fixture.server.requestBytes).toBe(0);
  });

  test("do not take room of others: everybody gets something in, whoever holds how much", () => {
    const holder = fc.record({ caller: fc.nat(3), foreign: fc.boolean(), bytes: fc.integer({ min: 1, max: MIB }) });
    void fc.assert(
      fc.property(fc.array(holder, { minLength: 500, maxLength: 1_000 }), (asks) => {
        const accounts = new Accounts(systemClock);
        const of = (name: string, foreign: boolean) =>
          accounts.of({ kind: foreign ? "peer" : "node", hubId: foreign ? name : "alpha", name } as never);
        for (const { caller, foreign, bytes } of asks) {
          const account = of(`c${caller}`, foreign);
          if (!account.fits(bytes)) continue;
          account.requests(bytes);
          expect(account.bytes).toBeLessThanOrEqual(account.bounds.bytes);
        }
        // The first message of each may come on top.
        expect(accounts.heldBytes).toBeLessThanOrEqual(LIMITS.heldBytes + 8 * MIB);
        expect(of("new", true).fits(MIB)).toBe(true);
      }),
      { numRuns: 30 },
    );
    fixture = { close: async () => undefined } as Fixture;
  });

  test("end when they do not go on, whatever deadline their caller named; what is complete, or may be idle, stays", async () => {
    fixture = await serve(alpha, [beta], { clock: fast(), limits: { keepaliveTimeMs: 1e7 } });
    const session = await connect(peer);
    const unary = grpcStream(session, ECHO, auth);
    unary.write(halfSent(100));
    const unasked = grpcStream(session, ECHO, auth);
    const open = grpcStream(session, COUNT, auth);
    open.write(grpcMessage(new Uint8Array()));
    const stream = grpcStream(session, REFLECTION, auth);
    const own = await connect(alpha.service());
    const idle = grpcStream(own, SESSION);
    const begun = grpcStream(session, SESSION, auth);
    begun.write(grpcMessage(said("hello")));
    begun.write(halfSent(100));
    const unknown = endOf(grpcStream(session, "/x.Y/Z"));
    const ends = await Promise.all([unary, unasked, open, stream, begun].map(endOf));
    expect(ends.map(({ status }) => status)).toEqual(["4", "4", "4", "4", "4"]);
    expect((await unknown).status).toBe("12");
    expect(idle.closed).toBe(false);
    const answer = new Promise((resolve) => idle.once("data", resolve));
    idle.write(grpcMessage(said("still here")));
    expect(String(await answer)).toContain("still here");
    expect(await fixture.metric("foedus_rpc_requests_refused_total", { reason: "late" })).toBe(5);
    expect(fixture.lines.filter(({ message }) => message === "request refused").length).toBeLessThan(5);
    session.destroy();
    own.destroy();
    await noCalls();
  });

  test("are unpacked one after the other, and paid for as what they become", async () => {
    const binding = echoBinding();
    const takesOne = async (requests: AsyncIterable<unknown>, _out: unknown, { signal }: CallContext) => {
      await requests[Symbol.asyncIterator]().next();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    fixture = await serve(alpha, [beta], { bindings: [{ ...binding, handlers: { ...binding.handlers, session: takesOne } }] });
    const packed = grpcMessage(gzipSync(encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "x".repeat(MIB) }))), true);
    const session = await connect(peer);
    const honest = grpcStream(session, ECHO, { ...auth, "grpc-encoding": "gzip" });
    honest.end(packed);
    expect(await endOf(honest)).toMatchObject({ status: "0" });
    // 48 messages of a kilobyte that are a megabyte each, for a handler that takes one of them.
    const streams = [1, 2, 3, 4].map(() => grpcStream(session, SESSION, { ...auth, "grpc-encoding": "gzip" }));
    const first = Promise.race(streams.map(endOf));
    for (const stream of streams) stream.write(Buffer.concat(Array.from({ length: 48 }, () => packed)));
    expect(await first).toMatchObject({ status: "8" });
    expect(fixture.server.requestBytes).toBeLessThanOrEqual(LIMITS.unreadBytesPerPeer);
    session.destroy();
    await noCalls();
    expect(fixture.server.requestBytes).toBe(0);
  });
});

describe("A1 an intake", () => {
  class Socket extends Duplex {
    override _read(): void {}
  }
  const intakeOf = (kind: "one" | "stream" | "idle_stream") => {
    fixture = { close: async () => undefined } as Fixture;
    const stream = new Socket() as unknown as ServerHttp2Stream;
    const account = new Accounts(systemClock).of({ kind: "peer", hubId: "beta", name: "hub" } as never);
    const refused: string[] = [];
    const intake = new Intake(stream, kind, account, 0, (_, reason) => refused.push(reason));
    intake.attach(() => undefined);
    stream.on("data", () => undefined);
    return { stream, account, refused, intake };
  };

  test("lets a link of 64 kbit/s with ten requests at a time take its time, and no less than a twentieth of it", () => {
    for (const [bytesPerSecond, late] of [
      [800, false],
      [300, true],
    ] as const) {
      const { stream, refused, intake } = intakeOf("one");
      for (let second = 1; second <= 200 && refused.length === 0; second++) {
        stream.push(Buffer.alloc(bytesPerSecond));
        if (second % 2 === 0) intake.look(second * 1_000, 0);
      }
      expect(refused.length > 0).toBe(late);
    }
  });

  test("does not count the time in which this hub did not read", () => {
    const { stream, refused, intake } = intakeOf("one");
    stream.push(Buffer.alloc(10));
    intake.look(1_000, 0);
    intake.look(100_000, 95_000);
    expect(refused).toEqual([]);
    stream.pause();
    intake.look(200_000, 0);
    expect(refused).toEqual([]);
    stream.resume();
    intake.look(211_000, 0);
    expect(refused).toEqual(["late"]);
  });

  test("gives back what was taken, to the byte, in whatever pieces messages come", () => {
    void fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 40 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 900 })),
        (sizes, pieces) => {
          const { stream, account, intake } = intakeOf("idle_stream");
          const total = sizes.reduce((sum, size) => sum + size, 0);
          let arrived = 0;
          let known = 0;
          let complete = 0;
          while (arrived < total) {
            const piece = Math.min(pieces.next().value as number, total - arrived);
            arrived += piece;
            stream.push(Buffer.alloc(piece));
            for (; known < sizes.length && complete + (sizes[known] as number) <= arrived; known++) {
              complete += sizes[known] as number;
              intake.message(sizes[known] as number);
            }
            expect(account.requestBytes).toBeGreaterThanOrEqual(arrived);
          }
          expect(account.requestBytes).toBe(total + sizes.length * 384);
          for (const _ of sizes) intake.taken();
          expect(account.requestBytes).toBe(0);
          intake.over();
          expect(account.requestBytes).toBe(0);
        },
      ),
      { numRuns: 50 },
    );
  });
});
