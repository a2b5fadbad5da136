import { expect, test } from "vitest";
import { Failures, REFUSALS_MAX } from "./failures.ts";
import type { Migration } from "./messages.ts";

const over = (more: Partial<Migration>): Migration => ({
  ...{ transfer: 1, agent: "x", fence: 1, from: "a", to: "b", by: "a", why: "", step: "VALIDATE", status: "aborted", stepMs: 1_000 },
  ...{ deadline: 100, times: [], bytes: 0, sealingKey: new Uint8Array(), until: 0, digest: new Uint8Array(), claim: new Uint8Array() },
  ...{ index: 1, cause: "REFUSED", message: "" },
  ...more,
});
const refusals = (count: number, more: Partial<Migration> = {}) => Array.from({ length: count }, () => over(more));

test("LB5 an agent is known by where it could not go and when that was last; what was over long ago is forgotten", () => {
  const failures = new Failures([over({ deadline: 90, to: "c" }), over({ deadline: 80 }), over({ deadline: 10, to: "d" })], 50);
  expect([failures.triedAt("x"), [...failures.failedAt("x")!]]).toEqual([90, ["c", "b"]]);
  expect([failures.triedAt("y"), failures.failedAt("y")]).toEqual([0, undefined]);
});

test("LB5 a hub refuses if it has taken in none of the last few", () => {
  const refuses = (history: readonly Migration[]): boolean => new Failures(history, 50).refuses("b");
  expect(refuses(refusals(REFUSALS_MAX))).toBe(true);
  expect(refuses(refusals(REFUSALS_MAX, { step: "TRANSFER", cause: "DEADLINE" }))).toBe(true);
  expect(refuses(refusals(REFUSALS_MAX - 1))).toBe(false);
  expect(refuses(refusals(REFUSALS_MAX, { deadline: 49 }))).toBe(false);
  const took = over({ status: "released", step: "RELEASE", cause: undefined });
  expect(refuses([...refusals(REFUSALS_MAX - 1), took, ...refusals(REFUSALS_MAX)])).toBe(false);
  expect(refuses([...refusals(REFUSALS_MAX), took])).toBe(true);
});

test("LB5 what the source or an operator did not want is not held against the other hub", () => {
  const all = [...refusals(9, { step: "REQUEST" }), ...refusals(9, { cause: "WITHDRAWN" }), ...refusals(9, { cause: "CHECKPOINT" })];
  expect(new Failures(all, 50).refuses("b")).toBe(false);
});
