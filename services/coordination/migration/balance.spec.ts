import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BALANCE_DEFAULTS, type BalanceConfig, Balancer, type HubLoad, LOAD_MAX, type MovableAgent, type Move } from "./balance.ts";

const { cooldownMs } = BALANCE_DEFAULTS;
const begin = (config: Partial<BalanceConfig> = {}): Balancer => new Balancer({ ...BALANCE_DEFAULTS, ...config });
const hub = (name: string, agents: number, room = 10, takes = true): HubLoad => ({ hub: name, agents, room, takes });
const long = (at: string, agent: string, sinceMs = cooldownMs): MovableAgent => ({ hub: at, agent, sinceMs });
const several = (at: string, count: number): MovableAgent[] => Array.from({ length: count }, (_, i) => long(at, `${at}${i}`));
const shown = (moves: readonly Move[]): string[] => moves.map(({ agent, to }) => `${agent} ${to}`);

describe("S1-30 which agents are to move", () => {
  test("moves are proposed when a load differs from the mean by more than 0.2, each agent once in a cooldown, those first that have been there for longest", () => {
    const hubs = [hub("a", 9), hub("b", 3), hub("c", 3)];
    const agents = [long("a", "a1", cooldownMs - 1), long("a", "a2"), long("a", "a3", cooldownMs + 1), long("b", "b1")];
    const balancer = begin();
    expect(balancer.plan(0, hubs, agents)).toEqual([
      { agent: "a3", from: "a", to: "b" },
      { agent: "a2", from: "a", to: "c" },
    ]);
    expect(balancer.plan(cooldownMs - 1, hubs, agents)).toEqual([]);
    expect(balancer.plan(cooldownMs, hubs, agents)).toHaveLength(2);
  });

  test("a difference of 0.2 moves nothing, and one that began to be settled is settled to 0.1", () => {
    const agents = several("a", 20);
    expect(begin().plan(0, [hub("a", 6), hub("b", 2)], agents)).toEqual([]);
    const balancer = begin({ movesMax: 1 });
    expect(balancer.plan(0, [hub("a", 7), hub("b", 2)], agents)).toHaveLength(1);
    expect(balancer.plan(1, [hub("a", 6), hub("b", 3)], agents)).toHaveLength(1);
    expect(balancer.plan(2, [hub("a", 54, 100), hub("b", 36, 100)], agents)).toEqual([]);
    expect(balancer.plan(3, [hub("a", 6), hub("b", 3)], agents)).toEqual([]);
  });

  test("a hub far below the mean is given something by those a little above it", () => {
    const hubs = [hub("a", 5), hub("b", 5), hub("c", 5), hub("d", 0)];
    expect(begin().plan(0, hubs, [long("b", "b1"), long("d", "d1")])).toEqual([{ agent: "b1", from: "b", to: "d" }]);
  });

  test("the mean is that of all room together: a hub with ten times the room gets ten times the agents", () => {
    expect(shown(begin().plan(0, [hub("a", 11), hub("b", 0, 100)], several("a", 11)))).toHaveLength(10);
  });

  test("an agent goes to the next best where it could not go to the best; a hub that takes nobody in gets none", () => {
    const agents = several("a", 3).map((agent) => ({ ...agent, notTo: new Set(["b"]) }));
    expect(shown(begin().plan(0, [hub("a", 9), hub("b", 0), hub("c", 2)], agents))).toEqual(["a0 c"]);
    expect(shown(begin().plan(0, [hub("a", 9), hub("b", 0, 10, false), hub("c", 2)], several("a", 9)))).toEqual(["a0 c"]);
    const stuck = [...agents, long("a", "free")];
    expect(shown(begin().plan(0, [hub("a", 9), hub("b", 0)], stuck))).toEqual(["free b"]);
  });

  test("what is under way counts towards the moves at a time", () => {
    const hubs = [hub("a", 90, 100), hub("b", 0, 100)];
    expect(begin().plan(0, hubs, several("a", 90))).toHaveLength(16);
    expect(begin().plan(0, hubs, several("a", 90), 13)).toHaveLength(3);
    expect(begin().plan(0, hubs, several("a", 90), 20)).toEqual([]);
  });

  test("a look at 4,096 agents of 128 hubs, with many that could not go to many, is a matter of milliseconds", () => {
    const names = Array.from({ length: 128 }, (_, i) => `h${i}`);
    const hubs = names.map((name, i) => hub(name, i < 64 ? 64 : 0, 100));
    const agents = names.slice(0, 64).flatMap((name) => several(name, 64));
    const notTo = new Set(names.slice(1));
    const stuck = agents.map((agent, i) => (i < 1_000 ? { ...agent, notTo } : agent));
    expect(begin().plan(0, hubs, agents)).toHaveLength(16);
    let least = Number.POSITIVE_INFINITY;
    for (let n = 0; n < 20; n++) {
      const began = performance.now();
      expect(begin().plan(0, hubs, stuck)).toHaveLength(16);
      least = Math.min(least, performance.now() - began);
    }
    process.stdout.write(`a look at 4,096 agents of 128 hubs: ${least.toFixed(2)} ms\n`);
    expect(least).toBeLessThan(50);
  });
});

