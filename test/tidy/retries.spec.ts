import { expect, test } from "vitest";
import { isTest, read, sources } from "./files.ts";

/**
 * What is tried again after the same wait each time, and why that is right: nothing else is asked for it, so nobody is flooded and it works again
 * as soon as the cause is gone. Whatever talks to somebody who may be gone for long has a Backoff or a Retry of the kernel.
 */
const FIXED: Readonly<Record<string, string>> = {
  "services/runtime/log/sink.ts": "the log's own file or pipe; lines wait meanwhile",
  "services/runtime/service/committer.ts":
    "the service's own store on the local disk: a full disk that was cleared must be noticed within seconds (S0-11)",
  "services/runtime/service/driver.ts": "hands the same wait to the committer",
  "services/kernel/bounds/limits.ts": "the number of that wait",
  "services/runtime/rpc/status.ts": "what a caller is told, not a loop",
  "services/discovery/shell/key-keeper.ts": "the service's own store",
  "services/discovery/peers/hello.ts": "the clock of this machine, while it is not set; no call is made",
  "services/discovery/settings.ts": "the name of that wait",
  "services/discovery/module.ts": "the number of that wait",
  "services/hub/process.ts": "the clock of this machine at the start; no call is made",
};

/** A wait before the next try that is a number, or one that a class is given. */
const WAIT = /\bconst \w*RETRY\w*_MS = |\b(?:\w+R|r)etryMs\b|\bstoreRetryMs\b|\bRETRY_DELAY_MS\b/;

const files = sources().filter((path) => /^(services|clients|adapters|cli)\//.test(path) && !isTest(path));

test("F-8 what is tried again after a fixed wait stands in the table with its reason", () => {
  const found = files.filter((path) => WAIT.test(read(path)));
  expect(found.sort()).toEqual(Object.keys(FIXED).sort());
});

test("F-8 loops that talk to others have a back-off", () => {
  const users = files.filter((path) => /new (Backoff|Retry)\(|ownRetry\(\)/.test(read(path)));
  expect(users).toEqual(
    expect.arrayContaining(["services/hub/peers/feed.ts", "services/hub/compose/presence.ts", "services/hub/events.ts"]),
  );
  expect(users.length).toBeGreaterThanOrEqual(8);
});
