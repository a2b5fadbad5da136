// What hubs lend each other through the log of their federation, as cores of whole hubs.
import { describe, expect, test } from "vitest";
import { coders, offer, quota, type RequestCommand, want } from "../../test/lending/parts.ts";
import { CoordinationHubs } from "../../test/support/coordination-hubs.ts";
import type { Request } from "./messages.ts";
import { DEFAULT_POLICY, type LeaseView, type Policy } from "./resources/commands.ts";
import type { Allocation, LendingAnswer, LendingAsk, Take } from "./resources/desk/asks.ts";

const IDS = ["a", "b", "c"] as const;
type Command = Extract<LendingAsk, { kind: "command" }>["command"];

/** A federation of three hubs whose owner `a` lends coders. */
class Lenders {
  readonly hubs = new CoordinationHubs(...IDS);

  constructor() {
    const { hubs } = this;
    hubs.found(IDS);
    this.command("a", coders(10));
    // The executor has read the book.
    hubs.until(() => !hubs.core("a").describe().includes("not synced"));
  }

  ask<K extends LendingAnswer["kind"]>(id: string, kind: K, ask: LendingAsk): Extract<LendingAnswer, { kind: K }> {
    const { answer } = this.hubs.ask(id, "lent", lending(ask));
    if (answer.kind !== kind) throw new Error(`${answer.kind} instead of ${kind}`);
    return answer as Extract<LendingAnswer, { kind: K }>;
  }

  command(id: string, command: Command): void {
    this.hubs.ask(id, "lent", lending({ kind: "command", command, take: "no" }));
  }

  policy(id: string, more: Partial<Policy>): void {
    this.command(id, { kind: "policy", policy: { ...DEFAULT_POLICY, ...more } });
  }

  /** borrow gets a lease of what is offered. */
  borrow(id: string, agents = 2, more: Partial<RequestCommand> = {}, take: Take = "once"): LeaseView {
    const command = want(`r-${id}-${++made}`, agents, more);
    return this.ask(id, "lease", { kind: "request", command, take }).allocation.lease;
  }

  check(lease: LeaseView, fence = lease.fence, done = false): LendingAnswer {
    const { answer } = this.hubs.ask(lease.owner, "lent", lending({ kind: "check", lease: lease.lease, fence, done }));
    return answer;
  }

  allocations(id = "a"): readonly Allocation[] {
    return this.ask(id, "allocations", { kind: "list", what: "allocations" }).allocations;
  }

  /** settle waits until nothing is lent or on its way, and then the audit finds nothing. */
  settle(): void {
    this.freed();
    this.audit();
  }

  /** freed waits until nothing is lent any more. */
  freed(): void {
    for (let waited = 0; this.allocations().length > 0; waited += 100) {
      if (waited > 200_000) throw new Error(`still lent:\n${this.hubs.core("a").describe()}`);
      this.hubs.advance(100);
    }
  }

  /** synced waits until a hub has read the book. */
  synced(id: string): void {
    this.hubs.until(() => !this.hubs.core(id).describe().includes("not synced"));
  }

  audit(): void {
    this.hubs.advance(3_000);
    const { findings, asked, silent } = this.ask("a", "audit", { kind: "audit" });
    expect(findings).toEqual([]);
    expect({ asked, silent }).toEqual({ asked: [...IDS], silent: [] });
  }

  leader(of = "a"): string {
    return this.hubs.status(of).leader;
  }
}

let made = 0;
const lending = (ask: LendingAsk): Request => ({ kind: "lending", ask });

