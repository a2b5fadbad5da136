import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Room } from "./room.ts";

const operation = fc.record({
  do: fc.constantFrom("take" as const, "take" as const, "give" as const),
  holder: fc.constantFrom("a", "b", "c", "d", "admin"),
  bytes: fc.integer({ min: 1, max: 400 }),
});

describe("room", () => {
  test("S-3 RM1 RM2 whatever is taken and given back, no holder has more than its part, and the hub's own find an eighth", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 120 }), fc.array(operation, { maxLength: 400 }), (max, operations) => {
        const maxBytes = 100 * max;
        const room = new Room({ limit: "things", max, maxBytes });
        const held = new Map<string, number[]>();
        const ordinary = Math.min(max, Math.max(8, Math.ceil(max / 8)));
        for (const { do: what, holder, bytes } of operations) {
          const entries = held.get(holder) ?? [];
          held.set(holder, entries);
          if (what === "give") {
            const last = entries.pop();
            if (last !== undefined) room.give(holder, last);
          } else {
            const others = [...held].filter(([name]) => name !== "admin").flatMap(([, all]) => all);
            const failure = room.take(holder, bytes, holder === "admin");
            if (failure === undefined) entries.push(bytes);
            else
              expect(failure.facts).toMatchObject({ limit: expect.stringMatching(/^things/) as string, max: expect.any(String) as string });
            const factor = holder === "admin" ? 2 : 1;
            expect(entries.length, "RM1").toBeLessThanOrEqual(ordinary * factor);
            if (entries.length > 1)
              expect(
                entries.reduce((sum, each) => sum + each, 0),
                "RM1",
              ).toBeLessThanOrEqual((maxBytes / 8) * factor);
            if (failure !== undefined && holder !== "admin" && entries.length === 0 && bytes <= maxBytes / 8)
              expect(room.count >= max - Math.floor(max / 8) || room.bytes + bytes > maxBytes * (7 / 8), "refused for a reason").toBe(true);
            if (holder !== "admin" && failure === undefined) expect(others.length, "RM2").toBeLessThan(max - Math.floor(max / 8));
          }
          const all = [...held.values()].flat();
          expect([room.count, room.bytes]).toEqual([all.length, all.reduce((sum, each) => sum + each, 0)]);
          expect(room.holders).toBe([...held.values()].filter((each) => each.length > 0).length);
        }
      }),
    );
  });

  test("S-4 RM5 of a room that lends, one holder gets half, the others find the other half, and the hub's own find the last eighth", () => {
    const room = new Room({ limit: "things", max: 80, lends: true });
    const take = (holder: string, own = false): number => {
      let taken = 0;
      while (room.take(holder, 1, own) === undefined) taken++;
      return taken;
    };
    expect(take("greedy")).toBe(40);
    expect([take("b"), take("c"), take("d"), take("e"), take("f")]).toEqual([10, 10, 5, 3, 1]);
    expect([take("admin", true), take("lights", true), take("blinds", true), take("doors", true)]).toEqual([6, 3, 1, 1]);
    for (let i = 0; i < 40; i++) room.give("greedy", 1);
    expect(take("b"), "what is given back is lent again while half is free").toBe(0);
    for (let i = 0; i < 10; i++) room.give("c", 1);
    expect(take("b")).toBe(10);
  });

  test("A9 RM6 however many fill a room that lends, the next holders and the hub's own still find something", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1_024, max: 70_000 }), fc.array(fc.boolean(), { maxLength: 4 }), (max, hogs) => {
        const room = new Room({ limit: "things", max, maxBytes: max * 100, lends: true });
        const take = (holder: string, own: boolean): number => {
          let taken = 0;
          while (room.take(holder, 100, own) === undefined) taken++;
          return taken;
        };
        for (const [i, own] of hogs.entries()) take(`hog ${i}`, own);
        const late = Array.from({ length: 3 }, (_, i) => take(`late ${i}`, false));
        const mine = Array.from({ length: 3 }, (_, i) => take(`own ${i}`, true));
        // Hogs of the hub's own may have taken what is for others; what is for its own is never gone.
        if (!hogs.includes(true)) expect(Math.min(...late)).toBeGreaterThan(0);
        expect(Math.min(...mine)).toBeGreaterThan(0);
        if (!hogs.includes(true)) expect(mine[0]).toBeGreaterThanOrEqual(Math.floor(max / 16) - 1);
      }),
      { numRuns: 30 },
    );
  });

  test("F-12 of a room in which none of the hub's own ever is, nothing is kept for them", () => {
    const room = new Room({ limit: "executors", max: 80, lends: true, forOwn: false });
    let taken = 0;
    for (let i = 0; i < 200; i++) if (room.take(`node ${i}`, 1, false) === undefined) taken++;
    expect(taken).toBe(80);
  });

  test("S-3 RM3 a refusal says which bound it is, and whose", () => {
    const room = new Room({ limit: "idempotency_keys", max: 80, field: "command.idempotency_key" });
    for (let i = 0; i < 10; i++) expect(room.take("spiffe://home/node/lamp", 1, false)).toBe(undefined);
    expect(room.take("spiffe://home/node/lamp", 1, false)).toEqual({
      reason: "LIMIT_EXCEEDED",
      message: "10 idempotency keys of spiffe://home/node/lamp are in use; at most 10 may be",
      field: "command.idempotency_key",
      facts: { limit: "idempotency_keys_per_caller", max: "10" },
    });
    for (let i = 0; i < 60; i++) expect(room.take(`node ${i}`, 1, false)).toBe(undefined);
    expect(room.take("node 60", 1, false)?.facts).toEqual({ limit: "idempotency_keys", max: "80" });
    expect(room.take("operator", 1, true), "an eighth is left").toBe(undefined);
  });
});
