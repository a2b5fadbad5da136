import { describe, expect, test } from "vitest";
import { ResourceBook } from "../../services/coordination/resources/book.ts";
import { DEFAULT_POLICY, type LeaseView, type ResourceNews } from "../../services/coordination/resources/commands.ts";
import { compareExact, exact, fairShares } from "../../services/coordination/resources/fair.ts";
import { coders, want } from "./parts.ts";

const HUBS = 100;
const AGENTS = 10;
/** Requests of a second of each hub of the two halves: 1,000 in all, 60,000 a minute. Each takes one agent for a second. */
const FEW = 4;
const MANY = 16;
const TICK_MS = 25;
const WARM_MS = 6_000;
const MEASURED_MS = 12_000;

describe("S1-34 S1-38 S1-41 lending of 100 hubs with 1,000 agents and 60,000 requests a minute", () => {
  test("no request is lost, and what each hub has is within 5 % of its exact fair share", () => {
    const book = new ResourceBook();
    const hubs = Array.from({ length: HUBS }, (_, i) => `hub-${String(i).padStart(3, "0")}`);
    let [time, index, sent] = [1_000_000, 0, 0];
    const outcomes = new Map<string, string>();
    const done: { at: number; lease: LeaseView }[] = [];
    const used = new Map<string, number>(hubs.map((hub) => [hub, 0]));
    const at = () => ({ index: ++index, term: 1, time });
    const hear = (news: readonly ResourceNews[]): void => {
      for (const one of news) {
        if (one.kind === "request") outcomes.set(`${one.request.borrower} ${one.request.id}`, one.request.state);
        if (one.kind !== "lease" || one.what !== "reserved") continue;
        const outcome = book.apply(at(), one.lease.borrower, { kind: "confirm", id: one.lease.id });
        if (!outcome.ok || outcome.value.kind !== "lease") throw new Error("what is reserved is confirmed");
        done.push({ at: time + 1_000, lease: outcome.value.lease });
        hear(outcome.news);
      }
    };
    for (const hub of hubs) {
      book.apply(at(), hub, { kind: "policy", policy: { ...DEFAULT_POLICY, maxAgents: AGENTS } });
      book.apply(at(), hub, coders(AGENTS));
    }
    const end = time + WARM_MS + MEASURED_MS;
    for (let tick = 0; time < end; tick++) {
      for (; done[0] !== undefined && done[0].at <= time; done.shift()) {
        const { lease } = done[0];
        const released = book.apply(at(), lease.borrower, { kind: "release", lease: lease.lease, fence: lease.fence });
        const stopped = book.apply(at(), lease.owner, { kind: "stopped", leases: [lease.lease] });
        if (!released.ok || !stopped.ok) throw new Error("what was lent comes back");
        hear([...released.news, ...stopped.news]);
      }
      hear(book.expire(at()));
      for (const [i, hub] of hubs.entries()) {
        const perSecond = i % 2 === 0 ? FEW : MANY;
        // Hubs do not all ask in the same tick.
        if (Math.floor(((tick + i) * TICK_MS * perSecond) / 1_000) === Math.floor(((tick + i - 1) * TICK_MS * perSecond) / 1_000)) continue;
        const outcome = book.apply(at(), hub, want(`r${tick}`, 1, { durationMs: 60_000, waitMs: 3_000 }));
        if (!outcome.ok) throw new Error(outcome.failure.message);
        sent++;
        hear(outcome.news);
      }
      time += TICK_MS;
      if (time > end - MEASURED_MS) for (const lease of book.leases()) used.set(lease.borrower, (used.get(lease.borrower) ?? 0) + TICK_MS);
    }
    expect(sent).toBeGreaterThan(0.95 * (HUBS / 2) * (FEW + MANY) * ((WARM_MS + MEASURED_MS) / 1_000));
    expect(outcomes.size).toBe(sent);

    const task = [1, 0, 0, 0, 0, 0];
    const fair = fairShares(
      book.totals(),
      hubs.map((_, i) => ({ task, tasks: i % 2 === 0 ? FEW : MANY })),
    );
    for (const [i, hub] of hubs.entries()) {
      const has = exact(BigInt(used.get(hub) as number), BigInt(MEASURED_MS));
      const share = fair[i] as { num: bigint; den: bigint };
      const [low, high] = [exact(share.num * 95n, share.den * 100n), exact(share.num * 105n, share.den * 100n)];
      expect([hub, compareExact(has, low) >= 0, compareExact(has, high) <= 0]).toEqual([hub, true, true]);
    }
  });
});
