import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { happeningCodec } from "./codec.ts";
import { EVENT_LOG, TelemetryCore } from "./core.ts";
import type { Effect, HappeningFilter, HappeningReport } from "./messages.ts";

const NOW = { mono: 0, wall: 1_700_000_000_000 };
const ALL: HappeningFilter = { kinds: [], minSeverity: 0, peer: "", node: "" };
const make = (eventsKept = 100): TelemetryCore => new TelemetryCore({ codec: happeningCodec, eventsKept, watchers: 2 });
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

function drive(core: TelemetryCore, ...inputs: Parameters<TelemetryCore["step"]>[1][]): Effect[] {
  const out: Effect[] = [];
  for (const input of inputs) core.step(NOW, input, out);
  return out;
}
const report = (events: HappeningReport[], dropped = 0) => ({
  kind: "report" as const,
  call: 1,
  service: "discovery",
  events,
  links: undefined,
  dropped,
});
const pushes = (out: Effect[]) => out.filter((effect) => effect.kind === "push");

describe("events", () => {
  test("TE1 positions rise by one and go on after a restart", () => {
    const first = make();
    const out = drive(first, report([event("a"), event("b")]));
    const persist = out.find((effect) => effect.kind === "persist")!;
    const appends = persist.ops.flatMap((op) => (op.op === "append" ? [op] : []));
    expect(appends.map((op) => [op.log, op.seq])).toEqual([
      [EVENT_LOG, 1],
      [EVENT_LOG, 2],
    ]);
    const second = make();
    second.restore(appends);
    const again = drive(second, report([event("c")]), { kind: "list", call: 2, filter: ALL, limit: 10, beforeSeq: 0 });
    const listed = again.find((effect) => effect.kind === "listed")!;
    expect(listed.events.map((found) => [found.seq, found.text])).toEqual([
      [3, "c"],
      [2, "b"],
      [1, "a"],
    ]);
    expect(listed.events[2]!.fields).toEqual({ a: "b" });
  });

  test("TE2 only the newest are kept, and the store is trimmed with them", () => {
    const core = make(100);
    const out: Effect[] = [];
    for (let i = 0; i < 250; i++) core.step(NOW, report([event(String(i))]), out);
    const trims = out.flatMap((effect) => (effect.kind === "persist" ? effect.ops.filter((op) => op.op === "trim") : []));
    expect(trims.length).toBeGreaterThan(0);
    const list = drive(core, { kind: "list", call: 1, filter: ALL, limit: 1_000, beforeSeq: 0 });
    expect(list.find((effect) => effect.kind === "listed")!.events.length).toBeLessThanOrEqual(110);
  });

  test("TE3 a watcher gets each matching event once, in order, whatever the rhythm", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ severity: fc.constantFrom(1, 2, 3, 4), ready: fc.boolean() }), { maxLength: 80 }), (steps) => {
        const core = make(1_000);
        const out = drive(core, { kind: "watch", watch: 7, caller: "operator/op", filter: { ...ALL, minSeverity: 3 }, fromSeq: 0 });
        const wanted: string[] = [];
        steps.forEach((step, index) => {
          if (step.severity >= 3) wanted.push(String(index));
          core.step(NOW, report([event(String(index), step.severity as 1 | 2 | 3 | 4)]), out);
          if (step.ready) core.step(NOW, { kind: "watch_ready", watch: 7 }, out);
        });
        for (let i = 0; i < 100; i++) core.step(NOW, { kind: "watch_ready", watch: 7 }, out);
        expect(pushes(out).flatMap((push) => push.events.map((found) => found.text))).toEqual(wanted);
      }),
    );
  });

  test("TE3 what is no longer kept is counted, not hidden", () => {
    const core = make(100);
    for (let i = 0; i < 300; i++) drive(core, report([event(String(i))]));
    const out = drive(core, { kind: "watch", watch: 1, caller: "operator/op", filter: ALL, fromSeq: 1 });
    const push = pushes(out)[0]!;
    expect(push.missed).toBeGreaterThanOrEqual(190);
    expect(push.events[0]!.seq).toBe(push.missed + 1);
  });

  test("H2-7 TE3 a watcher that resumes above the newest event is told so, and gets what comes next", () => {
    fc.assert(
      fc.property(fc.nat(20), fc.integer({ min: 1, max: 5_000 }), fc.nat(20), (before, above, after) => {
        const core = make(1_000);
        for (let i = 0; i < before; i++) drive(core, report([event(`before ${i}`)]));
        const next = before + 1;
        const out = drive(core, { kind: "watch", watch: 1, caller: "operator/op", filter: ALL, fromSeq: next + above });
        expect(pushes(out)).toMatchObject([{ events: [], missed: above, nextSeq: next }]);
        for (let i = 0; i < after; i++) {
          core.step(NOW, { kind: "watch_ready", watch: 1 }, out);
          core.step(NOW, report([event(`after ${i}`)]), out);
        }
        core.step(NOW, { kind: "watch_ready", watch: 1 }, out);
        expect(pushes(out).flatMap((push) => push.events.map(({ text }) => text))).toEqual(
          Array.from({ length: after }, (_, i) => `after ${i}`),
        );
        expect(pushes(out).at(-1)).toMatchObject({ nextSeq: next + after });
        expect(pushes(drive(core, { kind: "watch", watch: 2, caller: "operator/op", filter: ALL, fromSeq: next + after }))).toEqual([]);
      }),
    );
  });

  test("F-17 whatever the clocks do, events stay in the order in which they came, nothing is ever due, and all can be read back", () => {
    const jump = fc.oneof(fc.constant(0), fc.integer({ min: -60_000, max: 60_000 }), fc.integer({ min: -(2 ** 47), max: 2 ** 47 }));
    fc.assert(
      fc.property(
        fc.array(fc.record({ mono: fc.nat(2 ** 40), wall: jump.map((ms) => ms + 0.25), dropped: fc.nat(3) }), { maxLength: 30 }),
        (acts) => {
          const core = make(1_000);
          const now = { ...NOW };
          const out: Effect[] = [];
          core.step(now, { kind: "watch", watch: 7, caller: "operator/op", filter: ALL, fromSeq: 0 }, out);
          const told: string[] = [];
          for (const [i, act] of acts.entries()) {
            now.mono += act.mono;
            // What a clock can say and the schema holds.
            now.wall = Math.min(2 ** 48 - 1, Math.max(0, now.wall + act.wall));
            core.step(now, report([{ ...event(String(i)), wallMs: Math.floor(now.wall) }], act.dropped), out);
            told.push(String(i), ...(act.dropped > 0 ? [`${act.dropped} events of discovery were dropped before they could be kept`] : []));
            core.step(now, { kind: "watch_ready", watch: 7 }, out);
            core.tick();
            expect(core.deadline()).toBe(undefined);
          }
          for (let i = 0; i < 40; i++) core.step(now, { kind: "watch_ready", watch: 7 }, out);
          expect(pushes(out).flatMap((push) => push.events.map(({ text }) => text))).toEqual(told);
          const again = make(1_000);
          again.restore(
            out.flatMap((effect) => (effect.kind === "persist" ? effect.ops.flatMap((op) => (op.op === "append" ? [op] : [])) : [])),
          );
          const [listed] = drive(again, { kind: "list", call: 2, filter: ALL, limit: 1_000, beforeSeq: 0 });
          expect(listed?.kind === "listed" && listed.events.map(({ text }) => text).reverse()).toEqual(told);
        },
      ),
    );
  });

  test("TE3 a watcher of new events that is cut off before the first one misses none: it was told where they begin", () => {
    const core = make();
    drive(core, report([event("before")]));
    const [begin, ...more] = pushes(drive(core, { kind: "watch", watch: 1, caller: "operator/op", filter: ALL, fromSeq: 0 }));
    expect([begin, more]).toMatchObject([{ events: [], missed: 0, nextSeq: 2 }, []]);
    drive(core, { kind: "watch_end", watch: 1 }, report([event("meanwhile")]));
    const again = drive(core, { kind: "watch", watch: 2, caller: "operator/op", filter: ALL, fromSeq: begin?.nextSeq as number });
    expect(pushes(again).flatMap(({ events }) => events.map(({ text }) => text))).toEqual(["meanwhile"]);
  });

  test("TE4 a watcher that takes nothing gets one push and no more", () => {
    const core = make();
    const out = drive(core, { kind: "watch", watch: 1, caller: "operator/op", filter: ALL, fromSeq: 0 });
    for (let i = 0; i < 50; i++) core.step(NOW, report([event(String(i))]), out);
    expect(pushes(out)).toHaveLength(1);
  });

  test("TE5 dropped events become an event", () => {
    const core = make();
    const out = drive(core, report([], 12), { kind: "list", call: 1, filter: { ...ALL, kinds: [14] }, limit: 10, beforeSeq: 0 });
    const listed = out.find((effect) => effect.kind === "listed")!;
    expect(listed.events[0]!.text).toBe("12 events of discovery were dropped before they could be kept");
  });

  test("one watcher too many is refused with the limit's name", () => {
    const core = make();
    const out = drive(
      core,
      ...[1, 2, 3].map((watch) => ({ kind: "watch" as const, watch, caller: `operator/${watch}`, filter: ALL, fromSeq: 0 })),
    );
    expect(out.at(-1)).toMatchObject({ kind: "refuse", watch: 3, failure: { reason: "LIMIT_EXCEEDED", facts: { limit: "watchers" } } });
  });

  test("one viewer cannot take all event streams from the others", () => {
    const core = new TelemetryCore({ codec: happeningCodec, eventsKept: 100, watchers: 64 });
    const open = (watch: number, caller: string): Effect[] => drive(core, { kind: "watch", watch, caller, filter: ALL, fromSeq: 1 });
    const refused = Array.from({ length: 64 }, (_, i) => open(i, "operator/greedy")).flat();
    expect(refused).toHaveLength(56);
    expect(refused[0]).toMatchObject({ kind: "refuse", watch: 8, failure: { facts: { limit: "watchers_per_caller", max: "8" } } });
    expect(open(100, "operator/other")).toEqual([]);
    drive(core, { kind: "watch_end", watch: 0 }, { kind: "watch_end", watch: 50 });
    expect([open(101, "operator/greedy"), open(102, "operator/greedy")]).toMatchObject([[], [{ kind: "refuse" }]]);
  });

  test("S3-22 counters of a link are the last that its service reported", () => {
    const core = make();
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
    drive(core, { ...report([]), links: [link] });
    const out = drive(core, { ...report([]), links: [{ ...link, framesIn: 9 }] }, { kind: "links", call: 5 });
    expect(out.find((effect) => effect.kind === "linked")!.links).toEqual([{ ...link, framesIn: 9 }]);
  });
});
