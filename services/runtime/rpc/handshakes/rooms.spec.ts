import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Limit, type RoomLimits, Rooms } from "./rooms.ts";

interface Guest {
  readonly address: string;
}

/** house has rooms; `ended` are those whose connection was closed for another, with the reason. */
function house(limits: Partial<RoomLimits> = {}, known: (address: string) => boolean = () => false) {
  const ended = new Map<Guest, string>();
  const rooms = new Rooms<Guest>({ maxConnectionsPerIp: 512, maxConnections: 256, ...limits }, known, (guest, { reason }: Limit) =>
    ended.set(guest, reason),
  );
  const come = (address: string, now = 0) => {
    const guest: Guest = { address };
    return { guest, met: rooms.enter(guest, now)?.reason };
  };
  return { rooms, ended, come };
}

const v6 = (i: number): string => `2001:db8::${i.toString(16)}`;
const HONEST = "198.51.100.7";

describe("S-1 handshakes under way", () => {
  test.each([
    ["one address", () => "203.0.113.1"],
    ["nine addresses", (i: number) => `203.0.113.${i % 9}`],
    ["one IPv6 network", v6],
  ])("%s that floods ends its own ones only", (_who, addressOf) => {
    const { rooms, ended, come } = house();
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 1_000; i++) come(addressOf(i));
      const { guest, met } = come(HONEST);
      expect(met).toBeUndefined();
      for (let i = 0; i < 1_000; i++) come(addressOf(i));
      expect(ended.has(guest)).toBe(false);
      rooms.shook(guest);
      rooms.leave(guest);
    }
    expect(new Set(ended.values())).toEqual(new Set(["handshake_limit"]));
  });

  test("a newcomer ends one at most, and none if it is refused itself", () => {
    const step = fc.record({
      from: fc.nat(12),
      afterMs: fc.nat(400),
      what: fc.constantFrom("come", "come", "come", "heard", "shook", "leave"),
    });
    const property = fc.property(fc.array(step, { minLength: 200, maxLength: 400 }), (steps) => {
      const { rooms, ended, come } = house({ maxConnectionsPerIp: 8, maxConnections: 64 }, (address) => address.endsWith("1"));
      const here: Guest[] = [];
      let now = 0;
      for (const { from, afterMs, what } of steps) {
        now += afterMs;
        const before = ended.size;
        const guest = here[(from * 7) % Math.max(1, here.length)];
        if (what === "come") {
          const { guest: newcomer, met } = come(`203.0.113.${from}`, now);
          expect(ended.size - before).toBeLessThanOrEqual(met === undefined ? 1 : 0);
          if (met === undefined) here.push(newcomer);
        } else if (guest !== undefined && !ended.has(guest)) {
          if (what === "heard") rooms.heard(guest, now);
          else if (what === "shook") rooms.shook(guest);
          else rooms.leave(guest);
          if (what === "leave") here.splice(here.indexOf(guest), 1);
        }
        for (let i = here.length - 1; i >= 0; i--) if (ended.has(here[i]!)) here.splice(i, 1);
        expect(here.length).toBeLessThanOrEqual(64);
      }
    });
    void fc.assert(property, { numRuns: 150 });
  });

  test("S-1 handshakes of one address that come and go make nothing anew, however many are under way", () => {
    const { rooms, come } = house({ maxConnections: 1_024 });
    for (let i = 0; i < 200; i++) come(HONEST);
    let pushed = 0;
    const { push } = Array.prototype;
    Array.prototype.push = function (...items) {
      pushed += items.length;
      return push.apply(this, items);
    };
    try {
      for (let i = 0; i < 100; i++) {
        const { guest } = come(HONEST);
        rooms.heard(guest, 0);
        rooms.leave(guest);
      }
    } finally {
      Array.prototype.push = push;
    }
    expect(pushed / 100).toBeLessThan(20);
  });

  test("of as many each, the oldest goes", () => {
    const { ended, come } = house();
    const guests = Array.from({ length: 64 + 10 }, (_, i) => come(`203.0.113.${i}`).guest);
    expect([...ended.keys()]).toEqual(guests.slice(0, 10));
  });

  test("addresses from which callers come have half of the room, and no more, when strangers want the rest", () => {
    const { ended, come } = house({}, (address) => address === HONEST);
    const callers = Array.from({ length: 15 }, () => come(HONEST).guest);
    for (let i = 0; i < 1_000; i++) come(`203.0.113.${i % 24}`);
    expect(callers.filter((guest) => ended.has(guest))).toEqual([]);
    const stranger = come("192.0.2.1").guest;
    for (let i = 0; i < 1_000; i++) come(HONEST);
    expect(ended.has(stranger)).toBe(false);
  });

  test("one that leaves, or is done, counts no more", () => {
    const { rooms, ended, come } = house();
    for (let i = 0; i < 40; i++) rooms.shook(come("203.0.113.1").guest);
    for (let i = 0; i < 40; i++) rooms.leave(come("203.0.113.1").guest);
    const later = 1_000;
    const [most, others] = [[0, 1].map(() => come("203.0.113.2").guest), Array.from({ length: 62 }, (_, i) => come(v6(i)).guest)];
    come(HONEST, later);
    expect([...ended.keys()]).toEqual([others[0]]);
    for (const guest of others) rooms.leave(guest);
    for (let i = 0; i < 61; i++) come(`203.0.113.${100 + i}`, later);
    come(HONEST, later);
    expect([...ended.keys()]).toEqual([others[0], most[0]]);
  });

  test("a flood from as many networks as there is room for costs a newcomer no search", () => {
    let asked = 0;
    const counted = house({ maxConnections: 16_384 }, () => ++asked < 0);
    for (let i = 0; i < 20_000; i++) counted.come(`2001:db8:${(i >> 8).toString(16)}:${(i & 255).toString(16)}::1`);
    expect(asked).toBeLessThan(20_000 * 4);
    expect(counted.come(HONEST).met).toBeUndefined();
  });
});

