import type { AddressInfo, Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, expect, test } from "vitest";
import { EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { frame, text } from "../../../test/support/raw-h2.ts";
import { RawRecords, secretOf } from "../../../test/support/raw-tls.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { createClient } from "../client.ts";
import { systemClock } from "../clock.ts";
import { socketUnder } from "./handshake-guard.ts";
import { createPeerCredentials } from "./peer-credentials.ts";
import { ServerHandshakes } from "./server-handshakes.ts";

let home: TestHub;
let barn: TestHub;
let server: Server | undefined;
const sockets: Socket[] = [];

beforeAll(async () => {
  [home, barn] = await Promise.all([testHub("home"), testHub("barn")]);
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
});

const KIB = 1024;
/** Tickets that Node sends with a handshake, each in a record. */
const TICKETS = 2;

/** asked resolves when the headers of a request have come. */
function asked(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    let came = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      came = Buffer.concat([came, chunk]);
      for (let at = 24; at + 9 <= came.length; at += 9 + came.readUIntBE(at, 3)) if (came[at + 3] === 1) resolve();
    });
  });
}

/** hostile is a server that answers the first request of each connection with a flood of so many bytes, and tells when it is closed. */
async function hostile({ first = Buffer.alloc(0), make, bytes }: Flood): Promise<{ port: number; ends: Promise<void> }> {
  const { certificatePem: cert, keyPem: key } = barn.service();
  const ends = Promise.withResolvers<void>();
  server = createServer({ cert, key, ca: home.caPem, requestCert: true, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] });
  const keylog = new WeakMap<TLSSocket, Buffer[]>();
  server.on("keylog", (line, socket) => keylog.set(socket, [...(keylog.get(socket) ?? []), line]));
  server.on("secureConnection", (socket) => {
    const raw = socketUnder(socket) as Socket;
    sockets.push(raw);
    for (const each of [raw, socket]) each.on("error", () => undefined);
    raw.once("close", () => ends.resolve());
    setImmediate(async () => {
      const tls = new RawRecords(secretOf(keylog.get(socket) ?? [], "SERVER_TRAFFIC_SECRET_0"), TICKETS);
      const request = asked(socket);
      raw.write(tls.data(Buffer.concat([frame(4, 0, 0, Buffer.alloc(0)), frame(4, 1, 0, Buffer.alloc(0))])));
      await request;
      raw.write(tls.data(first));
      for (let sent = 0; sent < bytes && !raw.destroyed; ) {
        const block = make(tls);
        sent += block.length;
        await new Promise((resolve) => raw.write(block, resolve));
      }
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, ends: ends.promise };
}

interface Flood {
  readonly first?: Buffer;
  readonly make: (tls: RawRecords) => Buffer;
  readonly bytes: number;
}

const repeated = (what: Buffer, times: number): Buffer => Buffer.concat(Array.from({ length: times }, () => what));
const many = (make: () => Buffer): Buffer => Buffer.concat(Array.from({ length: 200 }, make));
const ANSWER = frame(1, 4, 1, Buffer.concat([Buffer.of(0x88, 0x0f, 0x10), text("application/grpc")]));
const BEGIN = frame(0, 0, 1, Buffer.of(0, 0, 15, 66, 64));
const UNKNOWN = frame(0x77, 0, 0, Buffer.alloc(2_000));
let promised = 0;
const promise = (): Buffer => {
  const id = Buffer.alloc(4);
  id.writeUInt32BE((promised += 2));
  return frame(5, 4, 1, Buffer.concat([id, Buffer.of(0x82, 0x87, 0x84, 0x01), text("x")]));
};

const FLOODS: Readonly<Record<string, Flood>> = {
  tickets: { make: (tls) => many(() => tls.ticket()), bytes: 64 * KIB },
  "key updates": { make: (tls) => many(() => tls.keyUpdate()), bytes: 64 * KIB },
  "TLS records of one byte": { make: (tls) => Buffer.concat([...UNKNOWN].map((byte) => tls.data(Buffer.of(byte)))), bytes: 1_024 * KIB },
  promises: { make: (tls) => tls.data(many(promise)), bytes: 64 * KIB },
  "informational headers": {
    make: (tls) => tls.data(repeated(frame(1, 4, 1, Buffer.concat([Buffer.of(0x08), text("103")])), 500)),
    bytes: 64 * KIB,
  },
  "an answer of which each byte is a frame of DATA": {
    first: Buffer.concat([ANSWER, BEGIN]),
    make: (tls) => tls.data(repeated(frame(0, 0, 1, Buffer.of(1)), 1_500)),
    bytes: 600 * KIB,
  },
};

const clientOf = (port: number, handshakes: ServerHandshakes) => {
  const { certificatePem: cert, keyPem: key } = home.service();
  const credentials = createPeerCredentials({ hubId: "barn" }, { cert, key, ca: [barn.caPem] }, systemClock, handshakes);
  return createClient(EchoService, { address: `127.0.0.1:${port}`, credentials, clock: systemClock, namesAddress: true });
};
const failure = async (client: ReturnType<typeof clientOf>): Promise<string> =>
  client.echo(create(EchoRequestSchema, { text: "x" }), { timeoutMs: 5_000 }).then(
    () => "",
    (error: Error) => error.message,
  );

test.each(Object.entries(FLOODS))(
  "S-1 a server that sends %s without end is dropped, and not dialled for a while",
  async (_name, flood) => {
    promised = 0;
    const { port, ends } = await hostile(flood);
    const handshakes = new ServerHandshakes();
    const client = clientOf(port, handshakes);
    expect(await failure(client)).not.toBe("");
    await ends;
    client.close();
    // Whoever dials it: a session has a client of its own.
    const next = clientOf(port, handshakes);
    expect(await failure(next)).toContain("it is dialled again in");
    next.close();
  },
);
