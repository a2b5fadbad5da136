import { describe, expect, test } from "vitest";
import type { LeaseView } from "./commands.ts";
import { EXECUTOR_DEFAULTS, type ExecutorEffect, type ExecutorInput, LeaseExecutor } from "./executor.ts";
import { EXECUTOR_SPACE, readAdmissions } from "./kept.ts";

const VIEW: LeaseView = {
  ...{ lease: 7, owner: "factory", name: "coders", borrower: "home", id: "r1", amounts: [1, 0, 0, 0, 0, 0], agents: ["coder-000"] },
  ...{ priority: "medium", state: "live", fence: 8, startedAt: 0, endsAt: 100_000, costMicro: 0, onDisconnect: "keep" },
};
const ENDED: LeaseView = { ...VIEW, state: "ended", end: "expired" };

/** Here drives an executor by its monotonic clock; its store outlives it. */
class Here {
  executor = new LeaseExecutor({ hubId: "factory", ...EXECUTOR_DEFAULTS }, { floor: 0, admissions: [] });
  store = new Map<string, Uint8Array>();

  step(mono: number, input: ExecutorInput): ExecutorEffect[] {
    const out: ExecutorEffect[] = [];
    this.executor.step({ mono, wall: 0 }, input, out);
    return this.#keep(out);
  }

  tick(mono: number): ExecutorEffect[] {
    const out: ExecutorEffect[] = [];
    this.executor.tick({ mono, wall: 0 }, out);
    return this.#keep(out);
  }

  synced(floor = 0, leases: readonly LeaseView[] = []): this {
    this.step(0, { kind: "book", logTime: 0, floor, leases });
    return this;
  }

  news(mono: number, what: string, lease: LeaseView, logTime = 0): ExecutorEffect[] {
    return this.step(mono, { kind: "news", logTime, what, lease });
  }

  admit(mono: number, fence = 8, lease = 7): string {
    for (const effect of this.step(mono, { kind: "admit", call: 1, lease, fence })) {
      if (effect.kind === "admitted") return "admitted";
      if (effect.kind === "refused") return effect.failure.reason;
    }
    return "nothing";
  }

  restart(): this {
    const rows = [...this.store].map(([key, bytes]) => ({ key, bytes }));
    this.executor = new LeaseExecutor({ hubId: "factory", ...EXECUTOR_DEFAULTS }, readAdmissions(rows));
    return this;
  }

  #keep(out: ExecutorEffect[]): ExecutorEffect[] {
    for (const effect of out)
      if (effect.kind === "persist")
        for (const op of effect.ops) {
          if (op.op === "put" && op.space === EXECUTOR_SPACE) this.store.set(op.key, op.bytes);
          if (op.op === "delete") this.store.delete(op.key);
        }
    return out;
  }
}

const stops = (out: readonly ExecutorEffect[]): boolean[] => out.flatMap((effect) => (effect.kind === "stop" ? [effect.force] : []));
const said = (out: readonly ExecutorEffect[]): unknown[] => out.flatMap((effect) => (effect.kind === "propose" ? [effect.command] : []));

