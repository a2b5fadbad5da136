import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "#channel/clock.ts";
import type { Event } from "#gen/foedus/telemetry/v1alpha1/telemetry_service_pb.ts";
import { MemoryStore } from "../../test/fakes/memory-store.ts";
import { happeningCodec, wantedBy } from "./codec/events.ts";
import { AUDIT_KEY, EVENT_LOG, META_SPACE, TelemetryCore } from "./core.ts";
import { SUMMARY_SPACE, TAIL_LOG } from "./log/event-log.ts";
import type { Effect, HappeningFilter, HappeningReport, Input } from "./messages.ts";
import { EventReader } from "./shell/event-reader.ts";

const NOW = { mono: 0, wall: 1_700_000_000_000 };
const ALL: HappeningFilter = {
  kinds: [],
  minSeverity: 0,
  peer: "",
  node: "",
  caller: "",
  outcomes: [],
  sinceMs: 0,
  untilMs: 0,
  command: "",
};
const YEARS = 1e12;

/** Stage is a core over a store, with what reads events there. */
class Stage {
  readonly store: MemoryStore;
  readonly core: TelemetryCore;
  readonly reader: EventReader;
  readonly out: Effect[] = [];
  now = { ...NOW };

  constructor(events = 100, store = new MemoryStore(), ms = YEARS, watchers = 2, bytes = 2 ** 40) {
    this.store = store;
    this.core = new TelemetryCore({ codec: happeningCodec, retention: { events, bytes, ms }, watchers });
    this.core.restore({
      tail: store.read(TAIL_LOG, 0),
      summaries: store.space(SUMMARY_SPACE),
      legacy: store.read(EVENT_LOG, 0),
      audit: store.get(META_SPACE, AUDIT_KEY),
    });
    this.reader = new EventReader(store, systemClock, "home");
    this.drive({ kind: "start" });
  }

  drive(...inputs: Input[]): Effect[] {
    const out: Effect[] = [];
    for (const input of inputs) this.core.step(this.now, input, out);
    return this.#apply(out);
  }

  tick(): void {
    const out: Effect[] = [];
    this.core.tick(this.now, out);
    this.#apply(out);
  }

  #apply(out: Effect[]): Effect[] {
    for (const effect of out) if (effect.kind === "persist") expect(this.store.commit(effect.ops)).toEqual({ ok: true });
    this.out.push(...out);
    return out;
  }

  async list(filter: HappeningFilter = ALL, limit = 1_000, beforeSeq = 0): Promise<Event[]> {
    const [listed] = this.drive({ kind: "list", call: 1, wanted: wantedBy(filter), beforeSeq });
    if (listed?.kind !== "listed") throw new Error("nothing was listed");
    return [...(await this.reader.page(listed, filter, beforeSeq, limit)).events];
  }

  watch(watch: number, fromSeq: number, filter: HappeningFilter = ALL, caller = "operator/op"): Effect[] {
    return this.drive({ kind: "watch", watch, caller, wanted: wantedBy(filter), fromSeq });
  }

  /** pushed are the events of pushes, as their watcher reads them. */
  pushed(out: readonly Effect[], filter: HappeningFilter = ALL): Event[] {
    return pushes(out).flatMap((push) => this.reader.pushed(push, filter) ?? []);
  }
}

const event = (text: string, severity: 1 | 2 | 3 | 4 = 2, peer = ""): HappeningReport => ({
  wallMs: NOW.wall,
  kind: 1,
  severity,
  service: "discovery",
  peer,
  node: "",
  text,
  fields: { a: "b" },
});

const report = (events: HappeningReport[], dropped = 0) => ({
  kind: "report" as const,
  call: 1,
  service: "discovery",
  events,
  links: undefined,
  dropped,
});
const pushes = (out: readonly Effect[]) => out.flatMap((effect) => (effect.kind === "push" ? [effect] : []));
const texts = (events: readonly Event[]): string[] => events.map(({ text }) => text);

