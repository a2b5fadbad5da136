import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { REPLACED, StreamFences } from "./stream-fences.ts";

const LIMITS = { perCaller: 3, total: 5, keepMs: 1_000 };
const number = (group: string, n: number, incarnation = 1) => ({ group, incarnation, n });

describe("fences between the streams of a caller", () => {
  test("F-28 a newer stream replaces the older one of its group, and an older one is refused", () => {
    const fences = new StreamFences<string>(LIMITS);
    expect(fences.open(0, "zigbee", number("g", 1), "first")).toEqual({ failure: undefined, replaced: undefined });
    expect(fences.open(1, "zigbee", number("g", 2), "second")).toEqual({ failure: undefined, replaced: "first" });
    expect(fences.open(2, "zigbee", number("g", 1), "late")).toEqual({ failure: REPLACED });
    expect(fences.open(2, "zigbee", number("g", 2), "twice")).toEqual({ failure: REPLACED });
    expect(fences.open(3, "zigbee", number("g", 1, 2), "restarted")).toEqual({ failure: undefined, replaced: "second" });
    expect(fences.open(4, "zigbee", number("g", 9, 1), "before the restart")).toEqual({ failure: REPLACED });
  });

  test("other groups and other callers are not concerned", () => {
    const fences = new StreamFences<string>(LIMITS);
    fences.open(0, "zigbee", number("g", 5), "a");
    expect(fences.open(0, "zigbee", number("h", 1), "b")).toEqual({ failure: undefined, replaced: undefined });
    expect(fences.open(0, "matter", number("g", 1), "c")).toEqual({ failure: undefined, replaced: undefined });
  });

  test("a group is remembered after its last stream, for as long as late bytes may come", () => {
    const fences = new StreamFences<string>(LIMITS);
    fences.open(0, "zigbee", number("g", 2), "a");
    fences.close(10, "zigbee", "g", "a");
    expect(fences.open(1_009, "zigbee", number("g", 1), "late")).toEqual({ failure: REPLACED });
    expect(fences.size).toBe(1);
    expect(fences.open(1_010, "zigbee", number("g", 1), "much later")).toEqual({ failure: undefined, replaced: undefined });
    expect(fences.size).toBe(0);
  });

  test("the end of a stream that was replaced takes nothing away from the newer one", () => {
    const fences = new StreamFences<string>(LIMITS);
    fences.open(0, "zigbee", number("g", 1), "a");
    fences.open(0, "zigbee", number("g", 2), "b");
    fences.close(1, "zigbee", "g", "a");
    expect(fences.open(2, "zigbee", number("g", 3), "c")).toEqual({ failure: undefined, replaced: "b" });
  });

  test("a stream costs as much whether one caller or each of thousands has those that are open", () => {
    const costOf = (callers: number): number => {
      const fences = new StreamFences<number>();
      const start = performance.now();
      for (let i = 0; i < 4_000; i++) fences.open(0, `node ${i % callers}`, number(`g${i}`, 1), i);
      return performance.now() - start;
    };
    const leastOf = (callers: number): number => Math.min(...[1, 2, 3].map(() => costOf(callers)));
    expect(leastOf(4_000)).toBeLessThan(25 * leastOf(1));
  });

  test("F-12 what is remembered is bounded, whatever callers do, and no newest stream is ever taken for an older one", () => {
    const act = fc.record({
      caller: fc.integer({ min: 0, max: 3 }),
      group: fc.integer({ min: 0, max: 6 }),
      n: fc.integer({ min: 1, max: 6 }),
      close: fc.boolean(),
      passes: fc.integer({ min: 0, max: 600 }),
    });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 120 }), (acts) => {
        const fences = new StreamFences<number>(LIMITS);
        const newest = new Map<string, { n: number; stream: number }>();
        let mono = 0;
        acts.forEach(({ caller, group, n, close, passes }, stream) => {
          mono += passes;
          const key = `${caller}/${group}`;
          const open = newest.get(key);
          if (close && open !== undefined) {
            fences.close(mono, `${caller}`, `${group}`, open.stream);
            newest.delete(key);
          } else {
            const opened = fences.open(mono, `${caller}`, number(`${group}`, n), stream);
            if (open !== undefined) expect(opened.failure === undefined).toBe(n > open.n);
            if (opened.failure === undefined) {
              expect(opened.replaced).toBe(open?.stream);
              newest.set(key, { n, stream });
            }
          }
          expect(fences.size).toBeLessThanOrEqual(LIMITS.total);
        });
      }),
    );
  });
});
