import { constants, sign, X509Certificate } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import { thumbprintOf } from "#channel/tls/peer-identity.ts";
import { FeedKeyStatementSchema, SignedKeyStatementSchema } from "#gen/foedus/registry_sync/segment/v1/segment_pb.ts";
import { type ForeignOptions, foreignPki, hasOpenssl } from "../../../test/testca/foreign.ts";
import { type Credential, type TestHub, testHub } from "../../../test/testca/index.ts";
import { type KeyCheck, KeyStatement, loadFeedKey, makeKeyStatement, verifyKeyStatement } from "./key.ts";

const folder = mkdtempSync(join(tmpdir(), "foedus-key-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the feed key file", () => {
  test("is made once, private, and read back the same", () => {
    const path = join(folder, "feed-key.json");
    const first = loadFeedKey(path);
    expect(first.serial).toBe(1);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(Buffer.from(loadFeedKey(path).key.publicKey).equals(Buffer.from(first.key.publicKey))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.startsWith("feed-key"))).toEqual(["feed-key.json"]);
  });

  test("is made private again if someone opened it", () => {
    const path = join(folder, "open.json");
    loadFeedKey(path);
    chmodSync(path, 0o644);
    loadFeedKey(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test.each([["not json"], ["{}"], ['{"format":"foedus-feed-key-1","serial":1,"private_key":"AAAA"}']])(
    "is never replaced when it is damaged: %s",
    (text) => {
      const path = join(folder, "damaged.json");
      writeFileSync(path, text);
      expect(() => loadFeedKey(path)).toThrowError(
        expect.objectContaining({ failure: expect.objectContaining({ reason: "FEED_KEY_INVALID" }) }),
      );
    },
  );
});

test("S-18 a feed key file that cannot be made or read ends in a sentence, whatever stands there", () => {
  symlinkSync("nowhere", join(folder, "dangling.json"));
  mkdirSync(join(folder, "folder.json"));
  symlinkSync("/dev/zero", join(folder, "device.json"));
  for (const name of ["absent/feed.json", "dangling.json", "folder.json", "device.json"])
    expect(() => loadFeedKey(join(folder, name))).toThrowError(
      expect.objectContaining({ failure: expect.objectContaining({ reason: "NOT_CONFIGURED", message: expect.stringContaining(name) }) }),
    );
});

describe("key statements", () => {
  let alpha: TestHub;
  let beta: TestHub;
  const held = loadFeedKey(join(folder, "statement.json"));
  const check = (hub: TestHub, more: Partial<KeyCheck> = {}): KeyCheck => ({
    hubId: hub.hubId,
    bundle: [new X509Certificate(hub.caPem)],
    revoked: [],
    nowWall: hub.now.getTime(),
    ...more,
  });
  const statement = (credential: Credential, hubId = "alpha"): Buffer =>
    makeKeyStatement(hubId, held, { cert: credential.chainPem, key: credential.keyPem });

  beforeAll(async () => {
    [alpha, beta] = await Promise.all([testHub("alpha"), testHub("beta")]);
  });

  test.each([["hub"], ["registry-sync"], ["discovery"], ["command-forwarding"], ["telemetry"]])(
    "one signed by the service %s is believed",
    (name) => {
      const key = verifyKeyStatement(statement(alpha.service(name)), check(alpha));
      expect(key).toMatchObject({ serial: 1, revokesUpTo: 0 });
      expect("publicKey" in key && Buffer.from(key.publicKey).equals(Buffer.from(held.key.publicKey))).toBe(true);
    },
  );

  const refused = (bytes: Uint8Array, how: KeyCheck, words: RegExp): void => {
    const answer = verifyKeyStatement(bytes, how);
    expect(answer).toMatchObject({ reason: "FEED_KEY_INVALID", message: expect.stringMatching(words) });
  };

  /** said signs any statement as a hub would sign its own, with the key of one certificate and the chain of another if need be. */
  const said = (
    more: MessageInitShape<typeof FeedKeyStatementSchema>,
    { by = alpha.service(), shown = by, word = "foedus.feed-key.v1\0" }: { by?: Credential; shown?: Credential; word?: string } = {},
  ): Uint8Array => {
    const wall = alpha.now.getTime();
    const text = create(FeedKeyStatementSchema, {
      hubId: "alpha",
      key: held.key.publicKey,
      serial: 1,
      notBeforeMs: BigInt(wall - 1_000),
      notAfterMs: BigInt(wall + 1_000),
      ...more,
    });
    const statement = toBinary(FeedKeyStatementSchema, text);
    const pss = { key: by.keyPem, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    const signature = sign("sha256", Buffer.concat([Buffer.from(word), statement]), pss);
    const chain = [new X509Certificate(shown.certificatePem).raw];
    return toBinary(SignedKeyStatementSchema, create(SignedKeyStatementSchema, { statement, signature, chain }));
  };

  test("PROTOCOL K2, K3 and K5 each thing that is wrong with a statement has a reason of its own", () => {
    expect(verifyKeyStatement(said({}), check(alpha))).toMatchObject({ serial: 1, revokesUpTo: 0 });
    expect(verifyKeyStatement(said({ serial: 3, revokesUpTo: 2 }), check(alpha))).toMatchObject({ serial: 3, revokesUpTo: 2 });
    const wall = BigInt(alpha.now.getTime());
    refused(said({ notAfterMs: wall }), check(alpha), /^the feed key statement is outside its validity$/);
    refused(said({ notBeforeMs: wall + 1n }), check(alpha), /^the feed key statement is outside its validity$/);
    refused(said({ serial: 2, revokesUpTo: 2 }), check(alpha), /revokes itself/);
    refused(said({ serial: 0 }), check(alpha), /names no usable key/);
    refused(said({ key: held.key.publicKey.subarray(1) }), check(alpha), /names no usable key/);
    refused(said({ hubId: "beta" }), check(alpha), /is for beta and came from alpha/);
    refused(said({}, { word: "foedus.snapshot.v1\0" }), check(alpha), /signature of the feed key statement is wrong/);
    refused(said({}, { shown: alpha.service("telemetry") }), check(alpha), /signature of the feed key statement is wrong/);
  });

  test("others are not", () => {
    const good = statement(alpha.service());
    refused(statement(alpha.service("printer")), check(alpha), /printer/);
    refused(statement(alpha.gateway()), check(alpha), /gateway/);
    refused(statement(alpha.withoutUri()), check(alpha), /without a single SPIFFE id/);
    refused(statement(alpha.service(), "beta"), check(alpha), /for beta/);
    refused(good, check(beta), /not by a service of beta/);
    refused(statement(beta.impersonating("alpha")), check(alpha), /not signed by a CA of alpha/);
    refused(good, check(alpha, { bundle: [] }), /not signed by a CA/);
    refused(good, check(alpha, { nowWall: alpha.now.getTime() + 400 * 86_400_000 }), /^the certificate of .* outside its validity/);
    const credential = alpha.service();
    refused(statement(credential), check(alpha, { revoked: [thumbprintOf(new X509Certificate(credential.certificatePem))] }), /revoked/);
    refused(Uint8Array.of(1, 2, 3), check(alpha), /malformed/);
    refused(new Uint8Array(0), check(alpha), /has no certificate/);
  });

  const kinds: readonly ForeignOptions[] = [
    { ca: "rsa", leaf: "rsa" },
    { ca: "p256", leaf: "p256" },
    { ca: "p384", leaf: "p384" },
    { ca: "ed25519", leaf: "ed25519" },
    { ca: "p384", leaf: "ed25519", intermediate: true },
    { ca: "ed25519", leaf: "rsa", intermediate: true },
  ];
  describe.skipIf(!hasOpenssl).each(kinds)("F-8 with a certificate of %j (skipped without openssl)", (options) => {
    test("it is believed, and no changed byte of it", () => {
      const dir = mkdtempSync(join(folder, "foreign-"));
      foreignPki(dir, "gamma", { ...options, services: ["discovery"] });
      const read = (file: string): string => readFileSync(join(dir, file), "utf8");
      const credential = { cert: read("service-discovery.pem"), key: read("service-discovery.key") };
      const how: KeyCheck = { hubId: "gamma", bundle: [new X509Certificate(read("ca.pem"))], revoked: [], nowWall: systemClock.wall() };
      const bytes = makeKeyStatement("gamma", held, credential);
      expect(verifyKeyStatement(bytes, how)).toMatchObject({ serial: 1 });
      const signed = fromBinary(SignedKeyStatementSchema, bytes);
      for (const at of [0, 10, signed.signature.length - 1]) {
        const signature = Buffer.from(signed.signature);
        signature[at] = (signature[at] as number) ^ 1;
        refused(toBinary(SignedKeyStatementSchema, create(SignedKeyStatementSchema, { ...signed, signature })), how, /signature/);
      }
      // Without the intermediate nobody can know who signed.
      const alone = toBinary(SignedKeyStatementSchema, create(SignedKeyStatementSchema, { ...signed, chain: signed.chain.slice(0, 1) }));
      if (options.intermediate === true) refused(alone, how, /not signed by a CA of gamma/);
    });
  });

  test("one whose statement was changed after signing is not", () => {
    const signed = fromBinary(SignedKeyStatementSchema, statement(alpha.service()));
    const changed = Buffer.from(signed.statement);
    changed[changed.length - 1] = (changed.at(-1) as number) ^ 1;
    refused(
      toBinary(SignedKeyStatementSchema, create(SignedKeyStatementSchema, { ...signed, statement: changed })),
      check(alpha),
      /signature of the feed key statement is wrong/,
    );
  });

  test("a renewed certificate makes a new statement", () => {
    let credential = alpha.service();
    const ours = new KeyStatement("alpha", held, () => ({ cert: credential.chainPem, key: credential.keyPem }));
    const before = ours.bytes;
    expect(ours.bytes).toBe(before);
    expect(ours.takeRenewed()).toBe(false);
    credential = alpha.service();
    expect([ours.takeRenewed(), ours.takeRenewed()]).toEqual([true, false]);
    expect(ours.bytes.equals(before)).toBe(false);
    expect(verifyKeyStatement(ours.bytes, check(alpha))).toMatchObject({ serial: 1 });
  });
});
