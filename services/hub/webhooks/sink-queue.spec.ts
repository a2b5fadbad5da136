import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { type Delivery, type Push, SinkQueue, type SinkRules } from "./sink-queue.ts";

const RULES: SinkRules = { backoff: { baseMs: 1_000, maxMs: 60_000, factor: 2, jitter: 0.25 }, giveUpMs: 86_400_000, refusals: 8 };
const queue = (position = 0, rules: Partial<SinkRules> = {}) =>
  new SinkQueue<number>({ ...RULES, ...rules }, new Prng(1), position, (event) => event);
const push = (events: readonly number[], nextSeq: number, missed = 0): Push<number> => ({ events, missed, nextSeq });

/** now is what is posted now, or fails. */
function now(sink: SinkQueue<number>, mono: number): Delivery<number> {
  const next = sink.next(mono);
  if (next === undefined || typeof next === "number") throw new Error(`nothing is posted now: ${String(next)}`);
  return next;
}

describe("a sink queue", () => {
  test("WH1 WH4 posts in order, and its position is behind what was taken", () => {
    const sink = queue(5);
    sink.take(push([5, 7], 9));
    expect(now(sink, 0)).toMatchObject({ event: 5 });
    expect([sink.tried(0, "taken"), sink.position]).toEqual(["taken", 6]);
    expect(now(sink, 0)).toMatchObject({ event: 7 });
    sink.tried(0, "taken");
    // What the filter left out behind the last event is not asked for again.
    expect([sink.position, sink.next(0)]).toEqual([9, undefined]);
  });

  test("a sink that is new, or gets nothing, goes on where telemetry says", () => {
    const sink = queue();
    sink.take(push([], 42));
    expect([sink.position, sink.next(0)]).toEqual([42, undefined]);
    // The store was lost: it counts anew.
    sink.take(push([], 3, 39));
    expect(now(sink, 0)).toEqual({ kind: "missed", missed: 39, after: 3 });
    sink.tried(0, "taken");
    expect(sink.position).toBe(3);
  });

  test("WH3 what telemetry no longer had is said before what it had", () => {
    const sink = queue(5);
    sink.take(push([20], 21, 15));
    expect(now(sink, 0)).toEqual({ kind: "missed", missed: 15, after: 20 });
    expect(sink.position).toBe(5);
    sink.tried(0, "taken");
    expect([sink.position, now(sink, 0)]).toEqual([20, { kind: "event", event: 20, after: 21 }]);
  });

  test("WH5 waits twice as long after each failure, up to the longest, and as long as the receiver asks for", () => {
    const sink = queue(1);
    sink.take(push([1], 2));
    let mono = 0;
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      now(sink, mono);
      expect(sink.tried(mono, "failed")).toBe("again");
      const wait = sink.next(mono) as number;
      waits.push(wait);
      mono += wait;
    }
    for (const [i, wait] of waits.entries()) {
      const full = Math.min(60_000, 1_000 * 2 ** i);
      expect([wait <= full, wait >= full * 0.75]).toEqual([true, true]);
    }
    now(sink, mono);
    sink.tried(mono, "failed", 3_600_000);
    expect(sink.next(mono)).toBe(60_000);
    mono += 60_000;
    sink.tried(mono, "taken");
    expect(sink.failures).toBe(0);
  });

  test.each([
    ["failed for too long", "failed", { giveUpMs: 10_000 }],
    ["refused for good", "refused", { refusals: 3 }],
  ] as const)("WH3 an event that is %s is left out, and the next delivery says so", (_, outcome, rules) => {
    const sink = queue(1, rules);
    sink.take(push([1, 2], 3));
    let mono = 0;
    while (now(sink, mono).kind === "event") {
      sink.tried(mono, outcome);
      const next = sink.next(mono);
      if (typeof next === "number") mono += next;
    }
    expect([now(sink, mono), sink.givenUp]).toEqual([{ kind: "missed", missed: 1, after: 2 }, 1]);
    sink.tried(mono, "taken");
    expect(now(sink, mono)).toMatchObject({ event: 2 });
  });

  test("WH3 what is given up one after the other is said with its number", () => {
    const sink = queue(1, { refusals: 1 });
    sink.take(push([1, 2, 3], 4));
    expect(sink.tried(0, "refused")).toBe("given up");
    expect(now(sink, 0)).toEqual({ kind: "missed", missed: 1, after: 2 });
    // Nor is that taken: what it said goes on.
    expect(sink.tried(0, "refused")).toBe("given up");
    expect(now(sink, 0)).toEqual({ kind: "missed", missed: 1, after: 2 });
  });

  test("WH1 WH3 WH4 whatever the receiver does, and wherever it is begun again, each event is taken, or said to be missing", () => {
    const outcome = fc.constantFrom("taken", "taken", "failed", "refused", "restart") as fc.Arbitrary<
      "taken" | "failed" | "refused" | "restart"
    >;
    const run = (seqs: readonly number[], outcomes: readonly ("taken" | "failed" | "refused" | "restart")[]): void => {
      const events = [...new Set(seqs)].sort((a, b) => a - b);
      const end = (events.at(-1) ?? 0) + 1;
      let sink = queue(1, { refusals: 2, giveUpMs: 5_000 });
      const reload = (): void =>
        sink.take(
          push(
            events.filter((seq) => seq >= sink.position),
            end,
          ),
        );
      reload();
      const taken: number[] = [];
      let said = 0;
      let mono = 0;
      for (let i = 0; sink.waiting > 0; i++) {
        const next = sink.next(mono);
        if (typeof next === "number") {
          mono += next;
          continue;
        }
        const what = outcomes[i] ?? "taken";
        if (what === "restart") {
          sink = queue(sink.position, { refusals: 2, giveUpMs: 5_000 });
          reload();
          continue;
        }
        const delivery = now(sink, mono);
        sink.tried(mono, what);
        if (what !== "taken") continue;
        if (delivery.kind === "event") taken.push(delivery.event);
        else said += delivery.missed;
      }
      expect(taken).toEqual([...new Set(taken)].sort((a, b) => a - b));
      const missing = events.length - taken.length;
      // What was to be said before a restart and was not is the one thing that is not known afterwards: at most what was given up.
      expect(outcomes.includes("restart") ? said <= missing : said === missing).toBe(true);
      expect(sink.position).toBe(events.length === 0 ? end : end);
    };
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 20 }), fc.array(outcome, { maxLength: 60 }), run));
  });
});
