import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Prng } from "#kernel/prng.ts";
import { Detector } from "./detector.ts";
import { frameProblem, type LivenessFrame } from "./frames.ts";
import { HEALTH_MAX, suspicionMs } from "./local-health.ts";
import type { LivenessEffect, LivenessInput } from "./messages.ts";
import { DEFAULT_LIVENESS, INCARNATION_MAX, type LivenessConfig, livenessProblem, RAISES } from "./settings.ts";

/** Bench drives one detector; the other members are played by the test. */
class Bench {
  readonly core: Detector;
  mono = 1_000;
  out: LivenessEffect[] = [];
  readonly seqs = new Map<string, number>();
  /** Members that answer their pings and send heartbeats. */
  readonly well: Set<string>;
  readonly boots = new Map<string, number>();

  constructor(members: readonly string[], config: Partial<LivenessConfig> = {}) {
    this.core = new Detector({ ...DEFAULT_LIVENESS, hubId: "a", boot: 1, novice: 0, ...config }, new Prng(1));
    this.well = new Set(members);
    this.step({ kind: "members", members: members.map((hub) => ({ hub, failed: false })) });
  }

  step(input: LivenessInput): LivenessEffect[] {
    const out: LivenessEffect[] = [];
    this.core.step({ mono: this.mono, wall: this.mono }, input, out);
    this.out.push(...out);
    return out;
  }

  frame(from: string, frame: Partial<LivenessFrame> & { kind: LivenessFrame["kind"] }): LivenessEffect[] {
    const seq = (this.seqs.get(from) ?? 0) + 1;
    this.seqs.set(from, seq);
    const full = { incarnation: (this.boots.get(from) ?? 1) * RAISES, seq, pauseMs: 0, nonce: 1, suspects: [], subject: "", ...frame };
    return this.step({ kind: "frame", from, frame: full as LivenessFrame });
  }

  /** run lets time pass: whoever is well answers 5 ms later. What the detector did meanwhile is answered. */
  run(ms: number): LivenessEffect[] {
    const end = this.mono + ms;
    const all: LivenessEffect[] = [];
    for (let due = this.core.deadline(); due !== undefined && due <= end; due = this.core.deadline()) {
      this.mono = Math.max(this.mono, due);
      all.push(...this.tick());
    }
    this.mono = end;
    return all;
  }

  tick(): LivenessEffect[] {
    const out: LivenessEffect[] = [];
    this.core.tick({ mono: this.mono, wall: this.mono }, out);
    this.out.push(...out);
    return [...out, ...this.answer(out)];
  }

  answer(out: readonly LivenessEffect[]): LivenessEffect[] {
    return out.flatMap((effect) => {
      if (effect.kind !== "send" || !this.well.has(effect.to)) return [];
      const { frame, to } = effect;
      if (frame.kind === "ping") return this.frame(to, { kind: "ack", nonce: frame.nonce });
      if (frame.kind === "ping_req")
        return this.frame(to, { kind: this.well.has(frame.subject) ? "ack" : "nack", nonce: frame.nonce, subject: frame.subject });
      return [];
    });
  }
}

const kinds = (effects: readonly LivenessEffect[], kind: LivenessEffect["kind"]) => effects.filter((effect) => effect.kind === kind);
const refusals = (effects: readonly LivenessEffect[]) =>
  effects.flatMap((effect) => (effect.kind === "observe" && effect.what === "refused" ? [effect.why] : []));

