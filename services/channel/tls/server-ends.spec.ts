import { X509Certificate } from "node:crypto";
import { type AddressInfo, connect, createServer } from "node:net";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { createServerCredentials } from "#runtime/tls/credentials.ts";
import { admit } from "#runtime/tls/peer-admission.ts";
import { encodeCertificate, issuerFactsOf } from "../../../certs/x509.ts";
import { ManualClock } from "../../../test/fakes/manual-clock.ts";
import { GreetRequestSchema, SessionRequestSchema } from "../../../test/proto/echo-service.gen.ts";
import { bearer, collect, type Fixture, failureOfCall, serve, shiftedClock, TestAuthority, tokenFor } from "../../../test/rpc/fixture.ts";
import { type Credential, type TestHub, testHub, testKeys } from "../../../test/testca/index.ts";
import { systemClock } from "../clock.ts";
import { createPeerCredentials } from "./peer-credentials.ts";
import { checkServer, thumbprintOf, trustedUntil } from "./peer-identity.ts";
import { watchServerEnd } from "./server-ends.ts";

const DAY_MS = 86_400_000;
let alpha: TestHub;
let beta: TestHub;
let fixture: Fixture | undefined;

beforeAll(async () => {
  [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
});
afterEach(() => fixture?.close());

const material = ({ certificatePem: cert, keyPem: key }: Credential) => ({ cert, key, ca: [alpha.caPem, beta.caPem] });

/** dialled is a session that beta dialled to a server of alpha whose certificate ends in 30 days; beta's clock can be set. */
async function dialled() {
  let shiftMs = 0;
  const shown = alpha.service("hub", { lifetimeMs: 30 * DAY_MS });
  const own = await serve(alpha, [beta], { credentials: createServerCredentials(material(shown)) });
  fixture = own;
  const peer = beta.service();
  const credentials = createPeerCredentials(
    { hubId: "alpha", name: "hub" },
    { ...material(peer), ca: [alpha.caPem] },
    shiftedClock(() => shiftMs),
  );
  const client = own.dial(peer, { credentials });
  const call = { ...bearer(tokenFor("beta", peer)), timeoutMs: 1e9 };
  const stream = client.session(call);
  await stream.opened;
  stream.send(create(SessionRequestSchema, { frame: { case: "say", value: "yes" } }));
  expect((await stream.responses[Symbol.asyncIterator]().next()).value?.frame.value).toBe("yes");
  return { own, shown, credentials, client, stream, call, peer, set: (ms: number) => (shiftMs = ms) };
}

describe("PROTOCOL C11 what was dialled ends with what its server proved itself with", () => {
  test("its certificate ends: the stream does with the reason, and the channel works again when it was renewed", async () => {
    const { own, credentials, client, stream, call, set } = await dialled();
    expect(credentials.endsAtWall / DAY_MS - systemClock.wall() / DAY_MS).toBeCloseTo(30, 1);
    set(31 * DAY_MS);
    expect(await failureOfCall(collect(stream.responses))).toMatchObject({ reason: "CERTIFICATE_EXPIRED" });
    // The next dial is refused as well. A call before it may meet what is left of the connection.
    await expect.poll(async () => (await failureOfCall(collect(client.session(call).responses))).reason).toBe("CERTIFICATE_EXPIRED");
    own.server.rotate(material(alpha.service("hub", { lifetimeMs: 90 * DAY_MS })));
    await expect
      .poll(() => client.greet(create(GreetRequestSchema)).then(({ caller }) => caller, String), { timeout: 20_000 })
      .toContain("beta");
  });

  test.each([
    ["the CA that signed it is withdrawn", "FOREIGN_CA", async () => ({ ca: [(await alpha.otherAuthority()).caPem] })],
    ["it is revoked", "UNKNOWN_IDENTITY", (shown: X509Certificate) => ({ ca: [alpha.caPem], revoked: [thumbprintOf(shown)] })],
  ])("%s: the stream ends at once", async (_name, reason, change) => {
    const { shown, credentials, stream, peer } = await dialled();
    const end = failureOfCall(collect(stream.responses));
    const more = await change(new X509Certificate(shown.certificatePem));
    credentials.rotate({ ...material(peer), ...more });
    expect(await end).toMatchObject({ reason });
  });

  test("a CA that is replaced by one of the same key ends it when the new one does", async () => {
    const { credentials, stream, peer, set } = await dialled();
    credentials.rotate({ ...material(peer), ca: [await shorterCa(10 * DAY_MS)] });
    expect((credentials.endsAtWall - systemClock.wall()) / DAY_MS).toBeCloseTo(10, 1);
    const end = failureOfCall(collect(stream.responses));
    set(11 * DAY_MS);
    expect(await end).toMatchObject({ reason: "CERTIFICATE_EXPIRED" });
  });

  test("an address of the same name that comes to nothing hides neither its end nor what comes over it", async () => {
    const { credentials } = await dialled();
    const dead = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => dead.listen(0, "127.0.0.1", resolve));
    const { port } = dead.address() as AddressInfo;
    const { bytesRead } = credentials;
    const other = credentials._createSecureConnector({ scheme: "dns", path: `127.0.0.1:${port}` }, {});
    await expect(other.connect(connect(port, "127.0.0.1"))).rejects.toThrow();
    expect(credentials.endsAtWall / DAY_MS - systemClock.wall() / DAY_MS).toBeCloseTo(30, 1);
    expect(bytesRead).toBeGreaterThan(0);
    expect(credentials.bytesRead).toBeGreaterThanOrEqual(bytesRead);
    dead.close();
  });

  test("a renewed certificate of its own ends nothing", async () => {
    const { credentials, stream } = await dialled();
    credentials.rotate({ ...material(beta.service()), ca: [alpha.caPem] });
    stream.send(create(SessionRequestSchema, { frame: { case: "say", value: "still" } }));
    expect((await stream.responses[Symbol.asyncIterator]().next()).value?.frame.value).toBe("still");
  });

  test("one timer looks at all connections, by the wall clock, and only while there are any", () => {
    const clock = new ManualClock();
    const sockets = [0, 1].map(
      () =>
        new (class {
          close = () => undefined as void;
          once(_: "close", fn: () => void) {
            this.close = fn;
          }
        })(),
    );
    const at = [1, 2].map((n) => clock.wall() + 10_000 * n);
    const ended: number[] = [];
    for (const [i, socket] of sockets.entries())
      watchServerEnd(
        socket as never,
        () => at[i]!,
        clock,
        () => {
          ended.push(i);
          socket.close();
        },
      );
    clock.advance(9_000);
    clock.turn();
    expect(ended).toEqual([]);
    clock.advance(1_000);
    clock.turn();
    expect(ended).toEqual([0]);
    clock.advance(11_000);
    clock.turn();
    expect(ended).toEqual([0, 1]);
  });
});

