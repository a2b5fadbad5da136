import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Clock, systemClock } from "#channel/clock.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { EchoRequestSchema, EchoService } from "../../test/proto/echo-service.gen.ts";
import { type Fixture, serve } from "../../test/rpc/fixture.ts";
import { until } from "../../test/support/federation.ts";
import { hostileChain } from "../../test/support/hostile-certs.ts";
import { type Credential, type TestHub, testHub } from "../../test/testca/index.ts";
import { Credentials, type Target } from "./credentials.ts";

let folder: string;
let old: TestHub;
let next: TestHub;
let credentials: Credentials;
let log: ReturnType<typeof memoryLogger>;
const told: string[] = [];
const servers: Fixture[] = [];

const file = (name: string): string => join(folder, name);
const writeCa = (...hubs: readonly TestHub[]): void => writeFileSync(file("ca.pem"), hubs.map(({ caPem }) => caPem).join(""));
function writeLeaf({ certificatePem, keyPem }: Credential): void {
  writeFileSync(file("k.pem"), keyPem, { mode: 0o600 });
  writeFileSync(file("c.pem"), certificatePem);
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-credentials-"));
  old = await testHub("home");
  next = await old.otherAuthority();
  log = memoryLogger();
  told.length = 0;
  writeCa(old);
  writeLeaf(old.service());
  const [caFile, certFile, keyFile] = [file("ca.pem"), file("c.pem"), file("k.pem")];
  // What a handshake may take is over at once.
  const { setTimer } = systemClock;
  const clock: Clock = { ...systemClock, setTimer: (delayMs, fn) => setTimer(delayMs / 100, fn) };
  const options = { hubId: "home", caFile, certFile, keyFile, intervalMs: 3_600_000, clock, log, metrics: new Registry() };
  credentials = await Credentials.load(options);
  credentials.onRenewed(() => told.push("renewed"));
  credentials.onLeaf(() => told.push("leaf"));
});
afterEach(async () => {
  credentials.close();
  await Promise.all(servers.splice(0).map((server) => server.close()));
  rmSync(folder, { recursive: true, force: true });
});

const ofCa = (): number[] => [old, next].map(({ caPem }) => Number(credentials.caPems.some((pem) => caPem.includes(pem))));

test("D-10 a CA file that changes alone is taken; one that cannot be used leaves the last good set, and is told once", async () => {
  expect(await credentials.reload()).toBe(false);
  writeCa(old, next);
  expect(await credentials.reload()).toBe(true);
  expect([ofCa(), credentials.bundle.length, told]).toEqual([[1, 1], 2, ["renewed"]]);
  const problems = (): number =>
    log.lines.filter(({ message }) => message === "CA certificates on disk not usable, last good ones kept").length;
  writeFileSync(file("ca.pem"), "torn");
  for (let i = 0; i < 3; i++) expect(await credentials.reload()).toBe(false);
  expect([ofCa(), problems()]).toEqual([[1, 1], 1]);
  // Without the CA of the certificate in use this hub would refuse itself.
  writeCa(next);
  expect(await credentials.reload()).toBe(false);
  expect([ofCa(), problems()]).toEqual([[1, 1], 2]);
  writeLeaf(next.service());
  expect(await credentials.reload()).toBe(true);
  expect([ofCa(), told]).toEqual([
    [0, 1],
    ["renewed", "renewed", "leaf"],
  ]);
});

test("D-10 a client of an own service reaches it under the next CA too, without being made again", async () => {
  /** serverOf is the service when it was started with a certificate of one CA; both know both. */
  const serverOf = async (hub: TestHub): Promise<Fixture> => {
    const { certificatePem: cert, keyPem: key } = hub.service();
    const made = await serve(hub, [], { credentials: createServerCredentials({ cert, key, ca: [old.caPem, next.caPem] }) });
    made.authority.bundles.set("home", [...(made.authority.bundle("home") ?? []), ...credentials.bundle]);
    servers.push(made);
    return made;
  };
  const target = (server: Fixture): Target => ({
    host: "127.0.0.1",
    port: server.port,
    expected: { hubId: "home" },
    caPems: () => credentials.caPems,
  });
  const server = await serverOf(next);
  const client = credentials.client(EchoService, target(server));
  await expect(client.echo(create(EchoRequestSchema))).rejects.toMatchObject({ failure: { reason: "FOREIGN_CA" } });
  writeCa(old, next);
  expect(await credentials.reload()).toBe(true);
  expect(await until("an answer", () => client.echo(create(EchoRequestSchema)))).toMatchObject({ caller: "spiffe://home/service/hub" });
  client.close();
});

