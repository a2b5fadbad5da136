import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Crypto } from "#kernel/crypto.ts";
import { candidateOf, foundingOf, joinOf, keyOf } from "../../../test/fakes/federation-books.ts";
import { coders, INFERENCE, offer, quota, want } from "../../../test/lending/parts.ts";
import type { VOTES } from "../ballots/messages.ts";
import { commandCodec } from "../codec/commands.ts";
import { readState, writeState } from "../codec/state.ts";
import { CAUSES } from "../migration/messages.ts";
import { DEFAULT_POLICY, PRIORITIES } from "../resources/commands.ts";
import { Books } from "./books.ts";
import type { LogCommand, News } from "./commands.ts";

const HUBS = ["a", "b", "c", "d", "e"] as const;
const FOUNDING = foundingOf(
  ["a", "b", "c", "d"].map((hub, i) => candidateOf(hub, { weight: 1 + (i % 2) })),
  { admission: "founder" },
);
/** What is signed is another spec's concern: here every signature holds. */
const crypto: Crypto = { ...keyOf("a").crypto, hash: (data) => keyOf("a").crypto.hash(data), verify: () => true };
const hub = fc.constantFrom(...HUBS);
const few = fc.nat(5);
const signed = (length: number): Uint8Array => new Uint8Array(length).fill(1);

/** Said is a command, and by whom it is if not by just anybody. */
type Said = readonly [LogCommand, by?: string];
/** Say is what a hub puts into the log, as things are. */
type Say = (books: Books, by: string, n: number) => Said;
type Of<B extends LogCommand["book"]> = Extract<LogCommand, { readonly book: B; readonly command: unknown }>["command"];

const say =
  <B extends Exclude<LogCommand["book"], "clock">>(
    book: B,
    what: (books: Books, by: string, n: number) => Of<B> | readonly [Of<B>, string],
  ): Say =>
  (books, by, n) => {
    const made = what(books, by, n);
    const [command, author] = Array.isArray(made) ? (made as readonly [Of<B>, string]) : [made as unknown as Of<B>, by];
    return [{ book, command } as unknown as LogCommand, author];
  };

const pick = <T>(all: readonly T[], n: number): T | undefined => all[n % Math.max(1, all.length)];
const hubOf = (n: number): string => HUBS[n % HUBS.length] as string;
const ballotOf = (books: Books, n: number) => pick(books.ballots.ballots(), n);
const leaseOf = (books: Books, n: number) => {
  const { lease, fence, owner, borrower } = pick(books.resources.leases(), n) ?? { lease: 99, fence: 1, owner: "a", borrower: "b" };
  return { lease, fence: Math.max(1, fence), owner, borrower };
};
const moveOf = (books: Books, n: number) => {
  const { transfer, from, to, fence } = pick(books.migration.migrations(), n) ?? { transfer: 1, from: "a", to: "b", fence: 1 };
  return { transfer, from, to, fence };
};
const requestOf = (books: Books, n: number, state?: string) =>
  pick(
    books.resources.requests().filter((request) => state === undefined || request.state === state),
    n,
  ) ?? { borrower: "a", id: "none", round: 1, owner: "b", turn: "owner" };

const members: readonly Say[] = [
  say("members", (books, by, n) =>
    n > 0 ? { kind: "ready", incarnation: books.members.member(by)?.incarnation ?? 1 } : { kind: "leave" },
  ),
  say("members", (books, by) => [joinOf(candidateOf("e", { incarnation: books.members.nextIncarnation("e") })), by]),
  say("members", (books, by) => [joinOf(candidateOf(by, { incarnation: books.members.nextIncarnation(by) })), "a"]),
  say("members", (books, _, n) => {
    const { candidate } = pick(books.members.dump().joins, n) ?? { candidate: candidateOf("e") };
    const { hubId, incarnation, publicKey } = candidate;
    return [{ kind: "admit", hubId, incarnation, publicKey, weight: n }, "a"];
  }),
  say("members", (_, __, n) => ({ kind: "remove", hubId: hubOf(n) })),
  say("members", (books, by) => ({ kind: "replace", incarnation: books.members.nextIncarnation(by) })),
  say("members", (books, _, n) => ({ kind: "accuse", hubId: hubOf(n), life: books.members.member(hubOf(n))?.life ?? 0 })),
  say("members", (books, by) => ({ kind: "refute", life: (books.members.member(by)?.life ?? 0) + 1 })),
];

