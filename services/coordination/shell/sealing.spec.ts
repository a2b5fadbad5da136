import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { x25519 } from "@noble/curves/ed25519.js";
import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from "hpke";
import { afterAll, describe, expect, test } from "vitest";
import { sealAad, sealInfo } from "../migration/checkpoint/parcel.ts";
import { KEY_FILE, loadKeys, sealingKeyOf } from "./keys.ts";
import { Sealing } from "./sealing.ts";

const folder = mkdtempSync(join(tmpdir(), "foedus-sealing-"));
afterAll(() => rmSync(folder, { recursive: true }));

const key = (byte: number) => sealingKeyOf(new Uint8Array(32).fill(byte));
const info = sealInfo(7, 3);
const aad = sealAad(2, [0, 1]);
const raw = Buffer.from("a parcel of an agent, ".repeat(500));

describe("parcels are sealed to one hub, one transfer and one place", () => {
  test("the public key of a raw private key is the one that another implementation has", () => {
    for (const byte of [0, 1, 77, 255]) expect(key(byte).publicKey).toEqual(x25519.getPublicKey(new Uint8Array(32).fill(byte)));
  });

  test("what is sealed opens, compressed or not", async () => {
    const own = await Sealing.create(key(1));
    for (const bytes of [raw, Uint8Array.from([1]), Buffer.from(Array.from({ length: 300 }, (_none, at) => (at * 7919) & 0xff))]) {
      const sealed = (await own.seal(key(1).publicKey, info, aad, bytes))!;
      expect(sealed.enc).toHaveLength(32);
      expect(sealed.sealed.length).toBeLessThanOrEqual(bytes.length + 64);
      expect(Buffer.from((await own.open(sealed, info, aad, bytes.length))!)).toEqual(Buffer.from(bytes));
    }
  });

  test("what is sealed here opens with the library's own primitives, and the other way round", async () => {
    const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM);
    const own = await Sealing.create(key(1));
    const theirs = {
      privateKey: await suite.DeserializePrivateKey(key(1).seed),
      publicKey: await suite.DeserializePublicKey(key(1).publicKey),
    };
    const { enc, sealed } = (await own.seal(key(1).publicKey, info, aad, Uint8Array.from([1, 2, 3])))!;
    expect([...(await suite.Open(theirs, enc, sealed, { info, aad }))]).toEqual([0, 1, 2, 3]);
    for (const bytes of [Uint8Array.of(0), Buffer.concat([Uint8Array.of(0), raw])]) {
      const { encapsulatedSecret, ciphertext } = await suite.Seal(theirs.publicKey, bytes, { info, aad });
      const opened = await own.open({ enc: encapsulatedSecret, sealed: ciphertext }, info, aad, bytes.length - 1);
      expect(Buffer.from(opened!)).toEqual(Buffer.from(bytes.subarray(1)));
    }
  });

  test("nothing opens with another key, transfer, fence, round or number, when a bit is another one, or when it is longer than was said", async () => {
    const own = await Sealing.create(key(1));
    const other = await Sealing.create(key(2));
    const sealed = (await own.seal(key(1).publicKey, info, aad, raw))!;
    const flipped = { ...sealed, sealed: sealed.sealed.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) };
    const opened = await Promise.all([
      other.open(sealed, info, aad, raw.length),
      own.open(sealed, sealInfo(8, 3), aad, raw.length),
      own.open(sealed, sealInfo(7, 4), aad, raw.length),
      own.open(sealed, info, sealAad(3, [0, 1]), raw.length),
      own.open(sealed, info, sealAad(2, [1, 0]), raw.length),
      own.open(flipped, info, aad, raw.length),
      own.open({ ...sealed, enc: sealed.enc.map((byte, at) => (at === 0 ? byte ^ 1 : byte)) }, info, aad, raw.length),
      own.open({ enc: new Uint8Array(32), sealed: sealed.sealed }, info, aad, raw.length),
      own.open({ enc: new Uint8Array(0), sealed: new Uint8Array(0) }, info, aad, raw.length),
      own.open(sealed, info, aad, raw.length - 1),
      own.open(sealed, info, aad, raw.length + 1),
    ]);
    expect(opened).toEqual(opened.map(() => undefined));
    expect(await own.seal(new Uint8Array(3), info, aad, raw)).toBeUndefined();
  });
});

describe("the keys for deciding together", () => {
  test("are made once, private, and read back the same; a damaged file is never replaced", () => {
    const path = join(folder, KEY_FILE);
    const first = loadKeys(folder);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(loadKeys(folder)).toEqual(first);
    expect(sealingKeyOf(first.sealing.seed)).toEqual(first.sealing);
    expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({ format: "foedus-coordination-keys-1" });
    writeFileSync(path, "{}");
    expect(() => loadKeys(folder)).toThrow(/key file .* is damaged; restore it/);
  });
});