describe("events", () => {
  test("TE1 positions rise by one and go on after a restart", async () => {
    const first = new Stage();
    first.drive(report([event("a"), event("b")]));
    const second = new Stage(100, first.store);
    second.drive(report([event("c")]));
    const listed = await second.list();
    expect(listed.map(({ seq, text }) => [Number(seq), text])).toEqual([
      [3, "c"],
      [2, "b"],
      [1, "a"],
    ]);
    expect(listed[2]?.fields).toEqual({ a: "b" });
  });

  test("TE2 only the newest are kept, and the store is trimmed with them", async () => {
    const stage = new Stage(100);
    for (let i = 0; i < 250; i++) stage.drive(report([event(String(i))]));
    const trims = stage.out.flatMap((effect) => (effect.kind === "persist" ? effect.ops.filter((op) => op.op === "trim") : []));
    expect(trims.length).toBeGreaterThan(0);
    const kept = await stage.list();
    expect(kept.length).toBeLessThanOrEqual(110);
    expect(texts(kept).slice(0, 60)).toEqual(Array.from({ length: 60 }, (_, i) => String(249 - i)));
  });

  test("TE2 what is too old is not shown, and goes though nothing new comes", async () => {
    const stage = new Stage(1_000, new MemoryStore(), 3_600_000);
    for (let i = 0; i < 300; i++) stage.drive(report([event(String(i))]));
    expect(await stage.list()).toHaveLength(300);
    const before = stage.core.bytes;
    stage.now = { mono: 3_700_000, wall: NOW.wall + 3_700_000 };
    expect(await stage.list()).toEqual([]);
    expect(stage.core.deadline()).toBeLessThanOrEqual(stage.now.mono);
    stage.tick();
    expect(stage.core.bytes).toBeLessThan(before / 2);
    stage.drive(report([{ ...event("new"), wallMs: stage.now.wall }]));
    const again = new Stage(1_000, stage.store, 3_600_000);
    again.now = stage.now;
    expect((await again.list()).map(({ seq, text }) => [Number(seq), text])).toEqual([[301, "new"]]);
  });

  test("TE2 beyond so many bytes the oldest go", async () => {
    const stage = new Stage(1_000_000, new MemoryStore(), YEARS, 2, 300_000);
    for (let i = 0; i < 400; i++) stage.drive(report([event(`${i} ${"x".repeat(2_000)}`)]));
    expect(stage.core.bytes).toBeLessThan(450_000);
    const kept = texts(await stage.list()).map((text) => Number(text.split(" ")[0]));
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => 399 - i));
    expect(kept.length).toBeGreaterThan(100);
  });

  test("TE3 a watcher gets each matching event once, in order, whatever the rhythm", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ severity: fc.constantFrom(1, 2, 3, 4), ready: fc.boolean() }), { maxLength: 80 }), (steps) => {
        const stage = new Stage(1_000);
        const filter = { ...ALL, minSeverity: 3 };
        const out = stage.watch(7, 0, filter);
        const wanted: string[] = [];
        steps.forEach((step, index) => {
          if (step.severity >= 3) wanted.push(String(index));
          out.push(...stage.drive(report([event(String(index), step.severity as 1 | 2 | 3 | 4)])));
          if (step.ready) out.push(...stage.drive({ kind: "watch_ready", watch: 7 }));
        });
        for (let i = 0; i < 100; i++) out.push(...stage.drive({ kind: "watch_ready", watch: 7 }));
        expect(texts(stage.pushed(out, filter))).toEqual(wanted);
      }),
    );
  });

  test("TE3 one that begins far back is taken through segments and the tail, and sees each event once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 400 }), fc.nat(700), fc.constantFrom(0, 3), (each, rest, minSeverity) => {
        const stage = new Stage(100_000);
        const wanted: string[] = [];
        for (let from = 0; from < 2_000 + rest; from += each) {
          const batch = Array.from({ length: each }, (_, i) => event(String(from + i), ((from + i) % 50 === 0 ? 3 : 2) as 2 | 3));
          for (const one of batch) if (one.severity >= minSeverity) wanted.push(one.text);
          stage.drive(report(batch));
        }
        const filter = { ...ALL, minSeverity };
        const out = stage.watch(1, 1, filter);
        for (let i = 0; i < 200; i++) out.push(...stage.drive({ kind: "watch_ready", watch: 1 }));
        expect(texts(stage.pushed(out, filter))).toEqual(wanted);
      }),
      { numRuns: 20 },
    );
  });

  test("TE3 what is no longer kept is counted, not hidden", () => {
    const stage = new Stage(100);
    for (let i = 0; i < 300; i++) stage.drive(report([event(String(i))]));
    const out = stage.watch(1, 1);
    const [push] = pushes(out);
    expect(push?.missed).toBeGreaterThanOrEqual(190);
    expect(Number(stage.pushed(out)[0]?.seq)).toBe((push?.missed ?? 0) + 1);
  });

  test("H2-7 TE3 a watcher that resumes above the newest event is told so, and gets what comes next", () => {
    fc.assert(
      fc.property(fc.nat(20), fc.integer({ min: 1, max: 5_000 }), fc.nat(20), (before, above, after) => {
        const stage = new Stage(1_000);
        for (let i = 0; i < before; i++) stage.drive(report([event(`before ${i}`)]));
        const next = before + 1;
        const out = stage.watch(1, next + above);
        expect(pushes(out)).toMatchObject([{ rows: [], missed: above, nextSeq: next }]);
        for (let i = 0; i < after; i++) out.push(...stage.drive({ kind: "watch_ready", watch: 1 }, report([event(`after ${i}`)])));
        out.push(...stage.drive({ kind: "watch_ready", watch: 1 }));
        expect(texts(stage.pushed(out))).toEqual(Array.from({ length: after }, (_, i) => `after ${i}`));
        expect(pushes(out).at(-1)).toMatchObject({ nextSeq: next + after });
        expect(pushes(stage.watch(2, next + after))).toEqual([]);
      }),
    );
  });

  test("F-17 whatever the clocks do, events stay in the order in which they came, and all can be read back", async () => {
    const jump = fc.oneof(fc.constant(0), fc.integer({ min: -60_000, max: 60_000 }), fc.integer({ min: -(2 ** 47), max: 2 ** 47 }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ mono: fc.nat(2 ** 40), wall: jump.map((ms) => ms + 0.25), dropped: fc.nat(3) }), { maxLength: 30 }),
        async (acts) => {
          const stage = new Stage(1_000, new MemoryStore(), 2 ** 50);
          const out = stage.watch(7, 0);
          const told: string[] = [];
          for (const [i, act] of acts.entries()) {
            stage.now.mono += act.mono;
            // What a clock can say and the schema holds.
            stage.now.wall = Math.min(2 ** 48 - 1, Math.max(0, stage.now.wall + act.wall));
            out.push(...stage.drive(report([{ ...event(String(i)), wallMs: Math.floor(stage.now.wall) }], act.dropped)));
            told.push(String(i), ...(act.dropped > 0 ? [`${act.dropped} events of discovery were dropped before they could be kept`] : []));
            out.push(...stage.drive({ kind: "watch_ready", watch: 7 }));
            stage.tick();
            expect(stage.core.deadline()).toBeGreaterThan(stage.now.mono);
          }
          for (let i = 0; i < 40; i++) out.push(...stage.drive({ kind: "watch_ready", watch: 7 }));
          expect(texts(stage.pushed(out))).toEqual(told);
          const again = new Stage(1_000, stage.store, 2 ** 50);
          expect(texts(await again.list()).reverse()).toEqual(told);
        },
      ),
    );
  });

  test("TE3 a watcher of new events that is cut off before the first one misses none: it was told where they begin", () => {
    const stage = new Stage();
    stage.drive(report([event("before")]));
    const [begin, ...more] = pushes(stage.watch(1, 0));
    expect([begin, more]).toMatchObject([{ rows: [], missed: 0, nextSeq: 2 }, []]);
    stage.drive({ kind: "watch_end", watch: 1 }, report([event("meanwhile")]));
    expect(texts(stage.pushed(stage.watch(2, begin?.nextSeq as number)))).toEqual(["meanwhile"]);
  });

  test("TE4 a watcher that takes nothing gets one push and no more", () => {
    const stage = new Stage();
    const out = stage.watch(1, 0);
    for (let i = 0; i < 50; i++) out.push(...stage.drive(report([event(String(i))])));
    expect(pushes(out)).toHaveLength(1);
  });

  test("TE5 dropped events become an event", async () => {
    const stage = new Stage();
    stage.drive(report([], 12));
    expect(texts(await stage.list({ ...ALL, kinds: [14] }))).toEqual(["12 events of discovery were dropped before they could be kept"]);
  });

  test("events that the version before kept, one blob each, are taken over with their positions", async () => {
    const store = new MemoryStore();
    const old = Array.from({ length: 1_200 }, (_, i) => happeningCodec.encode([event(`old ${i}`)]));
    // A row of one event is that event, behind nine bytes.
    expect(store.commit(old.map(({ bytes }, i) => ({ op: "append", log: EVENT_LOG, seq: 41 + i, bytes: bytes.subarray(9) })))).toEqual({
      ok: true,
    });
    const stage = new Stage(100_000, store);
    stage.drive(report([event("new")]));
    const again = new Stage(100_000, store);
    const all = await again.list({ ...ALL }, 5_000);
    expect(all.map(({ seq, text }) => [Number(seq), text])).toEqual([
      [1_241, "new"],
      ...old.map((_, i) => [1_240 - i, `old ${1_199 - i}`]),
    ]);
    expect([...store.read(EVENT_LOG, 0)]).toEqual([]);
  });

  test("one watcher too many is refused with the limit's name", () => {
    const stage = new Stage();
    const out = [1, 2, 3].flatMap((watch) => stage.watch(watch, 0, ALL, `operator/${watch}`));
    expect(out.at(-1)).toMatchObject({ kind: "refuse", watch: 3, failure: { reason: "LIMIT_EXCEEDED", facts: { limit: "watchers" } } });
  });

  test("one viewer cannot take all event streams from the others", () => {
    const stage = new Stage(100, new MemoryStore(), YEARS, 64);
    const open = (watch: number, caller: string): Effect[] => stage.watch(watch, 1, ALL, caller);
    const refused = Array.from({ length: 64 }, (_, i) => open(i, "operator/greedy")).flat();
    expect(refused).toHaveLength(56);
    expect(refused[0]).toMatchObject({ kind: "refuse", watch: 8, failure: { facts: { limit: "watchers_per_caller", max: "8" } } });
    expect(open(100, "operator/other")).toEqual([]);
    stage.drive({ kind: "watch_end", watch: 0 }, { kind: "watch_end", watch: 50 });
    expect([open(101, "operator/greedy"), open(102, "operator/greedy")]).toMatchObject([[], [{ kind: "refuse" }]]);
  });

  test("S3-22 counters of a link are the last that its service reported", () => {
    const stage = new Stage();
    const link = {
      peer: "b",
      service: "discovery",
      mount: "link",
      framesIn: 1,
      framesOut: 2,
      bytesIn: 3,
      bytesOut: 4,
      ready: 1,
      backpressure: 0,
      fatal: 0,
      waiting: false,
      lastEvent: "up",
      lastFrameAgeMs: 5,
    };
    stage.drive({ ...report([]), links: [link] });
    const out = stage.drive({ ...report([]), links: [{ ...link, framesIn: 9 }] }, { kind: "links", call: 5 });
    expect(out.find((effect) => effect.kind === "linked")?.links).toEqual([{ ...link, framesIn: 9 }]);
  });
});