describe("S1-15 S1-16 a member that is silent", () => {
  test("LV6 LV7 is probed through three others, told of the suspicion first, and accused", () => {
    const bench = new Bench(["b", "c", "d", "e", "f"]);
    bench.run(5_000);
    bench.well.delete("b");
    const before = bench.run(1_500);
    expect(kinds(before, "suspected")).toEqual([]);
    const after = bench.run(1_200);
    expect(kinds(after, "send").filter((effect) => effect.kind === "send" && effect.frame.kind === "ping_req")).toHaveLength(3);
    expect(kinds(after, "suspected")).toMatchObject([
      { hub: "b", incarnation: RAISES, why: expect.stringContaining("nor through 3 others") },
    ]);
    const told = after.slice(after.findIndex(({ kind }) => kind === "suspected")).find(({ kind }) => kind === "send");
    expect(told).toMatchObject({ to: "b", frame: { kind: "ping", suspects: [{ hub: "b", incarnation: RAISES }] } });
    const unconfirmed = bench.run(1_000);
    expect(kinds(unconfirmed, "accuse")).toEqual([]);
    for (const from of ["c", "d"]) bench.frame(from, { kind: "ping", suspects: [{ hub: "b", incarnation: RAISES }] });
    expect(kinds(bench.run(10), "accuse")).toMatchObject([{ hub: "b", incarnation: RAISES, confirmations: 2 }]);
  });

  test("LV6 is not suspected while one of the helpers reaches it, and one helper alone is not believed for ever", () => {
    const bench = new Bench(["b", "c", "d", "e"]);
    bench.run(5_000);
    bench.well.delete("b");
    bench.answer = (out) =>
      out.flatMap((effect) => {
        if (effect.kind !== "send" || effect.to === "b") return [];
        const { frame, to } = effect;
        if (frame.kind === "ping") return bench.frame(to, { kind: "ack", nonce: frame.nonce });
        if (frame.kind === "ping_req")
          return bench.frame(to, { kind: to === "c" ? "ack" : "nack", nonce: frame.nonce, subject: frame.subject });
        return [];
      });
    expect(kinds(bench.run(16_000), "suspected")).toEqual([]);
    expect(kinds(bench.run(30_000), "suspected")).toHaveLength(1);
  });

  test("LV7 that is heard again is cleared and the accusation taken back; one that refutes is not accused", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(5_000);
    bench.well.delete("b");
    expect(kinds(bench.run(6_000), "accuse")).toHaveLength(1);
    expect(bench.frame("b", { kind: "ping", incarnation: RAISES + 1 }).map(({ kind }) => kind)).toEqual(["withdraw", "cleared", "send"]);
    bench.well.add("b");
    expect(kinds(bench.run(20_000), "suspected")).toEqual([]);
  });

  test("LV6 LV7 with every other one is not suspected: it is this hub that is cut off; without a majority nobody is accused", () => {
    const cut = new Bench(["b", "c", "d"]);
    cut.run(5_000);
    cut.well.clear();
    const alone = cut.run(60_000);
    expect([...kinds(alone, "suspected"), ...kinds(alone, "accuse")]).toEqual([]);
    expect(alone).toContainEqual(expect.objectContaining({ what: "held", why: "this hub hears none of the others" }));
    const minority = new Bench(["b", "c", "d", "e"]);
    minority.run(5_000);
    minority.well.clear();
    minority.well.add("b");
    const two = minority.run(60_000);
    expect(kinds(two, "suspected")).toHaveLength(3);
    expect(kinds(two, "accuse")).toEqual([]);
  });

  test("S1-15 in a federation of two there is nobody to ask, and the detector says so", () => {
    const bench = new Bench(["b"]);
    bench.run(5_000);
    bench.well.clear();
    const out = bench.run(20_000);
    expect(kinds(out, "suspected")).toMatchObject([{ why: expect.stringContaining("nobody could be asked") }]);
    expect(kinds(out, "accuse")).toEqual([]);
    expect(bench.core.describe()).toContain("no indirect probes: they take three members");
    expect(bench.core.heard()).toEqual(["a"]);
  });

  test("S1-9 at 30 s between heartbeats nobody is suspected before 75 s", () => {
    const bench = new Bench(["b", "c", "d"], { intervalMs: 30_000 });
    bench.run(150_000);
    bench.well.delete("b");
    expect(kinds(bench.run(45_000), "suspected")).toEqual([]);
    expect(kinds(bench.run(45_000), "suspected")).toHaveLength(1);
  });
});