describe("lending between hubs", () => {
  test("S1-2 S1-3 S1-4 LG2 offer, request, allocation; it acts by its fence, is renewed, and ends; the next one has a higher fence", () => {
    const all = new Lenders();
    const [offered] = all.ask("c", "offers", { kind: "list", what: "offers" }).offers;
    expect(offered).toMatchObject({ owner: "a", offer: { name: "coders" }, ceiling: [8, 0, 0, 0, 0, 0] });
    const lease = all.borrow("b", 5);
    expect(lease).toMatchObject({
      owner: "a",
      borrower: "b",
      state: "live",
      agents: ["coder-000", "coder-001", "coder-002", "coder-003", "coder-004"],
    });
    const admitted = all.check(lease);
    expect(admitted).toMatchObject({ kind: "admitted", agents: lease.agents, validMs: 5_000 });
    all.hubs.until(() => all.allocations("b").some(({ usableMs }) => usableMs > 0));
    all.hubs.advance(20_000);
    const { allocation } = all.ask("b", "lease", { kind: "renew", lease: lease.lease, fence: lease.fence, durationMs: 60_000 });
    expect(allocation.lease.endsAt).toBeGreaterThan(lease.endsAt);
    all.hubs.advance(45_000);
    expect(all.allocations("b")[0]?.usableMs).toBeGreaterThan(0);
    expect(all.check(lease).kind).toBe("admitted");
    all.settle();
    expect(() => all.check(lease)).toThrow("FENCE_STALE");
    const next = all.borrow("c", 5);
    expect(next.fence).toBeGreaterThan(lease.fence);
    expect(all.check(next).kind).toBe("admitted");
    expect(() => all.check(next, lease.fence)).toThrow("FENCE_STALE");
    all.ask("c", "done", { kind: "release", lease: next.lease, fence: next.fence });
    all.settle();
  });

  test("RK3 what is kept is renewed until it is released", () => {
    const all = new Lenders();
    const lease = all.borrow("b", 2, {}, "keep");
    all.hubs.advance(200_000);
    expect(all.allocations("b")).toMatchObject([{ lease: { lease: lease.lease, state: "live" } }]);
    expect(all.check(lease).kind).toBe("admitted");
    all.audit();
    all.ask("b", "done", { kind: "release", lease: lease.lease, fence: lease.fence });
    all.settle();
  });

  test("S1-4 an owner that decides itself negotiates: counter-offer, acceptance, and the borrower has it", () => {
    const all = new Lenders();
    all.command("a", coders(10, { automatic: false }));
    const command = want("talk", 4, { owner: "a", name: "coders" });
    const { answer } = all.ask("b", "answer", { kind: "request", command, take: "once" });
    expect(answer).toMatchObject({ status: "negotiating", request: { round: 1, turn: "owner" } });
    const { terms } = answer.request;
    all.command("a", { kind: "counter", borrower: "b", id: "talk", round: 1, terms: { ...terms, amounts: [2, 0, 0, 0, 0, 0] } });
    const accept = { kind: "accept", borrower: "b", id: "talk", round: 2 } as const;
    const { allocation } = all.ask("b", "lease", { kind: "command", command: accept, take: "once" });
    expect(allocation.lease).toMatchObject({ state: "live", agents: ["coder-000", "coder-001"] });
    all.settle();
  });

  test("LG3 what waits for room is confirmed when there is, also after a restart in between", () => {
    const all = new Lenders();
    const first = all.borrow("c", 5);
    const { answer } = all.ask("b", "answer", { kind: "request", command: want("later", 5, { waitMs: 120_000 }), take: "once" });
    expect(answer.status).toBe("waiting");
    all.hubs.restart("b");
    all.ask("c", "done", { kind: "release", lease: first.lease, fence: first.fence });
    all.hubs.until(() => all.allocations().some(({ lease }) => lease.borrower === "b" && lease.state === "live"));
    all.settle();
  });

  test("S4-10 the owner wants it back: notice, grace, end", () => {
    const all = new Lenders();
    const lease = all.borrow("b", 2, { durationMs: 600_000 });
    all.check(lease);
    const { allocation } = all.ask("a", "lease", {
      kind: "command",
      command: { kind: "reclaim", lease: lease.lease, graceMs: 0 },
      take: "no",
    });
    expect(allocation.lease.notice).toBe("reclaimed");
    expect(all.check(lease).kind).toBe("admitted");
    all.hubs.advance(31_000);
    expect(() => all.check(lease)).toThrow(/LEASE_OVER|FENCE_STALE/);
    all.settle();
  });
});

