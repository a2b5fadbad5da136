import { once } from "node:events";
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { Duplex } from "node:stream";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Outbound } from "#channel/call.ts";
import { systemClock } from "#channel/clock.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { LIMITS } from "#kernel/bounds/limits.ts";
import { DoorServerCredentials, type RotatingServerCredentials } from "#runtime/tls/credentials.ts";
import { EchoService, SessionRequestSchema, SessionResponseSchema } from "../../../test/proto/echo-service.gen.ts";
import { bearer, echoBinding, type Fixture, serve, tokenFor, until } from "../../../test/rpc/fixture.ts";
import { endOf, grpcMessage, grpcStream, rawH2 } from "../../../test/support/raw-h2.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import { type Account, Accounts } from "./connections/accounts.ts";
import { type Intake, Intakes, type RequestKind } from "./connections/intake.ts";
import { ServerCall } from "./server/call-context.ts";

const MIB = 1024 * 1024;
const SESSION = methodPath(EchoService.method.session);

/** Socket is a stream that tells how much of what came was handed on to whoever reads it. */
class Socket extends Duplex {
  handed = 0;
  override push(piece: Buffer | null): boolean {
    this.handed += piece?.length ?? 0;
    return super.push(piece);
  }
  override _read(): void {}
  close(): void {}
}

/** Open is one stream of the model: what grpc-js would have in hand, and what it would keep. */
interface Open {
  readonly socket: Socket;
  readonly intake: Intake;
  readonly connection: Connection;
  readonly kind: RequestKind;
  readonly call: ServerCall | undefined;
  readonly sent: number[];
  readonly sizes: number[];
  completed: number;
  taken: number;
  handedAtEnd: number | undefined;
}

interface Connection {
  readonly account: Account;
  gone: boolean;
}

type Op = readonly [name: string, which: number, bytes: number];

/** Model does to the real classes what callers, handlers and grpc-js do, in any order. */
class Model {
  readonly accounts = new Accounts(systemClock);
  readonly intakes = new Intakes(
    () => undefined,
    (account) => this.accounts.settle(account),
  );
  readonly connected: Connection[] = [];
  readonly open: Open[] = [];

  do([name, which, bytes]: Op): void {
    const stream = this.open[which % Math.max(1, this.open.length)];
    const connection = this.connected[which % Math.max(1, this.connected.length)];
    if (name === "connect") this.#connect(which);
    else if (name === "disconnect" && connection !== undefined) this.#disconnect(connection);
    else if (name === "begin" && connection !== undefined) this.#begin(connection, which, bytes);
    else if (stream !== undefined) this.#act(name, stream, bytes);
  }

