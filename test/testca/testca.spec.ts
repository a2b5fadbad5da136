import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import { readIdentity, readSans } from "../../certs/profiles.ts";
import { type Credential, type TestHub, testHub, testKeys } from "./index.ts";

let home: TestHub;
let factory: TestHub;

beforeAll(async () => {
  [home, factory] = await Promise.all([testHub("home"), testHub("factory")]);
});

interface Handshake {
  readonly protocol: string | null;
  readonly clientSeenAs: string | undefined;
  readonly serverSeenAs: string | undefined;
}

const pemOf = (credential: Credential): { cert: string; key: string } => ({ cert: credential.certificatePem, key: credential.keyPem });

/**
 * A real handshake. In TLS 1.3 the client is done before the server has judged its certificate: the server's answer proves
 * that it took it, and the server's own finding is thrown if it did not.
 */
async function handshake(
  server: Credential,
  client: Credential,
  trust: { server: string; client: string },
  servername = "localhost",
): Promise<Handshake> {
  const listener = createServer({ ...pemOf(server), ca: trust.server, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" });
  listener.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", () => undefined);
    socket.end(new X509Certificate(socket.getPeerCertificate().raw).subjectAltName ?? "no name");
  });
  const refused = new Promise<Error>((resolve) => {
    listener.on("tlsClientError", (_error, socket) => resolve(new Error(`client refused: ${String(socket.authorizationError)}`)));
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const socket = connect({
    ...pemOf(client),
    ca: trust.client,
    host: "127.0.0.1",
    port: (listener.address() as AddressInfo).port,
    servername,
    minVersion: "TLSv1.3",
  });
  try {
    await once(socket, "secureConnect");
    const protocol = socket.getProtocol();
    const serverSeenAs = new X509Certificate(socket.getPeerCertificate().raw).subjectAltName;
    let said = "";
    socket.on("data", (chunk) => (said += String(chunk)));
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("close", resolve));
    if (said === "") throw await refused;
    return { protocol, serverSeenAs, clientSeenAs: said };
  } finally {
    socket.destroy();
    listener.close();
    await once(listener, "close");
  }
}

describe("test CA: good certificates", () => {
  it("completes a mutual TLS 1.3 handshake between two hubs", async () => {
    const seen = await handshake(
      home.service("discovery"),
      factory.service(),
      { server: factory.caPem, client: home.caPem },
      "discovery.home",
    );
    expect(seen.protocol).toBe("TLSv1.3");
    expect(seen.serverSeenAs).toContain("URI:spiffe://home/service/discovery,");
    expect(seen.clientSeenAs).toContain("URI:spiffe://factory/service/hub,");
  });

  it("lets nodes, gateways and operators be clients", async () => {
    const trust = { server: home.caPem, client: home.caPem };
    for (const client of [home.node("lamp"), home.gateway("zigbee", ["zb-"]), home.operator("ada", "viewer")]) {
      const seen = await handshake(home.service(), client, trust);
      expect(seen.clientSeenAs).toBe(new X509Certificate(client.certificatePem).subjectAltName);
    }
  });

  it("gives role and prefixes", () => {
    expect(readIdentity(new X509Certificate(home.operator("ada", "viewer").certificatePem))).toMatchObject({
      kind: "operator",
      role: "viewer",
    });
    expect(readIdentity(new X509Certificate(home.gateway("zigbee", ["zb-"]).certificatePem)).prefixes).toEqual(["zb-"]);
  });

  it("makes its leaf keys once, and a new key for every authority", async () => {
    expect(await testKeys()).toBe(await testKeys());
    const keys = new Set([home, factory, await home.otherAuthority()].map((hub) => hub.authority.keyPem));
    expect(keys.size).toBe(3);
    for (const { keyPem } of await testKeys()) expect(keys.has(keyPem)).toBe(false);
  });
});

describe("test CA: certificates that must be refused", () => {
  const trust = (): { server: string; client: string } => ({ server: home.caPem, client: home.caPem });

  it("a server's certificate that has ended, has not begun, or is a node's", async () => {
    await expect(handshake(home.expired(), home.node(), trust())).rejects.toThrow(/expired/);
    await expect(handshake(home.notYetValid(), home.node(), trust())).rejects.toThrow(/not yet valid/);
    await expect(handshake(home.node(), home.node(), trust())).rejects.toThrow(/unsuitable certificate purpose|unsupported/);
  });

  it("a client's certificate that has ended, has not begun, or comes from another CA", async () => {
    const other = await home.otherAuthority();
    const lamp = { profile: "node", name: "lamp" } as const;
    const cases: [Credential, RegExp][] = [
      [home.expired(lamp), /client refused: CERT_HAS_EXPIRED/],
      [home.notYetValid(lamp), /client refused: CERT_NOT_YET_VALID/],
      [other.node("lamp"), /client refused: UNABLE_TO/],
      [factory.node("lamp"), /client refused: UNABLE_TO/],
    ];
    for (const [client, finding] of cases) await expect(handshake(home.service(), client, trust())).rejects.toThrow(finding);
  });

  it("a leaf of another authority with the same names", async () => {
    const other = await home.otherAuthority();
    const leaf = new X509Certificate(other.service().certificatePem);
    expect(leaf.issuer).toBe(home.authority.certificate.subject);
    expect(leaf.verify(home.authority.certificate.publicKey)).toBe(false);
    expect(leaf.checkIssued(home.authority.certificate)).toBe(false);
  });

  it("another hub's name under this CA: TLS takes it, only the binding of name and CA can refuse it", async () => {
    const impostor = home.impersonating("factory");
    const x509 = new X509Certificate(impostor.certificatePem);
    expect(readIdentity(x509)).toMatchObject({ hubId: "factory", kind: "service", name: "hub" });
    expect(x509.verify(home.authority.certificate.publicKey)).toBe(true);
    expect(x509.verify(factory.authority.certificate.publicKey)).toBe(false);
    const both = home.caPem + factory.caPem;
    expect((await handshake(home.service(), impostor, { server: both, client: home.caPem })).clientSeenAs).toContain(
      "URI:spiffe://factory/service/hub",
    );
  });

  it("two URI names, or none", () => {
    const two = new X509Certificate(home.twoUris().certificatePem);
    expect(readSans(two).uris).toEqual(["spiffe://home/service/hub", "spiffe://home/service/discovery"]);
    expect(() => readIdentity(two)).toThrow(/2 URI names instead of exactly one/);
    const none = new X509Certificate(home.withoutUri().certificatePem);
    expect(readSans(none).uris).toEqual([]);
    expect(readSans(none).dnsNames).toContain("localhost");
    expect(() => readIdentity(none)).toThrow(/0 URI names instead of exactly one/);
  });
});