describe("D-19 own slowness", () => {
  test("LV1 LV2 an observer that was stopped suspects and probes nobody, and its deadlines are later by as much", () => {
    for (const pause of [900, 5_000, 3_600_000]) {
      const bench = new Bench(["b", "c", "d"]);
      bench.run(10_000);
      bench.mono += pause;
      const out = [...bench.tick(), ...bench.run(900)];
      expect([...kinds(out, "suspected"), ...out.filter((e) => e.kind === "observe" && e.what === "held")]).toEqual([]);
      expect(kinds(out, "send").some((e) => e.kind === "send" && e.frame.kind === "ping_req")).toBe(false);
      expect(bench.core.score).toBeGreaterThan(0);
      const paused = Number(/paused=(\d+)/.exec(bench.core.describe())?.[1]);
      expect([paused > pause - 300, paused <= pause]).toEqual([true, true]);
      bench.run(10_000);
      expect(bench.core.score).toBe(0);
    }
  });

  test("LV2 nobody is suspected in the interval after waking, even who was about to be", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(10_000);
    bench.well.delete("b");
    bench.run(2_400);
    bench.mono += 2_000;
    expect(kinds([...bench.tick(), ...bench.run(900)], "suspected")).toEqual([]);
    expect(kinds(bench.run(1_500), "suspected")).toHaveLength(1);
  });

  test("LV3 the score is 0 to 8, and a suspicion falls with each confirmation to its least", () => {
    const bench = new Bench(["b", "c", "d"]);
    for (let i = 0; i < 20; i++) {
      bench.mono += 10_000;
      bench.tick();
    }
    expect(bench.core.score).toBe(HEALTH_MAX);
    expect([0, 1, 2, 3, 9].map((n) => Math.round(suspicionMs(n, 3, 200, 1_400)))).toEqual([1_400, 800, 449, 200, 200]);
    expect(suspicionMs(0, 0, 200, 1_400)).toBe(1_400);
  });

  test("LV4 LV5 a member that pauses, or says so, is waited for longer, up to the ceiling; an outage and a restart teach nothing", () => {
    const timeout = (bench: Bench): number => Number(/b \w+.* timeout=(\d+)/.exec(bench.core.describe())?.[1]);
    const silence = (ms: number, boot = 1): Bench => {
      const bench = new Bench(["b", "c", "d"]);
      bench.run(5_000);
      bench.well.delete("b");
      bench.run(ms);
      bench.boots.set("b", boot);
      bench.frame("b", { kind: "ping" });
      return bench;
    };
    expect(timeout(silence(10))).toBe(2_500);
    expect(timeout(silence(2_300))).toBeGreaterThan(4_000);
    expect(timeout(silence(6_000))).toBe(7_000);
    expect(timeout(silence(6_000, 2))).toBe(2_500);
    expect(timeout(silence(60_000))).toBe(2_500);
    const novice = new Bench(["b", "c", "d"], { novice: 30 });
    const asks = (out: readonly LivenessEffect[]) => out.flatMap((e) => (e.kind === "send" ? [e.frame.pauseMs] : []));
    expect(asks(novice.run(10))[0]).toBe(Math.round(7_000 / DEFAULT_LIVENESS.margin));
    expect(asks(novice.run(90_000)).at(-1)).toBeLessThan(410);
    const said = silence(10);
    said.frame("b", { kind: "ping", pauseMs: 3_600_000 });
    expect(timeout(said)).toBe(7_000);
  });
});

