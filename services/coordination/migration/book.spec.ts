import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encode } from "#kernel/wire/shape.ts";
import { feedKeyOf, simCrypto } from "../../../test/simulator/crypto.ts";
import { MigrationBook } from "./book.ts";
import { commandProblem } from "./book-check.ts";
import { claimBytes } from "./claim.ts";
import { BOUNDS, CAUSES, type MigrationCommand, STEPS } from "./messages.ts";
import { MIGRATION_DATA } from "./shapes.ts";

const NODE_KEY = feedKeyOf("node counter");
const DIGEST = new Uint8Array(32).fill(7);
const SEALING = new Uint8Array(32).fill(9);

/** Log is a book with a log in front of it. */
class Log {
  readonly book = new MigrationBook(simCrypto("log"));
  time = 1_000_000;
  #index = 0;

  do(author: string, command: MigrationCommand, wait = 10) {
    this.time += wait;
    const at = { index: ++this.#index, term: 1, time: this.time };
    this.book.expire(at);
    return this.book.apply(at, author, command);
  }

  /** pass lets time go by. */
  pass(ms: number) {
    this.time += ms;
    return this.book.expire({ index: ++this.#index, term: 1, time: this.time });
  }

  remove(hub: string) {
    return this.book.removed({ index: ++this.#index, term: 1, time: this.time }, hub);
  }

  reason(author: string, command: MigrationCommand): string {
    const outcome = this.do(author, command);
    return outcome.ok ? "done" : outcome.failure.reason;
  }
}

const request = (fence = 1, to = "factory"): MigrationCommand => ({ kind: "request", agent: "counter", fence, to, stepMs: 5_000, why: "" });

function claim(fence: number, more: object = {}): Uint8Array {
  return simCrypto("node counter").sign(
    claimBytes({ agent: "counter", from: "home", to: "factory", fence, transfer: 1, digest: DIGEST, ...more }),
  );
}

/** steps of the first move, by who makes them. */
const STEPS_OF = (transfer = 1, until = 1_000_000_000): readonly (readonly [string, MigrationCommand])[] => [
  ["home", { kind: "validate", transfer, bytes: 1_000 }],
  ["factory", { kind: "accept", transfer, bytes: 2_000, sealingKey: SEALING, until }],
  ["factory", { kind: "prepare", transfer }],
  ["home", { kind: "checkpoint", transfer, bytes: 500 }],
  ["home", { kind: "transfer", transfer, digest: DIGEST }],
  ["factory", { kind: "confirm", transfer, fence: 2, digest: DIGEST, claim: claim(2, { transfer }) }],
  ["home", { kind: "release", transfer }],
];

/** at is a log at which the first move has come to a step. */
function at(step: (typeof STEPS)[number], until?: number): Log {
  const log = new Log();
  log.do("home", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY });
  expect(log.do("office", request()).ok).toBe(true);
  for (const [author, command] of STEPS_OF(1, until).slice(0, STEPS.indexOf(step))) expect(log.do(author, command).ok).toBe(true);
  return log;
}

describe("S1-13 the eight steps", () => {
  test("MG2 MG6 are made in order, and only CONFIRM changes the owner", () => {
    const log = at("REQUEST");
    for (const [author, command] of STEPS_OF()) {
      const before = log.book.owner("counter")!;
      expect(log.do(author, command).ok).toBe(true);
      const after = log.book.owner("counter")!;
      if (command.kind === "confirm") expect(after).toMatchObject({ owner: "factory", fence: before.fence + 1 });
      else expect(after).toEqual(before);
    }
    expect(log.book.migration(1)).toMatchObject({ status: "released", step: "RELEASE" });
    expect(log.book.migrations()).toEqual([]);
    expect(log.book.history()).toHaveLength(1);
  });

  test("MG6 nobody else makes them, none is made twice, and none too early", () => {
    for (const [place, step] of STEPS.slice(0, -1).entries()) {
      const all = STEPS_OF();
      for (const [other, [author, command]] of all.entries()) {
        const log = at(step);
        expect(log.reason("mallory", command)).toBe("ACCESS_DENIED");
        const late = step === "CONFIRM" && other < place;
        expect([step, command.kind, log.reason(author, command)]).toEqual([
          step,
          command.kind,
          other === place ? "done" : late ? "MIGRATION_STEP" : "MIGRATION_STEP",
        ]);
      }
    }
  });

  test("MG5 CONFIRM needs the digest, the fence and the claim of the agent, and no other", () => {
    const confirm = (more: object): MigrationCommand => ({ ...(STEPS_OF()[5]![1] as object), ...more }) as MigrationCommand;
    const other = new Uint8Array(32).fill(8);
    for (const [more, reason] of [
      [{ digest: other }, "CHECKPOINT_INVALID"],
      [{ digest: other, claim: claim(2, { digest: other }) }, "CHECKPOINT_INVALID"],
      [{ fence: 3, claim: claim(3) }, "VALUE_OUT_OF_RANGE"],
      [{ fence: 1, claim: claim(1) }, "VALUE_OUT_OF_RANGE"],
      [{ claim: claim(3) }, "CHECKPOINT_INVALID"],
      [{ claim: claim(2, { to: "office" }) }, "CHECKPOINT_INVALID"],
      [{ claim: claim(2, { transfer: 2 }) }, "CHECKPOINT_INVALID"],
      [{ claim: new Uint8Array(64) }, "CHECKPOINT_INVALID"],
      [
        {
          claim: simCrypto("home").sign(
            claimBytes({ agent: "counter", from: "home", to: "factory", fence: 2, transfer: 1, digest: DIGEST }),
          ),
        },
        "CHECKPOINT_INVALID",
      ],
    ] as const)
      expect(at("TRANSFER").reason("factory", confirm(more))).toBe(reason);
  });
});

describe("of CONFIRM and abort the first wins", () => {
  const abort: MigrationCommand = { kind: "abort", transfer: 1, cause: "WITHDRAWN", message: "no" };

  test("MG3 after an abort there is no commit, and a late confirm does not bring one", () => {
    const log = at("TRANSFER");
    expect(log.reason("office", abort)).toBe("done");
    expect(log.reason("factory", STEPS_OF()[5]![1])).toBe("MIGRATION_STEP");
    expect(log.book.owner("counter")).toMatchObject({ owner: "home", fence: 1 });
  });

  test("MG3 after a commit there is no abort, and a duplicate confirm changes nothing", () => {
    const log = at("CONFIRM");
    for (const author of ["home", "factory", "office"]) expect(log.reason(author, abort)).toBe("MIGRATION_STEP");
    const before = log.book.owner("counter");
    expect(log.reason("factory", STEPS_OF()[5]![1])).toBe("MIGRATION_STEP");
    expect(log.book.owner("counter")).toEqual(before);
  });

  test("strangers abort nothing, and no hub says what only the log knows", () => {
    const log = at("TRANSFER");
    expect(log.reason("mallory", abort)).toBe("ACCESS_DENIED");
    for (const cause of ["DEADLINE", "HUB_REMOVED"] as const) expect(log.reason("home", { ...abort, cause })).toBe("INVALID_FIELD");
    expect(log.reason("home", { ...abort, transfer: 99 })).toBe("NODE_NOT_FOUND");
  });
});

describe("time of the log", () => {
  test.each(STEPS.slice(0, 6))("MG6 a step that does not come after %s aborts the move", (step) => {
    const log = at(step);
    expect(log.book.due()).toBe(log.time + 5_000);
    expect(log.pass(4_999)).toEqual([]);
    expect(log.pass(1)).toMatchObject([{ kind: "step", migration: { status: "aborted", cause: "DEADLINE" } }]);
    expect(log.book.owner("counter")).toMatchObject({ owner: "home", fence: 1 });
  });

  test("the end of the room aborts it, a commit in the same instant too", () => {
    const until = 1_000_000 + 100;
    const log = at("TRANSFER", until);
    log.time = until - 10;
    expect(log.reason("factory", STEPS_OF()[5]![1])).toBe("MIGRATION_STEP");
    expect(log.book.migration(1)).toMatchObject({ status: "aborted", cause: "LEASE_ENDED" });
    expect(log.reason("factory", STEPS_OF()[1]![1])).not.toBe("done");
  });

  test("after the commit time decides nothing any more, but that it is history one day", () => {
    const log = at("CONFIRM");
    log.pass(BOUNDS.releaseMs - 1);
    expect(log.book.migrations()).toHaveLength(1);
    log.pass(1);
    expect(log.book.migrations()).toEqual([]);
    expect(log.book.history()).toMatchObject([{ status: "committed", step: "CONFIRM" }]);
    expect(log.book.owner("counter")?.owner).toBe("factory");
    log.pass(BOUNDS.historyMs);
    expect(log.book.history()).toEqual([]);
  });

  test("MG7 the old name answers with the owner of today, for a time, and no longer than the agent is there", () => {
    const log = at("RELEASE");
    expect(log.book.movedTo("home", "counter")).toEqual({ hub: "factory", fence: 2 });
    expect(log.book.movedTo("factory", "counter")).toBeUndefined();
    log.pass(BOUNDS.redirectMs - 1_000);
    expect(log.book.movedTo("home", "counter")).toBeDefined();
    log.pass(1_000);
    expect(log.book.movedTo("home", "counter")).toBeUndefined();
    const gone = at("RELEASE");
    expect(gone.reason("factory", { kind: "dismiss", agent: "counter", fence: 2 })).toBe("done");
    expect(gone.book.movedTo("home", "counter")).toBeUndefined();
  });
});

describe("agents", () => {
  test("MG4 an agent has one move at a time; of its next one the fence is the new one", () => {
    const log = at("PREPARE");
    expect(log.do("office", request(1, "office"))).toMatchObject({
      ok: false,
      failure: { reason: "ALREADY_EXISTS", facts: { transfer: "1" } },
    });
    expect(log.reason("home", { kind: "dismiss", agent: "counter", fence: 1 })).toBe("ALREADY_EXISTS");
    const done = at("CONFIRM");
    expect(done.reason("office", request(1, "office"))).toBe("MIGRATION_STEP");
    expect(done.reason("office", request(2, "factory"))).toBe("ALREADY_EXISTS");
    expect(done.do("office", request(2, "office"))).toMatchObject({ ok: true, value: { transfer: 2 } });
  });

  test("MG1 a name that is taken again has a fence that nobody ever had", () => {
    const log = at("RELEASE");
    log.do("factory", { kind: "dismiss", agent: "counter", fence: 2 });
    expect(log.do("office", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY })).toMatchObject({ ok: true, value: { fence: 3 } });
    expect(log.reason("factory", { kind: "dismiss", agent: "counter", fence: 2 })).toBe("ACCESS_DENIED");
    expect(log.reason("home", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY })).toBe("ALREADY_EXISTS");
    expect(log.do("office", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY })).toMatchObject({ ok: true, news: [] });
  });

  test("MG8 a hub that was removed owns nothing that runs, and may take its own back when it is a member again", () => {
    const log = at("TRANSFER");
    expect(log.remove("home")).toMatchObject([{ migration: { status: "aborted", cause: "HUB_REMOVED" } }, { kind: "gone" }]);
    expect(log.book.owner("counter")).toMatchObject({ owner: "home", lost: true });
    expect(log.reason("factory", STEPS_OF()[5]![1])).toBe("MIGRATION_STEP");
    expect(log.reason("office", request())).toBe("NODE_OFFLINE");
    expect(log.reason("office", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY })).toBe("ALREADY_EXISTS");
    expect(log.do("home", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY })).toMatchObject({ ok: true, value: { fence: 2 } });
    const never = at("TRANSFER");
    never.remove("home");
    never.pass(BOUNDS.lostMs);
    expect(never.book.owner("counter")).toBeUndefined();
  });

