import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { Chatter } from "#channel/tls/chatter.ts";
import { EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { type Fixture, serve } from "../../../test/rpc/fixture.ts";
import { frame, grpcMessage, grpcStream, PREFACE, rawH2, text } from "../../../test/support/raw-h2.ts";
import { RawRecords, secretOf } from "../../../test/support/raw-tls.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";

let alpha: TestHub;
let beta: TestHub;
let fixture: Fixture;

beforeAll(async () => {
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
});
afterEach(() => fixture?.close());

const KIB = 1024;
/** Peers may call it without a token. */
const GREET = methodPath(EchoService.method.greet);
const refused = (reason: string) => fixture.metric("foedus_connections_refused_total", { reason });
const own = () => fixture.dial(alpha.node("lamp")).echo(create(EchoRequestSchema, { text: "x" }));

interface Raw {
  readonly raw: Socket;
  /** What reads of it. */
  readonly socket: TLSSocket;
  readonly tls: RawRecords;
}

/** records is a connection whose TLS records the test makes, after an honest handshake. */
function records({ certificatePem: cert, keyPem: key }: Credential): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const raw = connectTcp({ port: fixture.port, host: "127.0.0.1" });
    const socket = connectTls({ socket: raw, ca: alpha.caPem, cert, key, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined });
    const keylog: Buffer[] = [];
    socket.on("keylog", (line) => keylog.push(line));
    for (const each of [raw, socket]) each.on("error", reject);
    socket.once("secureConnect", () => {
      socket.resume();
      for (const each of [raw, socket]) each.removeAllListeners("error").on("error", () => undefined);
      // Not before what ends the handshake is written.
      setImmediate(() => resolve({ raw, socket, tls: new RawRecords(secretOf(keylog, "CLIENT_TRAFFIC_SECRET_0")) }));
    });
  });
}

const PAIRS = {
  ":method": "POST",
  ":scheme": "https",
  ":authority": "x",
  ":path": GREET,
  "content-type": "application/grpc",
  te: "trailers",
};
const HEADERS = frame(1, 4, 1, Buffer.concat(Object.entries(PAIRS).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)])));
/** The begin of a message of a million bytes. */
const BEGIN = frame(0, 0, 1, Buffer.of(0, 0, 15, 66, 64));
const WINDOW = frame(8, 0, 0, Buffer.of(0, 0, 0, 1));
const PING = frame(6, 0, 0, Buffer.from("are you?"));
const PONG = frame(6, 1, 0, Buffer.from("are you?"));
const UNKNOWN = frame(0x77, 0, 0, Buffer.alloc(2_000));
const CRUMBS = Buffer.concat(Array.from({ length: 1_500 }, () => frame(0, 0, 1, Buffer.of(1))));

/** Flood makes some KiB of what nothing below HTTP/2, or in it, bounds; so many bytes are too much of anybody. */
interface Flood {
  readonly make: (tls: RawRecords) => Buffer;
  readonly bytes: number;
  readonly reason: string;
}

const FLOODS: Readonly<Record<string, Flood>> = {
  "key updates": {
    make: (tls) => Buffer.concat(Array.from({ length: 100 }, () => tls.keyUpdate())),
    bytes: 64 * KIB,
    reason: "tls_records",
  },
  "key updates that ask for one": {
    make: (tls) => Buffer.concat(Array.from({ length: 100 }, () => tls.keyUpdate(true))),
    bytes: 64 * KIB,
    reason: "tls_records",
  },
  "TLS records of one byte": {
    make: (tls) => Buffer.concat([...UNKNOWN].map((byte) => tls.data(Buffer.of(byte)))),
    bytes: 1_024 * KIB,
    reason: "chatter",
  },
  "a window update in each TLS record": {
    make: (tls) => Buffer.concat(Array.from({ length: 1_000 }, () => tls.data(WINDOW))),
    bytes: 1_024 * KIB,
    reason: "chatter",
  },
  "a message of which each byte is a frame of DATA": { make: (tls) => tls.data(CRUMBS), bytes: 600 * KIB, reason: "chatter" },
};

