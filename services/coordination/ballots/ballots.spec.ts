import { describe, expect, test } from "vitest";
import { candidateOf, FederationBooks, keyOf, reasonOf } from "../../../test/fakes/federation-books.ts";
import { ballotsCodec } from "../codec/ballots-codec.ts";
import { membersCodec } from "../codec/members-codec.ts";
import { type Action, BALLOT_LIMITS, type BallotCommand } from "./messages.ts";

const PRIORITY: Action = { kind: "prioritize", id: "job-1", priority: 50 };
const POLICY: Action = { kind: "set_policy", key: "max_agents", value: { kind: "int", value: 9 }, basis: 0 };
const LOAN: Action = {
  kind: "allocate",
  resource: "agents",
  owner: "a",
  borrower: "b",
  amount: 5,
  durationMs: 7_200_000,
  priority: 10,
  agentType: "coder",
};

const letters = (count: number): string[] => Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
const dumpOf = (books: FederationBooks): string =>
  `${membersCodec.dump.encode(books.members.dump())} ${ballotsCodec.dump.encode(books.ballots.dump())}`;

/** resultOf lets hubs with these weights vote A, R, B (abstain) or not at all (-), and time run out. */
function resultOf(votes: string, action: Action = PRIORITY, weights: readonly number[] = []): string {
  const hubs = letters(votes.length);
  const books = new FederationBooks(hubs.map((hub, i) => candidateOf(hub, { weight: weights[i] ?? 1 })));
  const opened = books.propose("x", "a", action);
  if (!opened.ok) return opened.failure.reason;
  for (const [i, letter] of [...votes].entries()) {
    const vote = ({ A: "APPROVE", R: "REJECT", B: "ABSTAIN" } as const)[letter];
    if (vote !== undefined && books.ballots.ballot("x")?.result === undefined) books.vote("x", hubs[i] as string, vote);
  }
  books.instant(60_000);
  const { result, early } = books.ballots.ballot("x") ?? {};
  return `${result}${early ? " early" : ""}`;
}

