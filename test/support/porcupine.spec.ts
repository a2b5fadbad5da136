// The checker of histories finds what it is there for.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type HistoryOp, judgeHistory } from "./porcupine.ts";
import { tool } from "./tools.ts";

const porcupine = tool("porcupine");

type Times = readonly [client: number, call: number, end: number | null];

const timed = ([client, call_ns, return_ns]: Times, key: string) => ({ client, call_ns, return_ns, key });
const write = (times: Times, value: string, key = "x"): HistoryOp => ({ ...timed(times, key), op: "write", value });
const read = (times: Times, result: string | null, key = "x"): HistoryOp => ({ ...timed(times, key), op: "read", result });
const cas = (times: Times, expected: string | null, value: string, result: boolean): HistoryOp => ({
  ...timed(times, "x"),
  op: "cas",
  expect: expected,
  value,
  result,
});

describe.skipIf(porcupine.reason !== undefined)("histories", () => {
  test("a good one passes: overlapping writes in either order, reads of what was there, cas that did and did not", () => {
    const history = [
      read([0, 0, 1], null),
      write([0, 2, 10], "a"),
      write([1, 3, 9], "b"),
      read([2, 4, 5], null),
      read([2, 11, 12], "a"),
      cas([1, 13, 14], "b", "c", false),
      cas([1, 15, 16], "a", "c", true),
      read([0, 17, 18], "c"),
      write([3, 0, 20], "other", "y"),
    ];
    expect(judgeHistory(history)).toMatchObject({ verdict: "linearizable", operations: 9, unknown_outcomes: 0, keys: 2 });
  });

  test("a stale read is found, its key is named and drawn, and the others are not blamed", () => {
    const dir = mkdtempSync(join(tmpdir(), "foedus-history-"));
    const picture = join(dir, "fault.html");
    const history = [
      write([0, 0, 1], "old", "bad"),
      write([0, 2, 3], "new", "bad"),
      read([1, 4, 5], "old", "bad"),
      write([0, 0, 1], "old", "good"),
      read([1, 4, 5], "old", "good"),
    ];
    try {
      expect(judgeHistory(history.slice(3), { picture })).toMatchObject({ verdict: "linearizable" });
      expect(existsSync(picture)).toBe(false);
      expect(judgeHistory(history, { picture })).toMatchObject({ verdict: "not", at_fault: ["bad"] });
      expect(readFileSync(picture, "utf8")).toContain("<html");
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test("two reads that see one write come and go are found", () => {
    const history = [write([0, 0, 100], "new"), read([1, 1, 2], "new"), read([2, 3, 4], null)];
    expect(judgeHistory(history)).toMatchObject({ verdict: "not" });
  });

  test("a cas that two clients won is found", () => {
    const history = [cas([0, 0, 10], null, "a", true), cas([1, 1, 9], null, "b", true)];
    expect(judgeHistory(history)).toMatchObject({ verdict: "not" });
  });

  test("an unknown outcome may take effect late, or never, but not before its call and not twice", () => {
    const lost = write([0, 10, null], "lost");
    const before = [write([1, 0, 5], "first"), lost];
    expect(judgeHistory([...before, read([2, 50, 51], "lost")])).toMatchObject({ verdict: "linearizable", unknown_outcomes: 1 });
    expect(judgeHistory([...before, read([2, 50, 51], "first")])).toMatchObject({ verdict: "linearizable" });
    expect(judgeHistory([...before, read([2, 50, 51], "first"), read([2, 90, 91], "lost")])).toMatchObject({ verdict: "linearizable" });
    expect(judgeHistory([...before, read([2, 6, 7], "lost")])).toMatchObject({ verdict: "not" });
    const twice = [read([2, 20, 21], "lost"), write([1, 30, 31], "second"), read([2, 40, 41], "lost")];
    expect(judgeHistory([...before, ...twice])).toMatchObject({ verdict: "not" });
  });

  test("what is looked for longer than there is time for is unknown, not right", () => {
    // Many concurrent writes, and reads that fit no order of them: each order has to be tried.
    const many = Array.from({ length: 40 }, (_, i) => write([i, 0, 1_000], `${i}`));
    const reads = Array.from({ length: 40 }, (_, i) => read([100 + i, 0, 1_000], `${i}`));
    const impossible = [...many, ...reads, read([200, 1_001, 1_002], "1"), read([200, 1_003, 1_004], "2")];
    expect(judgeHistory(impossible, { timeoutMs: 50 })).toMatchObject({ verdict: "unknown", undecided: ["x"] });
  });

  test.each([
    ["nothing", [], "no operation"],
    ["an end before the start", [read([0, 5, 4], null)], "return_ns is before call_ns"],
    ["no result", [{ ...timed([0, 1, 2], "x"), op: "read" }], "the result of a read"],
    ["no end, not even null", [{ client: 0, call_ns: 1, key: "x", op: "write", value: "a" }], "return_ns (null if nobody knows)"],
    ["another operation", [{ ...timed([0, 1, 2], "x"), op: "append", value: "a" }], "op is read, write or cas"],
    ["an unknown field", [{ ...timed([0, 1, 2], "x"), op: "write", value: "a", vlaue: "b" }], "unknown field"],
  ])("a history with %s is no history", (_name, history, words) => {
    expect(() => judgeHistory(history as HistoryOp[])).toThrow(words);
  });
});
