import { describe, expect, test } from "vitest";
import { HeldAcks } from "./held-acks.ts";

describe("HeldAcks", () => {
  test("HA1 each stream gets its oldest one every 20 ms, whatever others hold", () => {
    const held = new HeldAcks(20);
    for (const upTo of [3, 4, 9]) held.hold(100, { stream: 1, upTo });
    held.hold(110, { stream: 2, upTo: 7 });
    expect(held.deadline).toBe(120);
    expect(held.due(119)).toEqual([]);
    expect(held.due(120)).toEqual([
      { stream: 1, upTo: 3 },
      { stream: 2, upTo: 7 },
    ]);
    expect([held.deadline, held.due(139), held.due(141)]).toEqual([140, [], [{ stream: 1, upTo: 4 }]]);
    expect(held.due(161)).toEqual([{ stream: 1, upTo: 9 }]);
    expect([held.empty, held.deadline, held.due(1_000)]).toEqual([true, Number.POSITIVE_INFINITY, []]);
  });

  test("HA2 all go at once when peers have caught up, the newest of each stream", () => {
    const held = new HeldAcks(20);
    for (const upTo of [1, 2, 3]) held.hold(0, { stream: 5, upTo });
    held.hold(0, { stream: 6, upTo: 8 });
    expect(held.all()).toEqual([
      { stream: 5, upTo: 3 },
      { stream: 6, upTo: 8 },
    ]);
    expect([held.empty, held.deadline, held.all()]).toEqual([true, Number.POSITIVE_INFINITY, []]);
  });

  test("HA3 a sender that does not wait takes no memory and loses nothing", () => {
    const held = new HeldAcks(20);
    for (let upTo = 1; upTo <= 1_000; upTo++) held.hold(0, { stream: 1, upTo });
    const given: number[] = [];
    for (let now = 20; !held.empty; now += 20) given.push(...held.due(now).map(({ upTo }) => upTo));
    expect([given.length, given[0], given[62], given[63]]).toEqual([64, 1, 63, 1_000]);
  });

  test("0 ms holds none; a stream that has ended is forgotten", () => {
    const none = new HeldAcks(0);
    none.hold(5, { stream: 1, upTo: 1 });
    expect(none.due(5)).toEqual([{ stream: 1, upTo: 1 }]);
    const held = new HeldAcks(20);
    held.hold(5, { stream: 1, upTo: 1 });
    held.forget(1);
    expect([held.empty, held.deadline]).toEqual([true, Number.POSITIVE_INFINITY]);
  });
});