  #connect(which: number): void {
    const kind = ["peer", "node", "stranger"][which % 3];
    const account = this.accounts.of(which % 4 === 3 ? undefined : ({ kind, hubId: "beta", spiffeId: "x", thumbprint: "t" } as never));
    account.connections++;
    this.connected.push({ account, gone: false });
  }

  /** disconnect: nothing more arrives on its streams, which are closed later. */
  #disconnect(connection: Connection): void {
    this.connected.splice(this.connected.indexOf(connection), 1);
    connection.gone = true;
    connection.account.connections--;
    this.accounts.settle(connection.account);
  }

  #begin(connection: Connection, which: number, bytes: number): void {
    const { account } = connection;
    const socket = new Socket();
    const kind = (["one", "stream", "idle_stream"] as const)[bytes % 3] as RequestKind;
    this.intakes.begin(socket as unknown as ServerHttp2Stream, kind, account, 0);
    const intake = this.intakes.of(socket as unknown as ServerHttp2Stream) as Intake;
    let call: ServerCall | undefined;
    if (which % 5 > 0) {
      call = new ServerCall({ entry: {} as never, startedMono: 0, timeoutMs: undefined });
      call.charge(account);
    }
    this.open.push({ socket, intake, connection, kind, call, sent: [], sizes: [], completed: 0, taken: 0, handedAtEnd: undefined });
    if (which % 7 > 0) intake.attach(() => intake.ended());
    if (which % 3 > 0) socket.on("data", () => undefined);
  }

  #act(name: string, stream: Open, bytes: number): void {
    const { socket, intake, sizes, sent, call } = stream;
    if (name === "arrive" && !stream.connection.gone) socket.push(Buffer.alloc(bytes));
    else if (name === "message" && socket.handed > stream.completed) {
      const size = Math.min(bytes, socket.handed - stream.completed);
      stream.completed += size;
      sizes.push(size);
      intake.message(size);
    } else if (name === "unpacked" && sizes.length > 0) {
      const at = bytes % sizes.length;
      if (intake.unpacked(at, bytes) && at >= stream.taken) sizes[at] = (sizes[at] as number) + bytes;
    } else if (name === "taken" && stream.taken < sizes.length && stream.kind !== "one") {
      stream.taken++;
      intake.taken();
    } else if (name === "decoded") intake.decoded(bytes);
    else if (name === "whole") intake.whole();
    else if (name === "look") intake.look(bytes * 100, bytes);
    else if (name === "ended") {
      intake.ended();
      stream.handedAtEnd ??= socket.handed;
    } else if (name === "answer" && call?.hold(bytes) === true) sent.push(bytes);
    else if (name === "gone" && sent.length > 0) call?.gone(sent.pop() as number);
    else if (name === "close") this.close(stream);
  }

  close(stream: Open): void {
    this.open.splice(this.open.indexOf(stream), 1);
    stream.socket.emit("close");
    const account = stream.call?.settle();
    if (account !== undefined) this.accounts.settle(account);
    // What was under way when the stream closed comes to its end behind it.
    stream.intake.message(stream.socket.handed - stream.completed);
    stream.intake.unpacked(0, 1_000);
    stream.intake.decoded(1_000);
    stream.intake.taken();
    stream.intake.ended();
    stream.socket.push(Buffer.alloc(10));
    stream.call?.gone(10);
  }

  /** kept is how much of the requests grpc-js and the handlers have in hand. */
  get kept(): number {
    let bytes = 0;
    for (const { socket, sizes, taken, completed } of this.open) {
      bytes += socket.handed - completed;
      for (const size of sizes.slice(taken)) bytes += size + 384;
    }
    return bytes;
  }

  check(): void {
    let held = 0;
    for (const { holdings } of this.accounts.shared().slice(1)) {
      for (const { bytes } of holdings) {
        expect(bytes).toBeGreaterThanOrEqual(0);
        held += bytes;
      }
    }
    expect(this.accounts.heldBytes).toBe(held);
    expect(this.accounts.sum(({ requestBytes }) => requestBytes)).toBeGreaterThanOrEqual(this.kept);
    for (const { socket, handedAtEnd } of this.open) if (handedAtEnd !== undefined) expect(socket.handed).toBe(handedAtEnd);
  }
}

describe("A1 what is counted of requests", () => {
  test("is never below what is kept, nor below zero, and nothing at the end, whatever ends when; the pool is the sum of the accounts", () => {
    const names = ["connect", "disconnect", "begin", "begin", "look", "whole", "ended", "close", "answer", "gone"];
    const busy = ["arrive", "arrive", "arrive", "message", "message", "message", "unpacked", "decoded", "taken", "taken"];
    const op = fc.tuple(fc.constantFrom(...names, ...busy), fc.nat(30), fc.integer({ min: 1, max: 3_000 }));
    void fc.assert(
      fc.property(fc.array(op, { minLength: 20, maxLength: 120, size: "max" }), (ops) => {
        const model = new Model();
        const start: Op[] = [0, 1, 3].map((which) => ["connect", which, 1]);
        for (const one of [...start, ...ops]) {
          model.do(one);
          model.check();
        }
        for (const stream of [...model.open]) model.close(stream);
        while (model.connected.length > 0) model.do(["disconnect", 0, 1]);
        expect(model.accounts.heldBytes).toBe(0);
        expect(model.accounts.size).toBe(0);
      }),
      { numRuns: 50 },
    );
  });
});

