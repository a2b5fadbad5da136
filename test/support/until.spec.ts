import { expect, test } from "vitest";
import { GivenUp, until } from "./until.ts";

test("an error is not yet an answer: it is tried again until something is there", async () => {
  let tries = 0;
  const answer = await until("the third try", () => {
    if (++tries < 3) throw new Error("not yet");
    return "here";
  });
  expect([answer, tries]).toEqual(["here", 3]);
});

test("what never holds fails with its name and the last error", async () => {
  const late = until("the answer", () => Promise.reject(new Error("refused")), 50);
  await expect(late).rejects.toMatchObject({ message: "the answer did not happen within 50 ms", cause: { message: "refused" } });
});

test("GivenUp is thrown on at once, with what it says", async () => {
  let tries = 0;
  const wait = until("an answer of a process that ended", () => {
    tries++;
    throw new GivenUp("it ended with 1");
  });
  await expect(wait).rejects.toMatchObject({ name: "GivenUp", message: "it ended with 1" });
  expect(tries).toBe(1);
});
