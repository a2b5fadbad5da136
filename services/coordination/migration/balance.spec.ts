import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BALANCE_DEFAULTS, type BalanceConfig, Balancer, type HubLoad, type MovableAgent } from "./balance.ts";

const idle = (hub: string, agent: string, sinceMs = 600_000): MovableAgent => ({ hub, agent, sinceMs });

describe("S1-30 agents are spread over the hubs that have room for them", () => {
  const begin = (config: BalanceConfig = BALANCE_DEFAULTS): Balancer => new Balancer(config, 0);
  const load = (hub: string, per: number): HubLoad => ({ hub, load: per, perAgent: 100 });

  test("moves are proposed when a load differs from the mean by more than 0.2, each agent once in a cooldown, the ones first that have been there for longest", () => {
    const hubs = [load("a", 900), load("b", 300), load("c", 300)];
    const agents = [idle("a", "a2"), idle("a", "a3", 900_000), idle("b", "b1")];
    const balancer = begin();
    expect(balancer.look(0, hubs, agents)).toEqual([
      { agent: "a3", from: "a", to: "b" },
      { agent: "a2", from: "a", to: "c" },
    ]);
    expect(balancer.look(BALANCE_DEFAULTS.intervalMs - 1, hubs, agents)).toEqual([]);
    expect(balancer.look(BALANCE_DEFAULTS.intervalMs, hubs, agents)).toEqual([]);
    expect(balancer.look(BALANCE_DEFAULTS.cooldownMs, hubs, agents)).toHaveLength(2);
  });

  test("a difference of 0.2 moves nothing, and one that began to be settled is settled to 0.1", () => {
    const agents = Array.from({ length: 9 }, (_, i) => idle("a", `a${i}`));
    expect(begin().look(0, [load("a", 600), load("b", 200)], agents)).toEqual([]);
    const balancer = begin({ ...BALANCE_DEFAULTS, movesMax: 1 });
    expect(balancer.look(0, [load("a", 700), load("b", 200)], agents)).toHaveLength(1);
    expect(balancer.look(300_000, [load("a", 600), load("b", 300)], agents)).toHaveLength(1);
    expect(balancer.look(600_000, [load("a", 540), load("b", 360)], agents)).toEqual([]);
  });

  test("a hub far below the mean is given something by those a little above it", () => {
    const hubs = [load("a", 500), load("b", 500), load("c", 500), load("d", 0)];
    expect(begin().look(0, hubs, [idle("b", "b1"), idle("d", "d1")])).toEqual([{ agent: "b1", from: "b", to: "d" }]);
  });

  test("whatever the loads, no move makes the largest difference larger, and no agent goes to and fro", () => {
    const loads = fc.array(fc.integer({ min: 0, max: 1_000 }), { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(loads, (given) => {
        const now = new Map<string, number>(given.map((per, i) => [`h${i}`, per]));
        const home = new Map<string, string>(
          given.flatMap((_, i) => Array.from({ length: 5 }, (_none, n) => [`h${i}-${n}`, `h${i}`] as const)),
        );
        const balancer = begin();
        const spread = (): number => {
          const mean = [...now.values()].reduce((a, b) => a + b, 0) / now.size;
          return Math.max(...[...now.values()].map((per) => Math.abs(per - mean)));
        };
        const moved = new Map<string, number>();
        for (let round = 0; round < 3; round++) {
          const before = spread();
          const hubs = [...now].map(([hub, per]) => load(hub, per));
          const agents = [...home].map(([agent, hub]) => idle(hub, agent));
          for (const { agent, from, to } of balancer.look(round * BALANCE_DEFAULTS.intervalMs, hubs, agents)) {
            expect(home.get(agent)).toBe(from);
            home.set(agent, to);
            now.set(from, (now.get(from) as number) - 100);
            now.set(to, (now.get(to) as number) + 100);
            moved.set(agent, (moved.get(agent) ?? 0) + 1);
          }
          expect(spread()).toBeLessThanOrEqual(Math.max(before, 100));
        }
        expect(Math.max(0, ...moved.values())).toBeLessThanOrEqual(1);
      }),
      { seed: 30 },
    );
  });
});
