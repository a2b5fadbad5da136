import { X509Certificate } from "node:crypto";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { checkServer, expectedPeerOf, parseSpiffeId, thumbprintOf } from "#channel/tls/peer-identity.ts";
import { silentLogger } from "#runtime/log/log.ts";
import { memoryLogger } from "../../../test/fakes/memory-logger.ts";
import { TestAuthority, until } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import { createCertificateSource, keyModeWarning, loadCertificate } from "./certificate-source.ts";
import { createServerCredentials } from "./credentials.ts";
import { admit } from "./peer-admission.ts";

let alpha: TestHub;
let beta: TestHub;
let gamma: TestHub;
let folder: string;

beforeAll(async () => {
  [alpha, beta, gamma] = await Promise.all([testHub("alpha"), testHub("beta"), testHub("gamma")]);
  folder = await mkdtemp(join(tmpdir(), "foedus-tls-"));
});
afterAll(() => rm(folder, { recursive: true }));

const leafOf = ({ certificatePem }: Credential): X509Certificate => new X509Certificate(certificatePem);

describe("SPIFFE ids", () => {
  test.each([
    "spiffe://a/service/hub",
    "spiffe://home-1/node/0x00158d_A",
    "spiffe://x/gateway/zig.bee",
    `spiffe://${"a".repeat(63)}/operator/ada`,
  ])("%s is one", (uri) => {
    const id = parseSpiffeId(uri);
    expect(`spiffe://${id?.hubId}/${id?.kind}/${id?.name}`).toBe(uri);
  });

  test.each([
    "spiffe://A/service/hub",
    "spiffe://a/service/hub/more",
    "spiffe://a/service/",
    "spiffe://a/service/..",
    "spiffe://a/admin/x",
    "spiffe://a:1/service/hub",
    "spiffe://u@a/service/hub",
    "spiffe://a/service/hub?x",
    "spiffe://a/service/hub#x",
    "spiffe://a/service/h%75b",
    "https://a/service/hub",
    `spiffe://${"a".repeat(64)}/service/hub`,
    "spiffe://-a/service/hub",
    '"spiffe://a/service/hub"',
    "spiffe://a/service/hub\n",
  ])("%j is none", (uri) => {
    expect(parseSpiffeId(uri)).toBeUndefined();
  });
});

test("whom to expect is read from an exact id", () => {
  expect(expectedPeerOf("spiffe://beta/service/discovery")).toEqual({ hubId: "beta", name: "discovery" });
  expect(expectedPeerOf("spiffe://beta/node/lamp")).toBeUndefined();
  expect(expectedPeerOf("beta")).toBeUndefined();
});

describe("admission", () => {
  test("a service of another hub is a peer with the level decided here", () => {
    const authority = new TestAuthority(alpha, [beta]);
    authority.trust(beta, 2);
    const credential = beta.service("discovery");
    const answer = admit(leafOf(credential), authority, systemClock.wall());
    expect(answer).toMatchObject({
      caller: { kind: "peer", hubId: "beta", name: "discovery", level: 2, role: 0, thumbprint: thumbprintOf(leafOf(credential)) },
    });
  });

  test("a bundle counts for its own hub only", () => {
    const authority = new TestAuthority(alpha, [beta, gamma]);
    expect(admit(leafOf(gamma.impersonating("beta")), authority, systemClock.wall())).toMatchObject({
      refusedBy: "own-bundle",
      failure: { reason: "FOREIGN_CA" },
    });
  });

  test("a CA of the right name with another key is foreign", async () => {
    const authority = new TestAuthority(alpha, [beta]);
    const twin = await beta.otherAuthority();
    expect(admit(leafOf(twin.service()), authority, systemClock.wall())).toMatchObject({ refusedBy: "own-bundle" });
  });

  test("a CA certificate is no caller", () => {
    const authority = new TestAuthority(alpha, [beta]);
    expect(admit(new X509Certificate(beta.caPem), authority, systemClock.wall())).toMatchObject({
      failure: { reason: "UNKNOWN_IDENTITY" },
    });
  });

  test("a gateway with an empty id prefix, as of a template that was not filled in, speaks for no node and not for all", () => {
    const authority = new TestAuthority(alpha, []);
    const admitted = (...units: string[]) => admit(leafOf(alpha.gatewayOf(...units)), authority, systemClock.wall());
    for (const units of [["prefix:"], ["prefix:zb-", "prefix:"]])
      expect(admitted(...units)).toMatchObject({ refusedBy: "prefixes", failure: { reason: "UNKNOWN_IDENTITY" } });
    expect(admitted("prefix:zb-")).toMatchObject({ caller: { prefixes: ["zb-"] } });
    expect(admitted()).toMatchObject({ caller: { prefixes: [] } });
  });

  test.each([
    ["expired", () => beta.expired()],
    ["not yet valid", () => beta.notYetValid()],
  ])("validity by this hub's clock: %s", (_name, credential) => {
    const authority = new TestAuthority(alpha, [beta]);
    expect(admit(leafOf(credential()), authority, systemClock.wall())).toMatchObject({
      refusedBy: "validity",
      failure: { reason: "CERTIFICATE_EXPIRED" },
    });
  });
});

