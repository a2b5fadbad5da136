import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ADMIN, Bench } from "../../test/commands/bench.ts";
import { OUTCOME } from "./messages.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";

const YEAR_MS = 365 * 86_400_000;
const KEY_LIFE_MS = 600_000;
const { lateMs, verdictMs } = DEFAULT_SETTINGS;
/** A deadline queue is late by this much at most. */
const SLOT_MS = 10;

/** Used is a key that stands for a command: until when, if that can be told, and at most until when. */
interface Used {
  endsAt: number | undefined;
  endsAtMost: number;
  /** Its command has an outcome. */
  done: boolean;
}

const jump = fc.record({
  mono: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 100 * 86_400_000 })),
  wall: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: -60 * YEAR_MS, max: 20 * YEAR_MS })),
});
const act = fc.record({
  jump,
  what: fc.constantFrom("send", "keyed", "keyed", "finish", "restart", "nothing"),
  key: fc.constantFrom("daily", "hourly"),
  timeoutMs: fc.integer({ min: 1, max: 60_000 }),
});
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

class Model {
  readonly bench = new Bench({ keyLifeMs: KEY_LIFE_MS }, ["lamp"], 1);
  readonly used = new Map<string, Used>();
  /** Commands without an answer, and when each must have one at the latest. */
  readonly open = new Map<number, number>();
  corr = 0;

  play({ jump: by, what, key, timeoutMs }: Act): void {
    const { bench } = this;
    bench.mono += by.mono;
    bench.offset = Math.max(-bench.mono, bench.offset + by.wall);
    if (by.wall !== 0) for (const used of this.used.values()) used.endsAt = what === "restart" ? undefined : used.endsAt;
    if (what === "send") this.send("", timeoutMs);
    if (what === "keyed") this.keyed(key, timeoutMs);
    if (what === "finish") bench.finish();
    if (what === "restart") this.restart();
    bench.tick();
    this.settle();
  }

  send(key: string, timeoutMs: number) {
    const reply = this.bench.send(ADMIN, "lamp", key, { timeoutMs });
    this.corr++;
    if (reply === undefined) this.open.set(this.corr, this.bench.mono + timeoutMs + lateMs + verdictMs + 2 * SLOT_MS);
    return reply;
  }

  keyed(key: string, timeoutMs: number): void {
    const { mono } = this.bench;
    const before = this.used.get(key);
    const reply = this.send(key, timeoutMs);
    const replayed = reply?.replayed === true;
    if (before?.done === true && before.endsAt !== undefined)
      expect(replayed, `${key} ends at ${before.endsAt}, it is ${mono}`).toBe(mono < before.endsAt);
    if (before?.done === true && mono >= before.endsAtMost) expect(replayed, `${key} after its life`).toBe(false);
    if (replayed || before?.done === false) return;
    const endsAt = mono + KEY_LIFE_MS;
    this.used.set(key, { endsAt, endsAtMost: endsAt, done: reply !== undefined && reply.result.outcome !== OUTCOME.UNKNOWN });
  }

  restart(): void {
    const { bench } = this;
    bench.tasks.length = 0;
    bench.hub.restart();
    bench.attach(["lamp"], 1);
    this.open.clear();
    for (const [key, used] of this.used) {
      used.endsAtMost = bench.mono + KEY_LIFE_MS;
      // What was not durable, or ran, is another matter.
      if (!used.done) this.used.delete(key);
    }
  }

  settle(): void {
    const { bench } = this;
    const { mono } = bench;
    for (const { corr } of bench.replies) this.open.delete(corr);
    const due = bench.hub.core.deadline();
    expect(due === undefined || due > mono, `due at ${due}, it is ${mono}`).toBe(true);
    for (const [corr, at] of this.open) expect(at, `command ${corr} has no answer`).toBeGreaterThanOrEqual(mono);
    for (const { deadline } of bench.tasks.slice(-1)) if (this.fresh()) expect(deadline).toBeGreaterThan(mono);
    this.seen = bench.tasks.length;
  }

  seen = 0;
  fresh(): boolean {
    return this.bench.tasks.length > this.seen;
  }
}

describe("time jumps", () => {
  test("F-17 K4 whatever the clocks do between two inputs: after a tick nothing is due, and no command and no key outlives its time", () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 30 }), (acts) => {
        const model = new Model();
        for (const one of acts) model.play(one);
      }),
      { numRuns: 200 },
    );
  });
});
