import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { candidateOf, FederationBooks, joinOf } from "../../../test/fakes/federation-books.ts";
import { type Action, VOTES } from "./messages.ts";
import { certainResult, resultAt, tallyOf } from "./tally.ts";

const HUBS = ["a", "b", "c", "d", "e", "f"] as const;
const hub = fc.constantFrom(...HUBS);

/** Act is one thing that somebody does, sensible or not. */
type Act = (books: FederationBooks) => void;

const ballotOf = (books: FederationBooks, n: number): string => {
  const all = books.ballots.ballots();
  return all[n % Math.max(1, all.length)]?.opening.proposal.ballotId ?? "";
};

const action: fc.Arbitrary<(books: FederationBooks) => Action> = fc.oneof(
  fc.constant<(books: FederationBooks) => Action>(() => ({ kind: "prioritize", id: "job", priority: 1 })),
  fc.tuple(hub, fc.nat(3)).map(
    ([hubId, weight]) =>
      (): Action => ({ kind: "weigh", hubId, weight }),
  ),
  hub.map((hubId) => (): Action => ({ kind: "remove", hubId })),
  hub.map(
    (hubId) =>
      (books: FederationBooks): Action => ({ kind: "confirm_failed", hubId, life: books.members.member(hubId)?.life ?? 0 }),
  ),
  fc.tuple(hub, hub).map(
    ([hubId, standby]) =>
      (): Action => ({ kind: "assign_role", role: "broker", hubId, standbys: [standby] }),
  ),
  fc.nat(9).map((value) => (books: FederationBooks): Action => {
    const key = "max_agents";
    return { kind: "set_policy", key, value: { kind: "int", value }, basis: books.members.policies.version(key) };
  }),
  hub.map((hubId) => (books: FederationBooks): Action => {
    const { incarnation, publicKey, weight } = candidateOf(hubId, { incarnation: books.members.nextIncarnation(hubId) });
    return { kind: "admit", hubId, incarnation, publicKey, weight };
  }),
);

const serialOf = (books: FederationBooks, hubId: string): number => (books.members.key(hubId)?.serial ?? 1) + 1;

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(hub, fc.nat(20), action).map(
      ([by, n, what]): Act =>
        (books) =>
          void books.propose(`p${n}`, by, what(books)),
    ),
  },
  {
    weight: 9,
    arbitrary: fc.tuple(hub, fc.nat(9), fc.constantFrom(...VOTES), fc.nat(20_000)).map(
      ([by, n, vote, later]): Act =>
        (books) => {
          if (books.ballots.ballots().length > 0) books.vote(ballotOf(books, n), by, vote, later);
        },
    ),
  },
  fc.tuple(hub, fc.nat(9)).map(
    ([by, n]): Act =>
      (books) =>
        void books.ballot(by, { kind: "withdraw", ballotId: ballotOf(books, n) || "p" }),
  ),
  fc.tuple(hub, fc.nat(9)).map(
    ([by, n]): Act =>
      (books) => {
        const { result } = books.ballots.ballot(ballotOf(books, n)) ?? {};
        if (result === "APPROVED" || result === "REJECTED") books.attest(ballotOf(books, n), by);
      },
  ),
  hub.map(
    (by): Act =>
      (books) =>
        void books.member(by, { kind: "leave" }),
  ),
  hub.map(
    (by): Act =>
      (books) =>
        void books.member(by, { kind: "replace", incarnation: books.members.nextIncarnation(by) }),
  ),
  hub.map(
    (by): Act =>
      (books) =>
        void books.member(by, { kind: "ready", incarnation: books.members.member(by)?.incarnation ?? 1 }),
  ),
  hub.map(
    (by): Act =>
      (books) =>
        void books.member(by, joinOf(candidateOf(by, { incarnation: books.members.nextIncarnation(by) }))),
  ),
  hub.map(
    (by): Act =>
      (books) => {
        const serial = serialOf(books, by);
        books.rotate(by, `${by} ${serial} ${books.index}`, serial);
      },
  ),
  {
    weight: 4,
    arbitrary: fc.tuple(hub, hub).map(
      ([by, hubId]): Act =>
        (books) => {
          books.member(by, { kind: "accuse", hubId, life: books.members.member(hubId)?.life ?? 0 });
        },
    ),
  },
  hub.map(
    (by): Act =>
      (books) =>
        void books.member(by, { kind: "refute", life: (books.members.member(by)?.life ?? 0) + 1 }),
  ),
  fc.constantFrom(1_000, 60_000, 400_000, 8 * 86_400_000).map(
    (later): Act =>
      (books) =>
        void books.member("a", { kind: "refute", life: 1 }, later),
  ),
);