describe("the server's certificate", () => {
  const check = (credential: Credential, hub = beta, name?: string) =>
    checkServer(
      leafOf(credential),
      { hubId: hub.hubId, ...(name === undefined ? {} : { name }) },
      [new X509Certificate(hub.caPem)],
      systemClock.wall(),
    );

  test("the expected service of the expected hub", () => {
    expect(check(beta.service("hub"))).toBeUndefined();
    expect(check(beta.service("hub"), beta, "hub")).toBeUndefined();
  });

  test("one of a hub that runs in the other mode says so, and what to do", () => {
    expect(check(beta.service("discovery"), beta, "hub")?.message).toMatch(/and not spiffe:.*one process per service.*--address service=/);
    expect(check(beta.service("hub"), beta, "telemetry")?.message).toMatch(/as one process now.*one --address/);
    expect(check(gamma.service("discovery"), beta, "hub")?.message).toMatch(/check the address$/);
  });

  test("D-15 a revoked one is refused, another of the same service is not", () => {
    const [stolen, next] = [beta.service("hub"), beta.service("hub")];
    const check = (credential: Credential) =>
      checkServer(leafOf(credential), { hubId: "beta" }, [new X509Certificate(beta.caPem)], systemClock.wall(), [
        thumbprintOf(leafOf(stolen)),
      ]);
    expect(check(stolen)).toMatchObject({ reason: "UNKNOWN_IDENTITY", message: expect.stringContaining("was revoked") });
    expect(check(next)).toBeUndefined();
  });

  test.each([
    ["another service", "UNKNOWN_IDENTITY", () => check(beta.service("telemetry"), beta, "hub")],
    ["another hub", "UNKNOWN_IDENTITY", () => check(gamma.service())],
    ["no service", "UNKNOWN_IDENTITY", () => check(beta.gateway())],
    ["S-19 a CA that names itself a service", "UNKNOWN_IDENTITY", () => check(beta.caAsService())],
    ["two ids", "UNKNOWN_IDENTITY", () => check(beta.twoUris())],
    ["no id", "UNKNOWN_IDENTITY", () => check(beta.withoutUri())],
    ["foreign CA", "FOREIGN_CA", () => check(gamma.impersonating("beta"))],
    ["expired", "CERTIFICATE_EXPIRED", () => check(beta.expired())],
  ])("refused: %s", (_name, reason, run) => {
    expect(run()).toMatchObject({ reason });
  });
});