  test("MG8 the removal of a source after the commit releases its copy, that of a destination loses the agent", () => {
    const source = at("CONFIRM");
    source.remove("home");
    expect(source.book.migrations()).toEqual([]);
    expect(source.book.owner("counter")).toMatchObject({ owner: "factory", lost: false });
    const destination = at("CONFIRM");
    destination.remove("factory");
    expect(destination.book.owner("counter")).toMatchObject({ owner: "factory", lost: true });
  });
});

describe("BK4 nothing grows without bound", () => {
  test("requests of one hub, moves of one hub, unreleased copies, agents", () => {
    const log = new Log();
    const enlist = (agent: string): string => log.reason("home", { kind: "enlist", agent, nodeKey: NODE_KEY });
    for (let i = 0; i < BOUNDS.agentsPerHub; i++) expect(enlist(`agent-${i}`)).toBe("done");
    expect(enlist("one-more")).toBe("LIMIT_EXCEEDED");
    const move = (i: number, author: string) =>
      log.reason(author, { kind: "request", agent: `agent-${i}`, fence: i + 1, to: "factory", stepMs: 3_600_000, why: "" });
    for (let i = 0; i < BOUNDS.requestsPerHub; i++) expect(move(i, "office")).toBe("done");
    expect(move(100, "office")).toBe("LIMIT_EXCEEDED");
    for (let i = BOUNDS.requestsPerHub; i < BOUNDS.migrationsPerHub; i++) expect(move(i, "home")).toBe("done");
    expect(move(101, "factory")).toBe("LIMIT_EXCEEDED");
  });

  test("history and redirects", { timeout: 30_000 }, () => {
    const log = at("RELEASE");
    for (let i = 0; i < BOUNDS.history + 5; i++) {
      const { value } = log.do("factory", { kind: "request", agent: "counter", fence: 2, to: "home", stepMs: 5_000, why: "" }) as {
        value: { transfer: number };
      };
      log.do("factory", { kind: "abort", transfer: value.transfer, cause: "WITHDRAWN", message: "" });
    }
    expect(log.book.history()).toHaveLength(BOUNDS.history);
  });
});

