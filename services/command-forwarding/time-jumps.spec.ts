import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ADMIN, Bench } from "../../test/commands/bench.ts";
import { OUTCOME } from "./messages.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";

const YEAR_MS = 365 * 86_400_000;
const SET_AFTER_WALL = 1_600_000_000_000;
const KEY_LIFE_MS = 600_000;
const { lateMs, verdictMs } = DEFAULT_SETTINGS;
/** A deadline queue is late by this much at most. */
const SLOT_MS = 10;

/** Used is a key that stands for a command: until when, if that can be told, and at most until when. */
interface Used {
  endsAt: number | undefined;
  endsAtMost: number;
  /** Its command, and whether that has an outcome. */
  readonly corr: number;
  done: boolean;
  /** Until then its executor may still say what became of it. */
  runsUntil: number;
  /** The date was set meanwhile: what a restart makes of that is told by its bound only. */
  dated: boolean;
  /** Whoever joins the command that runs is answered with it, by then at the latest. */
  readonly answeredBy: number;
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
  /** What is due comes before the input, as it does in a hub. */
  tick: fc.boolean(),
});
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

/** An outcome that nothing corrects any more. */
const SETTLED = Number.NEGATIVE_INFINITY;

class Model {
  readonly bench = new Bench({ keyLifeMs: KEY_LIFE_MS }, ["lamp"], 1);
  readonly used = new Map<string, Used>();
  /** Commands without an answer, and when each must have one at the latest. */
  readonly open = new Map<number, number>();
  corr = 0;

  play({ jump: by, what, key, timeoutMs, tick }: Act): void {
    const { bench } = this;
    bench.mono += by.mono;
    bench.offset = Math.max(-bench.mono, bench.offset + by.wall);
    if (by.wall !== 0) for (const used of this.used.values()) used.dated = true;
    if (tick) this.rest();
    if (what === "send") this.send("", timeoutMs);
    if (what === "keyed") this.keyed(key, timeoutMs, tick);
    if (what === "finish") bench.finish();
    if (what === "restart") this.restart();
    this.rest();
  }

  send(key: string, timeoutMs: number) {
    const reply = this.bench.send(ADMIN, "lamp", key, { timeoutMs });
    this.corr++;
    if (reply === undefined) this.open.set(this.corr, this.bench.mono + timeoutMs + lateMs + verdictMs + 2 * SLOT_MS);
    return reply;
  }

  rest(): void {
    this.bench.tick();
    this.settle();
  }

  keyed(key: string, timeoutMs: number, ticked: boolean): void {
    const { mono } = this.bench;
    const before = this.used.get(key);
    const reply = this.send(key, timeoutMs);
    const mine = this.open.get(this.corr) ?? mono;
    const answeredBy = before?.done === false ? Math.max(before.answeredBy, mine) : mine;
    if (reply === undefined) this.open.set(this.corr, answeredBy);
    const replayed = reply?.replayed === true;
    const known = before?.done === true && (ticked ? mono > before.runsUntil : before.runsUntil < 0);
    if (known && before.endsAt !== undefined) expect(replayed, `${key} ends at ${before.endsAt}, it is ${mono}`).toBe(mono < before.endsAt);
    if (known && mono >= before.endsAtMost) expect(replayed, `${key} after its life`).toBe(false);
    if (replayed || before?.done === false) return;
    const endsAt = mono + KEY_LIFE_MS;
    this.used.set(key, {
      endsAt,
      endsAtMost: endsAt,
      answeredBy,
      corr: this.corr,
      done: false,
      runsUntil: SETTLED,
      dated: false,
    });
  }

  restart(): void {
    const { bench } = this;
    bench.tasks.length = 0;
    bench.hub.restart();
    bench.attach(["lamp"], 1);
    this.open.clear();
    for (const [key, used] of this.used) {
      used.endsAtMost = bench.mono + KEY_LIFE_MS;
      // A clock that was not set says nothing.
      if (used.dated || bench.mono + bench.offset < SET_AFTER_WALL) used.endsAt = undefined;
      // What was not durable, or ran, is another matter.
      if (!used.done) this.used.delete(key);
    }
  }

  settle(): void {
    const { bench } = this;
    const { mono } = bench;
    for (const { corr, result } of bench.replies.splice(0)) {
      this.open.delete(corr);
      for (const [key, used] of this.used)
        if (used.corr === corr && (result.outcome === OUTCOME.DONE || result.outcome === OUTCOME.UNKNOWN)) {
          used.done = true;
          // Its life begins with its outcome; that of UNKNOWN is the last word only when it cannot be corrected any more.
          used.endsAtMost = mono + KEY_LIFE_MS;
          used.endsAt = result.outcome === OUTCOME.UNKNOWN ? undefined : used.endsAtMost;
          if (result.outcome === OUTCOME.UNKNOWN) used.runsUntil = mono + lateMs + 2 * SLOT_MS;
        } else if (used.corr === corr) this.used.delete(key);
    }
    for (const used of this.used.values()) {
      if (!used.done || used.runsUntil === SETTLED) continue;
      used.endsAtMost = mono + KEY_LIFE_MS;
      if (mono > used.runsUntil) used.runsUntil = SETTLED;
    }
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
  test("F-17 IK4 whatever the clocks do between two inputs: after a tick nothing is due, and no command and no key outlives its time", () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 30 }), (acts) => {
        const model = new Model();
        for (const one of acts) model.play(one);
      }),
      { numRuns: 200 },
    );
  });
});