describe("certificates from files", () => {
  let n = 0;
  const write = async (credential: Credential, mode = 0o600) => {
    const files = { certFile: join(folder, `${++n}.pem`), keyFile: join(folder, `${n}.key`) };
    await writeFile(files.certFile, credential.certificatePem);
    await writeFile(files.keyFile, credential.keyPem);
    await chmod(files.keyFile, mode);
    return files;
  };
  const otherKey = (credential: Credential): string =>
    [alpha.service(), alpha.service()].map(({ keyPem }) => keyPem).find((key) => key !== credential.keyPem) as string;

  test("a good pair", async () => {
    const credential = alpha.service("telemetry");
    const certificate = await loadCertificate(await write(credential), systemClock.wall());
    expect(certificate).toMatchObject({
      id: { hubId: "alpha", kind: "service", name: "telemetry" },
      thumbprint: thumbprintOf(leafOf(credential)),
    });
  });

  test("each problem names the file and what to do", async () => {
    const good = await write(alpha.service());
    const credential = alpha.service();
    const mixed = await write({ ...credential, keyPem: otherKey(credential) });
    const load = (files: typeof good) => loadCertificate(files, systemClock.wall());
    await expect(load({ ...good, keyFile: join(folder, "absent.key") })).rejects.toThrow(
      `cannot read the private key ${join(folder, "absent.key")}: it does not exist; create it with`,
    );
    await expect(load({ ...good, keyFile: folder })).rejects.toThrow("it is a folder");
    await expect(load(mixed)).rejects.toThrow(`do not belong together (certificate ${mixed.certFile}, key ${mixed.keyFile})`);
    await expect(load({ ...good, keyFile: good.certFile })).rejects.toThrow("private key cannot be read");
    await expect(load({ ...good, certFile: good.keyFile })).rejects.toThrow("no certificate");
    await expect(load(await write(alpha.expired()))).rejects.toThrow("expired at");
    await expect(load(await write(alpha.notYetValid()))).rejects.toThrow("not valid before");
    await expect(load(await write(alpha.withoutUri()))).rejects.toThrow("no single URI");
  });

  test("a key that others can read is told", async () => {
    expect(await keyModeWarning((await write(alpha.service(), 0o600)).keyFile)).toBeUndefined();
    expect(await keyModeWarning((await write(alpha.service(), 0o640)).keyFile)).toBeUndefined();
    expect(await keyModeWarning((await write(alpha.service(), 0o644)).keyFile)).toContain("mode 0644");
    const log = memoryLogger();
    const source = await createCertificateSource({
      files: await write(alpha.service(), 0o644),
      clock: systemClock,
      log,
      metrics: new Registry(),
    });
    source.close();
    expect(log.lines).toMatchObject([{ level: "warn", message: "key file is too open" }]);
  });

  test("D-13 polling publishes a new pair, and keeps the last good one through torn and bad ones", async () => {
    const files = await write(alpha.service());
    const metrics = new Registry();
    const log = memoryLogger();
    const source = await createCertificateSource({ files, clock: systemClock, log, metrics, intervalMs: 1 });
    const first = source.current();
    const heard: string[] = [];
    source.subscribe(({ thumbprint }) => heard.push(thumbprint));
    const failures = async () => (await metrics.getSingleMetric("foedus_cert_reload_failures_total")?.get())?.values[0]?.value ?? 0;
    await writeFile(files.certFile, "torn");
    await until(async () => (await failures()) > 0);
    expect(source.current()).toBe(first);
    await writeFile(files.certFile, beta.service().certificatePem);
    const before = await failures();
    await until(async () => (await failures()) > before);
    expect(source.current()).toBe(first);
    const next = alpha.service();
    await writeFile(files.keyFile, next.keyPem);
    await writeFile(files.certFile, next.certificatePem);
    await until(() => heard.length > 0);
    expect(heard).toEqual([thumbprintOf(leafOf(next))]);
    expect(source.current().thumbprint).toBe(heard[0]);
    const text = await metrics.metrics();
    expect(text).toMatch(/foedus_cert_expiry_seconds\{spiffe_id="spiffe:\/\/alpha\/service\/hub"\} \d+/);
    source.close();
  });

  test("a changed identity is refused while running", async () => {
    const files = await write(alpha.service("hub"));
    const source = await createCertificateSource({ files, clock: systemClock, log: silentLogger, metrics: new Registry() });
    const other = alpha.service("telemetry");
    await writeFile(files.keyFile, other.keyPem);
    await writeFile(files.certFile, other.certificatePem);
    expect(await source.reload()).toBe(false);
    expect(source.current().id.name).toBe("hub");
    source.close();
  });
});

describe("server credentials", () => {
  test("a chain in the wrong order is refused with the fix", () => {
    const { certificatePem, keyPem, chainPem } = alpha.service();
    const ca = [alpha.caPem];
    expect(() => createServerCredentials({ cert: chainPem, key: keyPem, ca })).not.toThrow();
    expect(() => createServerCredentials({ cert: `${certificatePem}\n${beta.caPem}`, key: keyPem, ca })).toThrow("put the leaf first");
    expect(() =>
      createServerCredentials({ cert: certificatePem, key: keyPem, ca: ["-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----"] }),
    ).toThrow("must be PEM");
  });
});
