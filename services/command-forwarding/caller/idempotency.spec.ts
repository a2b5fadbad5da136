import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ADMIN, EVIL, GATEWAY, Bench as KeyBench } from "../../../test/commands/bench.ts";
import { capability } from "../../../test/commands/hub.ts";
import { MemoryHub, type Reply } from "../../../test/commands/world.ts";
import { Journal } from "../journal/journal.ts";
import { type Command, type CommandEffect, NO_VALUE, OUTCOME } from "../messages.ts";
import { Keys, keyId, leftOf } from "./idempotency.ts";
import { Keyed } from "./pending.ts";

const DAY_MS = 24 * 3_600_000;
const WALL = 1_800_000_000_000;

/** A hub with one node of its own and an executor that does everything at once. */
class Bench {
  mono = 1_000;
  wall = 0;
  readonly hub: MemoryHub;
  runs = 0;
  #corr = 0;

  constructor() {
    this.hub = new MemoryHub("home", () => ({ mono: this.mono, wall: this.wall }));
    this.attach();
  }

  attach(): void {
    this.hub.give({
      kind: "directory",
      changes: [{ kind: "put", hubId: "home", nodeId: "door", online: true, capabilities: [capability("open", 0)] }],
    });
    this.hub.give({
      kind: "attach",
      executor: 1,
      name: "bridge",
      scope: { kind: "gateway", prefixes: [] },
      offer: { nodeIds: ["door"], capabilities: [], maxInFlight: 4, shared: false },
    });
  }

  /** open asks for the door to be opened under a key and answers what the caller is told. */
  open(key: string): Reply | undefined {
    const command: Command = {
      corr: ++this.#corr,
      hubId: "home",
      nodeId: "door",
      capability: "open",
      value: NO_VALUE,
      timeoutMs: 1_000,
      key,
      hops: [],
    };
    const effects = this.hub.give({ kind: "execute", client: 1, principal: "user", commands: [command] });
    const tasks = effects.flatMap((effect) => (effect.kind === "tasks" ? effect.items : []));
    this.runs += tasks.length;
    const reports = tasks.map(({ taskId }) => ({ taskId, value: NO_VALUE, failure: undefined }));
    const later = reports.length === 0 ? [] : this.hub.give({ kind: "reports", executor: 1, reports });
    return [...effects, ...later].find((effect: CommandEffect): effect is Reply => effect.kind === "reply");
  }
}

describe("idempotency keys and the date", () => {
  test("S0-12 D-9 a key that was used before the clock was set still stands afterwards", () => {
    const bench = new Bench();
    expect(bench.open("k")?.result.outcome).toBe(OUTCOME.DONE);
    bench.wall = WALL;
    expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect(bench.runs).toBe(1);
  });

  test("S0-12 D-9 and after a restart with the clock set", () => {
    const bench = new Bench();
    bench.open("k");
    bench.wall = WALL;
    bench.hub.restart();
    bench.attach();
    expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect(bench.runs).toBe(1);
  });

  test("S3-27 two hubs in one process, even of the same name, find duplicates each among its own keys", () => {
    const [one, two] = [new Bench(), new Bench()];
    for (const bench of [one, two]) expect(bench.open("k")).toMatchObject({ replayed: false, result: { outcome: OUTCOME.DONE } });
    for (const bench of [one, two]) expect(bench.open("k")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    expect([one.runs, two.runs]).toEqual([1, 1]);
  });

  test("a key is forgotten after its life, by the clock that cannot be set", () => {
    const bench = new Bench();
    bench.wall = WALL;
    bench.open("k");
    bench.mono += DAY_MS - 1;
    bench.open("k");
    expect(bench.runs).toBe(1);
    bench.mono += 2;
    bench.hub.tick();
    bench.open("other");
    bench.open("k");
    expect(bench.runs).toBe(3);
  });

  test("what is left of a stored key is never more than its life, and all of it when its date says nothing", () => {
    expect(leftOf(WALL + 500, WALL, 1_000)).toBe(500);
    expect(leftOf(WALL - 1, WALL, 1_000)).toBe(-1);
    expect(leftOf(WALL + 500, 0, 1_000)).toBe(1_000);
    expect(leftOf(1_500, WALL, 1_000)).toBe(1_000);
  });
});

/** Callers of one hub that use up its room for keys together: two of its own, and three others. */
const KEY_CALLERS = [ADMIN, "automation:lights", EVIL, "spiffe://home/node/worse", GATEWAY];
const LEAST_MS = 60_000;
const LIFE_MS = 3_600_000;

const keyUse = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant("use" as const), who: fc.nat(4), key: fc.nat(400), ends: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("burst" as const), who: fc.nat(4), from: fc.nat(400), count: fc.integer({ min: 5, max: 60 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 40_000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("end" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const) }) },
);

