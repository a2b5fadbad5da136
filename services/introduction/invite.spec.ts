import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Entropy } from "#channel/entropy.ts";
import { decodeInvite, encodeInvite, type Invite, inviteIdOf, newPin } from "./invite.ts";

const INVITE: Invite = {
  hubId: "home",
  secret: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex"),
  caDigest: Buffer.alloc(32, 7),
  host: "home.example.org",
  port: 18_805,
};
const TEXT = "foedus-invite:AQABAgMEBQYHCAkKCwwNDg8HBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHB0l1BGhvbWUQaG9tZS5leGFtcGxlLm9yZwikUA4";

describe("the text of an invite", () => {
  test("is this, and comes back", () => {
    expect(encodeInvite(INVITE)).toBe(TEXT);
    expect(decodeInvite(TEXT)).toEqual(INVITE);
    expect(decodeInvite(`  ${TEXT.slice(0, 40)}\n   ${TEXT.slice(40)}\n`)).toEqual(INVITE);
    expect(inviteIdOf(INVITE.secret).length).toBe(16);
  });

  test("comes back whatever it says", () => {
    const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
    const hubId = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    fc.assert(
      fc.property(
        fc.record({ hubId, host, secret: bytes(16), caDigest: bytes(32), port: fc.integer({ min: 1, max: 65_535 }) }),
        (given) => {
          const back = decodeInvite(encodeInvite(given));
          expect({ ...back, secret: [...back.secret], caDigest: [...back.caDigest] }).toEqual({
            ...given,
            secret: [...given.secret],
            caDigest: [...given.caDigest],
          });
        },
      ),
    );
  });

  test("a changed, cut, longer or foreign text is refused with a sentence, never taken for another invite", () => {
    fc.assert(
      fc.property(fc.integer({ min: 14, max: TEXT.length - 1 }), fc.constantFrom(..."Aa0_-"), (at, letter) => {
        fc.pre(TEXT[at] !== letter);
        expect(() => decodeInvite(TEXT.slice(0, at) + letter + TEXT.slice(at + 1))).toThrow(/not a whole invite|newer version/);
      }),
    );
    for (let length = 0; length < TEXT.length; length++) expect(() => decodeInvite(TEXT.slice(0, length))).toThrow("not a whole invite");
    for (const text of [
      "",
      "foedus-invite:",
      `${TEXT}A`,
      `${TEXT}AAAA`,
      TEXT.toUpperCase(),
      "x".repeat(1_000_000),
      `foedus-invite:${"A".repeat(5_000)}`,
      "https://a",
    ])
      expect(() => decodeInvite(text)).toThrow("not a whole invite");
    fc.assert(
      fc.property(fc.string(), (noise) => {
        expect(() => decodeInvite(`foedus-invite:${noise}`)).toThrow("not a whole invite");
      }),
    );
  });

  test("what could not be dialled is not written", () => {
    for (const wrong of [{ host: "a b" }, { host: "" }, { host: "h".repeat(254) }, { port: 0 }, { port: 65_536 }, { hubId: "A" }])
      expect(() => encodeInvite({ ...INVITE, ...wrong })).toThrow("needs a hub id");
  });
});

describe("a PIN", () => {
  const drawing = (...draws: readonly number[]): Entropy => {
    const left = [...draws];
    return {
      bytes: () => {
        const drawn = Buffer.alloc(4);
        drawn.writeUInt32LE(left.shift()!);
        return drawn;
      },
      id: () => "",
      seed: () => 0,
    };
  };

  test("has six digits, all equally likely", () => {
    expect(newPin(drawing(7))).toBe("000007");
    expect(newPin(drawing(4_293_999_999))).toBe("999999");
    // From here on the first numbers would come once more often.
    expect(newPin(drawing(4_294_000_000, 4_294_967_295, 123_456))).toBe("123456");
  });
});
