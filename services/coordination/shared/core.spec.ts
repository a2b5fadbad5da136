import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SharedWorld } from "../../../test/support/shared-world.ts";

const HUBS = ["north", "south", "east", "west"];
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("shared state", () => {
  test("SH2 SH3 S1-7 S1-8 S1-11 S1-12 S4-12 S4-14 hubs agree with the simple implementation at each step, and with each other in the end", () => {
    const counts = new Map<string, number>();
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const world = new SharedWorld(seed, HUBS);
        for (let i = 0; i < 150; i++) world.step();
        world.heal();
        const members = world.hubs.filter(({ members }) => members.length > 0);
        expect(members.length).toBeGreaterThanOrEqual(HUBS.length - 1);
        expect(new Set(members.map(({ core }) => hex(core.root()))).size).toBe(1);
        for (const { core } of world.hubs.filter((hub) => hub.members.length === 0)) expect([...core.parts()]).toEqual([]);
        for (const [what, count] of world.counts) counts.set(what, (counts.get(what) ?? 0) + count);
      }),
      { numRuns: 60 },
    );
    // All of it has happened.
    for (const what of ["taken", "old", "base", "changed", "refused", "send heads", "send want", "send part"])
      expect(counts.get(what), what).toBeGreaterThan(10);
    expect(counts.get("fork")).toBeUndefined();
  });
});