const hubs = fc.constantFrom("home", "factory", "office", "mallory");
const odd = fc.oneof(
  fc.integer({ min: -1, max: 4 }),
  fc.constantFrom(Number.NaN, 2 ** 53, 0.5, Number.POSITIVE_INFINITY, 3_600_001, 5_000),
);
const blob = fc.oneof(fc.constantFrom(DIGEST, NODE_KEY, SEALING, claim(2), new Uint8Array(0)), fc.uint8Array({ maxLength: 65 }));
const wild = fc.record({
  kind: fc.constantFrom(
    "enlist",
    "dismiss",
    "request",
    "validate",
    "accept",
    "prepare",
    "checkpoint",
    "transfer",
    "confirm",
    "release",
    "abort",
    "toString",
  ),
  agent: fc.constantFrom("counter", "other", "", "a/b"),
  fence: odd,
  transfer: odd,
  to: hubs,
  stepMs: fc.constantFrom(5_000, 999, Number.NaN),
  why: fc.constantFrom("", "\ud800", "x".repeat(500)),
  bytes: odd,
  sealingKey: blob,
  until: fc.constantFrom(0, 1_000_500, 1e12),
  digest: blob,
  claim: blob,
  nodeKey: blob,
  cause: fc.constantFrom(...CAUSES, "BOREDOM"),
  message: fc.constant(""),
}) as unknown as fc.Arbitrary<MigrationCommand>;