describe("A9 idempotency keys under pressure", () => {
  test("whoever uses keys, in whatever numbers: none is forgotten within the promised time, none stands beyond its life, and the room holds", () => {
    let forgotten = 0;
    let refused = 0;
    fc.assert(
      fc.property(fc.array(keyUse, { minLength: 20, maxLength: 120 }), (uses) => {
        const bench = new KeyBench({ keys: 64, keyBytes: 64 * 21_000, keyLifeMs: LIFE_MS, keyLeastMs: LEAST_MS });
        /** When the outcome of each key was told, by caller and key; those that run have none. */
        const told = new Map<string, number>();
        const running = new Set<string>();
        const ask = (who: string, key: string, ends: boolean): void => {
          const name = `${who} ${key}`;
          const before = bench.tasks.length;
          const reply = bench.send(who, "lamp", key, { timeoutMs: 600_000 });
          const ran = bench.tasks.length > before;
          const at = told.get(name);
          if (running.has(name)) expect(ran, "it runs already").toBe(false);
          else if (at !== undefined && bench.mono < at + LEAST_MS) expect(reply, `${name} is remembered`).toMatchObject({ replayed: true });
          else if (at !== undefined && bench.mono >= at + LIFE_MS) expect(reply?.replayed ?? false).toBe(false);
          else if (at !== undefined && reply?.replayed !== true) forgotten++;
          if (reply?.result.failure?.reason === "LIMIT_EXCEEDED") refused++;
          if (ran) running.add(name);
          if (ran && ends) end();
        };
        const end = (): void => {
          bench.finish();
          for (const name of running) told.set(name, bench.mono);
          running.clear();
        };
        for (const use of uses) {
          if (use.do === "use") ask(KEY_CALLERS[use.who] as string, `k${use.key}`, use.ends);
          else if (use.do === "burst") for (let i = 0; i < use.count; i++) ask(KEY_CALLERS[use.who] as string, `k${use.from + i}`, true);
          else if (use.do === "end") end();
          else if (use.do === "restart") {
            // What ran has the outcome UNKNOWN, from now on.
            bench.reboot();
            for (const name of running) told.set(name, bench.mono);
            running.clear();
          } else {
            bench.mono += use.ms;
            bench.tick();
          }
          for (const { limit, used, max } of bench.hub.core.rooms())
            if (limit.startsWith("idempotency")) expect(used, limit).toBeLessThanOrEqual(max);
        }
      }),
      { numRuns: 150 },
    );
    expect([forgotten > 20, refused > 20], "the room was under pressure").toEqual([true, true]);
  });

  test("an operator uses one key after the other all day, more than there is room for, beside callers that take what they can", () => {
    const bench = new KeyBench({ keys: 128, keyLeastMs: LEAST_MS });
    const hogs = [EVIL, GATEWAY, "automation:runaway", ...Array.from({ length: 6 }, (_, i) => `spiffe://home/node/n${i}`)];
    for (let round = 0; round < 80; round++) {
      bench.replies.length = 0;
      for (const hog of hogs) for (let i = 0; i < 10 && bench.run(hog, "lamp", `${round}.${i}`)?.result.outcome === OUTCOME.DONE; i++);
      // 8 in a minute: half of the eighth that is kept for its like, of which a runaway automation has what it could get.
      expect(bench.run(ADMIN, "lamp", `mine ${round}`)?.result.outcome, `round ${round}`).toBe(OUTCOME.DONE);
      bench.mono += 7_500;
      if (round % 30 === 20) bench.reboot();
    }
  });

  test("a lone caller that needs more than its part gives up its own oldest, and a key that was given up runs again", () => {
    const bench = new KeyBench({ keys: 80, keyLeastMs: LEAST_MS });
    for (let i = 0; i < 40; i++) bench.run(EVIL, "lamp", `k${i}`);
    bench.run(GATEWAY, "lamp", "other");
    expect(bench.run(EVIL, "lamp", "k40")?.result.failure?.reason).toBe("LIMIT_EXCEEDED");
    bench.mono += LEAST_MS;
    expect(bench.run(EVIL, "lamp", "k40")).toMatchObject({ replayed: false, result: { outcome: OUTCOME.DONE } });
    for (const restart of [false, true]) {
      if (restart) bench.reboot();
      expect(bench.run(GATEWAY, "lamp", "other")).toMatchObject({ replayed: true });
      for (const key of ["k39", "k40"]) expect(bench.run(EVIL, "lamp", key), `${key} ${restart}`).toMatchObject({ replayed: true });
    }
    expect(bench.run(EVIL, "lamp", "k0")).toMatchObject({ replayed: false, result: { outcome: OUTCOME.DONE } });
  });

  test("a key's time begins with its outcome, however long its command took", () => {
    const bench = new KeyBench({ keys: 8, keyLeastMs: LEAST_MS });
    bench.send(EVIL, "lamp", "slow", { timeoutMs: 3_600_000 });
    bench.mono += 30 * LEAST_MS;
    bench.finish();
    for (const reboot of [false, true]) {
      bench.mono += LEAST_MS / 2 - 1;
      if (reboot) bench.reboot();
      for (let i = 0; i < 20; i++) for (const who of KEY_CALLERS) bench.run(who, "lamp", `${reboot} ${i}`);
      expect(bench.run(EVIL, "lamp", "slow")).toMatchObject({ replayed: true, result: { outcome: OUTCOME.DONE } });
    }
  });
});

