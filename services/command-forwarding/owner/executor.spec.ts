import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Offer, Part, Scope } from "../messages.ts";
import { type Executor, Executors, IN_FLIGHT_DEFAULT } from "./executor.ts";
import type { Standing } from "./lines.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const ANY: Scope = { kind: "gateway", prefixes: [] };
const OPEN: Part = { first: true, last: false };
const NODES = ["a", "b", "c", "d", "e"];

type Many = Executors<Standing>;
type One = Executor<Standing>;

const many = (): Many => new Executors<Standing>(10_000, { size: 0, has: () => false });
const offer = (nodeIds: readonly string[], more: Partial<Offer> = {}): Offer => ({
  nodeIds,
  capabilities: [],
  maxInFlight: IN_FLIGHT_DEFAULT,
  shared: false,
  ...more,
});

/** reachable is how many places for offers hang on an executor, also on those that it took the place of. */
function reachable(executor: One | undefined): number {
  const seen = new Set<One>();
  const next = executor === undefined ? [] : [executor];
  let places = 0;
  for (let one = next.pop(); one !== undefined; one = next.pop()) {
    if (seen.has(one)) continue;
    seen.add(one);
    for (const { executor: other } of [one.offering, one.coming, ...(one.inherited ?? [])].filter((each) => each !== undefined)) {
      places++;
      next.push(other);
    }
  }
  return places;
}

describe("offers of streams that take each other's place", () => {
  test("EX7 however many do so before their offers have come, what is kept is that of one", () => {
    const executors = many();
    const capabilities = ["on", "off"];
    const replace = (id: number): void => {
      expect(executors.attach(id, "gw", ANY, offer(["a"], { capabilities }), OPEN)).not.toHaveProperty("reason");
      executors.detach(id - 1, id);
      executors.sweep();
    };
    const held = (id: number) => [reachable(executors.get(id)), ...executors.offers.use(), ...executors.room.use()];
    for (let id = 1; id <= 10; id++) replace(id);
    const early = held(10);
    for (let id = 11; id <= 1_500; id++) replace(id);
    expect(held(1_500)).toEqual(early);
    executors.attach(1_500, "gw", ANY, offer([]), { first: false, last: true });
    executors.detach(1_500);
    while (executors.sweeping) executors.sweep();
    expect([executors.offers.count, executors.offers.bytes, executors.room.count]).toEqual([0, 0, 0]);
  });

  test("EX7 an offer of which nothing is left is forgotten at once, and does not wait behind a long one", () => {
    const executors = many();
    executors.attach(1, "long", ANY, offer(Array.from({ length: 5_000 }, (_, i) => `n${i}`)));
    executors.detach(1);
    // Each of these empties the one before.
    for (let i = 0; i < 2_000; i++) expect(executors.attach(2, "gw", ANY, offer(["a"]))).not.toHaveProperty("reason");
    expect(executors.offers.count).toBe(5_001 + 2);
  });

  test("EX7 what an offer takes is counted, also when nothing but its one node is left of its executor", () => {
    const executors = many();
    collect();
    const before = process.memoryUsage().heapUsed;
    let id = 0;
    const next = (): boolean => {
      id++;
      const attached = executors.attach(id, "gw", ANY, offer([`n${id}`]), OPEN);
      executors.detach(id - 1, id);
      return attached !== undefined && !("reason" in attached);
    };
    while (id < 5_000) expect(next()).toBe(true);
    collect();
    const taken = process.memoryUsage().heapUsed - before;
    expect(executors.offers.count).toBe(10_000);
    expect(taken).toBeLessThan(1.2 * executors.offers.bytes);
    while (next()) expect(id, "and the bytes of all have a bound").toBeLessThan(30_000);
  });
});

const nodeIds = fc.uniqueArray(fc.constantFrom(...NODES), { maxLength: 4 });
const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("attach" as const),
      id: fc.integer({ min: 1, max: 6 }),
      nodeIds,
      capabilities: fc.uniqueArray(fc.constantFrom("on", "off"), { maxLength: 2 }),
      shared: fc.boolean(),
      first: fc.boolean(),
      last: fc.boolean(),
      replaces: fc.integer({ min: 0, max: 6 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("gone" as const), id: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("sweep" as const), max: fc.integer({ min: 1, max: 3 }) }) },
);

describe("offers of executors", () => {
  test("EX7 whatever attaches, takes the place of others and goes: what is counted is what is kept, and in the end nothing", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const executors = many();
        const ends = (id: number, heir?: number): void => void executors.detach(id, heir);
        for (const act of actions) {
          if (act.do === "gone") ends(act.id);
          else if (act.do === "sweep") executors.sweep(act.max);
          else {
            const { id, first, last, replaces, ...rest } = act;
            const attached = executors.attach(id, `caller${id % 3}`, ANY, offer(rest.nodeIds, rest), { first, last });
            if (replaces !== 0 && replaces !== id) ends(replaces, id);
            if (attached !== undefined && !("reason" in attached)) for (const old of attached.replaced) ends(old.id);
          }
          for (const one of executors.all()) {
            if (one.inherited !== undefined) expect(one.coming, "what is inherited waits for what is coming").toBeDefined();
            for (const { over, nodes } of one.inherited ?? []) expect([over, nodes.size > 0]).toEqual([true, true]);
          }
        }
        while (executors.sweeping) executors.sweep();
        let kept = 0;
        for (const { offering, coming, inherited } of executors.all())
          for (const each of [offering, coming, ...(inherited ?? [])]) if (each !== undefined) kept += 1 + each.nodes.size;
        expect(executors.offers.count, "what is counted is kept by somebody").toBe(kept);
        for (const { id } of [...executors.all()]) ends(id);
        while (executors.sweeping) executors.sweep();
        expect([executors.offers.count, executors.offers.bytes, executors.room.count, executors.size]).toEqual([0, 0, 0, 0]);
        for (const nodeId of NODES) expect([executors.serves(nodeId), executors.pick(nodeId, "on")]).toEqual([false, undefined]);
      }),
      { numRuns: 300 },
    );
  });
});