describe("S1-30 whatever the loads and rooms", () => {
  const places = fc
    .array(
      fc.record({
        agents: fc.integer({ min: 0, max: 60 }),
        room: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 1_000 })),
        takes: fc.boolean(),
      }),
      { minLength: 2, maxLength: 8 },
    )
    .map((all) => all.map(({ agents, room, takes }, i) => hub(`h${i}`, agents, room, takes || i < 2)));
  const residents = (hubs: readonly HubLoad[]) => hubs.flatMap(({ hub: at, agents }) => several(at, agents));
  const carriedOut = (hubs: readonly HubLoad[], moves: readonly Move[]): HubLoad[] => {
    const change = (id: string): number => moves.reduce((sum, { from, to }) => sum + (to === id ? 1 : 0) - (from === id ? 1 : 0), 0);
    return hubs.map((one) => ({ ...one, agents: one.agents + change(one.hub) }));
  };

  test("no receiver ends above 0.8 or above the mean, no sender below the mean by an agent or more, and nobody is both", () => {
    fc.assert(
      fc.property(places, fc.integer({ min: 1, max: 40 }), (hubs, movesMax) => {
        const moves = begin({ movesMax }).plan(0, hubs, residents(hubs));
        expect(moves.length).toBeLessThanOrEqual(movesMax);
        expect(new Set(moves.map(({ agent }) => agent)).size).toBe(moves.length);
        const [agents, room] = [hubs.reduce((sum, one) => sum + one.agents, 0), hubs.reduce((sum, one) => sum + one.room, 0)];
        const [froms, tos] = [new Set(moves.map(({ from }) => from)), new Set(moves.map(({ to }) => to))];
        expect([...froms].filter((from) => tos.has(from))).toEqual([]);
        for (const one of carriedOut(hubs, moves)) {
          if (tos.has(one.hub)) {
            expect(one.takes).toBe(true);
            expect(1_000 * one.agents).toBeLessThanOrEqual(LOAD_MAX * one.room);
            expect(one.agents * room).toBeLessThanOrEqual(agents * one.room);
          }
          if (froms.has(one.hub)) expect((one.agents + 1) * room).toBeGreaterThan(agents * one.room);
        }
      }),
      { seed: 30, numRuns: 500 },
    );
  });

  test("all hubs come to the same plan, in whatever order they learn of each other and of agents", () => {
    fc.assert(
      fc.property(places, (hubs) => {
        const agents = residents(hubs);
        const moves = begin().plan(0, hubs, agents);
        expect(begin().plan(0, [...hubs].reverse(), [...agents].reverse())).toEqual(moves);
      }),
      { seed: 31 },
    );
  });

  test("it comes to rest, and nobody has moved twice by then", () => {
    fc.assert(
      fc.property(places, fc.integer({ min: 1, max: 16 }), (given, movesMax) => {
        const balancer = begin({ movesMax });
        const home = new Map(residents(given).map(({ agent, hub: at }) => [agent, at]));
        const moved = new Set<string>();
        let hubs: readonly HubLoad[] = given;
        let mono = 0;
        // Each look is a cooldown after the one before, so that only loads and hysteresis hold anybody back.
        for (let quiet = 0; quiet < 3; mono += cooldownMs) {
          const moves = balancer.plan(
            mono,
            hubs,
            [...home].map(([agent, at]) => long(at, agent)),
          );
          for (const { agent, from, to } of moves) {
            expect(home.get(agent)).toBe(from);
            expect(moved).not.toContain(agent);
            moved.add(agent);
            home.set(agent, to);
          }
          hubs = carriedOut(hubs, moves);
          quiet = moves.length === 0 ? quiet + 1 : 0;
        }
        expect(moved.size).toBeLessThanOrEqual(home.size);
      }),
      { seed: 32 },
    );
  });
});
