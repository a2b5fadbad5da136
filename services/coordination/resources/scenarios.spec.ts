import { describe, expect, test } from "vitest";
import { Violation } from "../../../test/lending/checker.ts";
import { coders, quota, want } from "../../../test/lending/parts.ts";
import { type Hub, World } from "../../../test/lending/world.ts";
import { audit } from "./audit.ts";
import { DEFAULT_POLICY, type ResourceCommand, type ResourceValue } from "./commands.ts";
import { RULES } from "./rules.ts";

const OWNER = "hub-0";
const BORROWER = "hub-1";
const OTHER = "hub-2";

/** world is three hubs without faults, of which the first lends four agents. */
function world(policy = {}, more = {}): World {
  const made = new World(7, 3);
  made.calm = true;
  made.apply(OWNER, { kind: "policy", policy: { ...DEFAULT_POLICY, ...policy } });
  made.apply(OWNER, coders(5, more));
  made.run(1_000);
  return made;
}

function does(made: World, author: string, command: ResourceCommand): ResourceValue {
  const outcome = made.apply(author, command);
  if (!outcome.ok) throw new Error(outcome.failure.message);
  return outcome.value;
}

function refuses(made: World, author: string, command: ResourceCommand): string {
  const outcome = made.apply(author, command);
  expect(outcome.ok).toBe(false);
  return outcome.ok ? "" : outcome.failure.reason;
}

/** lends has a hub take what it asks for, and use it. */
function lends(made: World, id: string, agents = 2, durationMs = 60_000, by = BORROWER): number {
  does(made, by, want(id, agents, { durationMs }));
  made.borrower(made.hub(by), { kind: "take", id, durationMs });
  made.run(2_000);
  const [used] = [...made.hub(by).using.values()].slice(-1);
  expect(used).toBeDefined();
  expect([...made.hub(OWNER).running.keys()]).toContain(used?.lease);
  return used?.lease as number;
}

/** settles gives back what is held, and looks whether anything is left, and whether book, executors and borrowers agree. */
function settles(made: World): void {
  const there = made.hubs.filter(({ removed }) => !removed);
  for (const hub of there) for (const { id } of hub.borrower.report()) made.borrower(hub, { kind: "give_back", id });
  made.run(600_000);
  const executors = new Map(there.map((hub) => [hub.id, hub.executor.report()]));
  const borrowers = new Map(there.map((hub) => [hub.id, hub.borrower.report()]));
  expect(audit(made.book.dump(), { executors, borrowers })).toEqual([]);
  expect(made.book.leases()).toEqual([]);
  for (const hub of there) expect([hub.running.size, hub.executor.report().length]).toEqual([0, 0]);
  made.replicate();
}

const negotiated = (): ResourceCommand => want("r1", 2, { owner: OWNER, name: "coders" });

