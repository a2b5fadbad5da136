import { expect, test } from "vitest";
import { whenAborted } from "./abort.ts";

test("a signal that aborts, or has aborted, is heard once", () => {
  const heard: string[] = [];
  const controller = new AbortController();
  whenAborted(controller.signal, () => heard.push("before"));
  expect(heard).toEqual([]);
  controller.abort();
  whenAborted(controller.signal, () => heard.push("after"));
  expect(heard).toEqual(["before", "after"]);
  whenAborted(undefined, () => heard.push("never"));
  expect(heard).toHaveLength(2);
});

test("a listener that was taken back hears nothing", () => {
  const controller = new AbortController();
  const listener = (): void => expect.unreachable();
  whenAborted(controller.signal, listener);
  controller.signal.removeEventListener("abort", listener);
  controller.abort();
});
