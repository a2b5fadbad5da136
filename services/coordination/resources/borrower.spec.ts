import { describe, expect, test } from "vitest";
import { BORROWER_DEFAULTS, type BorrowerEffect, type BorrowerInput, LeaseBorrower } from "./borrower.ts";
import type { LeaseView } from "./commands.ts";
import { BORROWER_SPACE, readHoldings } from "./kept.ts";

const VIEW: LeaseView = {
  ...{ lease: 7, owner: "factory", name: "coders", borrower: "home", id: "r1", amounts: [1, 0, 0, 0, 0, 0], agents: ["coder-000"] },
  ...{ priority: "medium", state: "live", fence: 8, startedAt: 0, endsAt: 100_000, costMicro: 0, onDisconnect: "keep" },
};

/** Here drives a borrower by its monotonic clock. */
class Here {
  borrower = new LeaseBorrower(BORROWER_DEFAULTS, []);
  readonly store = new Map<string, Uint8Array>();

  step(mono: number, input: BorrowerInput): BorrowerEffect[] {
    return this.#keep(mono, (out) => this.borrower.step({ mono, wall: 0 }, input, out));
  }

  tick(mono: number): BorrowerEffect[] {
    return this.#keep(mono, (out) => this.borrower.tick({ mono, wall: 0 }, out));
  }

  restart(): void {
    this.borrower = new LeaseBorrower(BORROWER_DEFAULTS, readHoldings([...this.store].map(([key, bytes]) => ({ key, bytes }))));
  }

  #keep(_mono: number, act: (out: BorrowerEffect[]) => void): BorrowerEffect[] {
    const out: BorrowerEffect[] = [];
    act(out);
    for (const effect of out) {
      if (effect.kind !== "persist") continue;
      for (const op of effect.ops) {
        if (op.op === "put" && op.space === BORROWER_SPACE) this.store.set(op.key, op.bytes);
        if (op.op === "delete") this.store.delete(op.key);
      }
    }
    return out;
  }
}

const kinds = (out: readonly BorrowerEffect[]): string[] =>
  out.map((effect) => (effect.kind === "propose" ? effect.command.kind : effect.kind));
const callOf = (out: readonly BorrowerEffect[], kind: string): number =>
  out.flatMap((effect) => (effect.kind === "propose" && effect.command.kind === kind ? [effect.call] : []))[0] ?? 0;