const ballots: readonly Say[] = [
  say("ballots", (books, by, n) => {
    const { owner, offer: offered } = pick(books.resources.offers(), n) ?? { owner: "a", offer: { name: "coders" } };
    const loan = { resource: offered.name, owner, borrower: hubOf(n + 1), amount: 1 + n, durationMs: 60_000 } as const;
    const action = { kind: "allocate", ...loan, priority: 20 * n, agentType: "" } as const;
    const ballotId = `p-${by}-${books.ballots.ballots().length}`;
    return { kind: "propose", ballotId, subject: "RESOURCE_ALLOCATION", action, reasoning: "", durationMs: 0 };
  }),
  say("ballots", (books, by, n) => {
    const action = { kind: "prioritize", id: String(leaseOf(books, n).lease), priority: 20 * n } as const;
    const ballotId = `q-${by}-${books.ballots.ballots().length}`;
    return { kind: "propose", ballotId, subject: "PRIORITY_CHANGE", action, reasoning: "so", durationMs: 5_000 };
  }),
  say("ballots", (books, by, n) => {
    const ballotId = `r-${by}-${books.ballots.ballots().length}`;
    const action = { kind: "remove", hubId: hubOf(n) } as const;
    return { kind: "propose", ballotId, subject: "MEMBERSHIP", action, reasoning: "", durationMs: 0 };
  }),
  say("ballots", (books, by, n) => {
    const { ballotId, proposer } = ballotOf(books, n)?.opening.proposal ?? { ballotId: "none", proposer: by };
    return [{ kind: "withdraw", ballotId }, proposer];
  }),
  say("ballots", (books, by, n) => {
    const ballot = pick(
      books.ballots.ballots().filter(({ result }) => result !== undefined),
      n,
    );
    const keySerial = books.members.key(by)?.serial ?? 1;
    const ballotId = ballot?.opening.proposal.ballotId ?? "none";
    return { kind: "attest", ballotId, keySerial, asOfIndex: ballot?.closedIndex ?? 0, signature: signed(64) };
  }),
];

const vote = (word: (typeof VOTES)[number]): Say =>
  say("ballots", (books, by, n) => {
    const open = books.ballots.ballots().filter(({ result }) => result === undefined);
    const ballot = pick(open, n);
    const { index, time } = ballot?.opening ?? { index: 0, time: 0 };
    return {
      kind: "vote",
      ...{ ballotId: ballot?.opening.proposal.ballotId ?? "none", vote: word, reasoning: "", signature: signed(64) },
      openingDigest: ballot === undefined ? signed(32) : books.ballots.digestOf(ballot),
      incarnation: books.members.member(by)?.incarnation ?? 1,
      weight: ballot?.opening.eligible.find(({ hubId }) => hubId === by)?.weight ?? 1,
      keySerial: books.members.key(by)?.serial ?? 1,
      ...{ asOfIndex: index, asOfTime: time },
    };
  });

const asks: readonly Say[] = [0, 0, 20_000].map((waitMs) =>
  say("resources", (books, _, n) => want(`r${books.resources.fence()}`, 1 + (n % 3), { priority: PRIORITIES[n % 4] as "low", waitMs })),
);
const resources: readonly Say[] = [
  say("resources", (_, __, n) => coders(1 + n, { automatic: n !== 3 })),
  say("resources", () => offer("gpus", INFERENCE, { gpuMilli: 4_000 })),
  say("resources", (_, __, n) => (n > 0 ? coders(5) : { kind: "withdraw", name: "coders" })),
  say("resources", (_, __, n) => quota(hubOf(n), n % 3, (n % 3) + 2)),
  say("resources", (_, __, n) => ({
    ...{ kind: "policy", policy: { ...DEFAULT_POLICY, maxUtilization: 600 + 80 * n, preemption: n % 2 === 0 } },
  })),
  say("resources", (_, by, n) => want(`n-${by}`, 1, { owner: hubOf(n), name: "coders", maxCostMicro: n })),
  say("resources", (books, _, n) => {
    const { borrower, id, round, owner, turn } = requestOf(books, n, "negotiating");
    return [{ kind: "accept", borrower, id, round: Math.max(1, round) }, turn === "owner" ? owner : borrower];
  }),
  say("resources", (books, _, n) => {
    const { borrower, id } = requestOf(books, n);
    return [{ kind: "decline", borrower, id }, borrower];
  }),
  say("resources", (books, _, n) => {
    const { lease, fence, borrower } = leaseOf(books, n);
    return [{ kind: "renew", lease, fence, durationMs: 90_000 }, borrower];
  }),
  say("resources", (books, _, n) => {
    const { lease, fence, borrower } = leaseOf(books, n);
    return [{ kind: "release", lease, fence }, borrower];
  }),
  say("resources", (books, _, n) => [{ kind: "reclaim", lease: leaseOf(books, n).lease, graceMs: 0 }, leaseOf(books, n).owner]),
  say("resources", (books, _, n) => [{ kind: "stopped", leases: [leaseOf(books, n).lease] }, leaseOf(books, n).owner]),
  say("resources", () => ({ kind: "refence", name: "coders" })),
];
const confirms = say("resources", (books, _, n) => {
  const { borrower, id } = requestOf(books, n, "reserved");
  return [{ kind: "confirm", id }, borrower];
});

