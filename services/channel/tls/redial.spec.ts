import net from "node:net";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { EchoRequestSchema, EchoService } from "../../../test/proto/echo-service.gen.ts";
import { type Fixture, failureOfCall, serve } from "../../../test/rpc/fixture.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { createClient } from "../client.ts";
import { systemClock } from "../clock.ts";
import { FLOOD_BYTES } from "./chatter.ts";
import { createPeerCredentials } from "./peer-credentials.ts";
import { redialling } from "./redial.ts";
import { ServerHandshakes } from "./server-handshakes.ts";

let alpha: TestHub;
let fixture: Fixture;
const ends: (() => void)[] = [];

beforeAll(async () => {
  alpha = await testHub("alpha");
  fixture = await serve(alpha, []);
  return () => fixture.close();
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** door closes so many connections, with a reset or an end, and passes the next ones on to a server; it counts them. */
async function door(closes: number, how: "reset" | "end") {
  let dialled = 0;
  const server = net.createServer((socket) => {
    socket.on("error", () => undefined);
    ends.push(() => socket.destroy());
    if (dialled++ < closes) return void (how === "reset" ? socket.once("data", () => socket.resetAndDestroy()) : socket.destroy());
    const on = net.connect(fixture.port, "127.0.0.1").on("error", () => undefined);
    socket.pipe(on).pipe(socket);
  });
  return { client: clientOf(await listening(server), new ServerHandshakes(true)), dialled: () => dialled };
}

/** listening is the port of a server that closes with the test. */
async function listening(server: net.Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

/** clientOf calls whoever answers at a port; `handshakes` are those with it so far. */
function clientOf(port: number, handshakes: ServerHandshakes) {
  const { certificatePem: cert, keyPem: key } = alpha.node("lamp");
  const credentials = createPeerCredentials({ hubId: "alpha" }, { cert, key, ca: [alpha.caPem] }, systemClock, handshakes);
  const client = createClient(EchoService, { address: `127.0.0.1:${port}`, credentials, clock: systemClock });
  ends.push(() => client.close());
  return client;
}

test.each(["reset", "end"] as const)(
  "S-1 a connection that the server closes with a %s before a word is made again at once",
  async (how) => {
    const { client, dialled } = await door(4, how);
    await expect(client.echo(create(EchoRequestSchema, { text: "x" }))).resolves.toMatchObject({ text: "x" });
    expect(dialled()).toBe(5);
  },
);

test("S-1 a server that closes each is given up in a while", async () => {
  const { client, dialled } = await door(Number.POSITIVE_INFINITY, "reset");
  expect((await failureOfCall(client.echo(create(EchoRequestSchema, { text: "x" })))).reason).toBe("PEER_UNREACHABLE");
  expect(dialled()).toBe(31);
});

test("S-1 a server that floods between two dials is refused: the second is closed, and a reset of it ends nothing", async () => {
  const handshakes = new ServerHandshakes();
  const refused = Promise.withResolvers<void>();
  let dialled = 0;
  const server = net.createServer((socket) => {
    socket.on("error", () => undefined);
    ends.push(() => socket.destroy());
    // As it may over the other connection of a session.
    if (++dialled === 1)
      return void socket.once("data", () => {
        handshakes.chattered(FLOOD_BYTES, systemClock.mono());
        socket.resetAndDestroy();
      });
    if (dialled === 2) socket.resume().once("close", () => refused.resolve());
  });
  const client = clientOf(await listening(server), handshakes);
  const { reason } = await failureOfCall(client.echo(create(EchoRequestSchema, { text: "x" })));
  expect([reason, dialled]).toEqual(["PEER_UNREACHABLE", 2]);
  await refused.promise;
});

describe("S-1 a connection that is not handed on is closed", () => {
  const reset = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });

  /** dial opens a connection, as gRPC does, and shakes hands on it and on further ones; it answers all of them when that failed. */
  async function dial(handshake: (nth: number) => Promise<void>, wanted: () => boolean = () => true, onWait = () => {}) {
    const accepted: net.Socket[] = [];
    const port = await listening(net.createServer((socket) => void accepted.push(socket.on("error", () => undefined))));
    ends.push(() => accepted.forEach((socket) => void socket.destroy()));
    const first = net.connect(port, "127.0.0.1");
    await new Promise<void>((resolve) => first.once("connect", resolve));
    const dialled: net.Socket[] = [];
    const shake = (socket: net.Socket): Promise<void> => handshake(dialled.push(socket));
    const setTimer: typeof systemClock.setTimer = (_ms, fn) => {
      onWait();
      return systemClock.setImmediate(fn);
    };
    const error = await redialling(first, { host: "127.0.0.1", port }, shake, { setTimer }, wanted).then(
      () => undefined,
      (cause: Error) => cause,
    );
    return { error, dialled, listened: dialled.map((socket) => socket.listenerCount("error") > 0) };
  }

  test.each([1, 2, 3])("whose handshake is refused: dial %d", async (last) => {
    const { error, dialled, listened } = await dial(async (nth) => {
      throw nth === last ? new Error("refused") : reset();
    });
    expect(error?.message).toBe("refused");
    expect(dialled.map(({ destroyed }) => destroyed)).toEqual(Array.from({ length: last }, () => true));
    expect(listened).toEqual(Array.from({ length: last }, () => true));
  });

  test("whose handshake is done when nobody wants it any more", async () => {
    let wanted = true;
    const { error, dialled } = await dial(
      async () => void (wanted = false),
      () => wanted,
    );
    expect(error).toBeDefined();
    expect(dialled.map(({ destroyed }) => destroyed)).toEqual([true]);
  });

  test("and nobody dials again who is not wanted any more after a wait", async () => {
    let wanted = true;
    const { error, dialled } = await dial(
      async () => {
        throw reset();
      },
      () => wanted,
      () => void (wanted = false),
    );
    expect([error?.message, dialled.length]).toEqual(["read ECONNRESET", 1]);
  });
});
