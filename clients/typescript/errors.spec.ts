import { expect, test } from "vitest";
import { FoedusError } from "#kernel/error.ts";
import { remedyOf } from "./errors.ts";
import { misconfigured } from "./reach/misconfigured.ts";

test("what to do about an error is not what a hub says", () => {
  const facts = { remedy: "run this" };
  const ours = misconfigured("it is wrong", "correct it");
  expect(remedyOf(ours)).toBe("correct it");
  for (const reason of ["NOT_CONFIGURED", "ACCESS_DENIED"] as const)
    expect(remedyOf(new FoedusError({ reason, message: "no", facts }))).toBe(remedyOf(reason));
});