describe("lending through faults", () => {
  test("RE4 RK2 the borrower is cut off: it stops by itself before the owner lends to another", () => {
    const all = new Lenders();
    const lease = all.borrow("b", 5);
    all.check(lease);
    all.hubs.until(() => all.allocations("b").some(({ usableMs }) => usableMs > 0));
    expect(all.hubs.core("b").describe()).toMatch(/ usable/);
    all.hubs.cut("b");
    const { answer } = all.ask("c", "answer", { kind: "request", command: want("next", 5, { waitMs: 300_000 }), take: "once" });
    expect(answer.status).toBe("waiting");
    const has = (): LeaseView | undefined =>
      all.allocations().find(({ lease: { borrower, state } }) => borrower === "c" && state === "live")?.lease;
    for (let i = 0; i < 3_000 && has() === undefined; i++) {
      all.hubs.advance(100);
      const inB = all.hubs.core("b").describe();
      if (has() !== undefined) expect(inB).not.toMatch(/ usable/);
    }
    expect(has()!.fence).toBeGreaterThan(lease.fence);
    expect(() => all.check(lease)).toThrow("FENCE_STALE");
    all.hubs.heal();
    all.settle();
  });

  test.each(["reserved", "live", "acting", "ended", "idle"] as const)("RE2 RE5 the owner crashes when it is %s", (step) => {
    const all = new Lenders();
    const command = want(`crash-${step}`, 5);
    const { answer } = all.ask("b", "answer", { kind: "request", command, take: "no" });
    expect(answer.status).toBe("accepted");
    if (step === "reserved") all.hubs.restart("a");
    const { allocation } = all.ask("b", "lease", { kind: "confirm", id: command.id, take: "once" });
    const { lease } = allocation;
    if (step === "live") all.hubs.restart("a");
    all.synced("a");
    expect(all.check(lease).kind).toBe("admitted");
    if (step === "acting") all.hubs.restart("a");
    all.synced("a");
    expect(all.check(lease).kind).toBe("admitted");
    if (step === "ended" || step === "idle") all.ask("b", "done", { kind: "release", lease: lease.lease, fence: lease.fence });
    if (step === "ended") all.hubs.restart("a");
    if (step === "idle") {
      all.hubs.advance(5_300);
      all.hubs.restart("a");
    }
    all.synced("a");
    all.freed();
    expect(() => all.check(lease)).toThrow(/FENCE_STALE|LEASE_OVER/);
    const next = all.borrow("c", 5);
    expect(next.fence).toBeGreaterThan(lease.fence);
    all.settle();
  });

  test.each(["request", "live"] as const)("RK5 the borrower crashes after %s", (step) => {
    const all = new Lenders();
    const call = all.hubs.call("b", lending({ kind: "request", command: want(`lost-${step}`, 5), take: "keep" }));
    if (step === "live") all.hubs.wait("b", call);
    else all.hubs.advance(3);
    all.hubs.restart("b");
    all.hubs.advance(30_000);
    all.audit();
    for (const { lease } of all.allocations("b")) all.ask("b", "done", { kind: "release", lease: lease.lease, fence: lease.fence });
    all.settle();
  });

  test("LG1 what is told again of the log after a restart is no news: nothing is asked of the book for it", () => {
    const all = new Lenders();
    const lease = all.borrow("b");
    all.ask("b", "done", { kind: "release", lease: lease.lease, fence: lease.fence });
    all.freed();
    all.hubs.restart("b");
    all.synced("b");
    all.hubs.advance(5_000);
    const { records } = all.hubs.ask("a", "log", { kind: "log", limit: 100, before: 0 });
    const asked = records.flatMap(({ lines }) => lines).filter(({ author }) => author === "b");
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.filter(({ refused }) => refused !== "")).toEqual([]);
    all.audit();
  });

  test("S1-17 the leader dies between the request and the confirmation; another decides, once", () => {
    const all = new Lenders();
    const leader = all.leader();
    const [borrower = ""] = ["b", "c"].filter((id) => id !== leader);
    const { answer } = all.ask(borrower, "answer", { kind: "request", command: want("through", 2, { durationMs: 120_000 }), take: "no" });
    expect(answer.status).toBe("accepted");
    all.hubs.stop(leader);
    const call = all.hubs.call(borrower, lending({ kind: "confirm", id: "through", take: "once" }));
    const confirmed = all.hubs.wait(borrower, call);
    expect(
      confirmed.kind === "lent" || (confirmed.kind === "refused" && /NEGOTIATION_OVER|PEER_UNREACHABLE/.test(confirmed.failure.reason)),
    ).toBe(true);
    all.hubs.start(leader);
    all.hubs.until(() => IDS.every((id) => all.hubs.status(id).canDecide));
    expect(all.allocations(borrower).filter(({ lease }) => lease.id === "through").length).toBeLessThanOrEqual(1);
    all.settle();
  });
});

