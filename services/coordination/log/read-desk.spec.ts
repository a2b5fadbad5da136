import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ReadDesk } from "./read-desk.ts";

describe("a read", () => {
  test("RJ1 is not confirmed by the answer to a question that was asked before it came", () => {
    const desk = new ReadDesk(5_000);
    desk.add(1, 0);
    expect(desk.ask(10, 0)).toBe(10);
    desk.add(2, 1);
    expect(desk.ask(11, 1)).toBeUndefined();
    desk.answered(10, 7);
    expect(desk.served(7)).toEqual([1]);
    expect(desk.ask(11, 2)).toBe(11);
    desk.answered(11, 6);
    expect(desk.served(5)).toEqual([]);
    expect(desk.served(6)).toEqual([2]);
  });

  test("is not confirmed by an answer that comes late, twice, or to nobody's question", () => {
    const desk = new ReadDesk(5_000);
    desk.answered(0, 1);
    desk.add(1, 0);
    desk.ask(10, 0);
    desk.again(10);
    desk.answered(10, 3);
    expect(desk.served(100)).toEqual([]);
    expect(desk.ask(12, 600)).toBe(12);
    desk.answered(11, 3);
    expect(desk.served(100)).toEqual([]);
    desk.answered(12, 4);
    expect(desk.served(100)).toEqual([1]);
    desk.answered(12, 4);
    expect(desk.served(100)).toEqual([]);
  });

  test("is asked for again when there is no answer, and given up in its time", () => {
    const desk = new ReadDesk(2_000);
    desk.add(1, 0);
    desk.ask(10, 0);
    expect(desk.deadline()).toBe(500);
    expect(desk.due(499)).toBe(false);
    expect(desk.due(500)).toBe(true);
    expect(desk.ask(11, 500)).toBe(11);
    expect(desk.expired(1_999)).toEqual([]);
    expect(desk.expired(2_000)).toEqual([1]);
    desk.answered(11, 1);
    expect(desk.served(1)).toEqual([]);
  });

  test("whose caller is gone is not served", () => {
    const desk = new ReadDesk(2_000);
    desk.add(1, 0);
    desk.add(2, 0);
    desk.ask(10, 0);
    desk.cancel(1);
    desk.answered(10, 1);
    expect(desk.served(1)).toEqual([2]);
    expect(desk.deadline()).toBeUndefined();
  });

  test("of a peer is told to that peer, once, and the oldest of too many give way", () => {
    const desk = new ReadDesk(2_000);
    for (let call = 1; call <= 4_097; call++) desk.remote(call, "b", 1_000 + call, 0);
    expect(desk.confirmed(1, 5)).toBeUndefined();
    expect(desk.confirmed(2, 5)).toEqual({ peer: "b", id: 1_002 });
    expect(desk.confirmed(2, 5)).toBeUndefined();
    expect(desk.refused(3)).toEqual({ peer: "b", id: 1_003 });
    expect(desk.refused(3)).toBeUndefined();
  });

  const step = fc.oneof(
    fc.constant({ kind: "add" } as const),
    fc.constant({ kind: "ask" } as const),
    fc.constant({ kind: "decide" } as const),
    fc.constant({ kind: "again" } as const),
    fc.record({ kind: fc.constant("answer" as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant("apply" as const), by: fc.nat(3) }),
  );

  test("RJ1 RJ2 whatever is late, lost or given up, sees all that was decided when it came, and each is served once", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const desk = new ReadDesk(1e9);
        let [decided, applied, mono, id, call] = [0, 0, 0, 100, 0];
        // Answers under way: a question is answered with what is decided when it is asked, or later.
        const under: { id: number; index: number }[] = [];
        const wants = new Map<number, number>();
        for (const one of steps) {
          mono += 10;
          if (one.kind === "add") {
            desk.add(++call, mono);
            wants.set(call, decided);
          } else if (one.kind === "ask") {
            if (desk.ask(++id, mono) !== undefined) under.push({ id, index: decided });
          } else if (one.kind === "decide") decided++;
          else if (one.kind === "again") desk.again(mono);
          else if (one.kind === "answer") {
            const answer = under[one.which % Math.max(1, under.length)];
            if (answer !== undefined) desk.answered(answer.id, answer.index);
          } else applied = Math.min(decided, applied + one.by);
          for (const served of desk.served(applied)) {
            expect(wants.get(served)).toBeLessThanOrEqual(applied);
            expect(wants.delete(served)).toBe(true);
          }
        }
        // In the end each is served.
        desk.again(mono);
        if (desk.ask(++id, mono) !== undefined) desk.answered(id, decided);
        for (const served of desk.served(decided)) expect(wants.delete(served)).toBe(true);
        expect(wants.size).toBe(0);
      }),
    );
  });
});
