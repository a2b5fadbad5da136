import { describe, expect, test } from "vitest";
import { reasonOf } from "../../../test/fakes/federation-books.ts";
import { coders } from "../../../test/lending/parts.ts";
import { ResourceBook } from "../resources/book.ts";
import { carryOutLending, type LendingAction } from "./lending-actions.ts";

const LOAN: LendingAction = {
  ...{ kind: "allocate", resource: "coders", owner: "a", borrower: "b", amount: 1, durationMs: 60_000, priority: 50, agentType: "" },
};

describe("ballots about lending", () => {
  test("FB1 each ballot makes a request of its own, however long its id is", () => {
    const book = new ResourceBook();
    book.apply({ index: 1, term: 1, time: 1 }, "a", coders(5));
    for (const [i, end] of ["x", "y"].entries())
      expect(reasonOf(carryOutLending(book, { index: 2 + i, term: 1, time: 2 }, "h".repeat(63) + end, LOAN))).toBe("ok");
    expect(book.leases().map(({ id, agents }) => `${id.length} ${agents}`)).toEqual(["63 coder-000", "63 coder-001"]);
  });
});
