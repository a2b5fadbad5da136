import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Rooms } from "./rooms.ts";

const HOME = "198.51.100.7";
const OTHER_HOME = "198.51.100.8";
const STRANGER = "192.0.2.1";
const network = (i: number): string => `2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::1`;

interface Guest {
  readonly address: string;
}

/** Fleet is programs that come from one address, and try again until they are in. */
interface Fleet {
  readonly address: string;
  readonly size: number;
  readonly againMs: number;
}

/** Round trips of a fleet: its hello takes one, and what follows it another. */
const WAY_MS = 75;

/**
 * village has rooms, fleets that come at the same time, and strangers who do what `strangers` says in each millisecond. It tells how long
 * each fleet took, ms, and how many handshakes of it were cut.
 */
function village(max: number, fleets: readonly Fleet[], strangers: (rooms: Rooms<Guest>, now: number) => void, known: readonly string[]) {
  const ended = new Set<Guest>();
  const rooms = new Rooms<Guest>(
    { maxConnectionsPerIp: 512, maxConnections: max },
    (address) => known.includes(address),
    (guest) => ended.add(guest),
  );
  const told = fleets.map(() => ({ tookMs: Number.POSITIVE_INFINITY, done: 0, cut: 0 }));
  /** What happens when, in the order in which it was planned. */
  const plans = new Map<number, (() => void)[]>();
  let now = 0;
  const after = (ms: number, what: () => void): void => {
    plans.set(now + ms, [...(plans.get(now + ms) ?? []), what]);
  };
  const dial = (fleet: Fleet, result: (typeof told)[number]): void => {
    const guest: Guest = { address: fleet.address };
    const again = () => after(fleet.againMs, () => dial(fleet, result));
    if (rooms.enter(guest, now) !== undefined) return again();
    const alive = (): boolean => {
      if (!ended.delete(guest)) return true;
      result.cut++;
      again();
      return false;
    };
    after(WAY_MS, () => {
      if (!alive()) return;
      rooms.heard(guest, now);
      after(WAY_MS, () => {
        if (!alive()) return;
        rooms.shook(guest);
        rooms.leave(guest);
        result.done++;
        if (result.done === fleet.size) result.tookMs = now;
      });
    });
  };
  for (; now < 30_000 && told.some(({ tookMs }) => tookMs === Number.POSITIVE_INFINITY); now++) {
    if (now === 1)
      for (const [i, fleet] of fleets.entries())
        for (let n = 0; n < fleet.size; n++) after(((n * 1_000) / fleet.size) | 0, () => dial(fleet, told[i] as (typeof told)[number]));
    strangers(rooms, now);
    for (const what of plans.get(now) ?? []) what();
    plans.delete(now);
  }
  return told;
}

/** flood takes the whole room at once, and then so many a millisecond, from so many networks, of whom every `hello`th says hello, and no more. */
function flood(perMs: number, networks: number, first: number, hello = 0) {
  let [came, due] = [0, 0];
  return (rooms: Rooms<Guest>, now: number): void => {
    for (due += now === 0 ? first : perMs; due >= 1; due--) {
      const guest: Guest = { address: network(came++ % networks) };
      if (rooms.enter(guest, now) === undefined && hello > 0 && came % hello === 0) rooms.heard(guest, now);
    }
  };
}

const home = (size: number, againMs = 50): Fleet => ({ address: HOME, size, againMs });
const MANY = 1 << 20;