/** A room for keys that callers use in any number, each command of which ends at once; it counts whose part of it was asked for. */
class Room {
  mono = 1_000;
  asked = 0;
  #seq = 0;
  readonly keys: Keys;

  constructor(keys: number) {
    this.keys = new Keys({ keys, keyBytes: keys * 21_000, keyLifeMs: DAY_MS, keyLeastMs: LEAST_MS }, new Journal());
    const { room } = this.keys;
    const usedBy = room.usedBy.bind(room);
    room.usedBy = (holder) => {
      this.asked++;
      return usedBy(holder);
    };
  }

  /** use tells whether there was room for a key. */
  use(principal: string, key: string): boolean {
    const now = { mono: this.mono, wall: WALL + this.mono };
    const keyed = new Keyed(keyId(principal, key), new Uint8Array(32), { wall: now.wall + DAY_MS, mono: now.mono + DAY_MS });
    if (this.keys.admit(keyed, now.mono) !== undefined) return false;
    keyed.epoch = 1;
    keyed.seq = ++this.#seq;
    this.keys.add(keyed);
    this.keys.settle(now, keyed, { outcome: OUTCOME.DONE, value: NO_VALUE, failure: undefined });
    return true;
  }
}

describe("H3-M4 a full room for keys of many callers", () => {
  test("a new key finds the one that goes in a few steps, however many callers have one", () => {
    const room = new Room(4_096);
    let callers = 0;
    while (room.use(`spiffe://home/node/n${callers}`, "k")) callers++;
    expect(callers).toBe(3_584);
    room.asked = 0;
    for (let i = 0; i < 1_000; i++) expect(room.use(`spiffe://home/node/early${i}`, "k"), "too young to go").toBe(false);
    room.mono += LEAST_MS;
    for (let i = 0; i < 1_000; i++) expect(room.use(`spiffe://home/node/m${i}`, "k")).toBe(true);
    expect(room.asked, "steps for 2,000 commands and 3,584 callers").toBeLessThan(10_000);
  });

  test("whoever has most gives up its oldest, also when it came to have that much after the first were given up", () => {
    const room = new Room(512);
    let callers = 0;
    while (room.keys.size < 400) room.use(`spiffe://home/node/n${callers++}`, "k");
    for (let i = 0; room.use(`spiffe://home/node/n${i % 5}`, `more ${i}`); i++);
    room.mono += LEAST_MS;
    expect(room.use(EVIL, "k0")).toBe(true);
    for (let i = 1; i < 40; i++) expect(room.use(EVIL, `k${i}`)).toBe(true);
    const most = (): number => Math.max(...[...room.keys.room.shared().holdings].map(({ count }) => count));
    expect(most(), "of all it has most").toBe(40);
    room.mono += LEAST_MS;
    for (let i = 0; room.keys.room.count < 448; i++) room.use(`spiffe://home/node/late${i}`, "k");
    room.use("spiffe://home/node/last", "k");
    expect(room.keys.get(keyId(EVIL, "k0"), room.mono), "its oldest is gone").toBeUndefined();
    expect(room.keys.get(keyId("spiffe://home/node/n399", "k"), room.mono), "and not that of who has one").toBeDefined();
  });
});

describe("H3-M3 a restart with another life of keys, or a date that is ahead", () => {
  const cases = { "the life was made longer": [DAY_MS, 0], "the date is ahead": [LIFE_MS, LIFE_MS / 2] } as const;
  test.each(Object.entries(cases))("none is given up within the promised time: %s", (_, [keyLifeMs, ahead]) => {
    const before = new KeyBench({ keys: 16, keyLifeMs: LIFE_MS, keyLeastMs: LEAST_MS });
    for (let i = 0; i < 8; i++) expect(before.run(EVIL, "evil", `k${i}`)?.result.outcome).toBe(OUTCOME.DONE);
    const bench = new KeyBench({ keys: 16, keyLifeMs, keyLeastMs: LEAST_MS });
    bench.hub.disk = before.hub.disk.copy();
    bench.offset += ahead;
    bench.reboot();
    bench.tick();
    for (let n = 0; n < 14; n++) bench.run(`spiffe://home/node/n${n}`, "lamp", "x");
    for (let i = 0; i < 8; i++) expect(bench.run(EVIL, "evil", `k${i}`), `k${i}`).toMatchObject({ replayed: true });
    bench.mono += LEAST_MS;
    expect(bench.run("spiffe://home/node/later", "lamp", "x")?.result.outcome, "then they may go").toBe(OUTCOME.DONE);
  });
});