describe("S1-5 S1-6 ballots", () => {
  test("BA4 ABSTAIN counts for the quorum and not for the majority", () => {
    expect(resultOf("ABB--")).toBe("APPROVED");
    expect(resultOf("RBB--")).toBe("REJECTED");
    expect(resultOf("ABBRA")).toBe("APPROVED early");
    expect(resultOf("BBB--")).toBe("REJECTED");
    expect(resultOf("BBBBB")).toBe("REJECTED early");
  });

  test("BA4 exactly one half is no majority and no quorum", () => {
    expect(resultOf("ARBBB")).toBe("REJECTED early");
    expect(resultOf("AARR")).toBe("REJECTED early");
    expect(resultOf("AA--")).toBe("EXPIRED");
    expect(resultOf("AAA-")).toBe("APPROVED early");
    expect(resultOf("----")).toBe("EXPIRED");
  });

  test("BA4 exactly two thirds are not enough for policies and members", () => {
    expect(resultOf("AAR", POLICY)).toBe("REJECTED early");
    expect(resultOf("AAARA", POLICY)).toBe("APPROVED early");
    expect(resultOf("AAAARR", POLICY)).toBe("REJECTED early");
    expect(resultOf("AAR")).toBe("APPROVED early");
    expect(resultOf("ARB", POLICY, [667, 333, 1])).toBe("APPROVED early");
    expect(resultOf("ARB", POLICY, [666, 333, 1])).toBe("REJECTED early");
  });

  test("BA5 it ends early only when nobody could change the result any more", () => {
    expect(resultOf("AA---")).toBe("EXPIRED");
    expect(resultOf("AAR--")).toBe("APPROVED");
    expect(resultOf("AAA--")).toBe("APPROVED early");
    expect(resultOf("RRR--")).toBe("REJECTED early");
    expect(resultOf("RR---", POLICY)).toBe("EXPIRED");
    expect(resultOf("RRA--", POLICY)).toBe("REJECTED early");
  });

  test("BA5 its proposer, and nobody else, withdraws it", () => {
    const books = new FederationBooks();
    books.propose("x", "a", PRIORITY);
    expect(reasonOf(books.ballot("b", { kind: "withdraw", ballotId: "x" }))).toBe("ACCESS_DENIED");
    expect(reasonOf(books.ballot("a", { kind: "withdraw", ballotId: "x" }))).toBe("ok");
    expect(reasonOf(books.vote("x", "b", "APPROVE"))).toBe("BALLOT_CLOSED");
    expect(books.news.at(-1)).toMatchObject({ kind: "decided", result: "WITHDRAWN" });
    expect(books.ballots.certificate("x")).toBe("ballot x is WITHDRAWN: nothing was decided that could be certified");
  });

  test("BA1 voters and weights are those of the opening", () => {
    const books = new FederationBooks(letters(5));
    books.propose("x", "a", PRIORITY);
    books.decide("w", "a", { kind: "weigh", hubId: "b", weight: 900 });
    books.admit(candidateOf("f"));
    expect(reasonOf(books.ballot("f", books.voteOf("x", "f", "APPROVE")))).toBe("NOT_A_VOTER");
    expect(reasonOf(books.ballot("b", books.voteOf("x", "b", "APPROVE", { weight: 900 })))).toBe("VALUE_OUT_OF_RANGE");
    expect(reasonOf(books.vote("x", "b", "APPROVE"))).toBe("ok");
    expect(books.ballots.ballot("x")?.opening.eligible.map(({ hubId, weight }) => `${hubId}${weight}`)).toEqual([
      "a1",
      "b1",
      "c1",
      "d1",
      "e1",
    ]);
  });

  test("BA1 nobody votes about its own removal or failure", () => {
    const books = new FederationBooks(letters(4));
    books.propose("out", "a", { kind: "remove", hubId: "d" });
    expect(reasonOf(books.ballot("d", books.voteOf("out", "d", "REJECT")))).toBe("NOT_A_VOTER");
    for (const hub of ["a", "b", "c"]) books.vote("out", hub, "APPROVE");
    expect(books.members.member("d")).toBeUndefined();
    books.propose("dead", "a", { kind: "confirm_failed", hubId: "b", life: 0 });
    expect(books.ballots.ballot("dead")?.opening.eligible.map(({ hubId }) => hubId)).toEqual(["a", "c"]);
  });

  test("BA3 a hub that has left has no vote any more; what it said stays", () => {
    const books = new FederationBooks(letters(5));
    books.propose("x", "a", PRIORITY);
    books.vote("x", "d", "APPROVE");
    const late = books.voteOf("x", "e", "APPROVE");
    books.member("e", { kind: "leave" });
    books.member("d", { kind: "leave" });
    expect(reasonOf(books.ballot("e", late))).toBe("ACCESS_DENIED");
    books.vote("x", "a", "APPROVE");
    books.vote("x", "b", "APPROVE");
    expect(books.ballots.ballot("x")?.result).toBe("APPROVED");
  });

  test("BA3 a vote of a replica that was replaced, or with a key that was, does not count", () => {
    const books = new FederationBooks(letters(4));
    books.propose("x", "a", PRIORITY);
    const [ofOldReplica, withOldKey] = [books.voteOf("x", "b", "APPROVE"), books.voteOf("x", "c", "APPROVE")];
    books.member("b", { kind: "replace", incarnation: 2 });
    expect(reasonOf(books.ballot("b", ofOldReplica))).toBe("TOO_STALE");
    expect(reasonOf(books.vote("x", "b", "APPROVE"))).toBe("ok");
    const early = books.index;
    books.rotate("c", "c2", 2);
    expect(reasonOf(books.ballot("c", withOldKey))).toBe("SIGNATURE_INVALID");
    expect(reasonOf(books.ballot("c", books.voteOf("x", "c", "APPROVE", { asOfIndex: early })))).toBe("SIGNATURE_INVALID");
    expect(reasonOf(books.vote("x", "c", "APPROVE"))).toBe("ok");
  });

  test("S4-14 of two policies that were changed on the same basis the first that is decided counts", () => {
    const books = new FederationBooks();
    books.propose("one", "a", POLICY);
    books.propose("two", "b", { ...POLICY, value: { kind: "int", value: 3 } });
    for (const hub of ["a", "b", "c"]) books.vote("two", hub, "APPROVE");
    for (const hub of ["a", "b", "c"]) books.vote("one", hub, "APPROVE");
    expect(books.members.policies.int("max_agents")).toBe(3);
    expect(books.refused).toEqual(["one: IDEMPOTENCY_CONFLICT"]);
    expect(reasonOf(books.propose("three", "a", POLICY))).toBe("IDEMPOTENCY_CONFLICT");
  });

  test("BK4 ballots and reasoning are bounded, and settled ones are forgotten", () => {
    const books = new FederationBooks();
    for (let i = 0; i < BALLOT_LIMITS.openPerProposer; i++) expect(reasonOf(books.propose(`p${i}`, "a", PRIORITY))).toBe("ok");
    expect(reasonOf(books.propose("more", "a", PRIORITY))).toBe("LIMIT_EXCEEDED");
    books.ballot("a", { kind: "withdraw", ballotId: "p0" });
    expect(reasonOf(books.propose("more", "a", PRIORITY))).toBe("ok");
    const long = "x".repeat(BALLOT_LIMITS.reasoning + 1);
    expect(reasonOf(books.propose("long", "b", PRIORITY, { reasoning: long }))).toBe("INVALID_FIELD");
    for (let i = 0; i < BALLOT_LIMITS.fruitless + 5; i++) {
      books.propose(`s${i}`, "b", PRIORITY);
      books.ballot("b", { kind: "withdraw", ballotId: `s${i}` });
    }
    expect(books.ballots.ballots()).toHaveLength(BALLOT_LIMITS.fruitless + BALLOT_LIMITS.openPerProposer);
    expect(books.ballots.ballot("p0")).toBeUndefined();
    for (let i = 0; i < BALLOT_LIMITS.settled + 2; i++) books.decide(`d${i}`, "b", PRIORITY);
    expect(books.ballots.ballots()).toHaveLength(BALLOT_LIMITS.settled + BALLOT_LIMITS.fruitless + BALLOT_LIMITS.openPerProposer);
    expect(["d1", "d2"].map((id) => books.ballots.ballot(id)?.result)).toEqual([undefined, "APPROVED"]);
    expect(ballotsCodec.dump.decode(ballotsCodec.dump.encode(books.ballots.dump())).ok).toBe(true);
    books.instant(30 * 86_400_000);
    books.instant(BALLOT_LIMITS.settledMs);
    expect(books.ballots.ballots()).toEqual([]);
    expect(books.ballots.due()).toBeUndefined();
  });

  test("BA9 a member that opens and withdraws ballots without end takes nobody's certificate away", () => {
    const books = new FederationBooks();
    books.decide("x", "a", PRIORITY);
    for (let i = 0; i < BALLOT_LIMITS.settled + BALLOT_LIMITS.fruitless; i++) {
      books.propose(`s${i}`, "c", PRIORITY);
      books.ballot("c", { kind: "withdraw", ballotId: `s${i}` });
    }
    for (const hub of ["a", "b"]) expect(reasonOf(books.attest("x", hub))).toBe("ok");
    expect(books.ballots.certificate("x")).toBeInstanceOf(Uint8Array);
  });

  test("BA9 some members that have all ballots open that there may be keep no other from opening one", () => {
    const hubs = Array.from({ length: 18 }, (_, i) => `h${String(i).padStart(2, "0")}`);
    const books = new FederationBooks(hubs);
    const [last = "", other = "", ...crowd] = hubs;
    for (const hub of crowd)
      for (let i = 0; i < BALLOT_LIMITS.openPerProposer; i++) expect(reasonOf(books.propose(`${hub}-${i}`, hub, PRIORITY))).toBe("ok");
    expect(reasonOf(books.propose("removal", last, { kind: "remove", hubId: crowd[0] as string }))).toBe("ok");
    expect(reasonOf(books.propose("more", last, PRIORITY))).toBe("LIMIT_EXCEEDED");
    expect(reasonOf(books.propose("too", other, PRIORITY))).toBe("ok");
    expect(ballotsCodec.dump.decode(ballotsCodec.dump.encode(books.ballots.dump())).ok).toBe(true);
  });

  test("BK4 all reasoning of one ballot is bounded; a vote without is still taken", () => {
    const hubs = Array.from({ length: 70 }, (_, i) => `h${String(i).padStart(3, "0")}`);
    const books = new FederationBooks(hubs.slice(0, 30));
    for (const hub of hubs.slice(30)) books.admit(candidateOf(hub));
    books.propose("x", "h000", PRIORITY);
    const reasoning = "y".repeat(BALLOT_LIMITS.reasoning);
    const full = BALLOT_LIMITS.reasoningOfAll / BALLOT_LIMITS.reasoning;
    // In turns, so that nothing is decided before all have spoken.
    for (const [i, hub] of hubs.slice(0, full).entries())
      expect(reasonOf(books.ballot(hub, books.voteOf("x", hub, i % 2 === 0 ? "APPROVE" : "REJECT", { reasoning })))).toBe("ok");
    const next = hubs[full] as string;
    expect(reasonOf(books.ballot(next, books.voteOf("x", next, "APPROVE", { reasoning: "z" })))).toBe("LIMIT_EXCEEDED");
    expect(reasonOf(books.vote("x", next, "APPROVE"))).toBe("ok");
  });
});

