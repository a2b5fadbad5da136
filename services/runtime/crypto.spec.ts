import { describe, expect, test } from "vitest";
import { createCrypto, exportFeedKey, generateFeedKey, importFeedKey, importPublicKey } from "./crypto.ts";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("crypto", () => {
  test("hash is SHA-256 (FIPS 180-4 vector)", () => {
    expect(text(createCrypto().hash(Buffer.from("abc")))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });

  test("sign and verify are Ed25519 (RFC 8032 section 7.1, test 2)", () => {
    const key = importFeedKey(hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
    expect(text(key.publicKey)).toBe("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    const crypto = createCrypto(key);
    const signature = crypto.sign(hex("72"));
    expect(text(signature)).toBe(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    expect(crypto.verify(key.publicKey, hex("72"), signature)).toBe(true);
    expect(crypto.verify(key.publicKey, hex("73"), signature)).toBe(false);
  });

  test("malformed keys and signatures are false, never an exception", () => {
    const crypto = createCrypto(generateFeedKey());
    const data = hex("00");
    for (const key of [new Uint8Array(0), new Uint8Array(31), new Uint8Array(33), new Uint8Array(32).fill(255)])
      expect(crypto.verify(key, data, new Uint8Array(64))).toBe(false);
    expect(crypto.verify(generateFeedKey().publicKey, data, new Uint8Array(10))).toBe(false);
    expect(importPublicKey(new Uint8Array(5))).toBeUndefined();
  });

  test("more keys than the cache holds still verify", () => {
    const crypto = createCrypto();
    const data = hex("0102");
    const keys = Array.from({ length: 300 }, () => generateFeedKey());
    for (let round = 0; round < 2; round++)
      for (const key of keys) expect(crypto.verify(key.publicKey, data, createCrypto(key).sign(data))).toBe(true);
  });

  test("a pair survives export and import, and signing without one is a bug", () => {
    const key = generateFeedKey();
    expect(text(importFeedKey(exportFeedKey(key)).publicKey)).toBe(text(key.publicKey));
    expect(() => createCrypto().sign(hex("00"))).toThrow("no feed key");
  });
});