const acts = fc.array(act, { minLength: 5, maxLength: 40 });

function run(script: readonly Act[]): FederationBooks {
  const books = new FederationBooks(["a", "b", "c", "d"].map((one, i) => candidateOf(one, { weight: 1 + (i % 3) })));
  for (const one of script) one(books);
  return books;
}

describe("books of members and of ballots", () => {
  test("BK1 BK3 the same commands give the same bytes, also in copies that begin with a snapshot", () => {
    fc.assert(
      fc.property(acts, fc.nat(40), (script, cut) => {
        const books = run(script);
        const copy = new FederationBooks([]);
        let young: FederationBooks | undefined;
        for (const [i, entry] of books.log.entries()) {
          const outcome = copy.put(entry);
          if (young !== undefined) expect(young.put(entry)).toEqual(outcome);
          if (i === cut) young = copy.restored();
        }
        expect(copy.bytes()).toEqual(books.bytes());
        if (young === undefined) return;
        expect(young.bytes()).toEqual(books.bytes());
        expect([young.members.due(), young.ballots.due()]).toEqual([books.members.due(), books.ballots.due()]);
        expect(young.members.describe() + young.ballots.describe()).toBe(books.members.describe() + books.ballots.describe());
      }),
      { numRuns: 60 },
    );
  });

  test("BK2 what is refused changes nothing; what is not changed is not said to be", () => {
    let refused = 0;
    let taken = 0;
    fc.assert(
      fc.property(acts, (script) => {
        const books = run(script);
        const copy = new FederationBooks([]);
        for (const entry of books.log) {
          const twin = copy.restored();
          twin.instant(entry.later);
          const before = twin.bytes();
          const outcome = copy.put(entry);
          if (outcome.ok) taken++;
          else {
            refused++;
            expect(copy.bytes()).toEqual(before);
            expect(outcome.failure.message).toMatch(/^[a-z].*[^.]$/u);
          }
        }
      }),
      { numRuns: 20 },
    );
    expect(Math.min(refused, taken)).toBeGreaterThan(50);
  });

  test("BK2 commands with a hostile value anywhere are refused or mean something, and never throw", () => {
    const hostile = fc.constantFrom<unknown>(
      Number.NaN,
      -1,
      0.5,
      2 ** 53,
      Number.POSITIVE_INFINITY,
      "",
      "x".repeat(100_000),
      "\ud800",
      "__proto__",
      null,
      undefined,
      {},
      [],
      new Array(10_000).fill({}),
      new Uint8Array(0),
      new Uint8Array(31),
      1n,
    );
    fc.assert(
      fc.property(acts, fc.nat(), hostile, (script, at, value) => {
        const books = run(script);
        const copy = new FederationBooks([]);
        for (const entry of books.log) {
          const fields = Object.keys(entry.command);
          const field = fields[at % fields.length] as string;
          copy.restored().put({ ...entry, command: { ...entry.command, [field]: value } } as typeof entry);
          copy.put(entry);
        }
      }),
      { numRuns: 25 },
    );
  });

  test("BM2 BM3 BM8 BM9 what holds of members holds after every command", () => {
    fc.assert(
      fc.property(acts, (script) => {
        const books = run(script);
        const copy = new FederationBooks([]);
        const used = new Map<string, number>();
        let fence = 0;
        for (const entry of books.log) {
          copy.put(entry);
          const { voters, learners } = copy.members.wanted();
          const all = [...voters, ...learners].map((id) => id.split("/")[0] as string);
          expect(new Set(all).size).toBe(all.length);
          expect(voters.length).toBeGreaterThan(0);
          expect(voters.length).toBeLessThanOrEqual(7);
          expect([...voters].sort()).toEqual(voters);
          for (const { hubId, incarnation } of copy.members.members()) {
            expect(incarnation).toBeGreaterThanOrEqual(used.get(hubId) ?? 0);
            used.set(hubId, incarnation);
          }
          const dump = copy.members.dump();
          expect(dump.fence).toBeGreaterThanOrEqual(fence);
          fence = dump.fence;
          for (const role of dump.roles) expect(copy.members.member(role.hubId)).toBeDefined();
          const fences = [...dump.roles, ...dump.members].map((one) => one.fence);
          expect(new Set(fences).size).toBe(fences.length);
          expect(dump.members.some(({ weight }) => weight > 0)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("BK4 what is due is done when it is due, and not due again", () => {
    fc.assert(
      fc.property(acts, (script) => {
        const books = run(script);
        for (let i = 0; i < 20; i++) {
          const due = Math.min(books.members.due() ?? Number.POSITIVE_INFINITY, books.ballots.due() ?? Number.POSITIVE_INFINITY);
          if (due === Number.POSITIVE_INFINITY) return;
          books.instant(Math.max(0, due - books.time));
          expect(books.members.due() ?? Number.POSITIVE_INFINITY).toBeGreaterThan(books.time);
          expect(books.ballots.due() ?? Number.POSITIVE_INFINITY).toBeGreaterThan(books.time);
        }
      }),
      { numRuns: 40 },
    );
  });
});

/** dumb counts with exact fractions of BigInt, and looks at every way in which those who are missing could vote. */
function dumb(weights: readonly number[], votes: readonly (string | undefined)[], numerator: number, denominator: number) {
  const result = (all: readonly (string | undefined)[]): string => {
    const of = (vote: string): bigint => all.reduce((sum, one, i) => sum + (one === vote ? BigInt(weights[i] as number) : 0n), 0n);
    const total = weights.reduce((sum, weight) => sum + BigInt(weight), 0n);
    const [approve, reject, abstain] = [of("APPROVE"), of("REJECT"), of("ABSTAIN")];
    if ((approve + reject + abstain) * 2n <= total) return "EXPIRED";
    return approve * BigInt(denominator) > (approve + reject) * BigInt(numerator) ? "APPROVED" : "REJECTED";
  };
  const missing = votes.flatMap((vote, i) => (vote === undefined ? [i] : []));
  const futures = new Set<string>();
  for (let code = 0; code < 4 ** missing.length; code++) {
    const all = [...votes];
    for (const [place, i] of missing.entries()) all[i] = [...VOTES, undefined][Math.floor(code / 4 ** place) % 4];
    futures.add(result(all));
  }
  return { result: result(votes), certain: futures.size === 1 ? [...futures][0] : undefined };
}

describe("BA4 BA5 the count", () => {
  test("is that of a second, dumb implementation, which tries all that could still be said", () => {
    const voter = fc.tuple(
      fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 1_000 })),
      fc.option(fc.constantFrom(...VOTES), { nil: undefined }),
    );
    const fraction = fc.constantFrom([1, 2], [2, 3], [3, 4], [999, 1_000], [501, 1_000]);
    fc.assert(
      fc.property(fc.array(voter, { minLength: 1, maxLength: 5 }), fraction, (voters, [numerator, denominator]) => {
        const eligible = voters.map(([weight], i) => ({
          hubId: `h${i}`,
          incarnation: 1,
          weight,
          keySerial: 1,
          publicKey: new Uint8Array(32),
        }));
        const votes = voters.flatMap(([, vote], i) => (vote === undefined ? [] : [{ statement: { hubId: `h${i}`, vote } } as never]));
        const rules = {
          majority: { numerator: numerator as number, denominator: denominator as number },
          participation: { numerator: 1, denominator: 2 },
        };
        const tally = tallyOf(eligible, votes);
        const other = dumb(
          voters.map(([weight]) => weight),
          voters.map(([, vote]) => vote),
          numerator as number,
          denominator as number,
        );
        expect(resultAt(tally, rules)).toBe(other.result);
        // Nobody waits for a result that is certain; one that is certain to expire is found at the deadline.
        expect(certainResult(tally, rules)).toBe(other.certain === "EXPIRED" ? undefined : other.certain);
      }),
      { numRuns: 1_000 },
    );
  });
});
