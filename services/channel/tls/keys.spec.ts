import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { hostileCa, hostileLeaf } from "../../../test/support/hostile-certs.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { certificateKeyProblem, keyProblem } from "./keys.ts";
import { issuedBy, organisationalUnits, uriSans } from "./peer-identity.ts";

let alpha: TestHub;
beforeAll(async () => {
  alpha = await testHub("alpha");
});

const ec = (namedCurve: string) => generateKeyPairSync("ec", { namedCurve }).publicKey;

test("PROTOCOL C4 keys that are taken, and what is said of others", () => {
  expect(["P-256", "P-384", "P-521"].map(ec).map(keyProblem)).toEqual([undefined, undefined, undefined]);
  expect(keyProblem(generateKeyPairSync("ed25519").publicKey)).toBeUndefined();
  expect(keyProblem(new X509Certificate(alpha.caPem).publicKey)).toBeUndefined();
  expect(keyProblem(ec("secp256k1"))).toMatch(/curve secp256k1/);
  expect(keyProblem(generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey)).toMatch(/1024 bits/);
  expect(keyProblem(generateKeyPairSync("ed448").publicKey)).toMatch(/neither RSA/);
});

test.each([
  { bits: 3072, exponentBits: 3072, why: /exponent/ },
  { bits: 8192, exponentBits: 64, why: /exponent/ },
  { bits: 16_384, exponentBits: 24, why: /16384 bits/ },
])("S-1 nothing is verified with a CA key of $bits bits and an exponent of $exponentBits", ({ why, ...size }) => {
  const ca = new X509Certificate(hostileCa(size));
  const leaf = new X509Certificate(hostileLeaf(size, ["spiffe://mallory/service/hub"]).der);
  expect(leaf.checkIssued(ca)).toBe(true);
  expect(certificateKeyProblem(ca)).toMatch(why);
  let verified = 0;
  Object.defineProperty(leaf, "verify", { value: () => ++verified > 0 });
  expect(issuedBy(leaf, [ca])).toBe(false);
  expect(issuedBy(leaf, [], [ca])).toBe(false);
  expect(verified).toBe(0);
});

test("S-1 a certificate with 25,000 names is not taken apart", () => {
  const uris = Array.from({ length: 25_000 }, () => "a");
  const leaf = new X509Certificate(hostileLeaf({ bits: 2048, exponentBits: 24 }, uris).der);
  let read = 0;
  Object.defineProperty(leaf, "subjectAltName", { get: () => String(++read) });
  expect(uriSans(leaf)).toEqual([]);
  expect(organisationalUnits(leaf)).toEqual([]);
  expect(read).toBe(0);
});