describe("bad input to ballots is refused with the reason, and changes nothing", () => {
  const stranger = keyOf("stranger");

  function refusedIn(prepare: (books: FederationBooks) => readonly [string, BallotCommand], later = 0): string {
    const books = new FederationBooks(["a", "b", "c", candidateOf("watcher", { weight: 0 }), "e"]);
    books.propose("x", "a", PRIORITY);
    books.vote("x", "c", "REJECT");
    const [author, command] = prepare(books);
    books.instant(later);
    const before = dumpOf(books);
    const outcome = books.ballot(author, command);
    expect(outcome.ok).toBe(false);
    expect(dumpOf(books)).toBe(before);
    const failure = outcome.ok ? undefined : outcome.failure;
    expect(failure?.message).not.toBe("");
    return `${failure?.reason} ${failure?.field ?? ""}`.trim();
  }

  test.each<[string, string, (books: FederationBooks) => readonly [string, BallotCommand]]>([
    ["a vote of a member without weight", "NOT_A_VOTER", (books) => ["watcher", books.voteOf("x", "watcher", "APPROVE")]],
    ["a vote of a hub that is no member", "ACCESS_DENIED", (books) => ["zoe", books.voteOf("x", "zoe", "APPROVE")]],
    ["a second, different vote", "DOUBLE_VOTE vote", (books) => ["c", books.voteOf("x", "c", "APPROVE")]],
    ["a vote with another weight", "VALUE_OUT_OF_RANGE weight", (books) => ["b", books.voteOf("x", "b", "APPROVE", { weight: 2 })]],
    [
      "a vote about another digest",
      "IDENTITY_MISMATCH openingDigest",
      (books) => ["b", books.voteOf("x", "b", "APPROVE", { openingDigest: new Uint8Array(32) })],
    ],
    ["a vote signed by somebody else", "SIGNATURE_INVALID signature", (books) => ["b", books.voteOf("x", "b", "APPROVE", {}, stranger)]],
    ["a vote of another hub", "SIGNATURE_INVALID signature", (books) => ["b", books.voteOf("x", "e", "APPROVE")]],
    [
      "a vote without a signature",
      "INVALID_FIELD signature",
      (books) => ["b", { ...books.voteOf("x", "b", "APPROVE"), signature: new Uint8Array(0) }],
    ],
    [
      "a vote that was changed after it was signed",
      "SIGNATURE_INVALID signature",
      (books) => ["b", { ...books.voteOf("x", "b", "APPROVE"), vote: "REJECT" }],
    ],
    [
      "a vote with a serial that is none",
      "SIGNATURE_INVALID keySerial",
      (books) => ["b", books.voteOf("x", "b", "APPROVE", { keySerial: 2 })],
    ],
    ["a vote of another incarnation", "TOO_STALE incarnation", (books) => ["b", books.voteOf("x", "b", "APPROVE", { incarnation: 2 })]],
    [
      "a vote as of a position to come",
      "VALUE_OUT_OF_RANGE asOfIndex",
      (books) => ["b", books.voteOf("x", "b", "APPROVE", { asOfIndex: books.index + 9 })],
    ],
    [
      "a vote as of before the opening",
      "VALUE_OUT_OF_RANGE asOfIndex",
      (books) => ["b", books.voteOf("x", "b", "APPROVE", { asOfIndex: 1 })],
    ],
    [
      "a vote as of a time to come",
      "VALUE_OUT_OF_RANGE asOfIndex",
      (books) => ["b", books.voteOf("x", "b", "APPROVE", { asOfTime: books.time + 9 })],
    ],
    [
      "a vote in a ballot that is none",
      "BALLOT_CLOSED ballotId",
      (books) => ["b", { ...books.voteOf("x", "b", "APPROVE"), ballotId: "y" }],
    ],
    [
      "a vote that says nothing known",
      "INVALID_FIELD vote",
      (books) => ["b", { ...books.voteOf("x", "b", "APPROVE"), vote: "MAYBE" as never }],
    ],
    ["a proposal with an id that is open", "ALREADY_EXISTS ballotId", () => ["a", proposal({})]],
    ["a proposal of another subject", "INVALID_FIELD subject", () => ["a", proposal({ ballotId: "y", subject: "MEMBERSHIP" })]],
    ["a proposal for too long", "VALUE_OUT_OF_RANGE durationMs", () => ["a", proposal({ ballotId: "y", durationMs: 8 * 86_400_000 })]],
    ["a proposal for too short", "VALUE_OUT_OF_RANGE durationMs", () => ["a", proposal({ ballotId: "y", durationMs: 999 })]],
    ["a proposal with a hostile id", "INVALID_FIELD ballotId", () => ["a", proposal({ ballotId: "../x" })]],
    [
      "an attestation of an open ballot",
      "BALLOT_CLOSED ballotId",
      () => ["a", { kind: "attest", ballotId: "x", keySerial: 1, asOfIndex: 3, signature: new Uint8Array(64) }],
    ],
  ])("%s: %s", (_what, reason, prepare) => {
    expect(refusedIn(prepare)).toBe(reason);
  });

  test("a vote at the deadline, and after it", () => {
    expect(refusedIn((books) => ["b", books.voteOf("x", "b", "APPROVE")], 60_000)).toBe("DEADLINE_EXPIRED ballotId");
    expect(refusedIn((books) => ["b", books.voteOf("x", "b", "APPROVE")], 60_001)).toBe("DEADLINE_EXPIRED ballotId");
    expect(refusedIn((books) => ["c", books.voteOf("x", "c", "APPROVE")], 60_001)).toBe("DOUBLE_VOTE vote");
  });

  test("BA3 a vote after the deadline does not count either where nobody closed the ballot before", () => {
    const books = new FederationBooks();
    books.propose("x", "a", PRIORITY);
    const vote = books.voteOf("x", "b", "APPROVE");
    const late = { index: books.index + 1, term: 1, time: books.time + 60_000 };
    expect(reasonOf(books.ballots.apply(late, "b", vote))).toBe("DEADLINE_EXPIRED");
    expect(reasonOf(books.ballots.apply({ ...late, time: late.time - 1 }, "b", vote))).toBe("ok");
  });

  test.each<[string, Partial<Extract<Action, { kind: "allocate" }>>, string]>([
    ["more agents than the policy allows", { amount: 6 }, "VALUE_OUT_OF_RANGE action.amount"],
    ["longer than the policy allows", { durationMs: 7_200_001 }, "VALUE_OUT_OF_RANGE action.durationMs"],
    ["a type that the policy does not allow", { agentType: "miner" }, "VALUE_OUT_OF_RANGE action.agentType"],
    ["a negative amount", { amount: -1 }, "INVALID_FIELD action.amount"],
    ["an absurd amount", { amount: 2 ** 60 }, "INVALID_FIELD action.amount"],
    ["an amount that is no number", { amount: Number.NaN }, "INVALID_FIELD action.amount"],
    ["an infinite amount", { amount: Number.POSITIVE_INFINITY }, "INVALID_FIELD action.amount"],
    ["half an agent", { amount: 0.5 }, "INVALID_FIELD action.amount"],
    ["a loan to oneself", { borrower: "a" }, "INVALID_FIELD action.borrower"],
    ["a loan to nobody", { borrower: "zoe" }, "PEER_NOT_FOUND action.owner"],
  ])("S1-22 %s", (_what, more, reason) => {
    const command = proposal({ ballotId: "y", subject: "RESOURCE_ALLOCATION", action: { ...LOAN, ...more } });
    expect(refusedIn(() => ["a", command])).toBe(reason);
    expect(reasonOf(new FederationBooks().ballot("a", proposal({ ballotId: "y", subject: "RESOURCE_ALLOCATION", action: LOAN })))).toBe(
      "ok",
    );
  });

  test("BA2 the same vote again changes nothing and is no double vote", () => {
    const books = new FederationBooks();
    books.propose("x", "a", PRIORITY);
    const vote = books.voteOf("x", "b", "APPROVE");
    books.ballot("b", vote);
    const before = dumpOf(books);
    expect(books.ballot("b", vote)).toMatchObject({ ok: true, value: { changed: false }, news: [] });
    expect(dumpOf(books)).toBe(before);
  });

  function proposal(more: Partial<Extract<BallotCommand, { kind: "propose" }>>): BallotCommand {
    return { kind: "propose", ballotId: "x", subject: "PRIORITY_CHANGE", action: PRIORITY, reasoning: "", durationMs: 0, ...more };
  }
});