describe("lending when something goes wrong", () => {
  test("accept races withdraw: the first in the log wins, and what was withdrawn never becomes an allocation (RB7)", () => {
    const first = world({}, { automatic: false });
    does(first, BORROWER, negotiated());
    does(first, OWNER, { kind: "withdraw", name: "coders" });
    expect(refuses(first, OWNER, { kind: "accept", borrower: BORROWER, id: "r1", round: 1 })).toBe("NEGOTIATION_OVER");

    const second = world({}, { automatic: false });
    does(second, BORROWER, negotiated());
    does(second, OWNER, { kind: "accept", borrower: BORROWER, id: "r1", round: 1 });
    does(second, OWNER, { kind: "withdraw", name: "coders" });
    expect(refuses(second, BORROWER, { kind: "confirm", id: "r1" })).toBe("NEGOTIATION_OVER");
    expect(second.book.leases()).toEqual([]);

    const third = world({}, { automatic: false });
    does(third, BORROWER, negotiated());
    does(third, OWNER, { kind: "accept", borrower: BORROWER, id: "r1", round: 1 });
    does(third, BORROWER, { kind: "confirm", id: "r1" });
    does(third, OWNER, { kind: "withdraw", name: "coders" });
    expect(third.book.leases()).toMatchObject([{ state: "live" }]);
    expect(refuses(third, OTHER, want("r2", 1))).toBe("OFFER_NOT_FOUND");
  });

  test("double accept: both are answered with the same reservation, and units are taken once", () => {
    const made = world({}, { automatic: false });
    does(made, BORROWER, negotiated());
    const accept: ResourceCommand = { kind: "accept", borrower: BORROWER, id: "r1", round: 1 };
    expect(does(made, OWNER, accept)).toEqual(does(made, OWNER, accept));
    expect(made.book.leases()).toHaveLength(1);
    expect(made.book.offer(OWNER, "coders")?.used[0]).toBe(2);
  });

  test("lost answer: a request, a confirmation and a release that are sent again are answered as the first time", () => {
    const made = world();
    const request = want("r1", 2);
    const answered = does(made, BORROWER, request);
    expect(does(made, BORROWER, request)).toEqual(answered);
    expect(refuses(made, BORROWER, want("r1", 3))).toBe("IDEMPOTENCY_CONFLICT");
    const confirmed = does(made, BORROWER, { kind: "confirm", id: "r1" });
    expect(does(made, BORROWER, { kind: "confirm", id: "r1" })).toEqual(confirmed);
    if (confirmed.kind !== "lease") throw new Error("no lease");
    const { lease, fence } = confirmed.lease;
    expect(does(made, BORROWER, { kind: "release", lease, fence })).toEqual(does(made, BORROWER, { kind: "release", lease, fence }));
  });

  test("renewal with an old fence is refused, and the executor refuses what runs under it, also after a restart (RB3, RE2)", () => {
    const made = world();
    const lease = lends(made, "r1");
    const old = made.book.lease(lease)?.fence as number;
    does(made, OWNER, { kind: "refence", name: "coders" });
    expect(refuses(made, BORROWER, { kind: "renew", lease, fence: old, durationMs: 60_000 })).toBe("FENCE_STALE");
    made.run(1_000);
    const refused = (hub: Hub): string => {
      const out: { kind: string; failure?: { reason: string } }[] = [];
      hub.executor.step(hub.now(made.t), { kind: "admit", call: 9, lease, fence: old }, out as never);
      return out.find(({ kind }) => kind === "refused")?.failure?.reason ?? "admitted";
    };
    expect(refused(made.hub(OWNER))).toBe("FENCE_STALE");
    made.crash(made.hub(OWNER), false);
    made.hub(OWNER).cut = true;
    made.start(made.hub(OWNER));
    expect(refused(made.hub(OWNER))).toBe("TOO_STALE");
    made.hub(OWNER).cut = false;
    made.run(1_000);
    expect(refused(made.hub(OWNER))).toBe("FENCE_STALE");
    settles(made);
  });

  test("clock step at lease end: the leader's clock is an hour on, and the units are not another's before the borrower has stopped (RE5)", () => {
    const made = world();
    const lease = lends(made, "r1", 4, 600_000);
    made.hub(BORROWER).cut = true;
    made.setLeaderClock(3_600_000);
    does(made, OTHER, want("r2", 4, { waitMs: 3_000_000 }));
    expect(made.book.lease(lease)).toMatchObject({ state: "ended", end: "expired" });
    made.run(10_000);
    expect(made.book.request(OTHER, "r2")).toMatchObject({ state: "waiting" });
    expect(made.hub(BORROWER).using.size).toBe(1);
    made.run(40_000);
    expect(made.hub(BORROWER).using.size).toBe(0);
    expect(made.book.request(OTHER, "r2")?.state).not.toBe("waiting");
    made.hub(BORROWER).cut = false;
    settles(made);
  });

  test("borrower partitioned while the owner reassigns: it stops by its own clock before, and its late messages are refused (RK2, RE1)", () => {
    const made = world();
    const lease = lends(made, "r1", 4);
    const { fence } = made.book.lease(lease) as { fence: number };
    made.hub(BORROWER).cut = true;
    does(made, OTHER, want("r2", 4, { waitMs: 600_000 }));
    made.run(120_000);
    expect(made.hub(BORROWER).using.size).toBe(0);
    const next = made.book.request(OTHER, "r2");
    expect(next?.state).not.toBe("waiting");
    made.executor(made.hub(OWNER), { kind: "admit", call: 3, lease, fence });
    expect(made.hub(OWNER).running.has(lease)).toBe(false);
    made.hub(BORROWER).cut = false;
    settles(made);
  });

  test("owner restored from a backup: what it forgot is stopped or goes on as the book says, and no old fence gets in (RE2, RE6)", () => {
    const made = world();
    const owner = made.hub(OWNER);
    const backup = owner.backup();
    const lease = lends(made, "r1");
    const gone = lends(made, "r2");
    does(made, BORROWER, { kind: "release", lease: gone, fence: made.book.lease(gone)?.fence as number });
    made.run(0);
    made.crash(owner, false);
    owner.store = backup;
    made.run(20_000);
    made.start(owner);
    made.run(20_000);
    expect([...owner.running.keys()]).toEqual([lease]);
    expect(made.book.lease(gone)).toBeUndefined();
    settles(made);
  });

  test("two coordinators around a leader change: commands that both have decided happen once", () => {
    const made = world();
    const commands: [string, ResourceCommand][] = [
      [BORROWER, want("r1", 2)],
      [BORROWER, { kind: "confirm", id: "r1" }],
      [OTHER, want("r1", 2)],
      [OTHER, { kind: "confirm", id: "r1" }],
    ];
    for (const [author, command] of commands) made.apply(author, command);
    made.setLeaderClock(-5_000);
    const before = made.book.leases().map(({ lease, fence, endsAt }) => ({ lease, fence, endsAt }));
    const time = made.logTime;
    for (const [author, command] of commands) made.apply(author, command);
    expect(made.book.leases().map(({ lease, fence, endsAt }) => ({ lease, fence, endsAt }))).toEqual(before);
    expect(made.logTime).toBeGreaterThanOrEqual(time);
    made.replicate();
  });

  test("preempted agent ignores notice: it is stopped by force after the grace, and then its units are given on (S4-10, RB9, RE4)", () => {
    const made = world({ maxUtilization: 1_000, maxAgents: 5 });
    const lease = lends(made, "r1", 5, 3_600_000);
    made.run(RULES.settleMs);
    const { time } = { time: made.logTime };
    does(made, OTHER, want("r2", 3, { priority: "high", waitMs: 300_000 }));
    const noticed = made.book.lease(lease);
    expect(noticed).toMatchObject({ state: "live", notice: "preempted" });
    expect((noticed?.endsAt as number) - time).toBeGreaterThanOrEqual(RULES.graceMs);
    made.run(RULES.graceMs + 20_000);
    expect(made.hub(OWNER).running.has(lease)).toBe(false);
    expect(made.book.request(OTHER, "r2")?.state).not.toBe("waiting");
    settles(made);
  });

  test("quota lowered below use: nothing is taken away, nothing more is given, and the quota protects no longer what is beyond it (RB8)", () => {
    const made = world();
    does(made, OWNER, quota(BORROWER, 3, 3));
    lends(made, "r1", 2, 600_000);
    lends(made, "r2", 1, 600_000);
    does(made, OWNER, quota(BORROWER, 1, 1));
    expect(made.book.leases()).toHaveLength(2);
    expect(refuses(made, BORROWER, want("r3", 1))).toBe("QUOTA_EXCEEDED");
    does(made, OWNER, quota(OTHER, 3, 3));
    does(made, OTHER, want("r4", 3, { waitMs: 300_000, priority: "low" }));
    expect(made.book.leases().map(({ id, notice }) => [id, notice])).toEqual([
      ["r1", "preempted"],
      ["r2", undefined],
    ]);
    settles(made);
  });

  test("offer edited while countered: the terms were about another offer, so it begins again", () => {
    const made = world({}, { automatic: false });
    does(made, BORROWER, negotiated());
    does(made, OWNER, {
      kind: "counter",
      borrower: BORROWER,
      id: "r1",
      round: 1,
      terms: { amounts: [1, 0, 0, 0, 0, 0], durationMs: 1_000, costMicro: 5 },
    });
    does(made, OWNER, coders(3, { automatic: false }));
    expect(refuses(made, BORROWER, { kind: "accept", borrower: BORROWER, id: "r1", round: 2 })).toBe("NEGOTIATION_OVER");
    expect(made.book.request(BORROWER, "r1")).toMatchObject({ state: "over", why: "its offer was changed" });
    expect(made.book.leases()).toEqual([]);
  });

  test("hub removed while lending: its leases are lost, what they cost is settled, and nothing of it is lent again", () => {
    const made = world({}, { prices: [1_000_000, 0, 0, 0, 0, 0] });
    lends(made, "r1");
    made.hub(OWNER).removed = true;
    made.federation((book, at) => book.remove(at, OWNER), "removed");
    expect(made.book.offers()).toEqual([]);
    expect(refuses(made, OTHER, want("r2", 1))).toBe("OFFER_NOT_FOUND");
    made.run(10_000);
    expect(made.hub(BORROWER).using.size).toBe(0);
    settles(made);
  });

  test("hub removed while borrowing: its leases end, and their units are free when their owner has stopped them (RB11)", () => {
    const made = world();
    const lease = lends(made, "r1", 4);
    made.hub(BORROWER).removed = true;
    made.federation((book, at) => book.remove(at, BORROWER), "removed");
    expect(made.book.lease(lease)).toMatchObject({ state: "ended", end: "lost" });
    expect(refuses(made, OTHER, want("r2", 1))).toBe("NO_CAPACITY");
    made.run(60_000);
    expect(does(made, OTHER, want("r3", 4))).toMatchObject({ kind: "answer", answer: { status: "accepted" } });
    made.run(20_000);
    settles(made);
  });

  test("what is not known is not free: an owner that is away lends nothing, and what ended there is not lent again (RB11)", () => {
    const made = world();
    const lease = lends(made, "r1", 3);
    made.crash(made.hub(OWNER), false);
    made.federation((book, at) => book.setAbsent(at, OWNER, true), "away");
    expect(refuses(made, OTHER, want("r2", 1))).toBe("PEER_UNREACHABLE");
    made.run(300_000);
    expect(made.book.lease(lease)).toMatchObject({ state: "ended" });
    made.federation((book, at) => book.setAbsent(at, OWNER, false), "there");
    expect(refuses(made, OTHER, want("r3", 2))).toBe("NO_CAPACITY");
    made.start(made.hub(OWNER));
    made.run(60_000);
    expect(does(made, OTHER, want("r4", 3))).toMatchObject({ answer: { status: "accepted" } });
    made.run(20_000);
    settles(made);
  });

  test.each(["keep", "stop", "hand_back"] as const)("borrower disconnected, and the owner chose to %s (RE7)", (onDisconnect) => {
    const made = world({ onDisconnect });
    const lease = lends(made, "r1", 2, 600_000);
    made.executor(made.hub(OWNER), { kind: "connected", hub: BORROWER, up: false });
    made.hub(BORROWER).cut = true;
    made.run(50_000);
    expect(made.hub(OWNER).running.has(lease)).toBe(onDisconnect === "keep");
    made.run(60_000);
    expect(made.book.lease(lease)?.state).toBe(onDisconnect === "hand_back" ? undefined : "live");
    made.hub(BORROWER).cut = false;
    made.executor(made.hub(OWNER), { kind: "connected", hub: BORROWER, up: true });
    settles(made);
  });
});