describe("S1-16 a suspected hub", () => {
  const blame = (bench: Bench, from: string, incarnation: number) =>
    bench.frame(from, { kind: "ping", suspects: [{ hub: "a", incarnation }] });

  test("LV10 raises its incarnation when it hears of it, tells everybody at once, and trusts itself less", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(5_000);
    const out = blame(bench, "b", RAISES);
    expect(out.flatMap((e) => (e.kind === "send" && e.frame.kind === "ping" ? [[e.to, e.frame.incarnation]] : []))).toEqual([
      ["b", RAISES + 1],
      ["c", RAISES + 1],
      ["d", RAISES + 1],
    ]);
    expect(bench.core.score).toBe(1);
    expect(blame(bench, "c", RAISES).filter((e) => e.kind === "send" && e.frame.kind === "ping")).toEqual([]);
  });

  test("LV10 is not driven to the end of its numbers or its health by a member that accuses it without end", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(5_000);
    for (let i = 0; i < 2_000; i++) {
      const incarnation = Number(/incarnation=(\d+)/.exec(bench.core.describe())?.[1]);
      blame(bench, "b", incarnation);
      bench.run(10);
    }
    expect(Number(/incarnation=(\d+)/.exec(bench.core.describe())?.[1])).toBeLessThanOrEqual(RAISES + 21);
    expect(bench.core.score).toBeLessThanOrEqual(2);
    const scores = bench.out.flatMap((e) => (e.kind === "observe" && e.what === "health" ? [e.value] : []));
    expect(scores.filter((score, i) => score > (scores[i - 1] ?? 0)).length).toBeLessThanOrEqual(3);
    expect(refusals(blame(bench, "b", INCARNATION_MAX))).toEqual(["it suspects this hub at an incarnation that this hub never had"]);
    expect(refusals(blame(bench, "b", 2 ** 53))).toEqual(["the incarnation of a suspicion is out of bounds"]);
  });
});

describe("D-19 a hostile member", () => {
  test("LV8 acknowledgements that nobody asked for save nobody", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(5_000);
    bench.well.delete("b");
    const out: LivenessEffect[] = [];
    for (let i = 0; i < 300; i++) {
      out.push(...bench.frame("c", { kind: "ack", nonce: 1 + i, subject: "b" }), ...bench.run(10));
    }
    expect(kinds(out, "suspected")).toHaveLength(1);
    expect(refusals(out)).toContain("it answers a probe that it was not asked for");
    const silent = new Bench(["b", "c"]);
    silent.run(5_000);
    silent.well.delete("b");
    // The only helper was asked, and answers under another nonce.
    silent.run(1_900);
    silent.well.delete("c");
    silent.run(300);
    for (let i = 0; i < 10; i++) silent.frame("c", { kind: "ack", nonce: 1 + i, subject: "b" });
    expect(silent.core.describe()).toMatch(/b probing .*helpers=c:/);
    expect(refusals(bench.frame("c", { kind: "ack", nonce: 77 }))).toEqual(["it acknowledges what it was not asked"]);
  });

  test("LV8 an old frame again, or one of an earlier boot, is no sign of life", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.boots.set("b", 2);
    bench.run(5_000);
    bench.well.delete("b");
    const old = { kind: "ping", incarnation: 2 * RAISES, seq: 1, pauseMs: 0, nonce: 5, suspects: [] } as const;
    const out: LivenessEffect[] = [];
    for (let i = 0; i < 400; i++) {
      out.push(...bench.step({ kind: "frame", from: "b", frame: old }), ...bench.run(10));
      out.push(...bench.step({ kind: "frame", from: "b", frame: { ...old, incarnation: RAISES, seq: 1_000 + i } }));
    }
    expect(kinds(out, "suspected")).toHaveLength(1);
  });

  test("LV9 confirmations of one member count once, those of strangers not at all", () => {
    const bench = new Bench(["b", "c", "d", "e"]);
    bench.run(5_000);
    bench.well.delete("b");
    bench.run(2_550);
    for (let i = 0; i < 10; i++) {
      bench.frame("c", { kind: "ping", suspects: [{ hub: "b", incarnation: INCARNATION_MAX }] });
      bench.frame("x", { kind: "ping", suspects: [{ hub: "b", incarnation: RAISES }] });
    }
    bench.well.delete("c");
    expect(kinds(bench.run(1_500), "accuse")).toMatchObject([{ confirmations: 1 }]);
  });

  test("LV10 LV11 floods are answered within bounds, and each request for a probe once", () => {
    const bench = new Bench(["b", "c", "d"]);
    bench.run(5_000);
    bench.well.clear();
    const out: LivenessEffect[] = [];
    for (let i = 0; i < 1_000; i++)
      out.push(...bench.frame("b", { kind: i % 2 === 0 ? "ping" : "ping_req", nonce: i + 1, subject: i % 2 === 0 ? "" : "c" }));
    expect(kinds(out, "send").length).toBeLessThanOrEqual(40);
    const later = bench.run(500).flatMap((e) => (e.kind === "send" && e.frame.kind === "nack" ? [e.frame.nonce] : []));
    const nacks = out.flatMap((e) => (e.kind === "send" && e.frame.kind === "nack" ? [e.frame.nonce] : []));
    expect(later).toHaveLength(4);
    expect(new Set([...nacks, ...later]).size).toBe(nacks.length + later.length);
  });
});

