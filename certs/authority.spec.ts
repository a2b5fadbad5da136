import { spawnSync } from "node:child_process";
import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  type Authority,
  certify,
  createAuthority,
  createRequest,
  type Issued,
  issue,
  loadAuthority,
  openAuthority,
  readRequest,
  signRequest,
} from "./authority.ts";
import { type IssueRequest, PkiError, PROFILES, readIdentity, readSans, SKEW_MS } from "./profiles.ts";
import { encodeRequest, generateKey } from "./x509.ts";

const NOW = new Date("2027-03-01T12:00:00Z");
const DAY_MS = 86_400_000;
const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

const EC_REQUEST = `-----BEGIN CERTIFICATE REQUEST-----
MIHLMHMCAQAwETEPMA0GA1UEAwwGc2Vuc29yMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAES+6lUMwjvS4Nwr/lYIHFAQsKsSTWBqK3DHc8STItH707hzt95TGTrfrM
2JQ4KR21ROxfXMjSKEJUpIV6Sj8be6AAMAoGCCqGSM49BAMCA0gAMEUCIQDE3K8h
EdHcPcRssCZGhsXZ1PDEAS9sLn0SRiV58aeDGAIgfKGJt6Tz0h0t5KfploLV+s6I
PWjQOVm8nqR3tCl7wvs=
-----END CERTIFICATE REQUEST-----
`;

let home: Authority;
let factory: Authority;
let leafKey: string;

beforeAll(async () => {
  [home, factory, leafKey] = await Promise.all([
    createAuthority({ hubId: "home", now: NOW }),
    createAuthority({ hubId: "factory", now: NOW }),
    generateKey(),
  ]);
});

async function leaf(request: IssueRequest, authority = home, now = NOW): Promise<{ issued: Issued; x509: X509Certificate }> {
  const issued = await issue(authority, request, now, { keyPem: leafKey });
  return { issued, x509: new X509Certificate(issued.certificatePem) };
}

describe("authority", () => {
  it("is a self-signed CA of ten years with the hub's name", () => {
    const { certificate } = home;
    expect(certificate.ca).toBe(true);
    expect(certificate.checkIssued(certificate)).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.subjectAltName).toBe("URI:spiffe://home");
    expect(certificate.validFromDate).toEqual(new Date(NOW.getTime() - SKEW_MS));
    expect(certificate.validToDate).toEqual(new Date(NOW.getTime() + 3650 * DAY_MS));
  });

  it("refuses bad hub ids, weak keys, other kinds of keys and a clock that is not set", async () => {
    await expect(createAuthority({ hubId: "Home", now: NOW })).rejects.toThrow(/hub id "Home" is not a DNS label/);
    await expect(createAuthority({ hubId: "home", now: NOW, keyBits: 1024 })).rejects.toThrow(/1024 bits, RSA keys need 2048/);
    await expect(createAuthority({ hubId: "home", now: new Date(0) })).rejects.toThrow(/clock of this machine is not set/);
    await expect(createAuthority({ hubId: "home", now: new Date(Number.NaN) })).rejects.toThrow(/clock/);
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await expect(createAuthority({ hubId: "home", now: NOW, keyPem: weak })).rejects.toThrow(/1024 bits/);
    const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    await expect(createAuthority({ hubId: "home", now: NOW, keyPem: ec })).rejects.toThrow(/is ec, this authority signs RSA keys only/);
    await expect(createAuthority({ hubId: "home", now: NOW, keyPem: "rubbish" })).rejects.toThrow(/private key cannot be read/);
  });

  it("opens only a matching pair that is a CA", async () => {
    expect(openAuthority(home.certificatePem, home.keyPem).hubId).toBe("home");
    expect(() => openAuthority(home.certificatePem, factory.keyPem)).toThrow(/does not belong/);
    const { issued } = await leaf({ profile: "service", name: "hub" });
    expect(() => openAuthority(issued.certificatePem, issued.keyPem)).toThrow(/not a self-signed CA/);
  });

  it("says which file is missing", async () => {
    const dir = await mkdtemp(join(tmpdir(), "foedus-ca-"));
    await writeFile(join(dir, "ca.pem"), home.certificatePem);
    await expect(loadAuthority(dir)).rejects.toThrow(/ca\.key cannot be read/);
    await writeFile(join(dir, "ca.key"), home.keyPem);
    expect((await loadAuthority(dir)).hubId).toBe("home");
    await rm(dir, { recursive: true });
  });

  it("does not issue outside its own life, and no leaf outlives it", async () => {
    const end = home.certificate.validToDate;
    await expect(leaf({ profile: "node", name: "lamp" }, home, new Date(end.getTime() + 1000))).rejects.toThrow(
      /authority of hub home is valid from/,
    );
    const { x509 } = await leaf({ profile: "node", name: "lamp" }, home, new Date(end.getTime() - DAY_MS));
    expect(x509.validToDate).toEqual(end);
  });
});