const begin = ({ raw, tls }: Raw): boolean => raw.write(tls.data(Buffer.concat([PREFACE, HEADERS, BEGIN])));
const closing = ({ raw }: Raw): Promise<void> => new Promise((resolve) => raw.once("close", () => resolve()));

/** flood sends so many bytes, or until it is thrown out, which it waits for. */
async function flood(connection: Raw, { make, bytes }: Flood): Promise<void> {
  const closed = closing(connection);
  begin(connection);
  for (let sent = 0; sent < bytes && !connection.raw.destroyed; ) {
    const block = make(connection.tls);
    sent += block.length;
    await new Promise((resolve) => connection.raw.write(block, resolve));
  }
  await closed;
}

describe("S-1 what TLS and HTTP/2 take for nothing", () => {
  test.each(Object.entries(FLOODS))(
    "S-1 a peer that floods with %s is thrown out, and stays out; others notice nothing",
    async (_name, what) => {
      fixture = await serve(alpha, [beta]);
      await flood(await records(beta.service()), what);
      expect(await refused(what.reason)).toBe(1);
      const again = await records(beta.service("other"));
      await new Promise((resolve) =>
        again.raw
          .removeAllListeners("error")
          .on("error", () => undefined)
          .once("close", resolve),
      );
      expect(await refused("chatter")).toBe(what.reason === "chatter" ? 2 : 1);
      await expect(own()).resolves.toBeDefined();
    },
  );

  test("S-1 all connections of a peer end with the one on which it floods with key updates", async () => {
    fixture = await serve(alpha, [beta]);
    const others = await Promise.all(Array.from({ length: 3 }, () => records(beta.service())));
    const closed = others.map(closing);
    await flood(await records(beta.service()), FLOODS["key updates"] as Flood);
    await Promise.all(closed);
  });

  test("S-1 a key update now and then, and small messages of an own caller, each in frames and records of their own, are let through", async () => {
    fixture = await serve(alpha, [beta]);
    const connection = await records(beta.service());
    const answered = new Promise<void>((resolve) => {
      connection.socket.on("data", (chunk: Buffer) => {
        if (chunk.includes(PONG)) resolve();
      });
    });
    begin(connection);
    const { raw, tls } = connection;
    for (let n = 0; n < 8; n++) raw.write(Buffer.concat([tls.keyUpdate(), tls.keyUpdate(true), tls.data(WINDOW)]));
    raw.write(tls.data(PING));
    await answered;
    const session = await rawH2({ port: fixture.port, credential: alpha.node("lamp"), ca: alpha.caPem });
    const stream = grpcStream(session, methodPath(EchoService.method.sum));
    const one = grpcMessage(encodeMessage(EchoRequestSchema, create(EchoRequestSchema, { text: "" })));
    for (let n = 0; n < 20_000; n++) if (!stream.write(one)) await new Promise((resolve) => stream.once("drain", resolve));
    expect(session.destroyed).toBe(false);
    expect(await refused("chatter")).toBe(0);
    session.destroy();
    raw.destroy();
  });
});

describe("Chatter", () => {
  test("S-1 takes records of one byte, and pieces of one byte, for more than they are", () => {
    const chat = new Chatter();
    expect(chat.excess({ bytesRead: 80 * KIB + 22_000, bytesWritten: 0 }, 0)).toBeGreaterThan(22_000 * 25);
    for (let n = 0; n < 1_000; n++) chat.piece(1, 0);
    expect(chat.excess({ bytesRead: 80 * KIB + 32_000, bytesWritten: 0 }, 10_000)).toBeGreaterThan(500_000);
  });

  test("S-1 what waits to be decrypted is not taken for records, however often it is looked at", () => {
    const chat = new Chatter();
    let bytesRead = 0;
    for (let n = 0; n < 1_000; n++) {
      bytesRead += 16_406;
      chat.piece(16_375, 0);
      const whole = Math.floor(bytesRead / 16_406 - (n % 4)) * 16_384;
      expect(chat.excess({ bytesRead, bytesWritten: 0 }, Math.max(0, whole))).toBe(0);
    }
  });
});
