import { expect, test } from "vitest";
import { AssertionFailure, assert, unreachable } from "./assert.ts";

test("assert passes what is true and throws what is not, with the facts in the message", () => {
  assert(1 + 1 === 2, "arithmetic");
  const bad = (): void => assert(false, "ring items must be consecutive", { seq: 3, log: "feed" });
  expect(bad).toThrow(AssertionFailure);
  expect(bad).toThrow('ring items must be consecutive (seq=3, log="feed")');
});

test("unreachable names the variant", () => {
  expect(() => unreachable({ kind: "odd" } as never)).toThrow('unexpected variant (value="{\\"kind\\":\\"odd\\"}")');
});
