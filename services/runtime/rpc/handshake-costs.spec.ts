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

test("S-1 who is proven is not shut out for what many strangers take together; who is not waits", () => {
  const costs = new HandshakeCosts();
  costs.proved("192.0.2.1");
  for (let i = 0; i < 100; i++) costs.spent(`198.51.100.${i}`, 60, 0);
  expect(costs.waitMs("192.0.2.1", 0)).toBe(0);
  expect(costs.waitMs("127.0.0.1", 0)).toBe(0);
  expect(costs.waitMs("203.0.113.1", 0)).toBeGreaterThan(0);
  expect(costs.waitMs("203.0.113.1", 60_000)).toBe(0);
});

test("S-1 an address from which too much came is bounded again, whoever is let in from there, until that is long past", () => {
  const costs = new HandshakeCosts();
  expect(costs.guarded("192.0.2.1", 0)).toBe(true);
  costs.proved("192.0.2.1");
  expect(costs.guarded("192.0.2.1", 0)).toBe(false);
  expect(costs.guarded("127.0.0.1", 0)).toBe(false);
  for (const address of ["192.0.2.1", "127.0.0.1"]) {
    costs.tooLarge(address, 100_000, 0);
    expect(costs.waitMs(address, 0)).toBeGreaterThan(10_000);
    costs.proved(address);
    expect(costs.guarded(address, 500_000)).toBe(true);
    expect(costs.guarded(address, 700_000)).toBe(false);
  }
});
