import { describe, expect, test } from "vitest";
import { CoordinationHubs } from "../../../test/support/coordination-hubs.ts";
import type { Effect, Request } from "../messages.ts";
import type { Settled } from "../part.ts";
import type { BallotNews, BallotValue } from "./messages.ts";
import { Openings } from "./openings.ts";

const PROPOSE: Request = {
  kind: "propose",
  action: { kind: "set_policy", key: "max_agents", value: { kind: "int", value: 9 }, basis: 0 },
  reasoning: "",
  durationMs: 0,
};

describe("who opens a ballot", () => {
  test("OV1 hears that this hub's vote has decided it", () => {
    const hubs = new CoordinationHubs("a");
    hubs.ask("a", "standing", { kind: "found", federationId: "street", name: "", engine: "raft", admission: "ballot", founders: [] });
    expect(hubs.ask("a", "changed", PROPOSE).value).toMatchObject({ result: "APPROVED" });
  });

  test("OV1 hears that it is open when this hub's vote has counted and others have one", () => {
    const hubs = new CoordinationHubs("a", "b").found(["a", "b"], { admission: "ballot" });
    for (const id of ["a", "b"]) {
      const { ballotId, result } = hubs.ask(id, "changed", PROPOSE).value as BallotValue;
      expect(result).toBeUndefined();
      const { answer } = hubs.ask(id, "queried", { kind: "query", query: { kind: "ballot", ballotId }, local: true });
      expect(answer.kind === "ballot" && answer.ballot?.votes.map(({ statement }) => statement.hubId)).toEqual([id]);
    }
  });
});

describe("an answer that waits for this hub's vote", () => {
  const opened = { kind: "opened", opening: {}, digest: new Uint8Array() } as unknown as BallotNews;
  const value: BallotValue = { ballotId: "x", deadline: 9, result: undefined, changed: true };
  const answer = { kind: "changed", call: 7, index: 1, value, early: true } as const;

  /** Openings of a hub whose vote in x is on its way; `settle` says what became of the vote. */
  function waiting(): { readonly openings: Openings; readonly settle: (outcome: Settled) => Effect[] } {
    let then: ((outcome: Settled, now: never, out: Effect[]) => void) | undefined;
    const openings = new Openings({ onNews: () => ({ kind: "vote", ballotId: "x" }) as never }, (_command, back) => {
      then = back;
    });
    openings.onNews(opened);
    const settle = (outcome: Settled): Effect[] => {
      const out: Effect[] = [];
      then?.(outcome, undefined as never, out);
      return out;
    };
    return { openings, settle };
  }
  const unknown: Settled = { kind: "refused", failure: { reason: "OUTCOME_UNKNOWN", message: "no answer in time" } };

  test("OV1 is given as it was if nothing is known of the vote, and nothing of that ballot is kept back from then on", () => {
    const { openings, settle } = waiting();
    expect(openings.holds(answer)).toBe(true);
    expect(openings.holds({ ...answer, value: { ...value, ballotId: "y" } })).toBe(false);
    expect(openings.holds({ ...answer, value: 5 })).toBe(false);
    expect(settle(unknown)).toEqual([answer]);
    expect(openings.holds(answer)).toBe(false);
  });

  test("is not given to who gave up", () => {
    const { openings, settle } = waiting();
    openings.holds(answer);
    openings.cancel(7);
    expect(settle(unknown)).toEqual([]);
  });
});
