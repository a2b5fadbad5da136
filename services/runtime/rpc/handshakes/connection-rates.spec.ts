import { describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import type { Caller } from "../call.ts";
import { Accounts } from "../connections/accounts.ts";
import { ConnectionRates } from "./connection-rates.ts";
import { HandshakeCosts } from "./handshake-costs.ts";

const PEER = { kind: "peer", hubId: "barn" } as Caller;
const OTHER = { kind: "peer", hubId: "stable" } as Caller;
const node = (name: string): Caller => ({ kind: "node", hubId: "home", spiffeId: `spiffe://home/node/${name}` }) as Caller;
const SERVICE = { kind: "service", hubId: "home", spiffeId: "spiffe://home/service/hub" } as Caller;

/** listener takes connections whose handshakes succeed; `now` is its clock, ms. */
function listener(strangers = false) {
  const accounts = new Accounts(systemClock);
  const costs = new HandshakeCosts();
  const rates = new ConnectionRates(costs, strangers);
  /** come makes one connection: "shut out" before the handshake costs anything, else for how long it should have waited, ms. */
  const come = (caller: Caller | undefined, address: string, now: number): number | "shut out" => {
    if (costs.waitMs(address, now) > 0) return "shut out";
    const charge = costs.begins(address, now);
    return rates.shook({ account: accounts.of(caller), address, charge }, undefined, now);
  };
  return { costs, come };
}

describe("S-1 handshakes that succeed cost nothing only at the rate of an honest caller", () => {
  test.each<[string, Caller | undefined, number, number, number]>([
    ["a peer", PEER, 128, 5, 26],
    ["somebody whom this hub refuses", undefined, 128, 5, 26],
    ["a node", node("lamp"), 1_024, 50, 170],
  ])("%s", (_who, caller, burst, perSecond, most) => {
    const { come } = listener();
    const first = Array.from({ length: burst }, () => come(caller, "192.0.2.1", 0));
    expect(new Set(first)).toEqual(new Set([0]));
    expect(come(caller, "192.0.2.1", 0)).toBe(1_000 / perSecond);
    let inTime = 0;
    let tooSoon = 0;
    for (let now = 0; now < 60_000; now += 1) {
      const waitMs = come(caller, "192.0.2.1", now);
      if (waitMs === 0) inTime++;
      else if (waitMs !== "shut out") tooSoon++;
    }
    // The others cost 2 ms each, and are a twentieth of the processor at most; a third where callers of this hub come from.
    expect(inTime).toBeGreaterThan(0);
    expect(inTime).toBeLessThanOrEqual(60 * perSecond);
    expect(tooSoon / 60).toBeGreaterThan(most / 2);
    expect(tooSoon / 60).toBeLessThan(most);
  });

  test("a peer that waits gets in again", () => {
    const { come } = listener();
    for (let i = 0; i < 128; i++) come(PEER, "192.0.2.1", 0);
    expect(come(PEER, "192.0.2.1", 0)).toBe(200);
    expect(come(PEER, "192.0.2.1", 200)).toBe(0);
  });

  test("whoever has as many certificates as it likes pays by address", () => {
    const { come } = listener();
    for (let i = 0; i < 128; i++) come(undefined, `2001:db8::${i}`, 0);
    expect(come(undefined, "2001:db8::1", 0)).toBeGreaterThan(0);
    expect(come(undefined, "2001:db8:0:1::1", 0)).toBe(0);
  });

  test("an address from which only peers come is that of a stranger for ten minutes after one of them makes too many", () => {
    const { costs, come } = listener();
    for (let i = 0; i < 127; i++) come(PEER, "192.0.2.1", 0);
    come(node("lamp"), "192.0.2.2", 0);
    come(PEER, "192.0.2.2", 0);
    const known = () => ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map((address) => costs.known(address));
    expect(known()).toEqual([true, true, false]);
    for (let i = 1; i < 4; i++) expect(come(PEER, `192.0.2.${i}`, 0)).toBe(200);
    // Who shares an address with a peer must get in beside it.
    expect(known()).toEqual([false, true, false]);
    for (const now of [1_000, 599_000]) {
      expect(come(PEER, "192.0.2.1", now)).toBe(0);
      expect(known()).toEqual([false, true, false]);
    }
    come(PEER, "192.0.2.1", 601_000);
    expect(known()).toEqual([true, true, false]);
    expect(come(node("lamp"), "192.0.2.3", 601_000)).toBe(0);
    expect(known()).toEqual([true, true, true]);
  });

  test("peers that share an address, as behind a load balancer, do not pay for one of them", () => {
    const { costs, come } = listener();
    for (let i = 0; i < 128; i++) come(PEER, "192.0.2.1", 0);
    expect(come(OTHER, "192.0.2.1", 0)).toBe(0);
    expect(come(PEER, "192.0.2.1", 0)).toBe(200);
    expect(costs.known("192.0.2.1")).toBe(true);
    // The same of one that comes when it is too late.
    come(PEER, "192.0.2.2", 0);
    expect(costs.known("192.0.2.2")).toBe(false);
    expect(come(OTHER, "192.0.2.2", 0)).toBe(0);
    come(PEER, "192.0.2.2", 0);
    expect(costs.known("192.0.2.2")).toBe(true);
  });

  test("the other services of this hub come as often as they like", () => {
    const { come } = listener();
    for (let i = 0; i < 10_000; i++) expect(come(SERVICE, "192.0.2.1", 0)).toBe(0);
  });

  test("a thousand devices behind one address come back at once, and a gateway with all that it may have", () => {
    const { come } = listener();
    for (let i = 0; i < 1_000; i++) expect(come(node(`device-${i}`), "192.0.2.1", 0)).toBe(0);
    for (let i = 0; i < 1_024; i++) expect(come(node("gateway"), "192.0.2.1", 0)).toBe(0);
  });
});

describe("S-1 at the introduction door every certificate gets in, so that a handshake that succeeds costs what it takes", () => {
  const stranger = (i: number): Caller => ({ kind: "stranger", hubId: "x", thumbprint: `certificate ${i}` }) as Caller;

  test.each([
    ["one address", () => "192.0.2.1", 20, 30],
    ["one IPv6 network", (i: number) => `2001:db8::${i % 5_000}`, 20, 30],
    ["many addresses", (i: number) => `198.51.${i % 100}.${i % 250}`, 90, 110],
  ] as const)("of %s", (_who, addressOf, least, most) => {
    const { costs, come } = listener(true);
    let begun = 0;
    for (let i = 0; i < 40_000; i++) if (come(stranger(i), addressOf(i), i / 2) === 0 && i >= 20_000) begun++;
    expect(begun / 10).toBeGreaterThan(least);
    expect(begun / 10).toBeLessThan(most);
    expect(costs.known(addressOf(0))).toBe(false);
  });

  test("a guest, who looks at the door and comes in, is not kept waiting", () => {
    const { come } = listener(true);
    for (let i = 0; i < 20; i++) expect(come(stranger(i), "192.0.2.1", 0)).toBe(0);
  });
});