/** shorterCa is the CA of alpha, made again with an end in so many ms. */
async function shorterCa(lifetimeMs: number): Promise<string> {
  const { name, keyId } = issuerFactsOf(alpha.caPem);
  return encodeCertificate(
    {
      subject: name,
      issuer: name,
      authorityKeyId: keyId,
      publicKey: new X509Certificate(alpha.caPem).publicKey,
      notBefore: new Date(systemClock.wall() - 60_000),
      notAfter: new Date(systemClock.wall() + lifetimeMs),
      ca: true,
      keyUsage: ["keyCertSign"],
      extKeyUsage: [],
      sans: { uris: ["spiffe://alpha"], dnsNames: [], ips: [] },
    },
    alpha.authority.key,
  );
}

/** beyond makes a service's leaf of beta that is valid for a day longer than the CA that signed it, and then says when that CA ends. */
async function beyond() {
  const { name, keyId } = issuerFactsOf(beta.caPem);
  const until = new X509Certificate(beta.caPem).validToDate.getTime();
  const [key] = await testKeys();
  const leaf = encodeCertificate(
    {
      subject: [{ name: "commonName", value: "hub" }],
      issuer: name,
      authorityKeyId: keyId,
      publicKey: key!.publicKey,
      notBefore: new Date(systemClock.wall() - 60_000),
      notAfter: new Date(until + DAY_MS),
      ca: false,
      keyUsage: ["digitalSignature"],
      extKeyUsage: ["serverAuth", "clientAuth"],
      sans: { uris: ["spiffe://beta/service/hub"], dnsNames: [], ips: [] },
    },
    beta.authority.key,
  );
  return { leaf: new X509Certificate(leaf), until };
}

describe("PROTOCOL C11 a CA that ends before the certificates that it signed", () => {
  test("ends what callers and servers prove with them", async () => {
    const { leaf, until } = await beyond();
    const authority = new TestAuthority(alpha, [beta]);
    expect(admit(leaf, authority, until - 1)).toMatchObject({ caller: { notAfterWall: until } });
    expect(admit(leaf, authority, until)).toMatchObject({ refusedBy: "ca-validity", failure: { reason: "CERTIFICATE_EXPIRED" } });
    const bundle = [new X509Certificate(beta.caPem)];
    expect(checkServer(leaf, { hubId: "beta" }, bundle, until - 1)).toBeUndefined();
    expect(checkServer(leaf, { hubId: "beta" }, bundle, until)).toMatchObject({ reason: "CERTIFICATE_EXPIRED" });
    expect(trustedUntil(leaf, bundle)).toBe(until);
    expect(trustedUntil(leaf, [new X509Certificate(alpha.caPem)])).toBeUndefined();
  });
});