describe("S-1 H2-6 connections of one address", () => {
  test("one IPv6 network has as many handshakes as one IPv4 address may have connections", () => {
    const { ended, come } = house({ maxConnectionsPerIp: 8 });
    const guests = Array.from({ length: 12 }, (_, i) => come(v6(i)).guest);
    expect([...ended.entries()]).toEqual(guests.slice(0, 4).map((guest) => [guest, "per_ip_limit"]));
  });

  test("callers of one IPv6 network have room each; who one is says its certificate", () => {
    const { rooms, ended, come } = house({ maxConnectionsPerIp: 8 });
    for (let i = 0; i < 100; i++) {
      const { guest, met } = come(v6(i));
      expect(met).toBeUndefined();
      rooms.shook(guest);
    }
    expect(ended.size).toBe(0);
  });

  test("whose are all in use refuses one more, until one leaves", () => {
    const { rooms, come } = house({ maxConnectionsPerIp: 8 });
    const guests = Array.from({ length: 8 }, () => come(HONEST).guest);
    for (const guest of guests) rooms.shook(guest);
    expect(come(HONEST).met).toBe("per_ip_limit");
    rooms.leave(guests[0] as Guest);
    expect(come(HONEST).met).toBeUndefined();
  });
});

describe("S-1 the introduction door", () => {
  const door = () => house({ strangers: true, maxConnectionsPerIp: 4, maxConnections: 32 });

  test.each([
    ["an IPv4 address", () => "203.0.113.1"],
    ["an IPv6 network", v6],
  ])("%s has four connections, whatever it does, and ends nobody else's", (_who, addressOf) => {
    const { ended, come } = door();
    const { guest } = come(HONEST);
    const met = Array.from({ length: 1_000 }, (_, i) => come(addressOf(i)).met);
    expect(met.filter((reason) => reason === undefined).length).toBe(4);
    expect(new Set(met.slice(4))).toEqual(new Set(["per_ip_limit"]));
    expect([ended.has(guest), come("192.0.2.1").met]).toEqual([false, undefined]);
  });

  test("when all are taken a newcomer ends the oldest of the network that has most, and none of one that has no more than its own", () => {
    const { ended, come } = door();
    const networks = Array.from({ length: 8 }, (_, i) => Array.from({ length: 4 }, (_, j) => come(`2001:db8:0:${i}::${j}`).guest));
    expect(come(HONEST).met).toBeUndefined();
    expect([...ended.keys()]).toEqual([networks[0]?.[0]]);
    for (let i = 0; i < 3; i++) expect(come(HONEST).met).toBeUndefined();
    expect(come("2001:db8:0:0::9").met).toBeUndefined();
    expect(ended.size).toBe(5);
    expect(new Set([...ended.values()])).toEqual(new Set(["limit"]));
  });
});
