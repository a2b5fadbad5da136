import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { Registry } from "prom-client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#runtime/clock.ts";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { memoryLogger } from "../../test/fakes/memory-logger.ts";
import { EchoRequestSchema, EchoService } from "../../test/proto/echo-service.gen.ts";
import { type Fixture, serve } from "../../test/rpc/fixture.ts";
import { until } from "../../test/support/federation.ts";
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
  const options = { hubId: "home", caFile, certFile, keyFile, intervalMs: 3_600_000, clock: systemClock, log, metrics: new Registry() };
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