test("LG2 who confirms or releases twice at once is answered twice", () => {
  const all = new Lenders();
  all.ask("b", "answer", { kind: "request", command: want("twice", 1), take: "no" });
  const both = (ask: LendingAsk) => [0, 1].map(() => all.hubs.call("b", lending(ask))).map((call) => all.hubs.wait("b", call).kind);
  expect(both({ kind: "confirm", id: "twice", take: "once" })).toEqual(["lent", "lent"]);
  const [{ lease }] = all.allocations("b") as [Allocation];
  expect(both({ kind: "release", lease: lease.lease, fence: lease.fence })).toEqual(["lent", "lent"]);
  all.settle();
});

describe("ballots about lending", () => {
  const propose = (all: Lenders, action: Extract<Request, { kind: "propose" }>["action"]): string => {
    const request: Request = { kind: "propose", action, reasoning: "", durationMs: 0 };
    return (all.hubs.ask("c", "changed", request).value as { ballotId: string }).ballotId;
  };
  const approve = (all: Lenders, ballotId: string): void => {
    const query: Request = { kind: "query", query: { kind: "ballot", ballotId }, local: true };
    const isThere = (id: string) => (all.hubs.ask(id, "queried", query).answer as { ballot: unknown }).ballot !== undefined;
    all.hubs.until(() => isThere("a") && isThere("b"));
    for (const id of ["a", "b"]) {
      try {
        all.hubs.ask(id, "changed", { kind: "vote", ballotId, vote: "APPROVE", reasoning: "" });
      } catch {
        // It is decided already.
      }
    }
  };
  const loan = { kind: "allocate", resource: "coders", owner: "a", borrower: "b", amount: 2, durationMs: 60_000 } as const;

  test("S1-5 FB1 an approved RESOURCE_ALLOCATION lends, and the borrower confirms it by itself", () => {
    const all = new Lenders();
    approve(all, propose(all, { ...loan, priority: 50, agentType: "" }));
    all.hubs.until(() => all.allocations().some(({ lease }) => lease.state === "live"));
    const [{ lease }] = all.allocations() as [Allocation];
    expect(lease).toMatchObject({ borrower: "b", priority: "high", agents: ["coder-000", "coder-001"] });
    approve(all, propose(all, { kind: "prioritize", id: String(lease.lease), priority: 0 }));
    all.hubs.until(() => all.allocations()[0]?.lease.priority === "low");
    all.settle();
  });

  test("FB1 nobody asks under an id that a ballot may need", () => {
    const all = new Lenders();
    expect(() => all.borrow("b", 1, { id: "ballot:x" })).toThrow("INVALID_FIELD: ids that begin with ballot:");
    expect(all.allocations()).toEqual([]);
  });

  test("S1-5 what the book of resources could not carry out is refused when it is proposed", () => {
    const all = new Lenders();
    expect(() => propose(all, { ...loan, resource: "gold", priority: 50, agentType: "" })).toThrow(
      "OFFER_NOT_FOUND: a does not offer gold",
    );
    expect(() => propose(all, { kind: "prioritize", id: "job-1", priority: 50 })).toThrow("LEASE_OVER: job-1 is no allocation that runs");
  });

  test("FB1 what cannot be carried out any more when it is approved is said, and nothing is lent", () => {
    const all = new Lenders();
    const ballotId = propose(all, { ...loan, amount: 4, priority: 50, agentType: "" });
    all.policy("a", { maxAgents: 1 });
    approve(all, ballotId);
    all.hubs.until(() => all.hubs.events("a").some((event) => event.includes("could not be carried out: a lends at most 1 agents")));
    expect(all.allocations()).toEqual([]);
  });
});

