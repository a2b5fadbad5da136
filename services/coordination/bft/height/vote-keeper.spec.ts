import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { replicasOf } from "../../../../test/simulator/twins/world.ts";
import { NIL, NO_ROUND, STEP, type Step, type ValueId, type Vote } from "../frames.ts";
import { Members } from "../members.ts";
import { VoteKeeper } from "./vote-keeper.ts";

const members = (n: number): Members => new Members({ voters: replicasOf(n), outgoing: [], learners: [] });
const A = "a".repeat(64);
const B = "b".repeat(64);

function vote(voter: number, round: number, step: Step, value: ValueId, relies = NO_ROUND): Vote {
  return { height: 1, round, step, value, relies, voter, signature: new Uint8Array(64) };
}

function keeperOf(n: number, ...votes: Vote[]): VoteKeeper {
  const keeper = new VoteKeeper(members(n));
  for (const one of votes) keeper.add(one, 0);
  return keeper;
}

describe("the vote keeper", () => {
  test("VK1 duplicates count once, for a value and for any", () => {
    const keeper = keeperOf(
      4,
      vote(0, 0, STEP.PREVOTE, A),
      vote(0, 0, STEP.PREVOTE, A),
      vote(1, 0, STEP.PREVOTE, A),
      vote(1, 0, STEP.PREVOTE, B),
    );
    expect(keeper.polka(0)).toBeUndefined();
    expect(keeper.any(0, STEP.PREVOTE)).toBe(false);
    keeper.add(vote(2, 0, STEP.PREVOTE, A), 0);
    expect(keeper.polka(0)).toBe(A);
  });

  test.each([
    [4, 3],
    [5, 4],
    [6, 5],
    [7, 5],
    [9, 7],
    [30, 21],
  ])("VK2 of %i members %i are a quorum, one less is none, and exactly two thirds never are", (n, enough) => {
    expect(members(n).isQuorum(enough)).toBe(true);
    expect(members(n).isQuorum(enough - 1)).toBe(false);
    expect(3 * (enough - 1)).toBeLessThanOrEqual(2 * n);
  });

  test("VK2 any hides neither nil nor a value", () => {
    const keeper = keeperOf(4, vote(0, 0, STEP.PREVOTE, A), vote(1, 0, STEP.PREVOTE, NIL), vote(2, 0, STEP.PREVOTE, NIL));
    expect([keeper.any(0, STEP.PREVOTE), keeper.polka(0)]).toEqual([true, undefined]);
    keeper.add(vote(3, 0, STEP.PREVOTE, NIL), 0);
    expect([keeper.any(0, STEP.PREVOTE), keeper.polka(0)]).toEqual([true, NIL]);
  });

  test("VK3 f + 1 senders make a round to skip to, prevotes and precommits together, one sender's two votes do not", () => {
    const keeper = keeperOf(4, vote(1, 5, STEP.PREVOTE, A), vote(1, 5, STEP.PRECOMMIT, A));
    expect(keeper.ahead(0)).toBeUndefined();
    keeper.add(vote(2, 7, STEP.PRECOMMIT, NIL), 0);
    expect(keeper.ahead(0)).toBe(5);
    expect(keeper.later(5).map(({ voter }) => voter)).toEqual([1, 2]);
    expect(keeper.ahead(5)).toBeUndefined();
  });

  test("VK4 a second vote is a conflict that counts for its value, a third from the wire is not taken", () => {
    const keeper = keeperOf(4, vote(0, 0, STEP.PREVOTE, A));
    expect(keeper.add(vote(0, 0, STEP.PREVOTE, B), 0).map(({ kind }) => kind)).toEqual(["equivocation"]);
    expect(keeper.wants(vote(0, 0, STEP.PREVOTE, NIL), 0)).toBe(false);
    keeper.add(vote(1, 0, STEP.PREVOTE, B), 0);
    keeper.add(vote(2, 0, STEP.PREVOTE, B), 0);
    expect(keeper.polka(0)).toBe(B);
  });

  test("VK4 the same value with another round to rely on is a conflict as well", () => {
    const keeper = keeperOf(4, vote(0, 3, STEP.PREVOTE, A, 1));
    expect(keeper.add(vote(0, 3, STEP.PREVOTE, A, 2), 3)).toHaveLength(1);
  });

  test("VK5 a flood of future rounds leaves one of them per voter", () => {
    const keeper = keeperOf(4);
    for (let round = 0; round < 10_000; round++) keeper.add(vote(3, round, STEP.PREVOTE, A), 0);
    // Rounds 0 and 1, which are under way, and the latest.
    expect(keeper.size).toBe(3);
    expect(keeper.wants(vote(3, 500, STEP.PREVOTE, B), 0)).toBe(false);
    expect(keeper.ahead(0)).toBeUndefined();
  });

  test("VK5 rounds that are long over are forgotten, those with the latest polkas are not", () => {
    const keeper = keeperOf(4);
    for (let round = 0; round < 1_000; round++) {
      for (const voter of [0, 1, 2]) keeper.add(vote(voter, round, STEP.PREVOTE, round === 10 ? A : NIL), round);
      keeper.prune(round, []);
    }
    expect(keeper.size).toBeLessThan(80);
    expect(keeper.hasPolka(10, A)).toBe(true);
  });

  test("VK6 a prevote against the own lock is amnesia, whichever comes first; one that a later polka frees is none", () => {
    const precommit = vote(0, 1, STEP.PRECOMMIT, A);
    for (const relies of [NO_ROUND, 0]) {
      expect(keeperOf(4, precommit).add(vote(0, 3, STEP.PREVOTE, B, relies), 0)).toMatchObject([{ kind: "amnesia", first: precommit }]);
      expect(keeperOf(4, vote(0, 3, STEP.PREVOTE, B, relies)).add(precommit, 3)).toMatchObject([{ kind: "amnesia", first: precommit }]);
    }
    for (const innocent of [
      vote(0, 3, STEP.PREVOTE, B, 1),
      vote(0, 3, STEP.PREVOTE, B, 2),
      vote(0, 3, STEP.PREVOTE, A),
      vote(0, 3, STEP.PREVOTE, NIL),
      vote(0, 0, STEP.PREVOTE, B),
    ])
      expect(keeperOf(4, precommit).add(innocent, 3)).toEqual([]);
  });

  test("VK1 VK2 VK3 thresholds are those of a count that is made anew each time", () => {
    const arbitrary = fc.record({
      voter: fc.nat(6),
      round: fc.nat(2),
      step: fc.constantFrom(STEP.PREVOTE, STEP.PRECOMMIT),
      value: fc.constantFrom(NIL, A, B),
    });
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 60 }), (list) => {
        const keeper = new VoteKeeper(members(7));
        const votes = list.map(({ voter, round, step, value }) => vote(voter, round, step, value));
        for (const one of votes) keeper.add(one, 2);
        const who = (of: (one: Vote) => boolean): number => new Set(votes.filter(of).map(({ voter }) => voter)).size;
        for (const round of [0, 1, 2])
          for (const step of [STEP.PREVOTE, STEP.PRECOMMIT] as const) {
            expect(keeper.any(round, step)).toBe(who((one) => one.round === round && one.step === step) >= 5);
            for (const value of [NIL, A, B]) {
              const count = who((one) => one.round === round && one.step === step && one.value === value);
              expect(keeper.certificate(1, round, step, value)?.votes.length ?? 0).toBe(count >= 5 ? count : 0);
            }
          }
        const skip = [2, 1, 0].find((round) => who((one) => one.round >= round) >= 3);
        expect(keeper.ahead(NO_ROUND)).toBe(skip);
      }),
      { numRuns: 300 },
    );
  });
});
