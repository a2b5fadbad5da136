import { describe, expect, test } from "vitest";
import { agentsOf, coders, INFERENCE, offer, quota, want } from "../../../test/lending/parts.ts";
import { AMOUNT_MAX, amountsOf } from "./amounts.ts";
import { type OfferView, ResourceBook } from "./book.ts";
import { type Answer, DEFAULT_POLICY, type ResourceCommand, type ResourceValue } from "./commands.ts";
import { RULES } from "./rules.ts";

const HOUR = 3_600_000;
const GPU = { kind: "compute", work: "inference", model: "", batch: 0, horizonMs: 0 } as const;

/** Here is a book with a clock that only goes when it is told. */
class Here {
  book: ResourceBook;
  time = 1_000_000;
  #index = 0;

  constructor(rules = RULES) {
    this.book = new ResourceBook(rules);
  }

  does(author: string, command: ResourceCommand): ResourceValue {
    const at = { index: ++this.#index, term: 1, time: this.time };
    this.book.expire(at);
    const outcome = this.book.apply(at, author, command);
    if (!outcome.ok) throw new Error(`${outcome.failure.reason}: ${outcome.failure.message}`);
    return outcome.value;
  }

  /** refuses gives the reason and field of a refusal, after which the book is as it was, byte for byte. */
  refuses(author: string, command: ResourceCommand): string {
    const at = { index: ++this.#index, term: 1, time: this.time };
    this.book.expire(at);
    const before = JSON.stringify(this.book.dump());
    const outcome = this.book.apply(at, author, command);
    if (outcome.ok) return "nothing";
    expect(JSON.stringify(this.book.dump())).toBe(before);
    expect(outcome.failure.message).toMatch(/^[a-z].*[^.]$/);
    return [outcome.failure.reason, outcome.failure.field].filter((part) => part !== undefined).join(" ");
  }

  asks(author: string, command: ResourceCommand): Answer {
    const value = this.does(author, command);
    if (value.kind !== "answer") throw new Error(`no answer: ${value.kind}`);
    return value.answer;
  }

  /** has is what an author is lent at once. */
  has(author: string, id: string, agents: number, more = {}): { lease: number; fence: number } {
    expect(this.asks(author, want(id, agents, more)).status).toBe("accepted");
    const value = this.does(author, { kind: "confirm", id });
    if (value.kind !== "lease") throw new Error(`no lease: ${value.kind}`);
    return value.lease;
  }

  ends(author: string, owner: string, { lease, fence }: { lease: number; fence: number }): void {
    this.does(author, { kind: "release", lease, fence });
    this.does(owner, { kind: "stopped", leases: [lease] });
  }
}

function lending(agents = 5, policy = {}, more = {}): Here {
  const here = new Here();
  here.does("factory", { kind: "policy", policy: { ...DEFAULT_POLICY, ...policy } });
  here.does("factory", coders(agents, more));
  return here;
}

describe("requests and answers", () => {
  test("S1-3 S1-4 a request is ACCEPTED with agents, a window and a cost of 0.75 units", () => {
    const here = lending(5, {}, { prices: amountsOf({ agents: 750_000 }) });
    const answer = here.asks("home", want("r1", 1, { durationMs: HOUR, context: "wings" }));
    expect(answer).toMatchObject({
      status: "accepted",
      confirmMs: RULES.reserveMs,
      lease: { agents: ["coder-000"], costMicro: 750_000, owner: "factory", borrower: "home", state: "reserved" },
      window: { start: here.time, end: here.time + RULES.reserveMs + HOUR },
    });
  });

  test("S1-4 REJECTED is a refusal with its reason, and NEGOTIATING goes to and fro until one says yes", () => {
    const here = lending(5, {}, { prices: amountsOf({ agents: 1_000_000 }), automatic: false });
    const terms = { amounts: amountsOf({ agents: 2 }), durationMs: HOUR, costMicro: 1_200_000 };
    const asked = here.asks("home", want("r1", 2, { owner: "factory", name: "coders", durationMs: HOUR, maxCostMicro: 500_000 }));
    expect(asked).toMatchObject({ status: "negotiating", request: { round: 1, turn: "owner", terms: { costMicro: 500_000 } } });
    expect(here.refuses("home", { kind: "accept", borrower: "home", id: "r1", round: 1 })).toBe("ACCESS_DENIED");
    expect(here.refuses("other", { kind: "accept", borrower: "home", id: "r1", round: 1 })).toBe("NEGOTIATION_OVER");
    here.does("factory", { kind: "counter", borrower: "home", id: "r1", round: 1, terms });
    expect(here.refuses("factory", { kind: "accept", borrower: "home", id: "r1", round: 2 })).toBe("ACCESS_DENIED");
    expect(here.refuses("home", { kind: "accept", borrower: "home", id: "r1", round: 1 })).toBe("NEGOTIATION_OVER");
    expect(here.asks("home", { kind: "accept", borrower: "home", id: "r1", round: 2 })).toMatchObject({
      status: "accepted",
      lease: { costMicro: 1_200_000 },
    });
  });

  test("a negotiation has so many rounds, and ends by itself", () => {
    const here = lending(5, {}, { automatic: false });
    const terms = { amounts: amountsOf({ agents: 1 }), durationMs: 1_000, costMicro: 1 };
    here.asks("home", want("r1", 2, { owner: "factory", name: "coders" }));
    for (let round = 1; round < RULES.roundsMax; round++)
      here.does(round % 2 === 1 ? "factory" : "home", { kind: "counter", borrower: "home", id: "r1", round, terms });
    const last: ResourceCommand = { kind: "counter", borrower: "home", id: "r1", round: RULES.roundsMax, terms };
    expect(here.refuses(RULES.roundsMax % 2 === 1 ? "factory" : "home", last)).toBe("LIMIT_EXCEEDED");
    here.time += RULES.answerMs;
    expect(here.refuses("home", last)).toBe("NEGOTIATION_OVER");
    here.time += RULES.settledMs;
    expect(here.refuses("home", last)).toBe("NEGOTIATION_OVER");
    expect(here.book.request("home", "r1")).toBeUndefined();
  });

  test("RB5 a reservation that is not confirmed in time is over, and its units are free at once", () => {
    const here = lending();
    here.asks("home", want("r1", 4));
    expect(here.refuses("other", want("r2", 1))).toBe("NO_CAPACITY");
    here.time += RULES.reserveMs;
    expect(here.refuses("home", { kind: "confirm", id: "r1" })).toBe("NEGOTIATION_OVER");
    expect(here.asks("other", want("r2", 1)).status).toBe("accepted");
  });

  test("S1-30 of several owners the least loaded is taken", () => {
    const here = lending(10);
    here.does("mill", coders(10));
    const owners = ["a", "b", "c", "d"].map((id) => here.asks("home", want(id, 2)).request.owner);
    expect(owners.filter((owner) => owner === "mill")).toHaveLength(2);
  });
});

describe("what an owner allows", () => {
  test("S1-22 S4-11 S4-8 policies say how much of what, for how long", () => {
    const here = lending(50, { allowedTypes: ["cache", "coder", "inference", "researcher", "weights"] });
    expect(here.refuses("home", want("r1", 6))).toBe("LIMIT_EXCEEDED amounts.agents");
    expect(here.refuses("home", want("r1", 1, { durationMs: 7_200_001 }))).toBe("LIMIT_EXCEEDED duration_ms");
    expect(here.refuses("factory", offer("testers", agentsOf("tester", 2), { agents: 2 }))).toBe("LIMIT_EXCEEDED what");
    const predictor = { ...INFERENCE, horizonMs: 7 * 86_400_000 };
    expect(here.refuses("factory", offer("temporal", predictor, { gpuMilli: 1_000 }, { shared: false }))).toBe("NOT_SHARED shared");
    expect(here.book.offers().map((view: OfferView) => view.offer.name)).toEqual(["coders"]);
    here.does("factory", offer("neural", INFERENCE, { gpuMilli: 10_000 }));
    const neural = (batch: number, model = "llm-8b"): ResourceCommand =>
      want("n1", 0, { want: { kind: "compute", work: "inference", model, batch, horizonMs: 0 }, amounts: amountsOf({ gpuMilli: 1_000 }) });
    expect(here.refuses("home", neural(33))).toBe("OFFER_NOT_FOUND");
    expect(here.refuses("home", neural(32, "llm-70b"))).toBe("OFFER_NOT_FOUND");
    expect(here.asks("home", neural(32)).status).toBe("accepted");
    const store = { kind: "storage", holds: "weights", retentionMs: 30 * 86_400_000, replication: 3 } as const;
    here.does("factory", offer("disk", store, { storageMb: 1_000_000 }));
    const keep = (storageMb: number, replication: number, durationMs: number): ResourceCommand =>
      want("s1", 0, { want: { kind: "storage", holds: "weights", replication }, amounts: amountsOf({ storageMb }), durationMs });
    expect(here.refuses("home", keep(100_001, 2, HOUR))).toBe("LIMIT_EXCEEDED amounts.storage_mb");
    expect(here.refuses("home", keep(100_000, 3, HOUR))).toBe("LIMIT_EXCEEDED want.replication");
    expect(here.refuses("home", keep(100_000, 2, 30 * 86_400_000 + 1))).toBe("OFFER_NOT_FOUND");
    expect(here.asks("home", keep(100_000, 2, 30 * 86_400_000)).status).toBe("accepted");
  });

  test("S4-10 no more than 0.8 of a capacity is lent, and RB1 a ceiling is not lowered below what is", () => {
    const here = lending();
    expect(here.refuses("home", want("r1", 5))).toBe("LIMIT_EXCEEDED amounts");
    here.has("home", "r1", 4);
    expect(here.refuses("other", want("r2", 1))).toBe("NO_CAPACITY");
    expect(here.refuses("factory", { kind: "policy", policy: { ...DEFAULT_POLICY, maxUtilization: 799 } })).toBe("LIMIT_EXCEEDED capacity");
    expect(here.refuses("factory", coders(4))).toBe("LIMIT_EXCEEDED capacity");
    const others = offer("coders", { kind: "agent", type: "coder", agents: ["a", "b", "c", "d", "e"] }, { agents: 5 });
    expect(here.refuses("factory", others)).toBe("LIMIT_EXCEEDED agents");
  });

  test("S4-16 what is taken counts against a quota, and everyone hears of it", () => {
    const here = lending();
    here.does("factory", quota("home", 0, 2));
    const at = { index: 99, term: 1, time: here.time };
    const outcome = here.book.apply(at, "home", want("r1", 2));
    expect(outcome.ok && outcome.news.map((one) => (one.kind === "lease" ? one.what : one.kind))).toEqual(["request", "reserved"]);
    expect(here.refuses("home", want("r2", 1))).toBe("QUOTA_EXCEEDED");
  });

  test("RB10 what a lease costs is held, paid for the time that it was there, and the rest given back", () => {
    const here = lending(5, {}, { prices: amountsOf({ agents: 1_000_000 }) });
    const lease = here.has("home", "r1", 2, { durationMs: HOUR });
    expect([here.book.balance("home"), here.book.balance("factory"), here.book.dump().escrow]).toEqual([-2_000_000, 0, 2_000_000]);
    here.time += HOUR / 4;
    here.ends("home", "factory", lease);
    expect([here.book.balance("home"), here.book.balance("factory"), here.book.dump().escrow]).toEqual([-500_000, 500_000, 0]);
    const poor = new Here({ ...RULES, creditMicro: 1_000_000 });
    poor.does("factory", coders(5, { prices: amountsOf({ agents: 1_000_000 }) }));
    expect(poor.refuses("home", want("r1", 2, { durationMs: HOUR }))).toBe("QUOTA_EXCEEDED");
  });
});

describe("who comes first", () => {
  /** All four agents are taken, and others wait for them: who has one when it is free? */
  function waits(here: Here, ids: readonly [author: string, id: string, more: object][]): string[] {
    const held = ["x1", "x2", "x3", "x4"].map((id) => here.has("holder", id, 1, { durationMs: HOUR }));
    for (const [author, id, more] of ids) here.asks(author, want(id, 1, { waitMs: HOUR, ...more }));
    const order: string[] = [];
    for (const lease of held) {
      here.ends("holder", "factory", lease);
      for (const { borrower, id, state } of here.book.requests())
        if (state === "reserved" && borrower !== "holder") {
          order.push(id);
          here.does(borrower, { kind: "confirm", id });
        }
    }
    return order;
  }

  test("S4-14 of those that wait the most urgent goes first, and of equals who came first", () => {
    const here = lending(5, { preemption: false });
    const lines: [string, string, object][] = [
      ["a", "low", { priority: "low" }],
      ["b", "medium", {}],
      ["c", "high", { priority: "high" }],
      // An owner whose policy says high takes nothing for more urgent.
      ["d", "critical", { priority: "critical" }],
    ];
    expect(waits(here, lines)).toEqual(["high", "critical", "medium", "low"]);
  });

  test("S4-21 of equals the hub with the smaller dominant share goes first, whatever it has of what", () => {
    const here = lending(5, { preemption: false });
    here.does("mill", offer("gpus", INFERENCE, { gpuMilli: 10_000 }));
    const compute = { kind: "compute", work: "inference", model: "", batch: 1, horizonMs: 0 } as const;
    here.asks("a", want("g", 0, { want: compute, amounts: amountsOf({ gpuMilli: 4_000 }) }));
    here.does("a", { kind: "confirm", id: "g" });
    const lines: [string, string, object][] = [
      ["a", "a1", {}],
      ["b", "b1", {}],
      ["b", "b2", {}],
      ["b", "b3", {}],
    ];
    expect(waits(here, lines)).toEqual(["b1", "b2", "a1", "b3"]);
  });

  test("RB8 who is within its nominal quota goes before all others, also before more urgent ones", () => {
    const here = lending(5, { preemption: false });
    here.does("factory", quota("b", 1));
    const lines: [string, string, object][] = [
      ["a", "a1", { priority: "high" }],
      ["b", "b1", { priority: "low" }],
      ["b", "b2", { priority: "low" }],
    ];
    expect(waits(here, lines)).toEqual(["b1", "a1", "b2"]);
  });

  test("RB9 a request has as few as it needs end early: one rather than two, of the least urgent, never a young or protected one", () => {
    const here = lending(10, { maxUtilization: 1_000, maxAgents: 10 });
    here.does("factory", quota("kept", 2));
    here.has("kept", "k1", 2, { durationMs: HOUR, priority: "low" });
    here.has("a", "a1", 1, { durationMs: HOUR, priority: "low" });
    here.has("a", "a2", 3, { durationMs: HOUR, priority: "low" });
    here.has("b", "b1", 3, { durationMs: HOUR, priority: "medium" });
    here.time += RULES.settleMs;
    here.has("c", "c1", 1, { durationMs: HOUR, priority: "low" });
    here.asks("d", want("d1", 3, { priority: "high", waitMs: HOUR }));
    const noticed = (): string[] => here.book.leases().flatMap(({ id, notice }) => (notice === undefined ? [] : [id]));
    expect(noticed()).toEqual(["a2"]);
    // What is on its way back is counted: nobody else ends for the same request, and nobody for one that is not more urgent.
    here.asks("e", want("e1", 1, { priority: "low", waitMs: HOUR }));
    expect(noticed()).toEqual(["a2"]);
    expect(
      here.refuses("a", { kind: "renew", lease: here.book.leases()[2]!.lease, fence: here.book.leases()[2]!.fence, durationMs: HOUR }),
    ).toBe("LEASE_OVER");
    here.time += RULES.graceMs;
    here.does("factory", { kind: "stopped", leases: [here.book.leases().find(({ id }) => id === "a2")!.lease] });
    expect(here.book.request("d", "d1")).toMatchObject({ state: "reserved" });
    expect(here.book.request("e", "e1")).toMatchObject({ state: "waiting" });
  });

  test("a large request is not kept waiting for ever by small ones: after a while what becomes free is kept for it", () => {
    const here = lending(5, { preemption: false });
    const held = ["x1", "x2", "x3", "x4"].map((id) => here.has("holder", id, 1, { durationMs: HOUR }));
    here.asks("large", want("l1", 3, { waitMs: HOUR }));
    here.time += RULES.starveMs;
    here.ends("holder", "factory", held[0]!);
    expect(here.asks("small", want("s1", 1, { waitMs: HOUR })).status).toBe("waiting");
    here.ends("holder", "factory", held[1]!);
    here.ends("holder", "factory", held[2]!);
    expect(here.book.request("large", "l1")).toMatchObject({ state: "reserved" });
  });
});

describe("found by the simulator", () => {
  test("RB4 a renewal, or a confirmation that is sent again, is news also when log time has stood still: both sides measure from it", () => {
    const here = lending();
    const { lease, fence } = here.has("home", "r1", 1, { durationMs: HOUR });
    for (const command of [
      { kind: "renew", lease, fence, durationMs: HOUR },
      { kind: "confirm", id: "r1" },
    ] as const) {
      const outcome = here.book.apply({ index: 90, term: 2, time: here.time }, "home", command);
      expect(outcome.ok && outcome.news).toMatchObject([{ kind: "lease", what: "renewed", lease: { endsAt: here.time + HOUR } }]);
    }
  });

  test("what was kept for a request that was served elsewhere is given to those that wait", () => {
    const here = lending(5);
    here.does("factory", quota("b", 2));
    const first = here.has("holder", "x1", 1, { durationMs: HOUR });
    here.has("holder", "x2", 3, { durationMs: HOUR });
    here.asks("b", want("b1", 2, { waitMs: HOUR }));
    here.asks("b", want("b2", 1, { waitMs: HOUR }));
    here.ends("holder", "factory", first);
    expect(
      here.book
        .dump()
        .requests.filter(({ claim }) => claim !== "")
        .map(({ command }) => command.id),
    ).toContain("b1");
    expect(here.book.request("b", "b2")).toMatchObject({ state: "waiting" });
    here.does("mill", coders(3));
    expect(here.book.request("b", "b1")).toMatchObject({ state: "reserved", owner: "mill" });
    expect(here.book.request("b", "b2")).toMatchObject({ state: "reserved", owner: "factory" });
  });

  test("a request beyond the nominal quota does not count as within it because nothing of what its borrower has is protected", () => {
    const here = lending(5, { preemption: false });
    here.does("factory", quota("a", 2));
    here.has("a", "a1", 2, { durationMs: HOUR });
    const held = here.has("holder", "x1", 2, { durationMs: HOUR });
    here.does("factory", quota("a", 1));
    here.does("factory", quota("b", 1));
    here.asks("a", want("a2", 1, { waitMs: HOUR }));
    here.asks("b", want("b1", 1, { waitMs: HOUR, priority: "low" }));
    here.asks("c", want("c1", 1, { waitMs: HOUR }));
    here.ends("holder", "factory", held);
    const states = ["a a2", "b b1", "c c1"].map((key) => here.book.request(key[0]!, key.slice(2))?.state);
    expect(states).toEqual(["waiting", "reserved", "reserved"]);
  });
});

describe("F-1 bad input is refused with a sentence, and changes nothing", () => {
  const absurd = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, AMOUNT_MAX + 1, 2 ** 60, -0.5];

  test.each(absurd)("amounts, prices, durations and costs of %s", (value) => {
    const here = lending();
    const amounts = [value, 0, 0, 0, 0, 0];
    expect(here.refuses("home", want("r1", 1, { amounts }))).toMatch(/^INVALID_FIELD amounts/);
    expect(here.refuses("factory", coders(5, { prices: amounts }))).toBe("INVALID_FIELD prices");
    expect(here.refuses("factory", { ...coders(5), offer: { ...coders(5).offer, capacity: amounts } })).toMatch(/^INVALID_FIELD capacity/);
    expect(here.refuses("factory", { ...quota("home", 1), nominal: amounts })).toBe("INVALID_FIELD nominal");
    if (value > 0 && Number.isSafeInteger(value)) return;
    expect(here.refuses("home", want("r1", 1, { durationMs: value }))).toBe("INVALID_FIELD duration_ms");
    expect(here.refuses("home", want("r1", 1, { maxCostMicro: value }))).toBe("INVALID_FIELD max_cost_micro");
    expect(here.refuses("home", want("r1", 1, { waitMs: value }))).toBe("INVALID_FIELD wait_ms");
    expect(here.refuses("home", { kind: "renew", lease: value, fence: 1, durationMs: 1 })).toBe("INVALID_FIELD lease");
    expect(here.refuses("home", { kind: "release", lease: 1, fence: value })).toBe("INVALID_FIELD fence");
    expect(here.refuses("factory", { kind: "stopped", leases: [value] })).toBe("INVALID_FIELD leases[0]");
    expect(here.refuses("factory", { kind: "reclaim", lease: 1, graceMs: value })).toBe("INVALID_FIELD grace_ms");
  });

  test("names, ids and words that are none, lists that are too long, not sorted or say something twice", () => {
    const here = lending();
    expect(here.refuses("home", want("", 1))).toBe("INVALID_FIELD id");
    expect(here.refuses("home", want("r 1", 1))).toBe("INVALID_FIELD id");
    expect(here.refuses("home", want("r".repeat(64), 1))).toBe("INVALID_FIELD id");
    expect(here.refuses("home", want("r1", 1, { owner: "Factory" }))).toBe("INVALID_FIELD owner");
    expect(here.refuses("home", want("r1", 1, { name: "coders" }))).toBe("INVALID_FIELD owner");
    expect(here.refuses("home", want("r1", 1, { context: "x".repeat(1_025) }))).toBe("INVALID_FIELD context");
    expect(here.refuses("home", want("r1", 1, { priority: "urgent" as never }))).toBe("INVALID_FIELD priority");
    expect(here.refuses("home", want("r1", 0))).toBe("INVALID_FIELD amounts.agents");
    expect(here.refuses("home", want("r1", 1, { amounts: amountsOf({ agents: 1, networkKbps: 1 }) }))).toBe(
      "INVALID_FIELD amounts.networkKbps",
    );
    expect(here.refuses("home", want("r1", 1, { amounts: [1] }))).toBe("INVALID_FIELD amounts");
    const named = (agents: string[]): ResourceCommand => offer("x", { kind: "agent", type: "coder", agents }, { agents: agents.length });
    expect(here.refuses("factory", named(["b", "a"]))).toBe("INVALID_FIELD agents[1]");
    expect(here.refuses("factory", named(["a", "a"]))).toBe("INVALID_FIELD agents[1]");
    expect(here.refuses("factory", named(Array.from({ length: 257 }, (_, i) => `a${1_000 + i}`)))).toBe("INVALID_FIELD agents");
    expect(here.refuses("factory", offer("x", agentsOf("coder", 2), { agents: 3 }))).toBe("INVALID_FIELD capacity.agents");
    expect(here.refuses("factory", { kind: "stopped", leases: [2, 1] })).toBe("INVALID_FIELD leases[1]");
    expect(here.refuses("factory", { kind: "stopped", leases: [1, 1] })).toBe("INVALID_FIELD leases[1]");
    expect(here.refuses("no hub", want("r1", 1))).toBe("INVALID_FIELD author");
    expect(here.refuses("home", { kind: "loot" } as never)).toBe("INVALID_FIELD command");
  });

  test("what is somebody else's: offers, leases, quotas, requests", () => {
    const here = lending();
    const { lease, fence } = here.has("home", "r1", 1);
    expect(here.refuses("home", { kind: "withdraw", name: "coders" })).toBe("OFFER_NOT_FOUND");
    expect(here.refuses("home", quota("home", 1))).toBe("OFFER_NOT_FOUND");
    expect(here.refuses("home", { kind: "refence", name: "coders" })).toBe("OFFER_NOT_FOUND");
    expect(here.refuses("other", { kind: "renew", lease, fence, durationMs: 1 })).toBe("LEASE_OVER");
    expect(here.refuses("factory", { kind: "release", lease, fence })).toBe("LEASE_OVER");
    expect(here.refuses("other", { kind: "stopped", leases: [lease] })).toBe("ACCESS_DENIED");
    expect(here.refuses("home", { kind: "reclaim", lease, graceMs: 0 })).toBe("ACCESS_DENIED");
    expect(here.refuses("other", { kind: "confirm", id: "r1" })).toBe("NEGOTIATION_OVER");
    expect(here.refuses("factory", want("r1", 1, { owner: "factory", name: "coders" }))).toBe("INVALID_FIELD owner");
    expect(here.refuses("factory", quota("factory", 1))).toBe("INVALID_FIELD borrower");
    expect(here.refuses("home", { kind: "renew", lease, fence: fence + 1, durationMs: 1 })).toBe("FENCE_STALE");
  });

  test("quotas that promise more than there is, or a nominal quota above its limit", () => {
    const here = lending();
    here.does("factory", quota("a", 3));
    expect(here.refuses("factory", quota("b", 2))).toBe("LIMIT_EXCEEDED nominal");
    expect(here.refuses("factory", quota("b", 1, 0))).toBe("INVALID_FIELD nominal");
    expect(here.refuses("factory", coders(3))).toBe("LIMIT_EXCEEDED capacity");
  });

  test("BK4 offers, requests and quotas have bounds, and what is settled is forgotten", () => {
    const here = new Here({ ...RULES, offersMax: 1, requestsMax: 2, quotasMax: 1 });
    here.does("factory", coders(5));
    expect(here.refuses("factory", offer("more", agentsOf("coder", 1), { agents: 1 }))).toBe("LIMIT_EXCEEDED");
    here.does("factory", quota("a", 1));
    expect(here.refuses("factory", quota("b", 1))).toBe("LIMIT_EXCEEDED");
    here.asks("home", want("r1", 1));
    here.asks("home", want("r2", 1));
    expect(here.refuses("home", want("r3", 1))).toBe("LIMIT_EXCEEDED");
    here.time += RULES.reserveMs;
    here.book.expire({ index: 1_000, term: 1, time: here.time });
    here.time += RULES.settledMs;
    here.book.expire({ index: 1_001, term: 1, time: here.time });
    expect(here.book.dump().requests).toEqual([]);
    expect(here.book.due()).toBeUndefined();
  });

  test("BK4 RB11 an owner that never says what has stopped keeps so many leases for ever and no more, and others lend on", () => {
    const rules = { ...RULES, leasesMax: 3 };
    const here = new Here(rules);
    for (const owner of ["silent", "factory"]) here.does(owner, offer("gpus", INFERENCE, { gpuMilli: 1_000 }));
    const gpu = (id: string, owner: string, waitMs = 0) => want(id, 0, { owner, want: GPU, amounts: amountsOf({ gpuMilli: 1 }), waitMs });
    for (let i = 0; i < rules.leasesMax; i++) {
      here.asks("home", gpu(`r${i}`, "silent"));
      const value = here.does("home", { kind: "confirm", id: `r${i}` });
      if (value.kind === "lease") here.does("home", { kind: "release", lease: value.lease.lease, fence: value.lease.fence });
      here.time += RULES.settledMs;
    }
    expect(here.refuses("home", gpu("more", "silent"))).toBe("QUOTA_EXCEEDED");
    expect(here.asks("home", gpu("later", "silent", RULES.settledMs)).status).toBe("waiting");
    here.asks("home", gpu("there", "factory"));
    const dump = here.book.dump();
    here.book = new ResourceBook(rules);
    here.book.load(dump);
    expect(here.refuses("home", gpu("more", "silent"))).toBe("QUOTA_EXCEEDED");
    here.does("silent", { kind: "stopped", leases: [here.book.leases({ owner: "silent" })[0]?.lease ?? 0] });
    expect(here.book.request("home", "later")?.state).toBe("reserved");
  });

  test("BK4 contexts of all requests of a hub are bounded together, and what all its offers have is", () => {
    const here = new Here({ ...RULES, contextMax: 10 });
    here.does("factory", coders(5));
    here.asks("home", want("r1", 1, { context: "x".repeat(6) }));
    expect(here.refuses("home", want("r2", 1, { context: "x".repeat(5) }))).toBe("LIMIT_EXCEEDED context");
    const all = want("r3", 1, { context: "x".repeat(10) });
    here.time += RULES.reserveMs;
    expect(here.refuses("home", all)).toBe("LIMIT_EXCEEDED context");
    here.time += RULES.settledMs;
    here.asks("home", all);
    here.does("factory", offer("gpus", INFERENCE, { gpuMilli: AMOUNT_MAX - 1 }));
    expect(here.refuses("factory", offer("more", INFERENCE, { gpuMilli: 2 }))).toBe("LIMIT_EXCEEDED capacity.gpuMilli");
    here.does("factory", offer("more", INFERENCE, { gpuMilli: 1, cpuMilli: AMOUNT_MAX }));
    expect(here.refuses("factory", offer("gpus", INFERENCE, { gpuMilli: AMOUNT_MAX }))).toBe("LIMIT_EXCEEDED capacity.gpuMilli");
  });
});
