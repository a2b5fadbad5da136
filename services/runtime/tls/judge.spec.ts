import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { parseCertificates, splitPem } from "#channel/tls/material.ts";
import { issuedBy } from "#channel/tls/peer-identity.ts";
import { type ForeignOptions, foreignPki, hasOpenssl } from "../../../test/testca/foreign.ts";
import { type TestHub, testHub } from "../../../test/testca/index.ts";
import { judgeMaterial } from "./judge.ts";

let folder: string;
let alpha: TestHub;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "foedus-judge-"));
  alpha = await testHub("alpha");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let n = 0;
function made(options: ForeignOptions): { cert: string; key: string; ca: string } {
  const dir = join(folder, String(++n));
  foreignPki(dir, "beta", { ...options, services: ["hub"] });
  const read = (file: string): string => readFileSync(join(dir, file), "utf8");
  return { cert: read("service-hub.pem"), key: read("service-hub.key"), ca: read("ca.pem") };
}
const judge = ({ cert, key, ca }: { cert: string; key: string; ca: string }, more: readonly string[] = []) =>
  judgeMaterial({ cert, key, ca: [ca, ...more] }, systemClock);

describe.skipIf(!hasOpenssl)("F-25 one judge, the TLS stack itself (skipped without openssl)", () => {
  const good: readonly ForeignOptions[] = [
    { ca: "rsa", leaf: "rsa" },
    { ca: "p256", leaf: "p256" },
    { ca: "p384", leaf: "p384" },
    { ca: "ed25519", leaf: "ed25519" },
    { ca: "rsa", leaf: "ed25519" },
    { ca: "p256", leaf: "rsa", intermediate: true },
    { ca: "ed25519", leaf: "p256", intermediate: true, keyIds: false },
  ];
  test.each(good)("takes %j, and the check of identities agrees", async (options) => {
    const material = made(options);
    expect(await judge(material)).toBeUndefined();
    const [leaf, ...issuers] = parseCertificates([material.cert]);
    expect(issuedBy(leaf as X509Certificate, [new X509Certificate(material.ca)], issuers)).toBe(true);
    expect(issuedBy(leaf as X509Certificate, [new X509Certificate(alpha.caPem)], issuers)).toBe(false);
  });

  test("an intermediate may be pinned without its root", async () => {
    const { cert, key } = made({ intermediate: true });
    const [leaf, middle] = splitPem(cert) as [string, string];
    expect(await judge({ cert: `${leaf}\n`, key, ca: middle })).toBeUndefined();
    expect(issuedBy(new X509Certificate(leaf), [new X509Certificate(middle)])).toBe(true);
  });

  test("a leaf whose intermediate is missing is refused by both", async () => {
    const { cert, key, ca } = made({ intermediate: true });
    const leaf = `${splitPem(cert)[0]}\n`;
    expect(await judge({ cert: leaf, key, ca })).toMatchObject({
      message: expect.stringContaining("put the intermediates behind the leaf"),
    });
    expect(issuedBy(new X509Certificate(leaf), [new X509Certificate(ca)])).toBe(false);
  });

  test.each([
    ["serverAuth", /certificate of a client: its extended key usage/],
    ["clientAuth", /certificate of a server: its extended key usage/],
  ])("usage %s alone is refused in words", async (usage, words) => {
    expect((await judge(made({ usage })))?.message).toMatch(words);
  });

  test("two CAs of one name without key identifiers are told", async () => {
    const [one, two] = [made({ keyIds: false, name: "/CN=Root" }), made({ keyIds: false, name: "/CN=Root" })];
    const verdicts = [await judge(one, [two.ca]), await judge({ ...one, ca: two.ca }, [one.ca])];
    expect(verdicts.map((verdict) => verdict?.message ?? "").join()).toContain("cannot be told apart");
    // With key identifiers the same names are no trouble.
    const [first, second] = [made({ name: "/CN=Root" }), made({ name: "/CN=Root" })];
    expect([await judge(first, [second.ca]), await judge({ ...first, ca: second.ca }, [first.ca])]).toEqual([undefined, undefined]);
  });

  test("an expired one is said in words", async () => {
    const { certificatePem, keyPem, caPem } = alpha.expired();
    expect((await judge({ cert: certificatePem, key: keyPem, ca: caPem }))?.message).toContain("has expired; renew it");
  });
});

test("F-25 a Node whose TLS is capped below 1.3 is refused with a sentence", () => {
  const script = 'import { tlsProblem } from "#runtime/tls/judge.ts"; process.stdout.write(tlsProblem()?.message ?? "fine");';
  const run = (options: string): string =>
    spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], {
      encoding: "utf8",
      env: { ...process.env, NODE_OPTIONS: options },
    }).stdout;
  expect(run("")).toBe("fine");
  expect(run("--tls-max-v1.2")).toMatch(/TLS up to 1\.2 only.*remove --tls-max-v/);
});

test("S-18 a text is taken apart in one pass, whatever it is", () => {
  const hostile = "-----BEGIN CERTIFICATE-----\n".repeat(40_000);
  const before = performance.now();
  expect(splitPem(hostile)).toEqual([]);
  expect(splitPem(`${hostile}${alpha.caPem}`)).toHaveLength(1);
  expect(performance.now() - before).toBeLessThan(2_000);
  expect(splitPem(`x${alpha.caPem}y${alpha.caPem}`).map((pem) => new X509Certificate(pem).subject)).toHaveLength(2);
});
