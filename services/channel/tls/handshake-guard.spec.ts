import { randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import { CLIENT_FLIGHT_BYTES, guardHandshakes, guardOf, HandshakeGuard, SERVER_FLIGHT_BYTES } from "./handshake-guard.ts";

let alpha: TestHub;
let leaf: Credential;
const ends: (() => void)[] = [];

beforeAll(async () => {
  alpha = await testHub("alpha");
  leaf = alpha.service();
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
  vi.restoreAllMocks();
});

/** pair connects a client to a server with guards below both, and answers when both handshakes are done. */
async function pair(): Promise<{ server: TLSSocket; client: TLSSocket; guards: Map<TLSSocket, HandshakeGuard> }> {
  const guards = new Map<TLSSocket, HandshakeGuard>();
  const own = { cert: leaf.certificatePem, key: leaf.keyPem, ca: alpha.caPem };
  const listener = createServer({ ...own, requestCert: true, minVersion: "TLSv1.3" });
  const served = new Promise<TLSSocket>((resolve) => listener.on("secureConnection", resolve));
  const pass = (secure: TLSSocket): void => {
    const guard = guardOf(secure) as HandshakeGuard;
    guards.set(secure, guard);
    guard.pass(secure);
  };
  listener.prependListener("secureConnection", pass);
  guardHandshakes(listener, CLIENT_FLIGHT_BYTES);
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const socket = new HandshakeGuard(net.connect((listener.address() as net.AddressInfo).port, "127.0.0.1"), SERVER_FLIGHT_BYTES);
  const client = connect({ ...own, socket, checkServerIdentity: () => undefined });
  client.prependListener("secureConnect", () => pass(client));
  await once(client, "secureConnect");
  const server = await served;
  ends.push(
    () => client.destroy(),
    () => server.destroy(),
    () => listener.close(),
  );
  return { server, client, guards };
}

/** carries sends some bytes and answers what came of them. */
async function carries(from: TLSSocket, to: TLSSocket, parts: readonly Buffer[]): Promise<Buffer> {
  const want = parts.reduce((sum, { length }) => sum + length, 0);
  const got: Buffer[] = [];
  let bytes = 0;
  const all = new Promise<void>((resolve) =>
    to.on("data", (chunk: Buffer) => {
      got.push(chunk);
      bytes += chunk.length;
      if (bytes >= want) resolve();
    }),
  );
  for (const part of parts) if (!from.write(part)) await once(from, "drain");
  await all;
  to.removeAllListeners("data");
  return Buffer.concat(got);
}

describe("S-1 a guard whose handshake is done", () => {
  const PATH = ["push", "read", "_read", "_write", "_writev", "write", "emit"] as const;

  test("S-1 is not on the path of what is sent: nothing of it is called for a chunk, in either direction", async () => {
    const { server, client, guards } = await pair();
    expect(guards.size).toBe(2);
    // Sessions that can be resumed come after the handshake.
    expect(await carries(client, server, [Buffer.from("a")])).toEqual(Buffer.from("a"));
    expect(await carries(server, client, [Buffer.from("b")])).toEqual(Buffer.from("b"));
    const spies = [...guards.values()].flatMap((guard) => PATH.map((name) => vi.spyOn(guard, name)));
    const parts = Array.from({ length: 200 }, (_, n) => randomBytes(n % 3 === 0 ? 100_000 : 50));
    expect(Buffer.compare(await carries(client, server, parts), Buffer.concat(parts))).toBe(0);
    expect(Buffer.compare(await carries(server, client, parts), Buffer.concat(parts))).toBe(0);
    expect(spies.map(({ mock }) => mock.calls.length)).toEqual(spies.map(() => 0));
  });

  test("S-1 lets a reader that pauses hold its sender up, and loses nothing", async () => {
    const { server, client } = await pair();
    server.pause();
    const bytes = randomBytes(100_000);
    let taken = 0;
    while (taken < 1_000 && client.write(bytes)) taken++;
    for (let i = 0; i < 200 && client.writableLength > 0; i++) {
      client.write(bytes);
      taken++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    // What waits is with the sender, in the kernel and in one buffer of each layer.
    expect(client.writableLength).toBeGreaterThan(0);
    expect(server.readableLength).toBeLessThan(1_000_000);
    let got = 0;
    server.on("data", (chunk: Buffer) => (got += chunk.length));
    server.resume();
    client.end(bytes);
    await once(server, "end");
    expect(got % bytes.length).toBe(0);
  });

  test.each(["end", "destroy", "reset"] as const)("S-1 tells of the %s of its connection, either way", async (how) => {
    for (const fromClient of [true, false]) {
      const { server, client, guards } = await pair();
      const [here, there] = fromClient ? [client, server] : [server, client];
      let said = "";
      there.on("error", () => undefined).on("data", (chunk: Buffer) => (said += String(chunk)));
      here.on("error", () => undefined).resume();
      const raws = [...guards.values()].map(({ raw }) => raw);
      const closed = Promise.all([here, there, ...raws].map((one) => new Promise<void>((resolve) => one.once("close", () => resolve()))));
      if (how === "end") here.end("last");
      else if (how === "destroy") here.destroy();
      else guards.get(here)?.raw.resetAndDestroy();
      await closed;
      expect(said).toBe(how === "end" ? "last" : "");
      for (const guard of guards.values()) expect(guard.destroyed).toBe(true);
    }
  });
});
