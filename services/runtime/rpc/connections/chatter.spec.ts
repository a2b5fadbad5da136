import { connect as connectTls, type TLSSocket } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { Chatter, ChatterCosts } from "#channel/tls/chatter.ts";
import { EchoRequestSchema, EchoService } from "../../../../test/proto/echo-service.gen.ts";
import { bearer, type Fixture, serve, tokenFor, until } from "../../../../test/rpc/fixture.ts";
import { endOf, frame, grpcMessage, grpcStream, PREFACE, rawH2, text } from "../../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../../test/testca/index.ts";

let alpha: TestHub;
let beta: TestHub;
let fixture: Fixture;

beforeAll(async () => {
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
});
afterEach(() => fixture?.close());

const SESSION = methodPath(EchoService.method.session);
const ECHO = methodPath(EchoService.method.echo);
const chatter = () => fixture.metric("foedus_connections_refused_total", { reason: "chatter" });
const own = (name: string) => fixture.dial(alpha.node(name)).echo(create(EchoRequestSchema, { text: "x" }));
const MIB = 1024 * 1024;

/** bare is a connection of a peer on which nothing has been said. */
function bare({ certificatePem: cert, keyPem: key }: Credential): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const tls = { ca: alpha.caPem, cert, key, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined };
    const socket = connectTls({ port: fixture.port, host: "127.0.0.1", ...tls }, () => resolve(socket.resume()));
    socket.on("error", reject);
  });
}

const headers = (stream: number): Buffer => {
  const pairs = {
    ":method": "POST",
    ":scheme": "https",
    ":authority": "x",
    ":path": SESSION,
    "content-type": "application/grpc",
    te: "trailers",
  };
  return frame(1, 4, stream, Buffer.concat(Object.entries(pairs).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)])));
};
const WINDOW = Buffer.of(0, 0, 0, 1);

/** FLOODS are what neither nghttp2 nor Node bounds: frames that mean nothing, again and again. */
const FLOODS: Readonly<Record<string, Buffer>> = {
  "window updates of the connection": frame(8, 0, 0, WINDOW),
  "window updates of a stream": frame(8, 0, 1, WINDOW),
  "window updates of a stream that is closed": frame(8, 0, 3, WINDOW),
  "DATA that is only padding": frame(0, 8, 1, Buffer.concat([Buffer.of(255), Buffer.alloc(255)])),
  "DATA of a stream that is closed": frame(0, 0, 3, Buffer.alloc(16_000)),
};

/** flood sends one frame again and again until it is thrown out, or so many bytes were taken. */
async function flood(socket: TLSSocket, what: Buffer, bytes: number): Promise<"closed" | "taken"> {
  const closed = new Promise<"closed">((resolve) => socket.on("error", () => undefined).once("close", () => resolve("closed")));
  socket.write(Buffer.concat([PREFACE, headers(1), headers(3), frame(3, 0, 3, Buffer.of(0, 0, 0, 8))]));
  const block = Buffer.concat(Array.from({ length: Math.ceil(65_536 / what.length) }, () => what));
  for (let sent = 0; sent < bytes; sent += block.length) {
    const next = new Promise<"taken">((resolve) => socket.write(block, (error) => error ?? resolve("taken")));
    if ((await Promise.race([closed, next])) === "closed") return "closed";
  }
  return "taken";
}