/** listening starts a server, which is stopped after the test. */
async function listening(server: net.Server): Promise<number> {
  const open = new Set<net.Socket>();
  server.on("connection", (socket: net.Socket) => open.add(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    for (const socket of open) socket.destroy();
    server.close();
  };
  servers.push({ close } as Fixture);
  return (server.address() as net.AddressInfo).port;
}

/** dial asks a peer something with a client of its own, as each dial of a session has, and answers how it failed. */
async function dial(port: number, pki: TestHub): Promise<string> {
  const target: Target = { host: "127.0.0.1", port, expected: { hubId: "barn" }, caPems: [pki.caPem] };
  const client = credentials.client(EchoService, target);
  try {
    await client.echo(create(EchoRequestSchema, { text: "x" }), { timeoutMs: 3_000 });
    return "";
  } catch (error) {
    return (error as Error).message;
  } finally {
    client.close();
  }
}

test("S-1 made-up CAs of whoever answers at the address of a peer are not verified, at the first dial or at any other", async () => {
  const barn = await testHub("barn");
  const { cert, key } = hostileChain(95_000);
  let dialled = 0;
  const server = createTlsServer({ cert, key, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] });
  server.on("tlsClientError", () => undefined).on("connection", () => dialled++);
  const port = await listening(server);
  const before = process.threadCpuUsage().user;
  for (let i = 0; i < 3; i++) expect(await dial(port, barn)).not.toBe("");
  expect(dialled).toBeGreaterThan(2);
  // Verified, each takes most of a second.
  expect(process.threadCpuUsage().user - before).toBeLessThan(600_000);
});

test("S-1 who proved to be the peer, and then shows made-up CAs, is not dialled for a while, and is bounded from then on", async () => {
  const barn = await testHub("barn");
  const honest = await serve(barn, [old]);
  servers.push(honest);
  expect(await dial(honest.port, barn)).not.toContain("TLS");
  const { cert, key } = hostileChain(95_000);
  const server = createTlsServer({ cert, key, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] });
  server.on("tlsClientError", () => undefined);
  const port = await listening(server);
  await dial(port, barn);
  const before = process.threadCpuUsage().user;
  for (let i = 0; i < 2; i++) expect(await dial(port, barn)).toContain("it is dialled again");
  expect(process.threadCpuUsage().user - before).toBeLessThan(300_000);
});

test.each([
  ["says nothing", () => net.createServer((socket) => socket.resume())],
  [
    "begins a handshake, and does not go on",
    () =>
      net.createServer((socket) => {
        // The head of a record of 16 KiB.
        socket.resume().write(Buffer.of(0x16, 3, 3, 0x40, 0));
      }),
  ],
  [
    "ends the handshake, and says nothing of HTTP/2",
    (pki: TestHub) => {
      const { certificatePem: cert, keyPem: key } = pki.service();
      return createTlsServer({ cert, key, ca: pki.caPem, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] }, (socket) => socket.resume());
    },
  ],
] as const)("S-1 a connection to a server that %s is given up, also when nobody wants it any more", async (_what, make) => {
  const barn = await testHub("barn");
  let closed = 0;
  const server: net.Server = make(barn);
  server.on("connection", (socket: net.Socket) => socket.on("close", () => closed++).on("error", () => undefined));
  const port = await listening(server);
  const target: Target = { host: "127.0.0.1", port, expected: { hubId: "barn" }, caPems: [barn.caPem] };
  const client = credentials.client(EchoService, target);
  await client.echo(create(EchoRequestSchema, { text: "x" }), { timeoutMs: 50 }).catch(() => undefined);
  client.close();
  await until("the connection is closed", async () => closed > 0);
});