/** what a federation may do, well-formed and of the right hubs more often than not. */
const sane = fc.oneof(
  fc.constant(["office", request()] as const),
  fc.constant(["home", { kind: "enlist", agent: "counter", nodeKey: NODE_KEY }] as const),
  fc.integer({ min: 1, max: 3 }).chain((transfer) => fc.constantFrom(...STEPS_OF(transfer))),
  fc.integer({ min: 1, max: 3 }).map((transfer) => ["home", { kind: "abort", transfer, cause: "WITHDRAWN", message: "" }] as const),
) as fc.Arbitrary<readonly [string, MigrationCommand]>;

test("BK1 BK2 BK3 hostile commands in any order: refused ones change nothing, a dump goes on alike, fences only rise", () => {
  const entry = fc.oneof({ weight: 3, arbitrary: sane }, { weight: 2, arbitrary: fc.tuple(hubs, wild) });
  fc.assert(
    fc.property(fc.array(fc.tuple(entry, fc.constantFrom(0, 10, 2_000)), { maxLength: 60 }), (entries) => {
      const book = new MigrationBook(simCrypto("log"));
      let copy = new MigrationBook(simCrypto("other"));
      let time = 1_000_000;
      let fence = 0;
      for (const [i, [[author, command], wait]] of entries.entries()) {
        time += wait;
        const where = { index: i + 1, term: 1, time };
        expect(copy.expire(where)).toEqual(book.expire(where));
        const before = encode(MIGRATION_DATA, book.dump());
        const outcome = book.apply(where, author, command);
        expect(copy.apply(where, author, command)).toEqual(outcome);
        const after = encode(MIGRATION_DATA, book.dump());
        if (!outcome.ok) expect(after).toEqual(before);
        else expect(commandProblem(command)).toBeUndefined();
        const now = book.owner("counter")?.fence ?? fence;
        expect(now).toBeGreaterThanOrEqual(fence);
        fence = now;
        if (i % 7 === 0) {
          copy = new MigrationBook(simCrypto("third"));
          copy.load(book.dump());
        }
        expect(encode(MIGRATION_DATA, copy.dump())).toEqual(after);
        expect(copy.due()).toBe(book.due());
      }
    }),
    { numRuns: 300 },
  );
});