describe("a borrower", () => {
  test("RK1 RK2 uses a lease when it was answered, and stops before anybody else can have it by any clock", () => {
    const here = new Here();
    const call = callOf(here.step(1_000, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    // The answer is long on its way: what counts is when it was asked for.
    const out = here.step(9_000, { kind: "answered", call, lease: VIEW, remainingMs: 100_000 });
    expect(kinds(out)).toContain("usable");
    const until = 1_000 + 30_000 - 150 - 1_000;
    expect(here.borrower.deadline()).toBeLessThanOrEqual(until);
    expect(kinds(here.tick(until - 1))).not.toContain("stop");
    expect(kinds(here.tick(until))).toContain("stop");
  });

  test("RK2 a read shows that there is no notice, and use goes on; it is not believed about when the lease ends", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    here.step(10, { kind: "answered", call, lease: VIEW, remainingMs: 40_000 });
    const read = here.tick(11_000).find((effect) => effect.kind === "read") as { call: number };
    here.step(11_500, { kind: "read", call: read.call, leases: [{ ...VIEW, endsAt: 9_000_000 }] });
    expect(kinds(here.tick(30_000))).not.toContain("stop");
    // An answer that does not come in time changes nothing: the lease was for 40 s.
    expect(kinds(here.tick(40_000 - 200 - 1_000))).toContain("stop");
  });

  test("RK3 with a duration of 0 it is not renewed, and is used until its lease ends", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 0 }), "confirm");
    here.step(0, { kind: "answered", call, lease: VIEW, remainingMs: 20_000 });
    expect(kinds(here.tick(15_000))).not.toContain("renew");
    expect(kinds(here.tick(20_000 - 100 - 1_000))).toContain("stop");
  });

  test("RK2 a renewal by somebody else at this hub is measured from when it was asked for; of another lease it counts for nothing", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 0 }), "confirm");
    here.step(0, { kind: "answered", call, lease: VIEW, remainingMs: 20_000 });
    here.step(5_000, { kind: "renewed", askedAt: 4_000, lease: { ...VIEW, lease: 6 }, remainingMs: 90_000 });
    expect(here.borrower.usableMs({ mono: 5_000, wall: 0 }, 7)).toBe(20_000 - 100 - 1_000 - 5_000);
    here.step(5_000, { kind: "renewed", askedAt: 4_000, lease: VIEW, remainingMs: 20_000 });
    expect(here.borrower.usableMs({ mono: 5_000, wall: 0 }, 7)).toBe(4_000 + 20_000 - 100 - 1_000 - 5_000);
  });

  test("RK2 after a notice nothing counts as seen any more", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    here.step(10, { kind: "answered", call, lease: VIEW, remainingMs: 100_000 });
    const read = here.tick(11_000).find((effect) => effect.kind === "read") as { call: number };
    here.step(11_500, { kind: "read", call: read.call, leases: [{ ...VIEW, notice: "preempted" }] });
    expect(kinds(here.tick(28_849))).not.toContain("stop");
    expect(kinds(here.tick(28_850))).toContain("stop");
  });

  test("RK3 renews when half is left, and again with a back-off if it is refused or nobody knows", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    here.step(10, { kind: "answered", call, lease: VIEW, remainingMs: 20_000 });
    expect(kinds(here.tick(9_999))).not.toContain("renew");
    const first = callOf(here.tick(10_000), "renew");
    expect(first).toBeGreaterThan(0);
    expect(kinds(here.step(10_500, { kind: "unknown", call: first }))).not.toContain("renew");
    const second = callOf(here.tick(11_500), "renew");
    expect(second).toBeGreaterThan(first);
    expect(kinds(here.step(12_000, { kind: "failed", call: second, failure: { reason: "QUOTA_EXCEEDED", message: "no" } }))).not.toContain(
      "renew",
    );
    expect(kinds(here.tick(13_999))).not.toContain("renew");
    expect(kinds(here.tick(14_000))).toContain("renew");
  });

  test("RK4 an outcome that is not known counts as held: the same confirmation is sent again until it is known", () => {
    const here = new Here();
    const first = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    here.step(2_000, { kind: "unknown", call: first });
    const second = callOf(here.tick(3_000), "confirm");
    expect(here.borrower.report()).toMatchObject([{ id: "r1", usable: false }]);
    const over = here.step(3_500, {
      kind: "failed",
      call: second,
      failure: { reason: "NEGOTIATION_OVER", message: "it was not confirmed in time" },
    });
    expect(kinds(over)).toContain("gone");
    expect(here.store.size).toBe(0);
  });

  test("RK5 after a restart it knows what it has, confirms it again, and uses nothing before", () => {
    const here = new Here();
    const call = callOf(here.step(0, { kind: "take", id: "r1", durationMs: 100_000 }), "confirm");
    here.step(10, { kind: "answered", call, lease: VIEW, remainingMs: 100_000 });
    here.restart();
    const out = here.tick(500);
    expect(kinds(out)).toEqual(["confirm", "read"]);
    const read = out.find((effect) => effect.kind === "read") as { call: number };
    expect(kinds(here.step(600, { kind: "read", call: read.call, leases: [VIEW] }))).not.toContain("usable");
    expect(kinds(here.step(700, { kind: "answered", call: callOf(out, "confirm"), lease: VIEW, remainingMs: 50_000 }))).toContain("usable");
  });

  test("RK5 what the book says is its own and it does not know of is given back", () => {
    const here = new Here();
    const read = here.tick(0).find((effect) => effect.kind === "read") as { call: number };
    const out = here.step(10, { kind: "read", call: read.call, leases: [VIEW] });
    expect(out).toContainEqual(expect.objectContaining({ kind: "propose", command: { kind: "release", lease: 7, fence: 8 } }));
  });

  test("a read of a position before the confirmation, and one that was asked for before, take nothing away", () => {
    const here = new Here();
    const out = here.step(0, { kind: "take", id: "r1", durationMs: 100_000 });
    const read = out.find((effect) => effect.kind === "read") as { call: number };
    here.step(10, { kind: "answered", call: callOf(out, "confirm"), lease: VIEW, remainingMs: 100_000 });
    here.step(20, { kind: "read", call: read.call, leases: [{ ...VIEW, state: "reserved", fence: 0 }] });
    expect(here.borrower.report()).toMatchObject([{ lease: 7, usable: true }]);
  });
});