describe("shared state", () => {
  test("S1-7 S4-12 SP1 hubs tell each other what they have to lend and how loaded they are; who goes is forgotten", () => {
    const all = new Lenders();
    const facts = (id: string) => all.hubs.ask(id, "shared", { kind: "shared", of: undefined });
    all.hubs.until(
      () =>
        facts("c")
          .facts.map(({ entry }) => entry.key)
          .join() === "a,b,c,a/coders",
    );
    all.hubs.ask("b", "said", { kind: "share", changes: [{ kind: "facts", key: "motto", value: Uint8Array.of(1) }] });
    all.hubs.until(() => facts("c").facts.some(({ hub, entry }) => hub === "b" && entry.key === "motto"));
    const same = (): boolean => new Set(["a", "b", "c"].map((id) => String(facts(id).root))).size === 1;
    all.hubs.until(same);
    all.hubs.restart("c");
    all.hubs.until(same);
    all.hubs.ask("b", "done", { kind: "leave", federationId: "street", force: false });
    all.hubs.until(() => !facts("c").facts.some(({ hub }) => hub === "b"), 60_000);
    expect(facts("c").heads.map(({ hub }) => hub)).toEqual(["a", "c"]);
  });
});

describe("shared state that is full", () => {
  test("SP1 what a hub has to lend is said as soon as there is room for it, and what fits is said at once", () => {
    const all = new Lenders();
    const keys = () => all.hubs.ask("c", "shared", { kind: "shared", of: undefined }).facts.map(({ entry }) => entry.key);
    const share = (key: string, bytes: number) => ({ kind: "facts", key, value: new Uint8Array(bytes).fill(7) }) as const;
    all.hubs.until(() => keys().includes("b"));
    for (let i = 0; i < 31; i++) all.hubs.ask("b", "said", { kind: "share", changes: [share(`f${i}`, 4_096)] });
    for (let bytes = 4_000; bytes > 0; bytes -= 16)
      try {
        all.hubs.ask("b", "said", { kind: "share", changes: [share("last", bytes)] });
        break;
      } catch {
        // It does not fit yet.
      }
    all.command("b", coders(3));
    all.hubs.advance(5_000);
    expect(keys()).not.toContain("b/coders");
    all.hubs.ask("b", "said", { kind: "share", changes: [{ kind: "facts", key: "f0", value: undefined }] });
    all.hubs.until(() => keys().includes("b/coders"));
    const of = (hub: string) => all.hubs.ask(hub, "shared", { kind: "shared", of: "swarms" }).facts.find(({ hub: by }) => by === "b");
    expect(of("c")?.entry.value?.[1]).toBe(1);
  });
});