describe("an executor", () => {
  test("RE1 lets in who names a live lease and its fence, and nobody else", () => {
    const here = new Here().synced();
    expect(here.admit(0)).toBe("LEASE_OVER");
    here.news(0, "live", VIEW);
    expect(here.admit(1)).toBe("admitted");
    expect(here.admit(1, 7)).toBe("FENCE_STALE");
    expect(here.admit(1, 9)).toBe("FENCE_STALE");
    here.news(2, "refenced", { ...VIEW, fence: 12 });
    expect([here.admit(3), here.admit(3, 12)]).toEqual(["FENCE_STALE", "admitted"]);
    here.news(4, "ended", { ...ENDED, fence: 12 });
    expect(here.admit(5, 12)).toBe("LEASE_OVER");
  });

  test("RE2 an admission is durable before it is answered; after a restart nobody gets in before the book was read, and no old fence ever", () => {
    const here = new Here().synced();
    here.news(0, "live", VIEW);
    const out = here.step(1, { kind: "admit", call: 1, lease: 7, fence: 8 });
    expect(out.map(({ kind }) => kind)).toEqual(["persist", "admitted"]);
    here.restart();
    expect(here.admit(0)).toBe("TOO_STALE");
    here.step(1, { kind: "book", logTime: 0, floor: 20, leases: [{ ...VIEW, fence: 19 }] });
    expect([here.admit(2, 8), here.admit(2, 19)]).toEqual(["FENCE_STALE", "admitted"]);
  });

  test("RE2 a book that is older than what this hub has seen is not believed", () => {
    const here = new Here().synced();
    here.news(0, "live", VIEW);
    here.restart();
    const out = here.step(0, { kind: "book", logTime: 0, floor: 7, leases: [] });
    expect(out).toContainEqual({ kind: "observe", what: "stale_book", lease: 0, fence: 7 });
    expect(here.admit(1)).toBe("TOO_STALE");
    here.synced(8, [VIEW]);
    expect(here.admit(2)).toBe("admitted");
  });

  test("RE3 an agent is nobody's before what it did for another lease has stopped", () => {
    const here = new Here().synced();
    here.news(0, "live", VIEW);
    expect(here.admit(1)).toBe("admitted");
    here.news(2, "live", { ...VIEW, lease: 9, fence: 10 });
    expect(here.admit(3, 10, 9)).toBe("NO_CAPACITY");
    here.news(4, "ended", ENDED);
    here.step(5, { kind: "idle", lease: 7 });
    expect(here.admit(6, 10, 9)).toBe("admitted");
  });

  test("RE4 RE5 stops by its own clock without the log, by force if need be, and gives the units back only after the log has ended the lease", () => {
    const here = new Here().synced();
    here.news(1_000, "live", VIEW, 40_000);
    here.admit(1_001);
    expect(here.executor.deadline()).toBe(61_000);
    expect(stops(here.tick(61_000))).toEqual([false]);
    expect(here.admit(61_001)).toBe("LEASE_OVER");
    expect(stops(here.tick(71_000))).toEqual([true]);
    expect(said(here.step(71_100, { kind: "idle", lease: 7 }))).toEqual([]);
    // It had been renewed, and this hub had not heard of it: then it goes on.
    here.news(80_000, "renewed", { ...VIEW, endsAt: 200_000 }, 150_000);
    expect(here.admit(80_001)).toBe("admitted");
    expect(stops(here.news(90_000, "ended", ENDED))).toEqual([false]);
    // The log says that it is over before this hub has measured it: the log's clock may be wrong, so the borrower has until then.
    expect(said(here.step(91_000, { kind: "idle", lease: 7 }))).toEqual([]);
    expect(here.executor.deadline()).toBe(120_000);
    expect(said(here.tick(120_000))).toEqual([{ kind: "stopped", leases: [7] }]);
    expect(said(here.tick(121_000))).toEqual([]);
    expect(said(here.tick(122_000))).toEqual([{ kind: "stopped", leases: [7] }]);
    here.news(122_500, "freed", ENDED);
    expect([here.executor.deadline(), here.executor.report().length]).toEqual([undefined, 0]);
    expect([...here.store.keys()]).toEqual(["floor"]);
  });

  test("RE5 what was released goes back as soon as nothing runs", () => {
    const here = new Here().synced();
    here.news(0, "live", VIEW);
    here.admit(1);
    here.news(2, "ended", { ...ENDED, end: "released" });
    expect(said(here.step(3, { kind: "idle", lease: 7 }))).toEqual([{ kind: "stopped", leases: [7] }]);
  });

  test("RE6 what runs without a lease is told of and stopped; what the book has and this hub forgot may run, so it is stopped at its end", () => {
    const here = new Here();
    here.step(0, { kind: "found", lease: 3, fence: 4 });
    const out = here.step(1, { kind: "book", logTime: 0, floor: 20, leases: [ENDED] });
    expect(out).toContainEqual({ kind: "observe", what: "orphan", lease: 3, fence: 4 });
    expect(out.flatMap((effect) => (effect.kind === "stop" ? [effect.lease] : [])).sort()).toEqual([3, 7]);
    expect(here.executor.report()).toMatchObject([
      { lease: 3, orphan: true },
      { lease: 7, orphan: false },
    ]);
    here.step(2, { kind: "idle", lease: 3 });
    expect(here.executor.report().map(({ lease }) => lease)).toEqual([7]);
  });

  test.each([
    ["keep", [], []],
    ["stop", [false], []],
    ["hand_back", [], [{ kind: "reclaim", lease: 7, graceMs: EXECUTOR_DEFAULTS.graceMs }]],
  ] as const)("RE7 when a borrower is gone for a while, its owner's choice to %s is done", (onDisconnect, stopped, proposed) => {
    const here = new Here().synced();
    here.news(0, "live", { ...VIEW, onDisconnect });
    here.admit(1);
    here.step(2, { kind: "connected", hub: "home", up: false });
    here.step(3, { kind: "connected", hub: "home", up: true });
    expect(here.tick(20_000)).toEqual([]);
    here.step(20_000, { kind: "connected", hub: "home", up: false });
    const out = here.tick(20_000 + EXECUTOR_DEFAULTS.disconnectMs);
    expect([stops(out), said(out)]).toEqual([stopped, proposed]);
    // A lease that begins while its borrower is gone is no exception.
    here.news(100_000, "live", { ...VIEW, lease: 9, fence: 10, agents: [], onDisconnect, endsAt: 900_000 });
    here.admit(100_001, 10, 9);
    const later = here.tick(100_000 + EXECUTOR_DEFAULTS.disconnectMs);
    const about = later.flatMap((effect) => (effect.kind === "stop" && effect.lease === 9 ? [effect.force] : []));
    expect([about, said(later)]).toEqual([stopped, proposed.map((command) => ({ ...command, lease: 9 }))]);
  });
});
