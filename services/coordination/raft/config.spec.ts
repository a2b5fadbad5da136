import { expect, test } from "vitest";
import { RAFT_TUNING, type RaftTuning, tuningProblem } from "./config.ts";

test("settings with which a log could not be kept are told", () => {
  const problem = (over: Partial<RaftTuning>): string | undefined => tuningProblem({ ...RAFT_TUNING, ...over });
  expect(problem({})).toBeUndefined();
  expect(problem({ heartbeatMs: 200 })).toMatch("twice heartbeatMs");
  expect(problem({ heartbeatMs: 0 })).toMatch("twice heartbeatMs");
  expect(problem({ reads: Number.NaN })).toBe("reads is no number that can be");
  expect(problem({ keepBytes: -1 })).toBe("keepBytes is no number that can be");
  expect(problem({ payloadBytes: 300_000 })).toMatch("bytes");
  expect(problem({ appendBytes: 300_000 })).toMatch("bytes");
  expect(problem({ appendEntries: 0 })).toMatch("at least one");
  expect(problem({ partBytes: 300_000 })).toMatch("part of a snapshot");
  expect(problem({ windowMessages: 0 })).toMatch("room for one message");
  expect(problem({ leaseDrift: 1 })).toMatch("leaseDrift");
});