const moves: readonly Say[] = [
  say("migration", (_, __, n) => ({ kind: "enlist", agent: `agent-${n}`, nodeKey: signed(32) })),
  say("migration", (books, _, n) => {
    const { agent, fence, owner } = pick(books.migration.agents(), n) ?? { agent: "agent-0", fence: 1, owner: "a" };
    return n === 0 ? [{ kind: "dismiss", agent, fence }, owner] : { kind: "request", agent, fence, to: hubOf(n), stepMs: 10_000, why: "" };
  }),
  say("migration", (books, by, n) => [
    { kind: "abort", transfer: moveOf(books, n).transfer, cause: CAUSES[n] as "REFUSED", message: "" },
    by,
  ]),
];
/** on brings a migration on by whatever step is next. */
const on: Say = say("migration", (books, _, n) => {
  const { transfer, from, to, fence } = moveOf(books, n);
  const room = { sealingKey: signed(32), until: 2_000_000 };
  switch (books.migration.migration(transfer)?.step) {
    case "REQUEST":
      return [{ kind: "validate", transfer, bytes: 100 }, from];
    case "VALIDATE":
      return [{ kind: "accept", transfer, bytes: 100, ...room }, to];
    case "ACCEPT":
      return [{ kind: "prepare", transfer }, to];
    case "PREPARE":
      return [{ kind: "checkpoint", transfer, bytes: 100 }, from];
    case "CHECKPOINT":
      return [{ kind: "transfer", transfer, digest: signed(32) }, from];
    case "TRANSFER":
      return [{ kind: "confirm", transfer, fence: fence + 1, digest: signed(32), claim: signed(64) }, to];
    default:
      return [{ kind: "release", transfer }, from];
  }
});

const values: readonly Say[] = [
  say("values", (_, by, n) => ({ kind: "put", key: `k${n}`, value: new TextEncoder().encode(by), conditional: false, expect: 0 })),
  say("values", (_, __, n) => ({ kind: "delete", key: `k${n}`, conditional: false, expect: 0 })),
];

const votes = (["APPROVE", "APPROVE", "APPROVE", "REJECT", "ABSTAIN"] as const).map(vote);
const anything = fc.oneof(
  ...[members, ballots, votes, votes, asks, resources, [confirms], moves, [on], [on], values].map((some) => fc.constantFrom(...some)),
);
const step = fc.record({
  says: anything,
  by: hub,
  n: few,
  later: fc.integer({ min: 0, max: 40 }).map((n) => [70_000, 12_000, 5_000, 1_000][n] ?? 0),
  snapshot: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
});

function founded(): Books {
  const books = new Books(crypto);
  const outcome = books.members.apply({ index: 0, term: 0, time: 0 }, "a", { kind: "found", ...FOUNDING });
  if (!outcome.ok) throw new Error(outcome.failure.message);
  const instant = { index: 0, term: 0, time: 0 };
  for (const owner of ["a", "b"]) books.apply(instant, owner, { book: "resources", command: coders(5) }, []);
  return books;
}

const at = { index: 0, term: 0, time: 0, authors: [] };
const written = (books: Books): Uint8Array => writeState({ ...at, ...books.dump() });
const hex = (books: Books): string => Buffer.from(written(books)).toString("hex");

function restored(books: Books): Books {
  const { index: _i, term: _t, time: _m, authors: _a, ...data } = readState(written(books));
  const copy = founded();
  copy.load(data);
  return copy;
}

describe("all books together", () => {
  test("BK1 BK2 BK3 whatever hubs say, a copy that begins with a snapshot anywhere goes on alike, and what is refused changes nothing", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 80, maxLength: 160, size: "max" }), (steps) => {
        const one = founded();
        let other = founded();
        let time = 1_000_000;
        for (const [i, { says, by: anyone, n, later, snapshot }] of steps.entries()) {
          time += later;
          const instant = { index: i + 1, term: 1, time };
          if (snapshot) {
            other = restored(other);
            expect(hex(other)).toBe(hex(one));
          }
          const [command, by = anyone] = says(one, anyone, n);
          const bytes = commandCodec.write(command);
          expect(Buffer.from(commandCodec.write(commandCodec.read(bytes)))).toEqual(Buffer.from(bytes));
          expect(other.due()).toBe(one.due());
          const [news, copied]: [News[], News[]] = [[], []];
          one.expire(instant, news);
          other.expire(instant, copied);
          const before = hex(one);
          const [result, again] = [one.apply(instant, by, command, news), other.apply(instant, by, command, copied)];
          expect(again).toEqual(result);
          expect(copied).toEqual(news);
          if (!result.ok) expect(hex(one)).toBe(before);
        }
        expect(hex(other)).toBe(hex(one));
      }),
      { numRuns: 15 },
    );
  });
});