describe("crash of each party at each step", () => {
  /** What happens in the life of an allocation; a party dies before, between and after. */
  const steps: readonly ((made: World) => void)[] = [
    (made) => void made.apply(BORROWER, want("r1", 2, { durationMs: 40_000 })),
    (made) => {
      const { up } = made.hub(BORROWER);
      if (up) made.borrower(made.hub(BORROWER), { kind: "take", id: "r1", durationMs: 40_000 });
    },
    (made) => made.run(100),
    (made) => made.run(1_000),
    (made) => made.run(30_000),
    (made) => void made.apply(OWNER, { kind: "refence", name: "coders" }),
    (made) => void made.apply(OWNER, { kind: "reclaim", lease: made.book.leases()[0]?.lease ?? 1, graceMs: 0 }),
    (made) => made.run(15_000),
    (made) => made.run(RULES.graceMs),
    (made) => made.run(5_000),
  ];
  const runs = [OWNER, BORROWER].flatMap((party) => steps.flatMap((_, at) => [true, false].map((all) => ({ party, at, all }))));

  test.each(runs)(
    "$party dies before step $at (with all that runs: $all), and nothing is lost, shared or left over",
    ({ party, at, all }) => {
      const made = world({}, { prices: [1_000_000, 0, 0, 0, 0, 0] });
      for (const [index, step] of steps.entries()) {
        if (index === at) {
          made.crash(made.hub(party), all);
          made.after(7_000, () => made.start(made.hub(party)));
        }
        step(made);
      }
      made.run(10_000);
      settles(made);
    },
  );

  test("a violation is seen here as well", () => {
    const made = world();
    lends(made, "r1");
    made.hub(OWNER).running.set(77, { fence: 1, agents: ["coder-000"] });
    expect(() => made.apply(BORROWER, want("r2", 1))).toThrow(Violation);
  });
});
