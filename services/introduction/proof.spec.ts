import { createHash, createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Cpace, lvCat } from "./cpace.ts";
import { digestOfOffer, ProofExchange, type Terms } from "./proof.ts";

const TERMS: Terms = {
  secret: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex"),
  pin: "424242",
  guestLeaf: "guest-leaf",
  hostLeaf: "host-leaf",
  caDigest: Buffer.alloc(32, 7),
  sessionId: Buffer.alloc(16, 9),
};
const OFFERS = { guest: Buffer.from("what the guest offers"), host: Buffer.from("what the host offers") };
const RANDOM = { guest: Buffer.alloc(32, 1), host: Buffer.alloc(32, 2) };

/** met gives both sides after Begin; each may have terms of its own. */
function met(guestTerms: Partial<Terms> = {}, hostTerms: Partial<Terms> = {}): { guest: ProofExchange; host: ProofExchange } {
  const guest = new ProofExchange("guest", { ...TERMS, ...guestTerms }, OFFERS.guest, RANDOM.guest);
  const host = new ProofExchange("host", { ...TERMS, ...hostTerms }, OFFERS.host, RANDOM.host);
  expect([guest.meet(host.half), host.meet(guest.half)]).toEqual([true, true]);
  return { guest, host };
}

describe("the proofs of an introduction", () => {
  test("are what docs/PROTOCOL.md says", () => {
    const { guest, host } = met();
    const text = (word: string): Buffer => Buffer.from(word);
    const terms = {
      password: lvCat(TERMS.secret, text("424242")),
      channel: lvCat(text("foedus.introduction.v1"), text("guest-leaf"), text("host-leaf"), TERMS.caDigest),
      sessionId: TERMS.sessionId,
    };
    const [a, b] = [new Cpace(terms, RANDOM.guest), new Cpace(terms, RANDOM.host)];
    const [ada, adb] = [OFFERS.guest, OFFERS.host].map((offer) => createHash("sha256").update(offer).digest()) as [Buffer, Buffer];
    const isk = a.key({ share: a.share, data: ada }, { share: b.share, data: adb }, b.share)!;
    const key = createHash("sha512")
      .update(Buffer.concat([text("CPaceMac"), TERMS.sessionId, isk]))
      .digest();
    const mac = (role: string, share: Uint8Array, digest: Buffer): Buffer =>
      createHmac("sha512", key)
        .update(lvCat(text(role), share, digest))
        .digest();
    expect(guest.proof()).toEqual(mac("guest", a.share, ada));
    expect(host.proof()).toEqual(mac("host", b.share, adb));
    // So that a change of any of it is seen: other software must come to the same.
    expect(guest.proof().subarray(0, 16).toString("hex")).toBe("781edde8b5d95d7dde54475e23b6edf5");
    expect(host.proof().subarray(0, 16).toString("hex")).toBe("7d5bddb7a0c1289152e49fd32dcfec9a");
  });

  test("hold for both sides, for the offers that were announced, and not for one's own", () => {
    const { guest, host } = met();
    expect(host.proven(guest.proof(), OFFERS.guest)).toBe(true);
    expect(guest.proven(host.proof(), OFFERS.host)).toBe(true);
    expect(host.proven(guest.proof(), OFFERS.host)).toBe(false);
    expect(host.proven(host.proof(), OFFERS.host)).toBe(false);
    expect(guest.proven(guest.proof(), OFFERS.guest)).toBe(false);
    expect(host.proven(guest.proof().subarray(1), OFFERS.guest)).toBe(false);
    expect(host.proven(new Uint8Array(0), OFFERS.guest)).toBe(false);
  });

  test.each([
    ["PIN", { pin: "424243" }],
    ["secret", { secret: Buffer.alloc(16) }],
    ["guest's certificate", { guestLeaf: "another" }],
    ["host's certificate", { hostLeaf: "another" }],
    ["CA digest", { caDigest: Buffer.alloc(32) }],
    ["session id", { sessionId: Buffer.alloc(16) }],
    ["PIN that moves a digit into the secret's place", { secret: Buffer.concat([TERMS.secret, Buffer.from("4")]), pin: "24242" }],
  ])("fail when the sides do not agree on the %s", (_what, change) => {
    const { guest, host } = met({}, change);
    expect([host.proven(guest.proof(), OFFERS.guest), guest.proven(host.proof(), OFFERS.host)]).toEqual([false, false]);
  });

  test("are not made with an echo, with no element, or before there is a key", () => {
    const guest = new ProofExchange("guest", TERMS, OFFERS.guest, RANDOM.guest);
    const offerDigest = digestOfOffer(OFFERS.host);
    expect(guest.meet(guest.half)).toBe(false);
    expect(guest.meet({ share: new Uint8Array(32), offerDigest })).toBe(false);
    expect(guest.meet({ share: new Uint8Array(32).fill(255), offerDigest })).toBe(false);
    expect(guest.proven(new Uint8Array(64), OFFERS.host)).toBe(false);
    expect(() => guest.proof()).toThrow("no key");
  });
});