describe("leaves", () => {
  const requests: [IssueRequest, string, string[]][] = [
    [
      { profile: "service", name: "hub", dnsNames: ["hub.example.org"], ips: ["10.1.2.3", "::1"] },
      "spiffe://home/service/hub",
      ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
    ],
    [{ profile: "node", name: "0x00158d_A" }, "spiffe://home/node/0x00158d_A", ["1.3.6.1.5.5.7.3.2"]],
    [{ profile: "gateway", name: "zigbee", prefixes: ["zigbee-", "a_b@c"] }, "spiffe://home/gateway/zigbee", ["1.3.6.1.5.5.7.3.2"]],
    [{ profile: "operator", name: "ada", role: "admin" }, "spiffe://home/operator/ada", ["1.3.6.1.5.5.7.3.2"]],
  ];

  it.each(requests)("%j is signed by the CA with exactly one URI name, its usages and its life", async (request, uri, usages) => {
    const { issued, x509 } = await leaf(request);
    expect(x509.checkIssued(home.certificate)).toBe(true);
    expect(x509.verify(home.certificate.publicKey)).toBe(true);
    expect(x509.verify(factory.certificate.publicKey)).toBe(false);
    expect(x509.ca).toBe(false);
    expect(readSans(x509).uris).toEqual([uri]);
    expect(x509.keyUsage).toEqual(usages);
    expect(x509.validFromDate).toEqual(new Date(NOW.getTime() - SKEW_MS));
    expect(x509.validToDate).toEqual(new Date(NOW.getTime() + PROFILES[request.profile].lifetimeMs));
    expect(issued.notAfter).toEqual(x509.validToDate);
  });

  it("gives a service its host names and addresses", async () => {
    const { x509 } = await leaf({ profile: "service", name: "telemetry", dnsNames: ["t.example.org"], ips: ["10.1.2.3", "2001:db8::7"] });
    expect(readSans(x509)).toEqual({
      uris: ["spiffe://home/service/telemetry"],
      dnsNames: ["localhost", "home", "telemetry.home", "t.example.org"],
      ips: ["127.0.0.1", "10.1.2.3", "2001:db8::7"],
    });
    expect(x509.checkHost("telemetry.home")).toBe("telemetry.home");
    expect(x509.checkIP("2001:db8::7")).toBe("2001:db8::7");
  });

  it("carries role and prefixes where a server reads them", async () => {
    const identities = await Promise.all(requests.map(async ([request]) => readIdentity((await leaf(request)).x509)));
    expect(identities).toEqual([
      { hubId: "home", kind: "service", name: "hub", role: undefined, prefixes: [] },
      { hubId: "home", kind: "node", name: "0x00158d_A", role: undefined, prefixes: [] },
      { hubId: "home", kind: "gateway", name: "zigbee", role: undefined, prefixes: ["zigbee-", "a_b@c"] },
      { hubId: "home", kind: "operator", name: "ada", role: "admin", prefixes: [] },
    ]);
    const { x509 } = await leaf({ profile: "gateway", name: "zigbee", prefixes: ["only-one"] });
    expect(x509.subject).toBe("CN=zigbee\nO=home\nOU=prefix:only-one");
    expect(readIdentity(x509).prefixes).toEqual(["only-one"]);
  });

  it("writes PEMs that can be joined: one block, one newline at the end", async () => {
    const { issued } = await leaf({ profile: "service", name: "hub" });
    expect(issued.certificatePem).toMatch(/^-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----\n$/);
    expect(issued.chainPem).toBe(issued.certificatePem + home.certificatePem);
    expect(issued.keyPem).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
  });

  it("numbers certificates with 128 bit, positive, never twice", async () => {
    const serials = await Promise.all(
      Array.from({ length: 40 }, async () => (await leaf({ profile: "node", name: "lamp" })).x509.serialNumber),
    );
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
    expect(new Set(serials).size).toBe(serials.length);
  });

  it("refuses the CA's own key, and keys that are too small", async () => {
    await expect(issue(home, { profile: "node", name: "lamp" }, NOW, { keyPem: home.keyPem })).rejects.toThrow(/key of its authority/);
    await expect(issue(home, { profile: "node", name: "lamp" }, NOW, { keyBits: 1024 })).rejects.toThrow(/1024 bits/);
  });

  it("makes a key of its own when none is given", async () => {
    const issued = await issue(home, { profile: "node", name: "lamp" }, NOW);
    expect(issued.keyPem).not.toBe(leafKey);
    const publicKey = createPublicKey(issued.keyPem);
    expect(publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048);
    expect(new X509Certificate(issued.certificatePem).publicKey.equals(publicKey)).toBe(true);
  });

  it.skipIf(!hasOpenssl)("passes openssl verify in strict mode for its purposes and no other (skipped without openssl)", async () => {
    const dir = await mkdtemp(join(tmpdir(), "foedus-verify-"));
    await writeFile(join(dir, "ca.pem"), home.certificatePem);
    await writeFile(join(dir, "other.pem"), factory.certificatePem);
    const verify = (file: string, purpose: string, ca = "ca.pem"): number | null =>
      spawnSync("openssl", [
        "verify",
        "-x509_strict",
        "-attime",
        String(NOW.getTime() / 1000),
        "-CAfile",
        join(dir, ca),
        "-purpose",
        purpose,
        join(dir, file),
      ]).status;
    for (const [request] of requests) {
      const file = `${request.profile}.pem`;
      await writeFile(join(dir, file), (await leaf(request)).issued.certificatePem);
      expect(verify(file, "sslclient"), `${file} as client`).toBe(0);
      expect(verify(file, "sslserver") === 0, `${file} as server`).toBe(request.profile === "service");
      expect(verify(file, "sslclient", "other.pem"), `${file} under another CA`).not.toBe(0);
    }
    await rm(dir, { recursive: true });
  });
});