test("D-19 a hub whose failure was confirmed is back after a stable time, which doubles each time", () => {
  const bench = new Bench(["b", "c", "d"]);
  const members = (failed: boolean): LivenessInput => ({
    kind: "members",
    members: ["b", "c", "d"].map((hub) => ({ hub, failed: failed && hub === "b" })),
  });
  const waits: number[] = [];
  for (let i = 0; i < 3; i++) {
    bench.run(5_000);
    bench.step(members(true));
    bench.frame("b", { kind: "ping" });
    const from = bench.mono;
    for (let n = 0; n < 200 && kinds(bench.run(500), "returned").length === 0; n++);
    waits.push(Math.round((bench.mono - from) / 10_000));
    bench.step(members(false));
  }
  expect(waits).toEqual([1, 2, 4]);
});

test("D-19 a configuration that cannot work is refused with what to do", () => {
  const config = { ...DEFAULT_LIVENESS, hubId: "a", boot: 1 };
  expect(livenessProblem(config)).toBeUndefined();
  for (const wrong of [
    { boot: 0 },
    { intervalMs: 30_001 },
    { floor: Number.NaN },
    { ceiling: 1 },
    { margin: 0 },
    { helpers: 1.5 },
    { probe: 2 },
    { unconfirmedAfter: 0 },
  ])
    expect(livenessProblem({ ...config, ...wrong })).toMatch(/use/);
});

const hub = fc.constantFrom("a", "b", "c", "d", "x", "");
const number = fc.oneof(
  fc.nat(50),
  fc.constantFrom(Number.NaN, -1, 0.5, 2 ** 53, RAISES, RAISES + 1, INCARNATION_MAX, Number.POSITIVE_INFINITY),
);
const frame = fc.record({
  kind: fc.constantFrom("ping", "ack", "ping_req", "nack", "other"),
  incarnation: number,
  seq: number,
  pauseMs: number,
  nonce: number,
  subject: hub,
  suspects: fc.array(fc.record({ hub, incarnation: number }), { maxLength: 20 }),
}) as unknown as fc.Arbitrary<LivenessFrame>;
const input: fc.Arbitrary<LivenessInput> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("frame" as const), from: hub, frame }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("link" as const), hub, up: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("members" as const), members: fc.array(fc.record({ hub, failed: fc.boolean() })) }),
  },
);

test("LV3 LV4 LV10 whatever comes, in whatever order and however late, it goes on, sends only sound frames to members, and time never stands still", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(input, fc.nat(4_000), fc.boolean()), { maxLength: 60 }), (history) => {
      const bench = new Bench(["b", "c", "d"]);
      bench.well.clear();
      for (const [what, ms, late] of history) {
        const out = late ? [] : bench.run(ms);
        if (late) bench.mono += ms;
        out.push(...bench.step(what));
        for (let i = 0; i < 50 && (bench.core.deadline() ?? Number.POSITIVE_INFINITY) <= bench.mono; i++) out.push(...bench.tick());
        expect(bench.core.deadline()).toBeGreaterThan(bench.mono);
        expect(bench.core.score >= 0 && bench.core.score <= HEALTH_MAX).toBe(true);
        for (const effect of out)
          if (effect.kind === "send") {
            expect(effect.to).not.toBe("a");
            expect(frameProblem("a", effect.frame)).toBeUndefined();
          }
      }
    }),
  );
});