describe("A1 a call whose status waits behind an answer that is not read", () => {
  let alpha: TestHub;
  let beta: TestHub;
  let peer: Credential;
  let auth: Readonly<Record<string, string>>;
  let fixture: Fixture;
  let end: () => void;

  beforeAll(async () => {
    [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
    peer = beta.service();
    auth = { ...bearer(tokenFor("beta", peer)).metadata, "grpc-timeout": "1H" };
  });
  afterEach(() => fixture.close());

  const first = grpcMessage(encodeMessage(SessionRequestSchema, create(SessionRequestSchema, { frame: { case: "say", value: "x" } })));

  /** serveUntilEnd serves sessions that answer one message, go on reading and have their status, as at the end of a token, when `end` is called. */
  async function serveUntilEnd(): Promise<void> {
    const ended = Promise.withResolvers<void>();
    end = ended.resolve;
    const session = async (requests: AsyncIterable<unknown>, out: Outbound<never>, call: ServerCall) => {
      const reader = requests[Symbol.asyncIterator]();
      await reader.next();
      out.send(create(SessionResponseSchema, { frame: { case: "said", value: "x" } }) as never);
      await Promise.race([
        reader.next(),
        ended.promise.then(() => call.expire({ reason: "TOKEN_EXPIRED", message: "the token has expired" })),
      ]);
    };
    const binding = echoBinding();
    fixture = await serve(alpha, [beta], { bindings: [{ ...binding, handlers: { ...binding.handlers, session } }] });
  }

  const begin = async (count: number) => {
    const session = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem, windowBytes: 0 });
    const streams = Array.from({ length: count }, () => grpcStream(session, SESSION, auth));
    // A client that has more than 10 MB to send has no memory left for the headers of an answer, and resets its stream.
    const answers = streams.map((stream) => once(stream, "response"));
    for (const stream of streams) stream.write(first);
    await Promise.all(answers);
    await until(() => fixture.server.unreadBytes >= count);
    return { session, streams };
  };
  /** arrived resolves when all that was sent before has been read. */
  const arrived = (session: { ping: ServerHttp2Session["ping"] }) => new Promise((resolve) => session.ping(resolve));

  test("gives nothing back twice when the last byte of a message comes after it", async () => {
    await serveUntilEnd();
    const { session, streams } = await begin(1);
    const [stream] = streams as [(typeof streams)[0]];
    const message = grpcMessage(Buffer.alloc(300, 1));
    for (const byte of message.subarray(0, -1)) {
      stream.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await arrived(session);
    const before = fixture.server.requestBytes;
    expect(before).toBeGreaterThan(300 * 384);
    end();
    await until(() => fixture.server.calls === 0);
    stream.write(message.subarray(-1));
    await arrived(session);
    expect(fixture.server.requestBytes).toBe(before);
    stream.close(8);
    await until(() => fixture.server.held === 0);
    expect(fixture.server.requestBytes).toBe(0);
    session.destroy();
  });

  test("takes in nothing more", async () => {
    await serveUntilEnd();
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const { session, streams } = await begin(40);
    end();
    await until(() => fixture.server.calls === 0);
    const buffers = () => {
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    const before = buffers();
    // One buffer for all of them, so that what grows is the server's.
    const body = Buffer.alloc(MIB - 10, 1);
    body.writeUInt32BE(MIB, 1);
    body.writeUInt8(0, 0);
    for (const stream of streams) stream.write(body);
    await arrived(session);
    await until(() => streams.every(({ writableLength }) => writableLength === 0));
    await arrived(session);
    expect(fixture.server.held).toBe(40);
    // What was read of the sockets last is let go a few turns later.
    await until(() => buffers() - before < 8 * MIB + fixture.server.requestBytes);
    expect(fixture.server.held).toBe(40);
    session.destroy();
    await until(() => fixture.server.held === 0);
    expect(fixture.server.requestBytes).toBe(0);
  });
});

describe("A1 many small messages in one piece", () => {
  const EMPTY = grpcMessage(new Uint8Array());

  test("are refused in the midst of it when what is kept of each is too much", () => {
    const account = new Accounts(systemClock).of({ kind: "peer", hubId: "beta", name: "hub" } as never);
    const refused: string[] = [];
    const intakes = new Intakes(
      (_, reason) => refused.push(reason),
      () => undefined,
    );
    for (let n = 0; n < 100 && refused.length === 0; n++) {
      const stream = new Socket() as unknown as ServerHttp2Stream;
      intakes.begin(stream, "idle_stream", account, 0);
      const intake = intakes.of(stream) as Intake;
      intake.attach(() => undefined);
      stream.push(Buffer.alloc(16_000));
      for (let sent = 0; sent < 16_000 && refused.length === 0; sent += EMPTY.length) intake.message(EMPTY.length);
      expect(account.requestBytes).toBeLessThanOrEqual(LIMITS.unreadBytesPerPeer + 512);
    }
    expect(refused).toEqual(["bytes"]);
    expect(account.requestBytes).toBeGreaterThan(LIMITS.unreadBytesPerPeer - MIB);
  });

  test("cost what is kept of each until the handler takes them", async () => {
    const [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
    const peer = beta.service();
    const auth = { ...bearer(tokenFor("beta", peer)).metadata, "grpc-timeout": "1H" };
    const go = Promise.withResolvers<void>();
    const session = async (requests: AsyncIterable<unknown>) => {
      const reader = requests[Symbol.asyncIterator]();
      await reader.next();
      await go.promise;
      for (let last = await reader.next(); last.done !== true; ) last = await reader.next();
    };
    const binding = echoBinding();
    const fixture = await serve(alpha, [beta], { bindings: [{ ...binding, handlers: { ...binding.handlers, session } }] });
    const client = await rawH2({ port: fixture.port, credential: peer, ca: alpha.caPem });
    const stream = grpcStream(client, SESSION, auth);
    stream.end(Buffer.concat(Array.from({ length: 3_000 }, () => EMPTY)));
    // One frame of them at a time is taken apart, and as much of it as came with one read.
    await until(() => fixture.server.requestBytes > 15_000 * 8);
    go.resolve();
    expect(await endOf(stream)).toMatchObject({ status: "0" });
    await until(() => fixture.server.held === 0);
    expect(fixture.server.requestBytes).toBe(0);
    client.destroy();
    await fixture.close();
  });
});

describe("A1 connections on which no certificate was shown, which a door lets in", () => {
  test("begin as few streams as a peer may, all of them together", async () => {
    const alpha = await testHub("alpha");
    const identity = alpha.service();
    const credentials = new DoorServerCredentials({
      cert: identity.chainPem,
      key: identity.keyPem,
    }) as unknown as RotatingServerCredentials;
    const fixture = await serve(alpha, [], { credentials, clock: { ...systemClock, mono: () => 1_000 } });
    const nobody = { certificatePem: undefined, keyPem: undefined } as unknown as Credential;
    const sessions = await Promise.all([1, 2].map(() => rawH2({ port: fixture.port, credential: nobody, ca: alpha.caPem })));
    const answers = await Promise.all(sessions.map((session) => endOf(grpcStream(session, SESSION))));
    expect(answers.map(({ status }) => status)).toEqual(["16", "16"]);
    let begun = 2;
    while (!sessions.some(({ closed }) => closed) && begun < 2_000) {
      const open = sessions.flatMap((session) => [1, 2].map(() => endOf(grpcStream(session, SESSION))));
      begun += open.length;
      await Promise.all(open);
    }
    expect(begun).toBeGreaterThanOrEqual(600);
    expect(begun).toBeLessThanOrEqual(604);
    expect(await fixture.metric("foedus_connections_refused_total", { reason: "stream_rate" })).toBeGreaterThan(0);
    for (const session of sessions) session.destroy();
    await until(() => fixture.server.connections === 0);
    expect(fixture.server.shared()[0]?.holdings).toEqual([]);
    await fixture.close();
  });
});