describe("hostile requests", () => {
  test("absurd amounts, unknown offers and what is not shared are refused with the reason, and change nothing", () => {
    const all = new Lenders();
    const ask = (command: RequestCommand) => () => all.ask("b", "answer", { kind: "request", command, take: "once" });
    expect(ask(want("x1", 1_000_000_000_001))).toThrow("INVALID_FIELD");
    expect(ask(want("x2", Number.MAX_SAFE_INTEGER))).toThrow("INVALID_FIELD");
    expect(ask(want("x3", 1_000_000))).toThrow("LIMIT_EXCEEDED");
    expect(ask(want("x4", 1, { durationMs: 8_000_000 }))).toThrow("LIMIT_EXCEEDED");
    expect(ask(want("x5", 1, { owner: "a", name: "nothing" }))).toThrow("OFFER_NOT_FOUND");
    expect(() => all.command("a", coders(3, { name: "secret", shared: false }))).toThrow("NOT_SHARED");
    expect(() => all.command("a", quota("b", 9))).toThrow("LIMIT_EXCEEDED");
    expect(all.allocations()).toEqual([]);
    all.audit();
  });

  test("RB7 an offer withdrawn while it is accepted: who comes first in the log wins, and no half of it stays", () => {
    const all = new Lenders();
    const { answer } = all.ask("b", "answer", { kind: "request", command: want("race", 2), take: "no" });
    expect(answer.status).toBe("accepted");
    const confirm = all.hubs.call("b", lending({ kind: "confirm", id: "race", take: "once" }));
    const withdraw = all.hubs.call("a", lending({ kind: "command", command: { kind: "withdraw", name: "coders" }, take: "no" }));
    const [confirmed, withdrawn] = [all.hubs.wait("b", confirm), all.hubs.wait("a", withdraw)];
    expect(withdrawn.kind).toBe("lent");
    const live = all.allocations().filter(({ lease }) => lease.state === "live");
    expect(live.length).toBe(confirmed.kind === "lent" ? 1 : 0);
    if (confirmed.kind === "refused") expect(confirmed.failure.reason).toBe("NEGOTIATION_OVER");
    all.settle();
  });

  test("LG4 an old fence renews, releases and acts for nothing; nor does another hub's lease", () => {
    const all = new Lenders();
    const lease = all.borrow("b", 2, { durationMs: 100_000 });
    const { lease: number, fence } = lease;
    expect(() => all.ask("b", "lease", { kind: "renew", lease: number, fence: fence - 1, durationMs: 60_000 })).toThrow("FENCE_STALE");
    expect(() => all.ask("b", "done", { kind: "release", lease: number, fence: fence - 1 })).toThrow("FENCE_STALE");
    expect(() => all.ask("c", "lease", { kind: "renew", lease: number, fence, durationMs: 60_000 })).toThrow("LEASE_OVER");
    expect(() => all.ask("c", "done", { kind: "release", lease: number, fence })).toThrow("LEASE_OVER");
    expect(() => all.ask("c", "lease", { kind: "command", command: { kind: "reclaim", lease: number, graceMs: 0 }, take: "no" })).toThrow(
      "ACCESS_DENIED",
    );
    expect(() => all.check(lease, fence - 1)).toThrow("FENCE_STALE");
    expect(() => all.ask("c", "admitted", { kind: "check", lease: number, fence, done: false })).toThrow(/LEASE_OVER|FENCE_STALE/);
    expect(all.allocations()).toMatchObject([{ lease: { lease: number, fence, state: "live" } }]);
    all.settle();
  });

  test("S1-22 S4-11 policy and quota bind: more than they allow is refused", () => {
    const all = new Lenders();
    all.policy("a", { maxAgents: 3, maxUtilization: 500 });
    expect(() => all.borrow("b", 4)).toThrow("LIMIT_EXCEEDED");
    all.command("a", quota("b", 0, 1));
    expect(() => all.borrow("b", 2)).toThrow("QUOTA_EXCEEDED");
    const lease = all.borrow("c", 3);
    expect(lease.amounts[0]).toBe(3);
    expect(() => all.command("a", { ...offer("coders", { kind: "agent", type: "coder", agents: ["x"] }, { agents: 1 }) })).toThrow(
      "LIMIT_EXCEEDED",
    );
    all.settle();
  });
});