describe("S-1 a fleet behind one address comes back", () => {
  test.each([
    ["100 programs, 1,000 strangers/s", 100, flood(1, MANY, 1_024)],
    ["500 programs, 200 strangers/s", 500, flood(0.2, MANY, 1_024)],
    ["500 programs, 1,000 strangers/s", 500, flood(1, MANY, 1_024)],
    ["500 programs, 20,000 strangers/s", 500, flood(20, MANY, 1_024)],
    ["8 programs, 2,000 strangers/s", 8, flood(2, MANY, 1_024)],
    ["500 programs, 1,000 strangers/s who say hello", 500, flood(1, MANY, 1_024, 1)],
    ["500 programs, and nobody else", 500, () => undefined],
  ])("%s", (_what, size, strangers) => {
    const [told] = village(4_096, [home(size)], strangers, [HOME]);
    expect(told).toMatchObject({ done: size, cut: 0 });
    expect(told?.tookMs).toBeLessThanOrEqual(1_250);
  });

  test("also when the room is small, and nobody waits long before trying again", () => {
    const [told] = village(256, [home(500, 1)], flood(5, MANY, 64), [HOME]);
    expect(told?.cut).toBeLessThanOrEqual(32);
    // 32 at a time, each for two round trips.
    expect(told?.tookMs).toBeLessThanOrEqual((500 / 32 + 1) * 2 * WAY_MS + 1_000);
  });

  test("and does not keep another one out, nor is kept out by it", () => {
    const strangers = flood(1, MANY, 64);
    const [large, small] = village(256, [home(500, 1), { address: OTHER_HOME, size: 8, againMs: 50 }], strangers, [HOME, OTHER_HOME]);
    expect(small?.tookMs).toBeLessThan(1_500);
    expect(large?.tookMs).toBeLessThan(5_000);
  });

  test("also when somebody at another address from which callers come connects, and leaves, again and again", () => {
    let last: Guest | undefined;
    const leaver = (rooms: Rooms<Guest>, now: number): void => {
      for (let i = 0; i < 20; i++) {
        if (last !== undefined) rooms.leave(last);
        last = { address: OTHER_HOME };
        if (rooms.enter(last, now) !== undefined) last = undefined;
      }
    };
    const [told] = village(256, [home(500, 10)], leaver, [HOME, OTHER_HOME]);
    expect(told?.tookMs).toBeLessThan(6_000);
  });

  test("whatever strangers do", () => {
    const step = fc.record({
      network: fc.integer({ min: 0, max: 2_000 }),
      many: fc.integer({ min: 1, max: 8 }),
      does: fc.constantFrom("silent", "hello", "leaves", "waits"),
    });
    void fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 150 }), (steps, size) => {
        const guests: Guest[] = [];
        const strangers = (rooms: Rooms<Guest>, now: number): void => {
          const { network: from, many, does } = steps[now % steps.length] as (typeof steps)[number];
          if (does === "waits") return;
          for (let i = 0; i < many; i++) {
            const guest = does === "leaves" ? guests.shift() : { address: network(from + i * 7) };
            if (guest === undefined) return;
            if (does === "leaves") rooms.leave(guest);
            else if (rooms.enter(guest, now) === undefined && guests.push(guest) > 0 && does === "hello") rooms.heard(guest, now);
          }
        };
        const [told] = village(128, [home(size, 20)], strangers, [HOME]);
        // At least 16 of them are under way at a time, and those are let be.
        expect(told?.tookMs).toBeLessThanOrEqual((size / 16 + 1) * (2 * WAY_MS + 20) + 1_020);
      }),
      { numRuns: 15 },
    );
  });
});

describe("S-1 an honest stranger", () => {
  const one: Fleet = { address: STRANGER, size: 1, againMs: 1_000 };
  test.each([
    ["one network that says nothing", 1, 0],
    ["63 networks that say nothing", 63, 0],
    ["one network that says hello", 1, 1],
    ["15 networks that say hello", 15, 1],
    ["15 networks of which half say hello", 15, 2],
  ])("gets in at once beside a flood from %s", (_what, networks, hello) => {
    const [told] = village(256, [one], flood(20, networks, 2_000, hello), [HOME]);
    expect(told).toMatchObject({ done: 1, cut: 0 });
  });

  test("gets in beside a flood from as many networks as there are, if its hello comes before the room has been taken anew", () => {
    const [told] = village(4_096, [one], flood(10, MANY, 2_000), [HOME]);
    expect(told).toMatchObject({ done: 1, cut: 0 });
  });

  test("gets in beside a fleet that comes back", () => {
    const [told] = village(256, [one, home(500, 1)], () => undefined, [HOME]);
    expect(told).toMatchObject({ done: 1, cut: 0 });
  });
});

test("S-1 who shares an address with somebody who says nothing gets in when that one takes longer than an honest client", () => {
  const [told] = village(256, [home(1, 100)], (rooms, now) => void (now % 100 < 10 && rooms.enter({ address: HOME }, now)), [HOME]);
  expect(told?.tookMs).toBeLessThan(3_000);
});

test("S-1 strangers who become callers while their handshakes are under way count as those", () => {
  const known: string[] = [];
  const ended: Guest[] = [];
  const rooms = new Rooms<Guest>(
    { maxConnectionsPerIp: 512, maxConnections: 256 },
    (address) => known.includes(address),
    (guest) => ended.push(guest),
  );
  const fleet = Array.from({ length: 20 }, (): Guest => ({ address: HOME }));
  for (const guest of fleet) expect(rooms.enter(guest, 0)).toBeUndefined();
  rooms.heard(fleet[0] as Guest, 0);
  known.push(HOME);
  rooms.shook(fleet[0] as Guest);
  for (let i = 0; i < 500; i++) rooms.enter({ address: network(i) }, 0);
  expect(ended.filter(({ address }) => address === HOME)).toEqual([]);
});