describe("S-1 what a connection carries for nothing", () => {
  test.each(Object.entries(FLOODS))(
    "S-1 a peer that floods with %s is thrown out, and stays out; others notice nothing",
    async (_name, what) => {
      fixture = await serve(alpha, [beta]);
      const socket = await bare(beta.service());
      expect(await flood(socket, what, 400 * MIB)).toBe("closed");
      expect(await chatter()).toBe(1);
      const again = await bare(beta.service("other"));
      await new Promise((resolve) => again.on("error", () => undefined).once("close", resolve));
      expect(await chatter()).toBe(2);
      await expect(own("lamp")).resolves.toBeDefined();
    },
  );

  test("S-1 connections of one peer pay together, and an own caller is bounded as well", async () => {
    fixture = await serve(alpha, [beta]);
    const what = frame(8, 0, 0, WINDOW);
    const peers = await Promise.all(Array.from({ length: 3 }, () => bare(beta.service())));
    expect(await Promise.all(peers.map((socket) => flood(socket, what, 200 * MIB)))).toEqual(["closed", "closed", "closed"]);
    expect(await flood(await bare(alpha.node("lamp")), what, 400 * MIB)).toBe("closed");
    await expect(own("heater")).resolves.toBeDefined();
  });

  test("large headers are paid for by who sends them: first as bytes that it holds, then as chatter", async () => {
    fixture = await serve(alpha, [beta], { limits: {} });
    const peer = beta.service();
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem });
    const { metadata } = bearer(tokenFor("beta", peer));
    const streams = Array.from({ length: 10 }, () => grpcStream(session, SESSION, { ...metadata, tracestate: "a".repeat(10_000) }));
    await until(() => fixture.server.calls === 10);
    expect(fixture.server.requestBytes).toBeGreaterThan(100_000);
    for (const stream of streams) stream.close();
    await until(() => fixture.server.requestBytes === 0);
    session.destroy();
  });

  test("S-1 a client that sends and reads as fast as it can, and gives up half-way, is nothing of the kind", async () => {
    fixture = await serve(alpha, [beta]);
    const lamp = alpha.node("lamp");
    const session = await rawH2({ port: fixture.port, credential: lamp, ca: alpha.caPem });
    const body = grpcMessage(encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "x".repeat(60_000) })));
    const until = systemClock.mono() + 700;
    for (let n = 0; systemClock.mono() < until; n++) {
      const stream = grpcStream(session, ECHO);
      const end = endOf(stream);
      if (n % 3 === 0) stream.write(body, () => stream.close(8));
      else stream.end(body);
      await end;
    }
    expect(session.destroyed).toBe(false);
    expect(await chatter()).toBe(0);
    session.destroy();
  });
});

describe("Chatter", () => {
  const over = (chat: Chatter, read: number, written: number, total: { bytesRead: number; bytesWritten: number }) => {
    total.bytesRead += read;
    total.bytesWritten += written;
    return chat.excess(total);
  };

  test("S-1 takes two window updates, each in a TLS record, for every frame that was written, and a record for each that was read", () => {
    for (const size of [1, 40, 1_000, 16_384]) {
      const chat = new Chatter();
      const total = { bytesRead: 0, bytesWritten: 0 };
      for (let n = 0; n < 1_000; n++) {
        chat.piece(size, 1);
        // Their updates come later than what they are for.
        expect(over(chat, size + 9 + 22 + (n > 10 ? 2 * (13 + 22) : 0), size + 9 + 22, total)).toBe(0);
      }
    }
  });

  test("S-1 does not save up without end: who was sent much has no right to send nothing but frames", () => {
    const chat = new Chatter();
    const total = { bytesRead: 0, bytesWritten: 0 };
    expect(over(chat, 0, 1_000 * MIB, total)).toBe(0);
    expect(over(chat, 5 * MIB, 0, total)).toBe(MIB);
    expect(over(chat, 5, 0, total)).toBe(5);
  });

  test("S-1 who sent for nothing stays out for as long as it takes to pay for it, a minute at most", () => {
    const costs = new ChatterCosts();
    expect(costs.spent("a", 8 * MIB, 0)).toBe(0);
    expect(costs.spent("a", MIB, 0)).toBe(2_000);
    expect(costs.waitMs("a", 1_000)).toBe(1_000);
    expect(costs.waitMs("a", 2_000)).toBe(0);
    expect(costs.spent("a", 1_000 * MIB, 2_000)).toBe(60_000);
    expect(costs.waitMs("b", 2_000)).toBe(0);
    for (let second = 0; second < 100; second++) expect(costs.spent("c", 500_000, second * 1_000)).toBe(0);
  });
});