describe("certificate requests", () => {
  const decision: IssueRequest = { profile: "node", name: "sensor" };

  it("takes only the key from the request: its names and subject are ignored", async () => {
    const { csrPem, keyPem } = await createRequest({
      hubId: "factory",
      profile: "service",
      name: "admin",
      dnsNames: ["bank.example.org"],
      ips: ["10.9.9.9"],
      keyPem: leafKey,
    });
    // The wish really is in the request, otherwise nothing would be ignored here.
    const der = Buffer.from(csrPem.replace(/-----[^-]+-----/g, ""), "base64").toString("latin1");
    for (const wish of ["spiffe://factory/service/admin", "bank.example.org"]) expect(der).toContain(wish);
    const x509 = new X509Certificate(signRequest(home, csrPem, decision, NOW).certificatePem);
    expect(x509.subjectAltName).toBe("URI:spiffe://home/node/sensor");
    expect(x509.subject).toBe("CN=sensor\nO=home");
    expect(x509.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
    expect(x509.publicKey.equals(createPublicKey(keyPem))).toBe(true);
    expect(x509.verify(home.certificate.publicKey)).toBe(true);
  });

  it("refuses a request that was changed after signing, in its content or its signature", async () => {
    const { csrPem } = await createRequest({ hubId: "home", ...decision, keyPem: leafKey });
    const der = Buffer.from(csrPem.replace(/-----[^-]+-----/g, ""), "base64");
    const changed = (at: number): string => {
      const copy = Buffer.from(der);
      copy[at] = (copy[at] ?? 0) ^ 0x01;
      return `-----BEGIN CERTIFICATE REQUEST-----\n${copy.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
    };
    const nameAt = der.indexOf("sensor");
    expect(nameAt).toBeGreaterThan(0);
    for (const at of [nameAt, der.length - 1]) {
      expect(() => signRequest(home, changed(at), decision, NOW)).toThrow(/signature of the certificate request does not verify/);
    }
    expect(signRequest(home, csrPem, decision, NOW).certificatePem).toContain("BEGIN CERTIFICATE");
  });

  it("names both sides something to compare", async () => {
    const { csrPem } = await createRequest({ hubId: "home", ...decision, keyPem: leafKey });
    expect(readRequest(csrPem)).toEqual({ commonName: "sensor", keySha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  it("refuses keys that are not RSA, or too small, with a clear message", () => {
    expect(() => signRequest(home, EC_REQUEST, decision, NOW)).toThrow(
      /key of the certificate request is ec, this authority signs RSA keys only/,
    );
    const key = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
    const weak = encodeRequest({
      subject: [{ name: "commonName", value: "sensor" }],
      sans: { uris: ["spiffe://home/node/sensor"], dnsNames: [], ips: [] },
      key,
    });
    expect(() => signRequest(home, weak, decision, NOW)).toThrow(/key of the certificate request has 1024 bits/);
  });

  it("refuses what is not one request, whatever the bytes are", async () => {
    const { csrPem } = await createRequest({ hubId: "home", ...decision, keyPem: leafKey });
    const deep = Buffer.concat([...Array.from({ length: 400 }, () => Buffer.from([0x30, 0x80]))]).toString("base64");
    const cases = [
      "",
      "rubbish",
      home.certificatePem,
      csrPem + csrPem,
      csrPem.slice(0, 200),
      "A".repeat(70_000),
      `-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n`,
      `-----BEGIN CERTIFICATE REQUEST-----\n${deep}\n-----END CERTIFICATE REQUEST-----\n`,
    ];
    for (const pem of cases) expect(() => signRequest(home, pem, decision, NOW), pem.slice(0, 60)).toThrow(PkiError);
  });

  it("refuses every single-byte change without any other kind of error", async () => {
    const { csrPem } = await createRequest({ hubId: "home", ...decision, keyPem: leafKey });
    const der = Buffer.from(csrPem.replace(/-----[^-]+-----/g, ""), "base64");
    let refused = 0;
    for (let at = 0; at < der.length; at += 3) {
      const copy = Buffer.from(der);
      copy[at] = (copy[at] ?? 0) ^ 0xff;
      const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${copy.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
      expect(() => signRequest(home, pem, decision, NOW), `byte ${at}`).toThrow(PkiError);
      refused += 1;
    }
    expect(refused).toBe(Math.ceil(der.length / 3));
  });

  it("checks the wish when the request is made and the decision when it is answered", async () => {
    await expect(createRequest({ hubId: "home", profile: "node", name: "a/b", keyPem: leafKey })).rejects.toThrow(
      /node name "a\/b" is not valid/,
    );
    const { csrPem } = await createRequest({ hubId: "home", profile: "operator", name: "ada", keyPem: leafKey });
    expect(() => signRequest(home, csrPem, { profile: "operator", name: "ada" }, NOW)).toThrow(/needs the role/);
    expect(() => certify(home, createPublicKey(leafKey), { profile: "node", name: "x", lifetimeMs: 5 }, NOW)).toThrow(/lifetime of 5 ms/);
  });
});
