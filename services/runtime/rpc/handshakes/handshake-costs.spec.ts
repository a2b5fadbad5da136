import { expect, test } from "vitest";
import { addressKey, HandshakeCosts } from "./handshake-costs.ts";

test("S-1 whoever has an IPv6 address has its /64; an IPv4 address is its own", () => {
  expect(addressKey("2001:db8:0:1::5")).toBe(addressKey("2001:db8:0:1:aaaa::9"));
  expect(addressKey("2001:db8::5")).toBe("2001:db8:0:0::/64");
  expect(addressKey("2001:db8:0:2::5")).not.toBe(addressKey("2001:db8:0:1::5"));
  expect(addressKey("::ffff:192.0.2.1")).toBe(addressKey("192.0.2.1"));
});

test("S-1 an address gets a twentieth of the processor for handshakes that fail, and is let in again", () => {
  const costs = new HandshakeCosts();
  let spent = 0;
  let longest = 0;
  for (let now = 0; now < 60_000; now += 10) {
    const waitMs = costs.waitMs("192.0.2.1", now);
    longest = Math.max(longest, waitMs);
    if (waitMs > 0) continue;
    costs.spent("192.0.2.1", 60, now);
    spent += 60;
  }
  expect(spent).toBeGreaterThan(2_500);
  expect(spent).toBeLessThan(3_300);
  expect(longest).toBeLessThan(2_500);
});

/** flood says hello so often a second for a while, and no more; it answers how many a second are let in at the end, and the part of all of them. */
function flood(
  costs: HandshakeCosts,
  perSecond: number,
  addressOf: (i: number) => string,
): { readonly begun: number; readonly part: number } {
  let begun = 0;
  for (let i = 0; i < 20 * perSecond; i++) {
    const now = (i * 1_000) / perSecond;
    if (costs.waitMs(addressOf(i), now) > 0) continue;
    costs.begins(addressOf(i), now);
    if (now >= 10_000) begun++;
  }
  return { begun: begun / 10, part: begun / (10 * perSecond) };
}

test.each([
  ["one stranger", 2_000, () => "192.0.2.1", 45, 55],
  ["many strangers", 2_000, (i: number) => `198.51.${i % 100}.${i % 250}`, 180, 220],
  ["who shares an address with callers", 2_000, () => "127.0.0.1", 300, 360],
] as const)(
  "S-1 hellos and no more, of %s, are let in at a bounded rate, however cheap each is",
  (_who, perSecond, addressOf, least, most) => {
    const { begun } = flood(new HandshakeCosts(), perSecond, addressOf);
    expect(begun).toBeGreaterThan(least);
    expect(begun).toBeLessThan(most);
  },
);

test("S-1 who shares an address with a flood gets in at each try with a fair chance, and is shut out at none for long", () => {
  const costs = new HandshakeCosts();
  expect(flood(costs, 400, () => "127.0.0.1").part).toBeGreaterThan(0.25);
  expect(costs.waitMs("127.0.0.1", 20_000)).toBeLessThan(10);
  // The many that strangers take are not theirs.
  flood(costs, 2_000, (i) => `198.51.${i % 100}.${i % 250}`);
  expect(costs.waitMs("127.0.0.1", 22_000)).toBe(0);
});

test("S-1 of an address that is shut out some are heard, of one that stays so for long none, and of others all", () => {
  const costs = new HandshakeCosts();
  let heard = 0;
  for (let now = 0; now < 10_000; now += 0.5) {
    if (!costs.hears("127.0.0.1", now)) continue;
    if (now >= 5_000) heard++;
    if (costs.waitMs("127.0.0.1", now) === 0) costs.begins("127.0.0.1", now);
  }
  // Twice as many as may begin, and those.
  expect(heard / 5).toBeGreaterThan(500);
  expect(heard / 5).toBeLessThan(1_050);
  expect(costs.hears("192.0.2.1", 10_000)).toBe(true);
  costs.spent("192.0.2.1", 1_000, 10_000);
  expect([costs.hears("192.0.2.1", 10_000), costs.hears("192.0.2.2", 10_000)]).toEqual([false, false]);
  expect(costs.hears("192.0.2.1", 60_000)).toBe(true);
});

test("S-1 fewer are let in when each takes longer, as on a machine with little time for this process; a long pause counts little", () => {
  const costs = new HandshakeCosts();
  let begun = 0;
  for (let now = 0; now < 20_000; now++) {
    if (costs.waitMs("127.0.0.1", now) > 0) continue;
    costs.took(costs.begins("127.0.0.1", now), 5, now);
    if (now >= 10_000) begun++;
  }
  expect(begun / 10).toBeGreaterThan(60);
  expect(begun / 10).toBeLessThan(70);
  const paused = new HandshakeCosts();
  const charge = paused.begins("192.0.2.1", 0);
  paused.took(charge, 10_000, 0);
  expect(paused.waitMs("192.0.2.1", 0)).toBe(0);
  paused.succeeded(charge);
  paused.spent("192.0.2.1", 50, 0);
  expect(paused.waitMs("192.0.2.1", 0)).toBe(0);
});

test("S-1 handshakes that succeed cost nothing, however many come at once", () => {
  const costs = new HandshakeCosts();
  for (let i = 0; i < 1_000; i++) {
    const charge = costs.begins("192.0.2.1", i);
    expect(costs.waitMs("192.0.2.1", i)).toBe(0);
    costs.proved("192.0.2.1", undefined, 0);
    costs.succeeded(charge);
  }
});

test("S-1 who is proven is not shut out for what many strangers take together; who is not waits", () => {
  const costs = new HandshakeCosts();
  costs.proved("192.0.2.1", undefined, 0);
  for (let i = 0; i < 100; i++) costs.spent(`198.51.100.${i}`, 60, 0);
  expect(costs.waitMs("192.0.2.1", 0)).toBe(0);
  expect(costs.waitMs("127.0.0.1", 0)).toBe(0);
  expect(costs.waitMs("203.0.113.1", 0)).toBeGreaterThan(0);
  expect(costs.waitMs("203.0.113.1", 60_000)).toBe(0);
});

test("S-1 an address from which too much came is bounded again, whoever is let in from there, until that is long past", () => {
  const costs = new HandshakeCosts();
  expect(costs.guarded("192.0.2.1", 0)).toBe(true);
  costs.proved("192.0.2.1", undefined, 0);
  expect(costs.guarded("192.0.2.1", 0)).toBe(false);
  expect(costs.guarded("127.0.0.1", 0)).toBe(false);
  for (const address of ["192.0.2.1", "127.0.0.1"]) {
    costs.tooLarge(address, 100_000, 0);
    // Of this machine's own address callers come all the same.
    expect(costs.waitMs(address, 0)).toBeGreaterThan(address === "127.0.0.1" ? 1_500 : 10_000);
    expect(costs.waitMs(address, 0)).toBeLessThan(address === "127.0.0.1" ? 2_501 : 20_001);
    costs.proved(address, undefined, 0);
    expect(costs.guarded(address, 500_000)).toBe(true);
    expect(costs.guarded(address, 700_000)).toBe(false);
  }
});
